"""numbers: refuses a child whose numbers, units or dates are not the parent's.

"1,000", "1000" and "a thousand" are one number, "40 mg" and "40 milligrams" are one, "40 mg" and
"400 mg" are not. English notation; the order of numbers is free.

Source: own; sentence encoders find 40 mg and 400 mg alike (cosine 0.96), and number errors are a
class of their own in translation: Wang et al. 2021, https://aclanthology.org/2021.findings-acl.415
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from fractions import Fraction
from typing import NamedTuple

from lightadapt_data import lexicon
from lightadapt_data.config import Config
from lightadapt_data.gates import Encode, Verdict


def _any_of(words: Iterable[str]) -> str:
    """Return a pattern for any of the words, longest first."""
    return "|".join(re.escape(word) for word in sorted(words, key=lambda word: (-len(word), word)))


_SMALL = _any_of({*lexicon.NUMBER_WORDS, *lexicon.ORDINALS})
_BIG = _any_of(lexicon.MULTIPLIERS)
_MONTH = _any_of(month.capitalize() for month in lexicon.MONTHS)
_UNIT = _any_of(lexicon.UNITS)
_WORD = rf"(?:(?:{_SMALL})\b|(?:{_BIG})\b(?:\s+and(?=\s+(?:{_SMALL})\b))?)"

_NUMBER = re.compile(
    r"(?P<sign>(?<![\w)])[-−])?(?P<currency>(?:US)?[$€£]\s?)?"
    r"(?P<digits>\d{1,3}(?:,\d{3})+(?![\d,])(?:\.\d+)?|\d+(?:\.\d+)*)"
    rf"(?P<ordinal>(?:st|nd|rd|th)\b)?(?:[\s-]?(?P<big>{_BIG})\b|(?P<suffix>(?:k|bn)\b))?"
    rf"(?:[\s-]?(?P<unit>per\s+cent\b|(?:{_UNIT})(?!\w)))?"
    rf"|\b(?P<words>(?:an?\s+(?=(?:{_BIG})\b))?{_WORD}(?:[\s-](?!second\b){_WORD})*)"
    rf"(?:[\s-]?(?P<words_unit>per\s+cent\b|(?:{_UNIT})(?!\w)))?",
    re.IGNORECASE,
)
_DATE = re.compile(
    # With a capital: "step 3 may fail" is no date.
    rf"\d(?:st|nd|rd|th)?\s+(?:of\s+)?(?P<after>{_MONTH})\b|\b(?P<before>{_MONTH})\.?\s+\d"
)
_LONGEST = 30
"""Longer runs of digits are names, compared digit by digit [digits]."""


class Settings(Config):
    """Settings of numbers; it has none."""


class _Found(NamedTuple):
    value: str
    """The number and its unit, in one notation."""
    is_sure: bool
    """False for "one", "first" and "second", which are often no numbers ("one of them")."""


def judge(
    parents: Sequence[str], children: Sequence[str], settings: Settings, encode: Encode
) -> list[Verdict]:
    """Return a verdict per pair; the score is the part of the numbers that are in both texts."""
    return [_verdict(parent, child) for parent, child in zip(parents, children, strict=True)]


def _verdict(parent: str, child: str) -> Verdict:
    before, after = list(_numbers(parent)), list(_numbers(child))
    lost, new = _difference(before, after), _difference(after, before)
    n_all = max(len(before), len(after), 1)
    score = round(max(1 - max(lost.total(), new.total()) / n_all, 0.0), 4)
    if not lost and not new:
        return Verdict(True, score=score)
    old, fresh = _listed(lost), _listed(new)
    if old and fresh:
        reason = f"numbers: {old} became {fresh}"
    else:
        reason = f"numbers: {old} lost" if old else f"numbers: {fresh} added"
    return Verdict(False, reason, score)


def _difference(these: list[_Found], those: list[_Found]) -> Counter[str]:
    """Return the sure numbers of `these` that `those` lacks; an unsure one there may stand in."""
    sure = Counter(found.value for found in these if found.is_sure)
    return sure - Counter(found.value for found in those)


def _listed(values: Counter[str]) -> str:
    names = sorted(values.elements())
    more = f" and {len(names) - 5} more" if len(names) > 5 else ""
    return ", ".join(name[:40] for name in names[:5]) + more


def _numbers(text: str) -> Iterator[_Found]:
    for match in _NUMBER.finditer(text):
        if match["digits"]:
            yield _Found(_in_digits(match), True)
        else:
            yield _spelled(match["words"], match["words_unit"])
    for match in _DATE.finditer(text):
        month = (match["after"] or match["before"]).casefold()
        yield _Found(f"month {lexicon.MONTHS[month]}", True)


def _in_digits(match: re.Match[str]) -> str:
    currency = (match["currency"] or "").strip().upper().removeprefix("US")
    unit = match["unit"] or currency
    times = lexicon.MULTIPLIERS.get((match["big"] or "").casefold(), 1)
    times = {"k": 1000, "bn": 10**9}.get((match["suffix"] or "").casefold(), times)
    if currency and unit.casefold() == "m":  # "$5m" are no metres
        unit, times = currency, 10**6
    sign = "-" if match["sign"] else ""
    return f"{sign}{_digits(match['digits'], times)}{_unit(unit)}"


def _digits(text: str, times: int) -> str:
    """Return a number in digits, without separators; 3.10 and 3.1 differ, as versions do."""
    plain = "".join(str(int(mark)) if mark.isdecimal() else mark for mark in text if mark != ",")
    if times == 1 or plain.count(".") > 1 or len(plain) > _LONGEST:
        return plain.lstrip("0") or "0"
    value = Fraction(plain) * times
    return str(value.numerator) if value.denominator == 1 else str(float(value))


def _unit(unit: str | None) -> str:
    word = " ".join((unit or "").casefold().split())
    if not word:
        return ""
    return " " + ("%" if word == "per cent" else lexicon.UNITS[word])


def _spelled(words: str, unit: str | None) -> _Found:
    """Return the number that words such as "two hundred and five" name."""
    parts = re.findall(r"[a-z]+", words.casefold())
    total = group = 0
    for part in parts:
        if part in lexicon.MULTIPLIERS:
            group = max(group, 1) * lexicon.MULTIPLIERS[part]
            if part != "hundred":
                total, group = total + group, 0
        else:
            group += lexicon.NUMBER_WORDS.get(part, lexicon.ORDINALS.get(part, 0))
    is_unsure = len(parts) == 1 and parts[0] in {"one", "first", "second"} and not unit
    return _Found(f"{total + group}{_unit(unit)}", not is_unsure)

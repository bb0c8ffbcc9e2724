"""quality: the published rules of thumb of Gopher, C4 and FineWeb for junk text.

Each rule has its own name, which is the setting with its threshold, and comes from a paper:
`gopher_` Rae et al. 2021, arXiv 2112.11446, appendix A1.1 and table A1; `c4_` Raffel et al. 2020,
arXiv 1910.10683, section 2.2, with the numbers of its code; `fineweb_` Penedo et al. 2024, arXiv
2406.17557, section 3.6. They were made for web pages: "fewer than 50 words" or "no end mark" would
delete every title, question and sentence. So `rules` starts as "safe", those that good prose and
code of any length hardly ever break, and rules on shares, means and repeats wait for `judged_words`
and `judged_lines`. Rules on words do not judge text without spaces (Chinese, Japanese, Thai ...),
nor stop words any language but English. C4's list of bad words is not part of this.

Source: the three papers above
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from operator import itemgetter
from typing import Any, NamedTuple

from pydantic import Field, field_validator

from lightadapt_data.config import Config
from lightadapt_data.errors import allowed
from lightadapt_data.filters import Context, Finding, Text

_END_MARKS = (*".!?'\"”’»…。！？」』؟۔।։",)
_BULLETS = ("•", "‣", "◦", "●", "▪", "■", "-", "–", "*")
_ELLIPSES = ("...", "…")
_STOP_WORDS = frozenset(("the", "be", "to", "of", "and", "that", "have", "with"))
_POLICY = re.compile(r"(?i)terms of use|(?:privacy|cookie) policy|use of cookies|uses? cookies")
_SENTENCE_END = re.compile(r"[.!?][\"'”’)\]]*(?=\s|$)|[。！？]|[؟۔।](?=\s|$)")
_WORD = re.compile(r"\w+(?:['’-]\w+)*")
_PARAGRAPH_END = re.compile(r"\n{2,}")
_UNSPACED = re.compile(r"[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff]")


class Settings(Config):
    """Settings of the quality filter; a share is from 0 to 1."""

    rules: tuple[str, ...] = ("safe",)
    """Sets ("safe", "gopher", "c4", "fineweb") or names of single rules: the settings below."""
    judged_words: int = Field(default=50, ge=0)
    """Rows with fewer words are judged by no rule on shares, means or repeats [words]."""
    judged_lines: int = Field(default=3, ge=0)
    """Rows with fewer lines are judged by no rule on shares of lines [lines]."""

    gopher_words: tuple[int, int] = (50, 100_000)
    """Fewest and most words [words]."""
    gopher_mean_word_length: tuple[float, float] = (3, 10)
    """Least and greatest mean length of words [characters]."""
    gopher_symbol_ratio: float = 0.1
    """Most "#", and most ellipses, to one word [ratio]."""
    gopher_bullet_lines: float = 0.9
    """Most lines that start with a bullet [share]."""
    gopher_ellipsis_lines: float = 0.3
    """Most lines that end with an ellipsis [share]."""
    gopher_alphabetic_words: float = 0.8
    """Fewest words with a letter in them [share]."""
    gopher_stop_words: int = 2
    """Fewest of: the, be, to, of, and, that, have, with; English only [different words]."""
    gopher_duplicate_lines: tuple[float, float] = (0.3, 0.2)
    """Most lines that repeat an earlier one, and most characters in them [shares]."""
    gopher_duplicate_paragraphs: tuple[float, float] = (0.3, 0.2)
    """Most paragraphs that repeat an earlier one, and most characters in them [shares]."""
    gopher_top_grams: tuple[float, float, float] = (0.2, 0.18, 0.16)
    """Most characters in one 2-, 3- or 4-gram of words that comes three times or more [shares]."""
    gopher_duplicate_grams: tuple[float, ...] = (0.15, 0.14, 0.13, 0.12, 0.11, 0.1)
    """Most characters in 5- to 10-grams of words that repeat an earlier one [shares]."""

    c4_end_marks: int = 1
    """Fewest lines that end with an end mark, but not "..." [lines]; C4 cuts the others out."""
    c4_line_words: int = 5
    """A row goes when every line has fewer words [words]; C4 cuts such lines out."""
    c4_sentences: int = 3
    """Fewest sentences [sentences]."""
    c4_word_length: int = 1000
    """A row goes when every line has a longer word [characters]; C4 cuts such lines out."""
    c4_javascript: int = 1
    """Fewest lines without the word "javascript" [lines]; C4 cuts the others out."""
    c4_policy: int = 1
    """Fewest lines without words on cookies or terms of use [lines]; C4 cuts the others out."""
    c4_curly_brackets: int = 0
    """Most "{" [marks]; this takes out code."""
    c4_lorem_ipsum: int = 0
    """Most "lorem ipsum" [times]."""

    fineweb_end_marks: float = 0.12
    """A row goes when at most so many lines end with an end mark [share]."""
    fineweb_duplicate_line_characters: float = 0.1
    """A row goes when at least so many characters are in repeated lines [share]."""
    fineweb_short_lines: float = 0.67
    """A row goes when at least so many lines have fewer than 30 characters [share]."""

    @field_validator("rules")
    @classmethod
    def _known(cls, rules: tuple[str, ...]) -> tuple[str, ...]:
        for rule in rules:
            if rule not in RULES and rule not in SETS:
                raise ValueError(f"no rule '{rule}'; {allowed(rule, [*SETS, *RULES])}")
        return rules


def examine(rows: Sequence[Text], settings: Settings, context: Context) -> dict[int, Finding]:
    """Return a finding for each row that breaks a rule; the first broken rule is the reason."""
    chosen = {name for rule in settings.rules for name in SETS.get(rule, (rule,))}
    ordered = [name for name in RULES if name in chosen]
    found: dict[int, Finding] = {}
    for index, row in enumerate(rows):
        reason = "" if row.is_settled else _broken(_Measured(row.text), ordered, settings)
        if reason:
            found[index] = Finding(reason)
    return found


def _broken(text: _Measured, names: Sequence[str], settings: Settings) -> str:
    """Return the first broken rule with its numbers, or an empty text."""
    if not text.words:
        return ""
    missing = text.lacks(settings)
    for name in names:
        rule = RULES[name]
        if not missing.isdisjoint(rule.needs):
            continue
        fault = rule.fault(rule.measure(text), getattr(settings, name))
        # Asked last, as it takes a hundred times as long as the rule.
        if fault and ("English" not in rule.needs or text.is_english()):
            return f"{name}: {fault}"
    return ""


@dataclass
class _Measured:
    """A text and what several rules ask of it, each measured once."""

    text: str

    @cached_property
    def words(self) -> list[str]:
        """Runs without spaces."""
        return self.text.split()

    @cached_property
    def lines(self) -> list[str]:
        """Lines that are not blank, without spaces at both ends."""
        return [line.strip() for line in self.text.splitlines() if line.strip()]

    @cached_property
    def paragraphs(self) -> list[str]:
        """Blocks between blank lines."""
        return [part.strip() for part in _PARAGRAPH_END.split(self.text) if part.strip()]

    @cached_property
    def is_spaced(self) -> bool:
        """Whether spaces part words: at most a third of the marks is of a script without them."""
        if self.text.isascii():
            return True
        return 3 * len(_UNSPACED.findall(self.text)) <= sum(map(len, self.words))

    def lacks(self, settings: Settings) -> set[str]:
        """Return what rules may need and this text has not: "spaces", "length", "lines"."""
        # A Chinese or Japanese word has about two signs.
        n_words = len(self.words) if self.is_spaced else len(self.text) // 2
        lacking = {
            "spaces": not self.is_spaced,
            "length": n_words < settings.judged_words,
            "lines": len(self.lines) < settings.judged_lines,
        }
        return {name for name, is_lacking in lacking.items() if is_lacking}

    def mean_word_length(self) -> float:
        """Return the mean length of runs of letters and digits [characters]."""
        words = _WORD.findall(self.text)
        return sum(map(len, words)) / max(len(words), 1)

    def symbols(self) -> float:
        """Return the number of "#" or of ellipses, whichever is greater, to one word."""
        n_ellipses = sum(map(self.text.count, _ELLIPSES))
        return max(self.text.count("#"), n_ellipses) / len(self.words)

    def alphabetic(self) -> float:
        """Return the share of words that hold a letter."""
        return sum(any(map(str.isalpha, word)) for word in self.words) / len(self.words)

    def stop_words(self) -> int:
        """Return the number of different stop words."""
        return len(_STOP_WORDS & set(_WORD.findall(self.text.lower())))

    def is_english(self) -> bool:
        """Return whether the text looks most like English."""
        from py3langid import classify  # type: ignore[import-untyped]

        return bool(classify(self.text[:1000])[0] == "en")

    def share(self, is_such: Callable[[str, Any], bool], what: Any) -> float:
        """Return the share of lines for which `is_such(line, what)`."""
        return sum(is_such(line, what) for line in self.lines) / len(self.lines)

    def grams(self, n: int) -> list[tuple[str, ...]]:
        """Return the n-grams of words, in their order."""
        return list(zip(*(self.words[i:] for i in range(n)), strict=False))

    def top_shares(self) -> Iterator[float]:
        """Yield, for 2- to 4-grams, the share of characters in the one that comes most often."""
        for n in (2, 3, 4):
            gram, times = max(Counter(self.grams(n)).items(), key=itemgetter(1), default=((), 0))
            if times < 3:
                return  # and no longer n-gram comes more often
            yield min(times * sum(map(len, gram)) / sum(map(len, self.words)), 1.0)

    def repeat_shares(self) -> Iterator[float]:
        """Yield, for 5- to 10-grams, the share of characters in those that repeat earlier ones."""
        for n in range(5, 11):
            grams, seen = self.grams(n), set()
            if len(set(grams)) == len(grams):
                return  # and no longer n-gram comes twice
            at = repeated = 0
            while at < len(grams):
                is_new = grams[at] not in seen
                seen.add(grams[at])
                repeated += 0 if is_new else sum(map(len, grams[at]))
                at += 1 if is_new else n
            yield repeated / sum(map(len, self.words))


def _is_whole(line: str) -> bool:
    return line.endswith(_END_MARKS) and not line.endswith(_ELLIPSES)


def _repeats(parts: Sequence[str]) -> tuple[float, float]:
    """Return the shares of parts, and of their characters, that repeat an earlier part."""
    firsts, n_characters = set(parts), sum(map(len, parts))
    n_repeated = n_characters - sum(map(len, firsts))
    return (len(parts) - len(firsts)) / len(parts), n_repeated / n_characters


def _shown(value: float) -> str:
    return f"{value:,}" if isinstance(value, int) else f"{value:.3g}"


def _most(value: float, most: float) -> str:
    return f"{_shown(value)}, most {_shown(most)}" if value > most else ""


def _least(value: float, least: float) -> str:
    return f"{_shown(value)}, least {_shown(least)}" if value < least else ""


def _within(value: float, limits: tuple[float, float]) -> str:
    return _least(value, limits[0]) or _most(value, limits[1])


def _none_above(values: Iterable[float], limits: Sequence[float]) -> str:
    return next(filter(None, map(_most, values, limits)), "")


def _above(value: float, limit: float) -> str:
    return f"{_shown(value)}, above {_shown(limit)} stays" if value <= limit else ""


def _below(value: float, limit: float) -> str:
    return f"{_shown(value)}, below {_shown(limit)} stays" if value >= limit else ""


class _Rule(NamedTuple):
    measure: Callable[[_Measured], Any]
    fault: Callable[[Any, Any], str]
    needs: tuple[str, ...] = ()
    """Without which a text is not judged: "spaces", "length", "lines", "English"."""


_LONG, _WORDS, _LINES = ("length",), ("spaces", "length"), ("length", "lines")

RULES: Mapping[str, _Rule] = {
    "c4_lorem_ipsum": _Rule(lambda t: t.text.lower().count("lorem ipsum"), _most),
    "c4_curly_brackets": _Rule(lambda t: t.text.count("{"), _most),
    "gopher_words": _Rule(lambda t: len(t.words), _within, ("spaces",)),
    "gopher_mean_word_length": _Rule(_Measured.mean_word_length, _within, _WORDS),
    "gopher_symbol_ratio": _Rule(_Measured.symbols, _most, _WORDS),
    "gopher_bullet_lines": _Rule(lambda t: t.share(str.startswith, _BULLETS), _most, _LINES),
    "gopher_ellipsis_lines": _Rule(lambda t: t.share(str.endswith, _ELLIPSES), _most, _LINES),
    "gopher_alphabetic_words": _Rule(_Measured.alphabetic, _least, _WORDS),
    "gopher_stop_words": _Rule(_Measured.stop_words, _least, (*_WORDS, "English")),
    "gopher_duplicate_lines": _Rule(lambda t: _repeats(t.lines), _none_above, _LONG),
    "gopher_duplicate_paragraphs": _Rule(lambda t: _repeats(t.paragraphs), _none_above, _LONG),
    "gopher_top_grams": _Rule(_Measured.top_shares, _none_above, _WORDS),
    "gopher_duplicate_grams": _Rule(_Measured.repeat_shares, _none_above, _WORDS),
    "c4_end_marks": _Rule(lambda t: sum(map(_is_whole, t.lines)), _least),
    "c4_line_words": _Rule(lambda t: max(map(len, map(str.split, t.lines))), _least, ("spaces",)),
    "c4_sentences": _Rule(lambda t: len(_SENTENCE_END.findall(t.text)), _least),
    "c4_word_length": _Rule(
        lambda t: min(max(map(len, x.split())) for x in t.lines), _most, ("spaces",)
    ),
    "c4_javascript": _Rule(lambda t: sum("javascript" not in x.lower() for x in t.lines), _least),
    "c4_policy": _Rule(lambda t: sum(not _POLICY.search(line) for line in t.lines), _least),
    "fineweb_end_marks": _Rule(lambda t: t.share(str.endswith, _END_MARKS), _above, _LINES),
    "fineweb_duplicate_line_characters": _Rule(lambda t: _repeats(t.lines)[1], _below, _LONG),
    "fineweb_short_lines": _Rule(
        lambda t: sum(len(x) < 30 for x in t.lines) / len(t.lines), _below, _LINES
    ),
}
"""All rules by name, in the order in which they are asked."""

SETS: Mapping[str, tuple[str, ...]] = {
    "safe": (
        "c4_lorem_ipsum",
        *(f"gopher_{name}" for name in ("mean_word_length", "symbol_ratio", "bullet_lines")),
        *(f"gopher_{name}" for name in ("ellipsis_lines", "duplicate_paragraphs", "top_grams")),
    ),
    "gopher": tuple(name for name in RULES if name.startswith("gopher")),
    "c4": tuple(name for name in RULES if name.startswith("c4")),
    "fineweb": tuple(name for name in RULES if name.startswith("fineweb")),
}
"""Rules by the names of their sets."""

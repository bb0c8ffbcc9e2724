"""protected: refuses a child that lost, changed or added a number, address, piece of code or the
like.

Stricter than the gate `numbers`: everything must be there to the byte and as often, so "1,000" that
became "1000" is refused. For texts where such parts are data.

Source: own; markup, code and addresses do not survive translation: Hanneman and Dinu 2020,
https://aclanthology.org/2020.wmt-1.138
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from typing import Literal

from lightadapt_data import word_edits
from lightadapt_data.gates import Encode, Verdict
from lightadapt_data.word_edits import WordSettings

Kind = Literal["code", "urls", "emails", "numbers"]

_PATTERNS: dict[Kind, str] = {
    "code": word_edits.CODE,
    "urls": word_edits.URL,
    "emails": word_edits.EMAIL,
    "numbers": word_edits.NUMBER,
}
"""In the order of looking: a number inside an address belongs to the address."""


class Settings(WordSettings):
    """Settings of protected."""

    kinds: tuple[Kind, ...] = ("code", "urls", "emails", "numbers")
    """What must stay besides the user's patterns; code is what stands between backticks."""


def judge(
    parents: Sequence[str], children: Sequence[str], settings: Settings, encode: Encode
) -> list[Verdict]:
    """Return a verdict per pair; the score is the part of the parent's spans that are there."""
    chosen = [pattern for kind, pattern in _PATTERNS.items() if kind in settings.kinds]
    pattern = re.compile("|".join(chosen), re.DOTALL) if chosen else None
    return [
        _verdict(_spans(parent, pattern, settings.keep), _spans(child, pattern, settings.keep))
        for parent, child in zip(parents, children, strict=True)
    ]


def _verdict(before: Counter[str], after: Counter[str]) -> Verdict:
    lost, new = before - after, after - before
    score = round(1 - lost.total() / max(before.total(), 1), 4)
    if not lost and not new:
        return Verdict(True, score=score)
    if lost and new:
        return Verdict(False, f"protected: {_listed(lost)} became {_listed(new)}", score)
    reason = f"{_listed(lost)} lost" if lost else f"{_listed(new)} added"
    return Verdict(False, f"protected: {reason}", score)


def _spans(text: str, pattern: re.Pattern[str] | None, keep: Sequence[str]) -> Counter[str]:
    found: Counter[str] = Counter()
    end = 0
    for start, stop in [*word_edits.spans(text, keep), (len(text), len(text))]:
        if pattern is not None:
            found.update(match.group() for match in pattern.finditer(text[end:start]))
        if start < stop:
            found[text[start:stop]] += 1
        end = stop
    return found


def _listed(spans: Counter[str]) -> str:
    names = sorted(spans.elements())
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return ", ".join(f"'{name[:40]}'" for name in names[:3]) + more

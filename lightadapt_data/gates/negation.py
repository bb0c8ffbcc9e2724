"""negation: refuses a child that has an odd number of negations more or fewer than its parent.

"did not work", "failed to work" and "never worked" are one negation each, so a paraphrase may
trade one for another; a dropped "not" changes the count by one.

Source: own lexicon for English; why it is needed: Hossain et al. 2020, translations lose
negation, https://aclanthology.org/2020.findings-emnlp.345
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from lightadapt_data import lexicon
from lightadapt_data.config import Config
from lightadapt_data.gates import Encode, Verdict


class Settings(Config):
    """Settings of negation."""

    words: tuple[str, ...] = ()
    """Words that negate, in place of the English lexicon; for texts in another language."""


def judge(
    parents: Sequence[str], children: Sequence[str], settings: Settings, encode: Encode
) -> list[Verdict]:
    """Return a verdict per pair; the score is the number of the child's negations."""
    pattern = lexicon.NEGATION
    if settings.words:
        words = "|".join(map(re.escape, sorted(settings.words, key=len, reverse=True)))
        pattern = re.compile(rf"\b(?:{words})\b", re.IGNORECASE)
    return [
        _verdict(_negations(parent, pattern), _negations(child, pattern))
        for parent, child in zip(parents, children, strict=True)
    ]


def _verdict(before: list[str], after: list[str]) -> Verdict:
    if len(before) % 2 == len(after) % 2:
        return Verdict(True, score=float(len(after)))
    reason = f"negation: {_listed(before)} became {_listed(after)}"
    return Verdict(False, reason, float(len(after)))


def _negations(text: str, pattern: re.Pattern[str]) -> list[str]:
    return [
        " ".join(match.group().casefold().split())
        for match in pattern.finditer(text)
        if not match.groupdict().get("idle")
    ]


def _listed(found: list[str]) -> str:
    if not found:
        return "0 negations"
    words = ", ".join(f"'{word[:30]}'" for word in found[:3]) + (", …" if len(found) > 3 else "")
    return f"{len(found)} negation{'s' if len(found) > 1 else ''} ({words})"

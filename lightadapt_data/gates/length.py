"""length: refuses a child much shorter or longer than its parent.

Source: the usual length-ratio filter of translation corpora, Koehn et al. 2007 (Moses,
clean-corpus-n), https://aclanthology.org/P07-2045
"""

from __future__ import annotations

from collections.abc import Sequence

from pydantic import Field

from lightadapt_data.config import Config
from lightadapt_data.gates import Encode, Verdict


class Settings(Config):
    """Settings of length; ratios are child to parent."""

    min_words: float = Field(default=0.5, ge=0)
    """Smallest ratio of words."""
    max_words: float = Field(default=2.0, gt=0)
    """Largest ratio of words."""
    min_characters: float = Field(default=0.4, ge=0)
    """Smallest ratio of characters."""
    max_characters: float = Field(default=2.5, gt=0)
    """Largest ratio of characters."""


def judge(
    parents: Sequence[str], children: Sequence[str], settings: Settings, encode: Encode
) -> list[Verdict]:
    """Return a verdict per pair; the score is the ratio of words."""
    return [
        _verdict(parent, child, settings) for parent, child in zip(parents, children, strict=True)
    ]


def _verdict(parent: str, child: str, settings: Settings) -> Verdict:
    measures = (
        (
            "words",
            len(parent.split()),
            len(child.split()),
            settings.min_words,
            settings.max_words,
        ),
        (
            "characters",
            len(parent.strip()),
            len(child.strip()),
            settings.min_characters,
            settings.max_characters,
        ),
    )
    score = round(measures[0][2] / max(measures[0][1], 1), 4)
    for unit, before, after, least, most in measures:
        if not least * before <= after <= most * before:
            reason = f"length: {before} {unit} became {after}; allowed: {least} to {most} times"
            return Verdict(False, reason, score)
    return Verdict(True, score=score)

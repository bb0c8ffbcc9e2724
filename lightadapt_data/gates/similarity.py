"""similarity: refuses a child whose meaning, as the encoder sees it, is far from its parent's.

A floor only: role swaps and changed numbers pass it with ease, so other gates look at those.

Source: the semantic constraint of TextAttack, Morris et al. 2020, section 3,
https://arxiv.org/abs/2005.05909; floors measured with all-MiniLM-L6-v2 on hand-made pairs
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from pydantic import Field

from lightadapt_data.config import Config
from lightadapt_data.gates import Encode, Verdict


class Settings(Config):
    """Settings of similarity."""

    floor: float = Field(default=0.75, ge=-1, le=1)
    """Smallest cosine of child and parent."""
    short_floor: float = Field(default=0.65, ge=-1, le=1)
    """Smallest cosine when the parent is short."""
    short_words: int = Field(default=6, ge=0)
    """A parent with fewer words than this is short [words]."""


def judge(
    parents: Sequence[str], children: Sequence[str], settings: Settings, encode: Encode
) -> list[Verdict]:
    """Return a verdict per pair; the score is the cosine."""
    texts = list(dict.fromkeys([*parents, *children]))
    if not texts:
        return []
    vectors = dict(zip(texts, np.asarray(encode(texts), np.float64), strict=True))
    return [
        _verdict(parent, float(vectors[parent] @ vectors[child]), settings)
        for parent, child in zip(parents, children, strict=True)
    ]


def _verdict(parent: str, cosine: float, settings: Settings) -> Verdict:
    is_short = len(parent.split()) < settings.short_words
    floor = settings.short_floor if is_short else settings.floor
    score = round(cosine, 4)  # the last bits depend on the encoder's batch
    if score >= floor:
        return Verdict(True, score=score)
    return Verdict(False, f"similarity: cosine {score:.3f}, below the floor {floor}", score)

"""hashing: a tiny deterministic encoder of hashed words, for tests and dry runs; no model.

Source: Weinberger et al. 2009, "Feature Hashing for Large Scale Multitask Learning", section 2
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np
import xxhash
from numpy.typing import NDArray
from pydantic import Field

from lightadapt_data.config import Config
from lightadapt_data.vectors import unit

WORD = re.compile(r"\w+")


class Settings(Config):
    """Settings of the hashing encoder."""

    dim: int = Field(default=64, gt=0, le=4096)
    """Width of a vector."""


class HashingEncoder:
    """Signed counts of hashed lower-case words, scaled to length 1."""

    max_tokens = 0

    def __init__(self, dim: int) -> None:
        self.dim = dim

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Return unit vectors, float32 [len(texts), dim]; a text without words gives zeros."""
        vectors = np.zeros((len(texts), self.dim), np.float32)
        for row, text in enumerate(texts):
            for word in WORD.findall(text.lower()):
                code = xxhash.xxh3_64_intdigest(word.encode())
                vectors[row, code % self.dim] += 1.0 if code >> 63 else -1.0
        return unit(vectors)

    def n_cut(self) -> int:
        """Return 0: nothing is ever cut."""
        return 0


def fingerprint(settings: Settings) -> dict[str, str]:
    """Return what names the output besides the settings: nothing."""
    return {}


def load(settings: Settings) -> HashingEncoder:
    """Return the encoder."""
    return HashingEncoder(settings.dim)

"""Augmenters make new rows. The family's contract:

- `FEEDS_ON`: "train" (labelled training rows), or "selected" (rows chosen from the corpus);
- `SKIPS_GATES`: gates that make no sense for what this method does to a text;
- `augment(rows, settings, context) -> list[Candidate]`, any number per row, in row order. The
  candidates of a row depend on that row, the settings and the seed, never on its neighbours.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import xxhash
from numpy.typing import NDArray

Encode = Callable[[Sequence[str]], NDArray[np.float32]]
"""Texts to unit vectors, float32 [rows, dim]."""


@dataclass(frozen=True)
class Candidate:
    """One row that an augmenter offers; gates decide on it."""

    parent_id: str
    text: str
    label: str | None
    replica: int = 0
    """Number of this candidate among those of its parent and method, from 0."""
    score: float | None = None
    refused: str = ""
    """Reason why the method itself refuses this candidate; empty when it offers it."""


@dataclass(frozen=True)
class Context:
    """What an augmenter may use besides the rows."""

    seed: int
    labelled: Sequence[Mapping[str, Any]]
    """All labelled training rows (`id, text, label`)."""
    encode: Encode
    unlabelled: Sequence[str] = ()
    """Texts of selected rows, for methods with the setting `self_training`, drawn by their ids."""


def generator(seed: int, method: str, row_id: str, replica: int) -> random.Random:
    """Return the random generator of one candidate: resume and order cannot change it."""
    return random.Random(xxhash.xxh3_64_intdigest(f"{seed}|{method}|{row_id}|{replica}".encode()))

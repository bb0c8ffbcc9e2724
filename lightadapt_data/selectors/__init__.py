"""Selectors score corpus rows. The family's contract:

`score(corpus, target, settings, seed) -> Scores`. Higher is better; choosing rows by a budget is
the select stage's work, once for all methods. A row's score does not depend on the order of rows.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Scores:
    """What a selector says of every corpus row."""

    score: Floats
    """float32 [rows]; finite."""
    nearest: NDArray[np.int32]
    """int32 [rows]: index of the nearest target row; -1 when the method looks at no target."""


class Corpus(Protocol):
    """The corpus as selectors see it: vectors in blocks, one key per row, columns on demand."""

    n_rows: int
    dim: int
    keys: NDArray[np.uint64]
    """uint64 [rows]: hash of each row's id, for randomness and ties that no order can change."""

    def mean(self) -> Floats:
        """Return the mean vector, float32 [dim]."""
        ...

    def blocks(self) -> Iterator[tuple[int, Floats]]:
        """Yield (index of the first row, float32 [rows of the block, dim])."""
        ...

    def column(self, name: str) -> NDArray[np.int32]:
        """Return a column as codes, int32 [rows]: equal values share a code, missing is one too."""
        ...

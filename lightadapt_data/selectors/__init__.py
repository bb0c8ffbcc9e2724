"""Selectors score corpus rows. The family's contract:

`score(corpus, target, settings, seed) -> Scores`. Higher is better; choosing rows by a budget is
the select stage's work, once for all methods. A row's score does not depend on the order of rows.
A selector that reads a model names its files: `reads(settings) -> dict[str, str]`, their digests.
Every selector works with one target row, one corpus row, identical rows and empty texts.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Target:
    """The rows to select toward."""

    vectors: Floats
    """float32 [rows, dim]: unit vectors of the run's encoder."""
    texts: Sequence[str]
    """One text per row, in the order of the vectors."""
    columns: Mapping[str, Sequence[str]] = field(default_factory=dict)
    """Other text columns by name, for methods that compare pairs of texts."""


@dataclass(frozen=True)
class Scores:
    """What a selector says of every corpus row."""

    score: Floats
    """float32 [rows]; finite."""
    nearest: NDArray[np.int32]
    """int32 [rows]: index of the nearest target row; -1 when the method looks at no target."""
    facts: Mapping[str, Any] = field(default_factory=dict)
    """What the report should say of the method, as JSON values; empty when there is nothing."""


class Corpus(Protocol):
    """The corpus as selectors see it: vectors and texts in blocks, columns on demand."""

    n_rows: int
    dim: int

    @property
    def keys(self) -> NDArray[np.uint64]:
        """uint64 [rows]: hash of each row's id, for draws and ties that no order can change."""
        ...

    @property
    def tokens(self) -> NDArray[np.int32]:
        """int32 [rows]: tokens of each row's text."""
        ...

    def mean(self) -> Floats:
        """Return the mean vector, float32 [dim]."""
        ...

    def blocks(self) -> Iterator[tuple[int, Floats]]:
        """Yield (index of the first row, float32 [rows of the block, dim])."""
        ...

    def texts(self, column: str = "text") -> Iterator[tuple[int, list[str]]]:
        """Yield (index of the first row, texts of the block); blocks differ from `blocks()`."""
        ...

    def column(self, name: str) -> NDArray[np.int32]:
        """Return a column as codes, int32 [rows]: equal values share a code, missing is one too."""
        ...

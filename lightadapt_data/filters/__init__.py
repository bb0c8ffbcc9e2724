"""Filters drop rows from the curated set, or change their text. The family's contract:

`examine(rows, settings, context) -> dict[int, Finding]`: what is wrong, by the row's index.
`rows` come in the order of who is kept first. A row is dropped as a copy only for being close to
a row that is kept, never to a dropped one; a row and its augmented children are one family and do
not count as copies of each other. A filter that reads outside files names them:
`reads(settings) -> dict[str, str]` gives their digests and raises InputError where one is missing,
and `PATH_FIELDS` names the settings that hold their paths.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

Encode = Callable[[Sequence[str]], NDArray[np.float32]]


@dataclass(frozen=True, slots=True)
class Text:
    """A row as filters see it."""

    id: str
    family: str
    text: str
    source: str = ""
    is_settled: bool = False
    """Kept whatever is found: a row of an earlier run. Such rows come first."""


@dataclass(frozen=True, slots=True)
class Finding:
    """Why a row is dropped, or how its text is changed."""

    reason: str
    """In words, with the evidence: "similarity 0.93", "mean word length 14.2, most 10"."""
    kept: int | None = None
    """Index of the kept row that it copies; None when it is dropped for what it is."""
    similarity: float = 0.0
    """With that row, from 0 to 1."""
    text: str | None = None
    """The text to go on with; the row is then changed and not dropped."""


class Context(Protocol):
    """What filters may ask of the run."""

    seed: int

    def vectors(self, rows: Sequence[Text]) -> NDArray[np.float32]:
        """Return unit vectors, float32 [rows, dim]; those of the embed stage where there are any.

        Raises:
            InputError: the run has no encoder.
        """
        ...

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Return unit vectors of any texts, float32 [texts, dim].

        Raises:
            InputError: the run has no encoder.
        """
        ...

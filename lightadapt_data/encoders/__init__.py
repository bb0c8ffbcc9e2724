"""Encoders turn texts into unit vectors. The family's contract:

- `fingerprint(settings) -> dict[str, str]`: what names the model's output, found without loading
  it (no torch import); raises InputError when the model cannot be found;
- `load(settings) -> Encoder`; loading twice in one process gives the same object.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray


class Encoder(Protocol):
    """A loaded encoder."""

    dim: int
    max_tokens: int
    """Longer texts are cut to this many tokens; 0 when nothing is ever cut."""

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Return unit vectors, float32 [len(texts), dim], in the order of the texts."""
        ...

    def n_cut(self) -> int:
        """Return how many texts were cut to `max_tokens` since loading."""
        ...

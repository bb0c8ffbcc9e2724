"""Gates decide on augmented rows. The family's contract:

`judge(parents, children, settings, encode) -> list[Verdict]`, one verdict per pair of texts; the
verdict of a pair does not depend on its neighbours.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Encode = Callable[[Sequence[str]], NDArray[np.float32]]
"""Texts to unit vectors, float32 [rows, dim]."""


@dataclass(frozen=True)
class Verdict:
    """One gate's word on one pair."""

    passed: bool
    reason: str = ""
    """Why it failed, with the evidence ("numbers: 40 became 400"); empty when it passed."""
    score: float | None = None

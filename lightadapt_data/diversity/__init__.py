"""Diversity methods reorder the best rows, so that the chosen ones are not alike. The contract:

`order(vectors, scores, n_wanted, settings) -> Order`. The rows come best first, and are the
candidates that a selector left, a few times as many as will be chosen; ties go to the earlier row.
The order holds every row once: whoever takes its head takes a diverse set of any size.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Order:
    """The candidates in a new order."""

    places: NDArray[np.int64]
    """int64 [rows]: indices of the candidates, the one to take first at the head."""
    close_to: NDArray[np.int64]
    """int64 [rows]: for each candidate, by its index, the earlier-ordered candidate that it is
    too much like, which is why it stands back; -1 where there is none."""

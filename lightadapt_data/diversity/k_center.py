"""k_center: start at the best row, then always take the row farthest from all picks.

The picks cover the candidates: no row is farther from its closest pick than twice what the best
possible choice of as many rows would leave. Odd rows are far from everything, so they are picked
early: give it candidates that are relevant, not a whole corpus. Scores matter only for the first
row and for ties, which go to the earlier row. Distances stay the same when the candidates' mean is
subtracted, so there is nothing to centre. After the wanted picks the others follow as they came.

Cost: linear in candidates times picks, as one matrix product. As a pick can only bring rows
nearer, only rows that may be the farthest are brought up to date after each one.

Source: Gonzalez 1985, "Clustering to minimize the maximum intercluster distance",
https://doi.org/10.1016/0304-3975(85)90224-5
"""

from __future__ import annotations

import numpy as np

from lightadapt_data.config import Config
from lightadapt_data.diversity import Floats, Order
from lightadapt_data.diversity.leader import on_grid, picks_first
from lightadapt_data.diversity.mmr import farthest


class Settings(Config):
    """Settings of the k_center method: none."""


def order(vectors: Floats, scores: Floats, n_wanted: int, settings: Settings) -> Order:
    """Return the picks in the order in which they were made, then the other rows."""
    grid = on_grid(vectors)
    return picks_first(grid, farthest(grid, np.zeros(len(grid)), 1.0, n_wanted))

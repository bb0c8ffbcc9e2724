"""kde: scores lowered by how many better rows lie close by, so that near-copies share one slot.

A row's value is `(score - mean) / deviation - weight * log rho`, where rho is a kernel estimate of
density: the sum over the k nearest rows within `sigma`, itself among them, of 1 - d^2 / sigma^2.
Counted are only rows with a better score, unless `counted` is "all": if every copy of a row were
lowered by all the others, the best of them would fall too, and none be left. With "better" the
j-th best of equal rows loses weight * log j. Ties go to the earlier row.

Distances stay the same when the candidates' mean is subtracted, so there is nothing to centre.
Cost: rows * rows / 2 products of vectors; above `exact_rows` candidates, neighbours are found by
probing cells, which misses a few.

Source: Liu et al. 2024 (TSDS), arXiv 2410.11303 (the kernel; sigma = 0.75 as in its code)
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from lightadapt_data.config import Config
from lightadapt_data.diversity import Floats, Order
from lightadapt_data.diversity.facility_location import cells
from lightadapt_data.diversity.leader import most_similar, on_grid, similarities

ROWS = 256

Doubles = NDArray[np.float64]


class Settings(Config):
    """Settings of the kde method."""

    sigma: float = Field(default=0.75, ge=0, le=2)
    """Distance from which a row no longer counts; 0 counts none, 0.75 is a cosine of 0.72."""
    weight: float = Field(default=1.0, ge=0)
    """Standard deviations of the score that a row loses for a density of e."""
    neighbours: int = Field(default=1000, ge=1)
    """Rows that are summed, the nearest, itself among them [rows]."""
    counted: Literal["better", "all"] = "better"
    """Whether a row is crowded by rows with a better score only, or by all, as in the paper."""
    exact_rows: int = Field(default=50_000, ge=0)
    """Most candidates whose neighbours are searched exactly; above it cells are probed [rows]."""


def order(vectors: Floats, scores: Floats, n_wanted: int, settings: Settings) -> Order:
    """Return the rows by their lowered scores.

    A row that would have been among the wanted ones, and no longer is, names the most similar row
    among them if it lies within sigma.
    """
    grid = on_grid(vectors)
    values = _standardised(scores) - settings.weight * np.log(density(grid, settings))
    places = np.argsort(-values, kind="stable")
    close_to = np.full(len(grid), -1, np.int64)
    chosen = places[:n_wanted]
    fallen = places[n_wanted:]
    fallen = fallen[fallen < n_wanted]
    if len(fallen) and len(chosen):
        similarity, nearest = most_similar(grid[fallen], grid[chosen])
        is_close = similarity > 1 - settings.sigma**2 / 2
        close_to[fallen[is_close]] = chosen[nearest[is_close]]
    return Order(places, close_to)


def density(grid: Floats, settings: Settings) -> Doubles:
    """Return rho of each row, from 1 to `neighbours`, float64 [rows]."""
    # On the grid of similarities, so that the sums are exact in any order.
    reach = np.rint(settings.sigma**2 / 2 * 2**23) / 2**23
    if reach == 0 or not len(grid):
        return np.ones(len(grid))
    if len(grid) <= settings.exact_rows:
        sums = _sums_of_all(grid, reach, settings)
    else:
        sums = _sums_of_found(grid, reach, settings)
    return np.asarray(1 + sums / reach, dtype=np.float64)


def _sums_of_all(grid: Floats, reach: float, settings: Settings) -> Doubles:
    """Return the sums over other rows of reach - d^2 / 2, where above 0, float64 [rows]."""
    sums = np.zeros(len(grid))
    k = settings.neighbours - 1
    for start in range(0, len(grid), ROWS):
        stop = min(start + ROWS, len(grid))
        last = stop if settings.counted == "better" else len(grid)
        overlap = similarities(grid[start:stop], grid[:last])
        overlap -= np.float32(1 - reach)
        np.maximum(overlap, 0, out=overlap)
        own = overlap[:, start:stop]
        own[
            np.triu_indices(len(own)) if settings.counted == "better" else np.diag_indices(len(own))
        ] = 0
        if last > k:
            _keep_highest(overlap, k)
        sums[start:stop] = overlap.sum(axis=1, dtype=np.float64)
    return sums


def _keep_highest(overlap: Floats, k: int) -> None:
    """Set all but the k highest numbers of each row to 0."""
    for row in np.flatnonzero((overlap > 0).sum(axis=1) > k):
        overlap[row, np.argsort(-overlap[row], kind="stable")[k:]] = 0


def _sums_of_found(grid: Floats, reach: float, settings: Settings) -> Doubles:
    """Return the same sums over the rows that an index of cells finds, float64 [rows]."""
    index = cells(grid)
    sums = np.zeros(len(grid))
    k = settings.neighbours - 1
    for start in range(0, len(grid), ROWS):
        limits, squares, places = index.range_search(grid[start : start + ROWS], 2 * reach)
        for offset in range(len(limits) - 1):
            row = start + offset
            span = slice(limits[offset], limits[offset + 1])
            others = places[span] < row if settings.counted == "better" else places[span] != row
            overlap = np.sort(reach - squares[span][others].astype(np.float64) / 2)[::-1][:k]
            sums[row] = overlap.sum()
    return sums


def _standardised(scores: Floats) -> Doubles:
    """Return the scores with mean 0 and deviation 1, float64 [rows]; zeros where all are equal."""
    values = scores.astype(np.float64)
    if not len(values) or values.max() == values.min():
        return np.zeros(len(values))
    return np.asarray((values - values.mean()) / values.std(), dtype=np.float64)

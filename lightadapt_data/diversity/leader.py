"""leader: visit rows from the best score on; keep a row unless a kept row is too similar.

A row is compared with kept rows only, so no chain of small changes can push back a row that is
like no kept one. The visit ends when enough rows are kept. The order is: kept rows, rows that were
not visited, rows that are too close. With `threshold = 0` the threshold is the lowest one, found
by bisection, that still keeps as many rows as are wanted: they lie as far apart as they can.

Similarity is 1 - d^2 / 2, which for unit vectors is the cosine. Distances stay the same when the
candidates' mean is subtracted, so there is nothing to centre. Rows without any content (vectors of
zeros) count as copies of one another.

Cost: a matrix product of the visited rows with the kept ones; about ten of them for the bisection.

Source: Hartigan 1975, "Clustering Algorithms", chapter 3 (the leader algorithm); as a filter in
score order: Liu et al. 2024 (Deita), arXiv 2312.15685, "Repr Filter"
"""

from __future__ import annotations

import logging

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from lightadapt_data.config import Config
from lightadapt_data.diversity import Floats, Order
from lightadapt_data.vectors import unit

logger = logging.getLogger(__name__)

GRID = np.float32(2**11)
ROWS, COLUMNS = 1024, 8192
STEPS = 10
CLOSEST = 0.999
"""The bisection starts here: above it there are only copies."""


class Settings(Config):
    """Settings of the leader method."""

    threshold: float = Field(default=0.9, ge=0, le=1)
    """Cosine above which a row is too close to a kept one; 0 finds the lowest that is enough."""


def order(vectors: Floats, scores: Floats, n_wanted: int, settings: Settings) -> Order:
    """Return kept rows first, rows that are too close last, with the kept row they are close to."""
    grid = on_grid(vectors)
    n_wanted = min(n_wanted, len(grid))
    if settings.threshold > 0:
        kept, close_to = visit(grid, settings.threshold, n_wanted)
    else:
        kept, close_to = _spread(grid, n_wanted)
    rest = np.setdiff1d(np.arange(len(grid)), kept)
    is_close = close_to[rest] >= 0
    return Order(np.concatenate([kept, rest[~is_close], rest[is_close]]), close_to)


def visit(
    grid: Floats, threshold: float, n_wanted: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the kept rows, at most `n_wanted`, and each row's closest kept one where too close.

    Shapes: int64 [kept] and int64 [rows]; -1 for rows that are kept or were not visited.
    """
    close_to = np.full(len(grid), -1, np.int64)
    kept = np.empty(n_wanted, np.int64)
    kept_vectors = np.empty((n_wanted, grid.shape[1]), np.float32)
    n_kept = 0
    for start in range(0, len(grid), ROWS):
        block = grid[start : start + ROWS]
        best, places = most_similar(block, kept_vectors[:n_kept])
        closest = np.where(places >= 0, kept[places] if n_kept else -1, -1)
        within = similarities(block, block)
        for row in range(len(block)):
            if n_kept == n_wanted:
                return kept, close_to
            if best[row] > threshold:
                close_to[start + row] = closest[row]
                continue
            kept[n_kept], kept_vectors[n_kept] = start + row, block[row]
            n_kept += 1
            later = slice(row + 1, None)
            is_closer = within[row, later] > best[later]
            closest[later][is_closer] = start + row
            np.maximum(best[later], within[row, later], out=best[later])
    return kept[:n_kept], close_to


def _spread(grid: Floats, n_wanted: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return what `visit` returns at the lowest threshold that keeps `n_wanted` rows."""
    if n_wanted == len(grid):
        return np.arange(n_wanted), np.full(n_wanted, -1, np.int64)
    low, high = -1.0, CLOSEST
    found = visit(grid, high, n_wanted)
    for _ in range(STEPS if len(found[0]) == n_wanted else 0):
        middle = (low + high) / 2
        tried = visit(grid, middle, n_wanted)
        if len(tried[0]) == n_wanted:
            found, high = tried, middle
        else:
            low = middle
    logger.info("leader: %s rows lie apart at the threshold %.3f", f"{len(found[0]):,}", high)
    return found


def on_grid(vectors: Floats) -> Floats:
    """Return unit vectors whose components are multiples of 2^-11, float32 [rows, dim].

    Products of such numbers are multiples of 2^-22, and their sums stay near 1, so float32 holds
    them exactly: no block size, number of threads or BLAS can change a similarity or a tie. A
    cosine moves by about 3e-4.
    """
    return np.asarray(np.rint(unit(vectors) * GRID) / GRID, dtype=np.float32)


def half_squares(grid: Floats) -> Floats:
    """Return half the squared length of each row, float32 [rows]."""
    return np.asarray(np.einsum("ij,ij->i", grid, grid) / np.float32(2), dtype=np.float32)


def similarities(rows: Floats, others: Floats) -> Floats:
    """Return 1 - d^2 / 2 of all pairs of rows on the grid, exact, float32 [rows, others]."""
    found = rows @ others.T
    found -= half_squares(others)
    found += (1 - half_squares(rows))[:, None]
    return np.asarray(found)


def most_similar(rows: Floats, others: Floats) -> tuple[Floats, NDArray[np.int64]]:
    """Return, for each row, the highest similarity to one of `others` and its place, both [rows].

    The earlier one wins ties. Without others: -inf and -1.
    """
    best = np.full(len(rows), -np.inf, np.float32)
    places = np.full(len(rows), -1, np.int64)
    for start in range(0, len(rows), ROWS):
        block = slice(start, start + ROWS)
        for first in range(0, len(others), COLUMNS):
            found = similarities(rows[block], others[first : first + COLUMNS])
            columns = found.argmax(axis=1)
            highest = found[np.arange(len(found)), columns]
            is_better = highest > best[block]
            best[block][is_better] = highest[is_better]
            places[block][is_better] = first + columns[is_better]
    return best, places


def picks_first(grid: Floats, picked: NDArray[np.int64]) -> Order:
    """Return the picked rows, then all others as they came.

    A row that would have been among as many best rows, and was not picked, names the picked row
    that is most similar.
    """
    rest = np.setdiff1d(np.arange(len(grid)), picked)
    close_to = np.full(len(grid), -1, np.int64)
    passed_over = rest[rest < len(picked)]
    if len(passed_over):
        close_to[passed_over] = picked[most_similar(grid[passed_over], grid[picked])[1]]
    return Order(np.concatenate([picked, rest]), close_to)

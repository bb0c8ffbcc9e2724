"""facility_location: picks that stand for all candidates: each row is similar to one of them.

Greedily maximises the sum over candidates of the similarity to their closest pick, at least
1 - 1/e of the best possible sum. Every row may be served by its nearest neighbours only, so memory
is rows * neighbours. Similarities below 0 count as 0. With `relevance`, a candidate with a better
score is worth more to cover. Ties go to the earlier row; after the wanted picks the others follow
as they came.

Centred, the similarity is 1 - d^2 / (mean d^2 of two candidates), so being near an average
candidate earns nothing; the plain cosine of vectors that share a direction pays for any neighbour.

Cost: the search for neighbours; then per pick the rows that it serves times `neighbours`. Gains are
whole numbers and always up to date, so sums and ties are exact. Above `exact_rows` candidates the
neighbours are found by probing cells, which misses a few.

Source: Lindgren, Wu and Dimakis 2016, "Leveraging Sparsity for Efficient Submodular Data
Summarization" (nearest-neighbour graph); Nemhauser, Wolsey and Fisher 1978 (greedy)
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from lightadapt_data.config import Config
from lightadapt_data.diversity import Floats, Order
from lightadapt_data.diversity.leader import on_grid, picks_first, similarities
from lightadapt_data.diversity.mmr import scaled, spread

SEED = 1234
"""FAISS trains its cells with a generator of its own; the seed is fixed here."""
ROWS = 256
SIMILARITY_STEPS, WEIGHT_STEPS = 2**20, 2**10

Ints = NDArray[np.int64]


class Settings(Config):
    """Settings of the facility_location method."""

    relevance: float = Field(default=0.5, ge=0, le=1)
    """How much a candidate's score decides what covering it is worth; 0 not at all [ratio]."""
    neighbours: int = Field(default=64, ge=1)
    """Rows that may stand for a row, itself among them [rows]."""
    centred: bool = True
    """Count similarity from that of an average pair of candidates, not from a right angle."""
    exact_rows: int = Field(default=50_000, ge=0)
    """Most candidates whose neighbours are searched exactly; above it cells are probed [rows]."""


def order(vectors: Floats, scores: Floats, n_wanted: int, settings: Settings) -> Order:
    """Return the picks in the order in which they were made, then the other rows."""
    grid = on_grid(vectors)
    n_wanted = min(n_wanted, len(grid))
    if n_wanted < 1:
        return picks_first(grid, np.zeros(0, np.int64))
    places, similarity = neighbours(grid, settings)
    worth = (1 - settings.relevance) + settings.relevance * scaled(scores)
    weights = np.rint(worth * WEIGHT_STEPS).astype(np.int64)
    return picks_first(grid, cover(places, similarity, weights, n_wanted))


def neighbours(grid: Floats, settings: Settings) -> tuple[Ints, NDArray[np.int32]]:
    """Return each row's nearest rows and its similarity to them in steps of 2^-20.

    Shapes: int64 and int32 [rows, neighbours]. A neighbour that was not found is the row itself,
    with similarity 0.
    """
    k = min(settings.neighbours, len(grid))
    if len(grid) <= settings.exact_rows:
        half, places = _closest(grid, k)
    else:
        squares, places = cells(grid).search(grid, k)
        half = squares.astype(np.float64) / 2
    similarity = 1 - half / (spread(grid) if settings.centred else 1.0)
    similarity = np.where(places >= 0, np.clip(similarity, 0, 1), 0)
    places = np.where(places >= 0, places, np.arange(len(grid))[:, None])
    return places, np.rint(similarity * SIMILARITY_STEPS).astype(np.int32)


def _closest(grid: Floats, k: int) -> tuple[NDArray[np.float64], Ints]:
    """Return half the squared distances and the places of each row's k nearest rows."""
    half = np.empty((len(grid), k))
    places = np.empty((len(grid), k), np.int64)
    for start in range(0, len(grid), ROWS):
        block = similarities(grid[start : start + ROWS], grid)
        least = np.partition(block, len(grid) - k, axis=1)[:, len(grid) - k]
        for row, (found, bound) in enumerate(zip(block, least, strict=True), start):
            near = np.flatnonzero(found >= bound)
            # Equal rows can be too many; the earlier ones stay.
            near = near[np.argsort(-found[near], kind="stable")[:k]]
            places[row] = near
            half[row] = 1 - found[near].astype(np.float64)
    return half, places


def cells(grid: Floats) -> Any:
    """Return a FAISS index by squared distance: cells, of which 16 are probed."""
    import faiss

    n_rows, dim = grid.shape
    # FAISS wants 39 rows to train a cell.
    n_lists = max(1, min(int(4 * np.sqrt(n_rows)), n_rows // 39))
    index = faiss.IndexIVFFlat(faiss.IndexFlatL2(dim), dim, n_lists)
    index.cp.seed = SEED
    index.train(grid[:: max(1, n_rows // (64 * n_lists))])
    index.nprobe = 16
    index.add(grid)
    return index


def cover(places: Ints, similarity: NDArray[np.int32], weights: Ints, n_wanted: int) -> Ints:
    """Return the greedy picks, int64 [n_wanted].

    Args:
        places: [rows, neighbours], the rows that may stand for each row.
        similarity: [rows, neighbours], what they are worth to it, from 0.
        weights: [rows], from 0.
        n_wanted: from 1 to the number of rows.
    """
    n_rows, k = places.shape
    edges = np.argsort(places, axis=None, kind="stable")
    starts = np.searchsorted(places.ravel()[edges], np.arange(n_rows + 1))
    gains = np.zeros(n_rows, np.int64)
    np.add.at(gains, places, weights[:, None] * similarity)
    served = np.zeros(n_rows, np.int64)
    picked = np.empty(n_wanted, np.int64)
    for step in range(n_wanted):
        picked[step] = row = gains.argmax()
        own = edges[starts[row] : starts[row + 1]]
        offered = similarity.ravel()[own].astype(np.int64)
        is_better = offered > served[own // k]
        rows, offered = own[is_better] // k, offered[is_better]
        near = similarity[rows]
        lost = np.maximum(near - served[rows][:, None], 0) - np.maximum(near - offered[:, None], 0)
        np.subtract.at(gains, places[rows], weights[rows][:, None] * lost)
        served[rows] = offered
        gains[row] = -1
    return picked

"""quality_density: with no target, the most typical rows of every region, near-duplicates last.

The corpus is cut into cells by a spherical k-means. Cells take turns: first the row closest to the
centre of each cell, then the second closest of each, and so on, so that a crowded region gets no
more rows than a sparse one and odd rows come late. A row that nearly equals a more typical row of
its cell comes after all rows that do not.

Good for a small and varied general set, or to see what a corpus holds. Typical rows pay when few
are kept; for large shares of a large corpus the literature finds the opposite. It knows nothing of
a target: with one, use another selector.

Cost: a k-means on 64 rows per cell, one pass to find the cells, and one more pass for every 250,000
rows to compare rows within cells. Memory: 400 MB at 384 dimensions, and 40 bytes per row.

Source: Hacohen et al. 2022, arXiv 2202.02794 (a typical row of each cluster, for small budgets);
Tirumala et al. 2023, arXiv 2308.12284 (distance to the centre of a cluster once near-duplicates in
it are dropped)
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from lightadapt_data.config import Config
from lightadapt_data.selectors import Corpus, Floats, Scores, Target
from lightadapt_data.selectors.nearest import cosine_blocks, directions
from lightadapt_data.vectors import uniform

Rows = NDArray[np.int64]

NEEDS_TARGET = False

MOST_CELLS = 1024
"""Cells at most when their number is chosen here."""

CELL_SAMPLE = 64
"""Rows per cell on which k-means is trained."""

GATHERED_ROWS = 250_000
"""Rows whose vectors are in memory at once to be compared within their cells."""

COMPARED_ROWS = 2048
"""Rows of a cell that are compared with one another, next to one another in typicality.

Near-duplicates are about as far from the centre as one another, so hardly any are missed.
"""


class Settings(Config):
    """Settings of the quality_density selector."""

    cells: int = Field(default=0, ge=0)
    """Cells of the corpus; 0: the square root of its rows, at most 1,024."""
    threshold: float = Field(default=0.95, gt=0, le=1)
    """Cosine from which two rows of a cell are near-duplicates, after centring."""


def score(corpus: Corpus, target: Target, settings: Settings, seed: int) -> Scores:
    """Return -(turn of its cell in which a row comes) - (1 - cosine with the centre) / 4.

    Turns count from 0. Near-duplicates come in turns after those of all other rows.
    """
    mean = corpus.mean()
    n_cells = settings.cells or min(MOST_CELLS, round(corpus.n_rows**0.5))
    centres = _centres(corpus, mean, min(n_cells, corpus.n_rows), seed)
    cell = np.empty(corpus.n_rows, np.int64)
    typical = np.empty(corpus.n_rows, np.float32)
    for start, cosines in cosine_blocks(corpus, centres, mean):
        span = slice(start, start + len(cosines))
        cell[span] = cosines.argmax(axis=1)
        typical[span] = np.clip(cosines.max(axis=1), -1, 1)
    order = np.lexsort((corpus.keys, -typical, cell))
    is_copy = np.zeros(corpus.n_rows, bool)
    for rows in _groups(order, cell[order]):
        vectors = _gathered(corpus, mean, rows)
        for first, last in _runs(cell[rows]):
            is_copy[rows[first:last]] = copies(vectors[first:last], settings.threshold)
    late = is_copy[order]
    early_turns = _places(cell[order], ~late)
    late_turns = 1 + early_turns.max() + _places(cell[order], late)
    turns = np.empty(corpus.n_rows, np.int64)
    turns[order] = np.where(late, late_turns, early_turns)
    facts = {"cells": len(centres), "near_duplicates": int(is_copy.sum())}
    scores = (-turns - (1 - typical) / 4).astype(np.float32)
    return Scores(scores, np.full(corpus.n_rows, -1, np.int32), facts)


def copies(vectors: Floats, threshold: float) -> NDArray[np.bool_]:
    """Return which unit rows have a cosine of at least `threshold` with an earlier kept row."""
    cosines = vectors @ vectors.T
    is_mean = ~vectors.any(axis=1)
    cosines[np.ix_(is_mean, is_mean)] = 1  # rows that equal the corpus mean equal one another
    is_copy = np.zeros(len(vectors), bool)
    for row in range(len(vectors)):
        if not is_copy[row]:
            is_copy[row + 1 :] |= cosines[row, row + 1 :] >= threshold
    return is_copy


def _centres(corpus: Corpus, mean: Floats, n_cells: int, seed: int) -> Floats:
    """Return the cells' centres, float32 [cells, dim], from rows drawn by their keys."""
    import faiss

    draws = uniform(corpus.keys, seed)
    drawn = np.lexsort((corpus.keys, draws))[: n_cells * CELL_SAMPLE]
    vectors = _gathered(corpus, mean, drawn)
    means = faiss.Kmeans(
        corpus.dim,
        n_cells,
        niter=20,
        seed=seed % (1 << 31),
        spherical=True,
        min_points_per_centroid=1,
    )
    means.train(vectors)
    return directions(np.asarray(means.centroids, np.float32), np.zeros(corpus.dim, np.float32))


def _gathered(corpus: Corpus, mean: Floats, rows: Rows) -> Floats:
    """Return the centred unit vectors of some rows, float32 [rows, dim], in their order."""
    order = np.argsort(rows)
    ascending = rows[order]
    vectors = np.empty((len(rows), corpus.dim), np.float32)
    for start, block in corpus.blocks():
        first, last = np.searchsorted(ascending, (start, start + len(block)))
        vectors[order[first:last]] = directions(block[ascending[first:last] - start], mean)
    return vectors


def _groups(order: Rows, cells: Rows) -> Iterator[Rows]:
    """Yield the rows in their order, whole runs of one cell together, as many as fit in memory."""
    start = stop = 0
    for first, last in _runs(cells):
        if last - start > GATHERED_ROWS and stop > start:
            yield order[start:stop]
            start = first
        stop = last
    yield order[start:stop]


def _runs(cells: Rows) -> Iterator[tuple[int, int]]:
    """Yield (start, stop) of runs of equal values, each at most COMPARED_ROWS long."""
    edges = np.flatnonzero(np.diff(cells)) + 1
    bounds = [0, *edges.tolist(), len(cells)]
    for first, last in itertools.pairwise(bounds):
        for start in range(first, last, COMPARED_ROWS):
            yield start, min(last, start + COMPARED_ROWS)


def _places(cells: Rows, counts: NDArray[np.bool_]) -> Rows:
    """Return for each row how many rows that count stand before it in its run of equal cells."""
    before: Rows = np.cumsum(counts) - counts
    is_first = np.ones(len(cells), bool)
    is_first[1:] = cells[1:] != cells[:-1]
    starts = np.maximum.accumulate(np.where(is_first, before, 0))
    return before - starts

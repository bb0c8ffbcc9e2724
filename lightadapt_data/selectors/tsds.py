"""tsds: spread the target's mass over corpus rows by optimal transport; near-duplicates share it.

Each target row sends its mass to the corpus rows closest to it, the same amount to each, and as far
out as the balance between closeness (`alpha` near 1) and spread (`alpha` near 0) allows. A corpus
row among rho near-duplicates takes only 1 / rho of a share, so that ten copies get what one row
gets. A row's score is the log of its mass. The published code draws with replacement; here scores
are given once, and the budget draws without (with a temperature of 1: in proportion to the mass).

Rows of equal mass are equally good to this method; without a temperature their keys decide.
Rows without mass come after all others, closest first, and far enough below that drawing with a
temperature of 1 hardly ever takes one.

Cost: one pass over the corpus; memory is target rows x `prefetch` x about 100 bytes; then a search
among the prefetched rows, exact up to `exact_rows`, with the vectors of these rows in memory.

Source: Liu et al. 2024, arXiv 2410.11303; https://github.com/ZifanL/TSDS, tsds.py
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from lightadapt_data.config import Config
from lightadapt_data.selectors import Corpus, Floats, Scores, Target
from lightadapt_data.selectors.nearest import closest_rows, directions, origin

Doubles = NDArray[np.float64]

SEED = 1234
"""FAISS trains its cells with a generator of its own; the seed is fixed here."""

GAP = 10.0
"""Rows without mass have together less than e^-10 of the mass of the least row with mass."""


class Settings(Config):
    """Settings of the tsds selector."""

    prefetch: int = Field(default=1000, ge=1)
    """Closest corpus rows to which a target row can send mass; the paper takes 5,000 [rows]."""
    alpha: float = Field(default=0.5, ge=0, le=1)
    """Weight of closeness against spread [0 to 1]; 1: the closest rows only, 0: all prefetched."""
    scale: float = Field(default=0.0, ge=0)
    """Distance that counts as far, the C of the paper; 0: the median distance of prefetched rows.

    The paper's 5 suits vectors of its own lengths; between unit vectors no distance is above 2.
    """
    sigma: float = Field(default=0.75, ge=0)
    """Distance below which rows count as near-duplicates [distance of unit vectors]; 0: no row."""
    density_rows: int = Field(default=1000, ge=1)
    """Neighbours among the prefetched rows that can count as near-duplicates [rows]."""
    exact_rows: int = Field(default=50_000, ge=0)
    """Prefetched rows up to which near-duplicates are searched exactly [rows]."""
    centred: bool = True
    """Subtract the corpus mean from every vector first; the paper does not."""


def score(corpus: Corpus, target: Target, settings: Settings, seed: int) -> Scores:
    """Return the log of each row's mass (the masses add up to 1), and the closest target row.

    Rows without mass have a score under all others, closest first; all scores are at most 0.
    """
    found = closest_rows(corpus, target, settings.prefetch, settings.centred)
    distances = _distances(found.cosines)
    densities = np.ones(found.rows.shape)
    if settings.sigma > 0:
        rows, places = np.unique(found.rows, return_inverse=True)
        vectors, order = _vectors(corpus, rows, settings.centred)
        density = np.empty(len(rows))
        density[order] = near_duplicates(vectors, settings)
        densities = density[places.reshape(found.rows.shape)]
    scale = settings.scale or float(np.median(distances))
    shares = transport(distances, densities, settings.alpha, scale)
    mass = np.bincount(found.rows.ravel(), shares.ravel(), minlength=corpus.n_rows)
    has_mass = mass > 0
    floor = np.log(mass[has_mass].min()) - np.log(corpus.n_rows) - GAP
    scores = np.where(has_mass, np.log(np.where(has_mass, mass, 1)), floor - _distances(found.best))
    facts = {
        "rows_with_mass": int(has_mass.sum()),
        "scale": scale,
        "mean_near_duplicates": float(densities.mean()),
    }
    return Scores(scores.astype(np.float32), found.nearest, facts)


def transport(distances: Doubles, densities: Doubles, alpha: float, scale: float) -> Doubles:
    """Return the mass that each target row sends to each of its prefetched rows.

    Args:
        distances: [targets, prefetched], each row ascending.
        densities: near-duplicates of each prefetched row, itself among them, at least 1.
        alpha: weight of closeness against spread, 0 to 1.
        scale: the distance that counts as far.

    Returns:
        Masses of the shape of `distances`; each row adds up to 1 / targets.
    """
    n_targets, n_rows = distances.shape
    # With s the inverse share of a row without near-duplicates, a target row fills its closest rows
    # until counts / s reaches 1. Every event below is an s at which one target row is about to
    # reach one row further; the cost of going there is what stops s from growing.
    counts = np.cumsum(1 / densities, axis=1)
    costs = distances[:, 1:] * counts[:, :-1] - np.cumsum(distances / densities, axis=1)[:, :-1]
    order = np.argsort(counts[:, :-1].ravel(), kind="stable")
    steps = np.maximum(np.diff(costs, axis=1, prepend=0), 0)  # below 0 by rounding only
    total = np.cumsum(steps.ravel()[order])
    limit = (1 - alpha) * n_targets * scale
    stop = int(np.searchsorted(total * alpha, limit))
    filled = np.zeros_like(counts)
    if len(order):
        filled = np.minimum(1, counts / counts[:, :-1].ravel()[order[min(stop, len(order) - 1)]])
    filled[filled > 1 - 1e-9] = 1  # no shares that are made of rounding
    filled[:, n_rows - 1] = 1  # what is left when all prefetched rows are full goes to the last one
    return np.asarray(np.diff(filled, axis=1, prepend=0) / n_targets, np.float64)


def near_duplicates(vectors: Floats, settings: Settings) -> Doubles:
    """Return how many near-duplicates each unit row has, float64 [rows].

    That is the sum of max(0, 1 - (distance / sigma)^2) over its `density_rows` neighbours.

    A row counts itself, so it is at least 1.
    """
    index = _index(vectors, settings.exact_rows)
    k = min(settings.density_rows, len(vectors))
    sums = np.empty(len(vectors))
    for start in range(0, len(vectors), 4096):
        span = slice(start, start + 4096)
        squares, places = index.search(vectors[span], k)
        closeness = 1 - np.maximum(squares, 0).astype(np.float64) / settings.sigma**2
        weights = np.maximum(closeness, 0)
        sums[span] = np.where(places >= 0, weights, 0).sum(axis=1)
    return np.maximum(sums, 1)


def _distances(cosines: Floats) -> Doubles:
    """Return the distances between unit vectors of these cosines, in [0, 2]."""
    return np.sqrt(np.clip(2 - 2 * cosines.astype(np.float64), 0, 4))


def _vectors(
    corpus: Corpus, rows: NDArray[np.int64], centred: bool
) -> tuple[Floats, NDArray[np.int64]]:
    """Return the unit vectors of some rows sorted by key, and the places of these in `rows`."""
    mean = origin(corpus, centred)
    vectors = np.empty((len(rows), corpus.dim), np.float32)
    for start, block in corpus.blocks():
        first, last = np.searchsorted(rows, (start, start + len(block)))
        vectors[first:last] = directions(block[rows[first:last] - start], mean)
    order = np.argsort(corpus.keys[rows], kind="stable")
    return vectors[order], order


def _index(vectors: Floats, exact_rows: int) -> Any:
    """Return a FAISS index over the vectors: exact, or cells of which 16 are probed."""
    import faiss

    n_rows, dim = vectors.shape
    index: Any = faiss.IndexFlatL2(dim)
    if n_rows > exact_rows:
        n_lists = max(1, int(4 * np.sqrt(n_rows)))
        index = faiss.IndexIVFFlat(index, dim, n_lists, faiss.METRIC_L2)
        index.cp.seed = SEED
        index.train(vectors[:: max(1, n_rows // (64 * n_lists))])
        index.nprobe = 16
    index.add(vectors)
    return index

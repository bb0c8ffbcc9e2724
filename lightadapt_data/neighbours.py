"""Neighbours: each row's nearest other rows, and scores that listen to them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]

SEED = 1234
"""FAISS trains its cells with a generator of its own; the seed is fixed here."""
PROBES = 16
TRAIN_PER_CELL = 64


@dataclass(frozen=True)
class Graph:
    """Each row's neighbours and how much it listens to them."""

    places: NDArray[np.int64]
    """int64 [rows, k]."""
    weights: Floats
    """float32 [rows, k]; a row's add up to 1."""


def find(
    vectors: Floats, k: int, exact_rows: int = 5000, guests: Floats | None = None
) -> tuple[Graph, Graph]:
    """Return each row's k nearest other rows by cosine, weighted by it, and those of the guests.

    A row without any similar neighbour hears itself, such a guest the first row. All vectors have
    length 1; guests are no row's neighbours. Up to `exact_rows` rows the search is exact; above it
    16 of as many cells as the root of the number of rows are looked into.
    """
    n_rows, dim = vectors.shape
    index = _index(vectors, exact_rows)
    guests = np.zeros((0, dim), np.float32) if guests is None else guests
    cosines, places = index.search(guests, min(k, n_rows))
    of_guests = _weighted(cosines, places, np.zeros((len(guests), 1), np.int64))
    k = min(k, n_rows - 1)
    cosines, places = index.search(vectors, k + 1)
    own = np.arange(n_rows)[:, None]
    # Where a row does not find itself among equal ones, its last neighbour makes room.
    is_own = places == own
    is_own[~is_own.any(axis=1), -1] = True
    cosines, places = cosines[~is_own].reshape(n_rows, k), places[~is_own].reshape(n_rows, k)
    return _weighted(cosines, places, own), of_guests


def _weighted(cosines: Floats, places: NDArray[np.int64], own: NDArray[np.int64]) -> Graph:
    weights = np.where(places >= 0, np.maximum(cosines, 0), 0).astype(np.float32)
    places = np.where(weights > 0, places, own)
    totals = weights.sum(axis=1, keepdims=True)
    even = 1 / max(places.shape[1], 1)
    weights = np.where(totals > 0, weights / np.maximum(totals, 1e-12), even)
    return Graph(places, np.asarray(weights, np.float32))


def smoothed(scores: Floats, graph: Graph, alpha: float, rounds: int) -> Floats:
    """Return F after `rounds` of F = alpha * (mean of the neighbours' F) + (1 - alpha) * scores.

    Source: Zhou et al. 2004, "Learning with Local and Global Consistency", section 2, here with
    row-normalised weights
    """
    smooth = scores.copy()
    for _ in range(rounds):
        smooth = alpha * heard(smooth, graph) + (1 - alpha) * scores
    return smooth.astype(np.float32)


def heard(scores: Floats, graph: Graph) -> Floats:
    """Return the weighted mean of the neighbours' scores, float32 [rows of the graph]."""
    return np.asarray((graph.weights * scores[graph.places]).sum(axis=1), np.float32)


def _index(vectors: Floats, exact_rows: int) -> Any:
    import faiss

    n_rows, dim = vectors.shape
    index: Any
    if n_rows <= exact_rows:
        index = faiss.IndexFlatIP(dim)
    else:
        n_cells = int(np.sqrt(n_rows))
        index = faiss.IndexIVFFlat(faiss.IndexFlatIP(dim), dim, n_cells, faiss.METRIC_INNER_PRODUCT)
        index.cp.seed = SEED
        index.train(vectors[:: max(1, n_rows // (TRAIN_PER_CELL * n_cells))])
        index.nprobe = PROBES
    index.add(vectors)
    return index

"""Neighbours: each row's nearest other rows, and scores that listen to them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]

SEED = 1234
"""FAISS trains its cells with a generator of its own; the seed is fixed here."""
PROBES = 16
"""Cells that a row is compared with."""
QUERIES = 1024
"""Rows of one matrix product."""
TRAIN_PER_CELL = 64
"""Rows that the cells are learnt from [rows per cell]."""


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
    length 1; guests are no row's neighbours. Above `exact_rows` rows a row is compared with those
    of its own cell and of the 15 cells next to it, of as many as the root of the number of rows.
    """
    n_rows, dim = vectors.shape
    guests = np.zeros((0, dim), np.float32) if guests is None else guests
    cells = _Cells(vectors, 1 if n_rows <= exact_rows else int(np.sqrt(n_rows)))
    cosines, places = cells.search(guests, min(k, n_rows))
    of_guests = _weighted(cosines, places, np.zeros((len(guests), 1), np.int64))
    k = min(k, n_rows - 1)
    cosines, places = cells.search(vectors, k + 1)
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


class _Cells:
    """The rows by cells; all queries of a cell are compared in one matrix product.

    FAISS scans its lists one query at a time, which took several times as long here.
    """

    def __init__(self, vectors: Floats, n_cells: int) -> None:
        self._vectors = vectors
        self._centroids = _centroids(vectors, n_cells)
        cell_of = self._nearest_cells(vectors, 1)[:, 0]
        order = np.argsort(cell_of, kind="stable")
        self._members = np.split(order, np.searchsorted(cell_of[order], np.arange(1, n_cells)))

    def search(self, queries: Floats, k: int) -> tuple[Floats, NDArray[np.int64]]:
        """Return the k highest cosines, best first, and their rows; -1 where there are no more."""
        cosines = np.full((len(queries), k), -np.inf, np.float32)
        places = np.full((len(queries), k), -1, np.int64)
        cell_of = self._nearest_cells(queries, 1)[:, 0]
        near = self._nearest_cells(self._centroids, PROBES)
        for cell in np.unique(cell_of):
            inside = np.flatnonzero(cell_of == cell)
            found = np.sort(np.concatenate([self._members[other] for other in near[cell]]))
            rows = self._vectors[found]
            n_best = min(k, len(found))
            for start in range(0, len(inside), QUERIES):
                asked = inside[start : start + QUERIES]
                products = queries[asked] @ rows.T
                best = np.argpartition(products, len(found) - n_best, axis=1)[:, -n_best:]
                values = np.take_along_axis(products, best, axis=1)
                order = np.lexsort((best, -values))
                cosines[asked, :n_best] = np.take_along_axis(values, order, axis=1)
                places[asked, :n_best] = found[np.take_along_axis(best, order, axis=1)]
        return cosines, places

    def _nearest_cells(self, vectors: Floats, n: int) -> NDArray[np.int64]:
        products = vectors @ self._centroids.T
        return np.argsort(-products, axis=1, kind="stable")[:, :n]


def _centroids(vectors: Floats, n_cells: int) -> Floats:
    """Return the centres of the cells, float32 [n_cells, dim], from a spherical k-means."""
    if n_cells == 1:
        return np.zeros((1, vectors.shape[1]), np.float32)
    import faiss

    kmeans = faiss.Kmeans(vectors.shape[1], n_cells, niter=10, seed=SEED, spherical=True)
    kmeans.train(vectors[:: max(1, len(vectors) // (TRAIN_PER_CELL * n_cells))])
    return np.asarray(kmeans.centroids, np.float32)

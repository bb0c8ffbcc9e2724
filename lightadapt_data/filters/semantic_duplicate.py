"""semantic_duplicate: rows whose vector is close to that of a kept row: edits and re-wordings.

Rows are visited in the order of who is kept first and compared with kept rows only, so no chain
of small changes can delete a row that is like no kept one. Up to `exact_rows` rows, each is
compared with all kept ones. Beyond, vectors are put into cells by k-means, and a row is compared
with the kept rows of its own and the next nearest cells, and with all rows of its block of rows:
a copy that lies across two other cells' border can then be missed.

Copies are found, paraphrases are not: no cosine tells them from rows on the same matter, so the
threshold is chosen by what copies and other rows of this corpus score.

Source: Abbas et al. 2023, "SemDeDup", arXiv 2303.09540 (cells); the rule that only kept rows drop
others as in Liu et al. 2024, "Deita", arXiv 2312.15685
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from lightadapt_data.calibration import calibrate
from lightadapt_data.config import Config
from lightadapt_data.filters import Context, Finding, Text
from lightadapt_data.vectors import Floats

log = logging.getLogger(__name__)

Places = NDArray[np.int64]

FALLBACK = 0.95
"""Threshold for a corpus too small to measure one."""
CALIBRATION_ROWS = 50
BLOCK_ROWS = 1024
BLOCK_COLUMNS = 8192
TRAINING_ROWS_PER_CELL = 64
# Products of blocks of another size differ in their last bits; nearer than this they are repeated.
NOISE = 1e-4


NEEDS_VECTORS = True


class Settings(Config):
    """Settings of the semantic_duplicate filter."""

    threshold: float | None = Field(default=None, gt=0, lt=1)
    """Cosine above which a row counts as a copy [0 to 1]; without one it is measured on the
    corpus, which encodes up to 500 texts; with fewer than 50 rows it is 0.95."""
    precision: float = Field(default=0.99, gt=0, lt=1)
    """Share of true copies among dropped rows for which a threshold is measured [0 to 1]."""
    probes: int = Field(default=4, ge=1)
    """Cells whose kept rows a row is compared with: its own and the next nearest [cells]."""
    exact_rows: int = Field(default=40_000, ge=0)
    """Up to so many rows there are no cells and no copy is missed [rows]."""


def examine(rows: Sequence[Text], settings: Settings, context: Context) -> dict[int, Finding]:
    """Return, for each row too close to an earlier kept row of another family, the closest one.

    The similarity of a finding is the cosine, from the threshold to 1.

    Raises:
        InputError: the run has no encoder.
    """
    if not rows:
        return {}
    vectors = np.ascontiguousarray(context.vectors(rows), np.float32)
    threshold = _threshold(rows, vectors, settings, context)
    cells = _cells(vectors, settings, context.seed)
    kept = _Kept(vectors, _families(rows), cells, threshold)
    is_settled = np.array([row.is_settled for row in rows])
    found: dict[int, Finding] = {}
    for start in range(0, len(rows), BLOCK_ROWS):
        block = np.arange(start, min(start + BLOCK_ROWS, len(rows)))
        for row, other, cosine in kept.take(block, is_settled[block]):
            reason = f"cosine {cosine:.2f}, threshold {threshold:.2f}"
            found[row] = Finding(reason, other, min(cosine, 1.0))
    return found


def _threshold(
    rows: Sequence[Text], vectors: Floats, settings: Settings, context: Context
) -> float:
    """Return the threshold that was set, or the one that the corpus asks for."""
    if settings.threshold is not None:
        return settings.threshold
    if len(rows) < CALIBRATION_ROWS:
        return FALLBACK
    texts = [row.text for row in rows]
    try:
        found = calibrate(
            texts, context.encode, context.seed, precision=settings.precision, vectors=vectors
        )
    except ValueError:
        log.warning(
            "semantic_duplicate: too few texts of four words to measure a threshold; it is %.2f",
            FALLBACK,
        )
        return FALLBACK
    log.info("semantic_duplicate: %s", found.sentence)
    return found.threshold


def _families(rows: Sequence[Text]) -> Places:
    """Return a number for each family of several rows, and -1 for a row that is alone."""
    numbers: dict[str, int] = {}
    members = np.array([numbers.setdefault(row.family, len(numbers)) for row in rows])
    members[np.bincount(members)[members] == 1] = -1
    return members


def _cells(vectors: Floats, settings: Settings, seed: int) -> Places:
    """Return the nearest cells of each row, its own first; int64 [rows, probes]."""
    if len(vectors) <= settings.exact_rows:
        return np.zeros((len(vectors), 1), np.int64)
    import faiss

    n_cells = round(len(vectors) ** 0.5)
    n_training = min(len(vectors), n_cells * TRAINING_ROWS_PER_CELL)
    drawn = np.random.default_rng(seed).choice(len(vectors), n_training, replace=False)
    means = faiss.Kmeans(
        vectors.shape[1],
        n_cells,
        niter=10,
        seed=seed % 2**31,
        spherical=True,
        min_points_per_centroid=1,
        max_points_per_centroid=TRAINING_ROWS_PER_CELL,
    )
    means.train(vectors[np.sort(drawn)])
    _, nearest = means.index.search(vectors, min(settings.probes, n_cells))
    return np.asarray(nearest, np.int64)


@dataclass
class _Kept:
    """The kept rows, by cell."""

    vectors: Floats
    families: Places
    cells: Places
    threshold: float
    _rows: Places = field(init=False)
    """Kept rows: each cell has its own stretch, filled from its start."""
    _stored: Floats = field(init=False)
    """Their vectors."""

    def __post_init__(self) -> None:
        self._rows = np.zeros(len(self.vectors), np.int64)
        self._stored = np.empty_like(self.vectors)
        sizes = np.bincount(self.cells[:, 0], minlength=int(self.cells.max()) + 1)
        self._starts = np.cumsum(sizes) - sizes
        self._filled = np.zeros(len(sizes), np.int64)

    def take(self, block: Places, is_settled: NDArray[np.bool_]) -> list[tuple[int, int, float]]:
        """Keep the block's rows that are close to no kept one; return the others' matches.

        A match is (row, closest kept row, cosine), in the order of rows.
        """
        best = self._closest(block)
        near = self._near_each_other(block)
        matches = []
        is_kept = np.ones(len(block), bool)
        for place in np.flatnonzero((best >= 0) | near.any(axis=1)).tolist():
            others = block[:place][near[place, :place] & is_kept[:place]]
            others = others if best[place] < 0 else np.append(best[place], others)
            other, cosine = self._verified(int(block[place]), others)
            if other >= 0 and not is_settled[place]:
                is_kept[place] = False
                matches.append((int(block[place]), other, cosine))
        self._store(block[is_kept])
        return matches

    def _store(self, rows: Places) -> None:
        """Put kept rows into their cells."""
        order = np.argsort(self.cells[rows, 0], kind="stable")
        cells, counts = np.unique(self.cells[rows, 0], return_counts=True)
        done = 0
        for cell, count in zip(cells.tolist(), counts.tolist(), strict=True):
            start = self._starts[cell] + self._filled[cell]
            members = rows[order[done : done + count]]
            self._rows[start : start + count] = members
            self._stored[start : start + count] = self.vectors[members]
            self._filled[cell] += count
            done += count

    def _closest(self, block: Places) -> Places:
        """Return the closest kept row of another family in the cells probed, or -1."""
        best = np.full(len(block), -1, np.int64)
        highest = np.full(len(block), self.threshold - NOISE, np.float32)
        probed = self.cells[block]
        for cell in np.unique(probed).tolist():
            places = np.flatnonzero((probed == cell).any(axis=1))
            first = self._starts[cell]
            for start in range(first, first + self._filled[cell], BLOCK_COLUMNS):
                stretch = slice(start, min(start + BLOCK_COLUMNS, first + self._filled[cell]))
                others = self._rows[stretch]
                cosines = self._cosines(block[places], others, self._stored[stretch])
                nearest = cosines.argmax(axis=1)
                value = cosines[np.arange(len(places)), nearest]
                is_better = value > highest[places]
                best[places[is_better]] = others[nearest[is_better]]
                highest[places[is_better]] = value[is_better]
        return best

    def _near_each_other(self, block: Places) -> NDArray[np.bool_]:
        """Return which earlier rows of the block may be close to a row; bool [rows, rows]."""
        cosines = self._cosines(block, block, self.vectors[block])
        return np.tril(cosines > self.threshold - NOISE, k=-1)

    def _cosines(self, rows: Places, others: Places, others_vectors: Floats) -> Floats:
        """Return cosines, -1 within a family; float32 [rows, others]."""
        cosines = self.vectors[rows] @ others_vectors.T
        mine, theirs = self.families[rows], self.families[others]
        if (mine >= 0).any() and (theirs >= 0).any():
            cosines[(mine[:, None] == theirs) & (mine[:, None] >= 0)] = -1
        return np.asarray(cosines, np.float32)

    def _verified(self, row: int, others: Places) -> tuple[int, float]:
        """Return the closest of a few rows, or -1 where none is above the threshold; its cosine.

        Summed in double precision and rounded, so that the block's size has no say.
        """
        if not len(others):
            return -1, 0.0
        products = self.vectors[others].astype(np.float64) @ self.vectors[row].astype(np.float64)
        cosines = products.round(6)
        place = int(np.lexsort((others, -cosines))[0])
        if cosines[place] <= self.threshold:
            return -1, 0.0
        return int(others[place]), float(cosines[place])

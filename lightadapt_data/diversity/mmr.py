"""mmr: maximal marginal relevance: each pick is relevant and unlike all earlier picks.

The next row is the one with the highest `relevance * score - (1 - relevance) * similarity`, where
the score is scaled to [0, 1] over the candidates and the similarity is that to the closest pick.
Ties go to the earlier row. After the wanted picks the other rows follow as they came.

Centred, the similarity is 1 - d^2 / (mean d^2 of two candidates): 1 for copies, 0 for an average
pair. So it has the same range as the score, and `relevance` means the same for an encoder whose
vectors all share a direction. Each row's own distance from the mean is not divided out, as that
would blow up what is left of rows near the mean.

Cost: a matrix product of the candidates with the picks. A pick can only lower the values of other
rows, so only those at the top are brought up to date after each one, all others once in a while.

Source: Carbonell and Goldstein 1998, "The use of MMR, diversity-based reranking",
https://doi.org/10.1145/290941.291025; late updates as in Minoux 1978
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from lightadapt_data.config import Config
from lightadapt_data.diversity import Floats, Order
from lightadapt_data.diversity.leader import half_squares, on_grid, picks_first

ROWS, FRONT = 4096, 1024


class Settings(Config):
    """Settings of the mmr method."""

    relevance: float = Field(default=0.7, ge=0, le=1)
    """Weight of the score against being unlike earlier picks; 1 keeps the given order [ratio]."""
    centred: bool = True
    """Count similarity from that of an average pair of candidates, not from a right angle."""
    most_rows: int = Field(default=100_000, ge=1)
    """Candidates that are considered, from the best on; the others follow as they came [rows]."""


def order(vectors: Floats, scores: Floats, n_wanted: int, settings: Settings) -> Order:
    """Return the picks in the order in which they were made, then the other rows."""
    grid = on_grid(vectors)
    considered = grid[: settings.most_rows]
    base = settings.relevance * scaled(scores[: settings.most_rows])
    weight = (1 - settings.relevance) / (spread(considered) if settings.centred else 1.0)
    return picks_first(grid, farthest(considered, base, weight, n_wanted))


def scaled(scores: Floats) -> NDArray[np.float64]:
    """Return the scores scaled to [0, 1], float64 [rows]; zeros where all are equal."""
    if not len(scores):
        return np.zeros(0)
    values = scores.astype(np.float64)
    extent = values.max() - values.min()
    return np.asarray((values - values.min()) / (extent or 1.0), dtype=np.float64)


def spread(grid: Floats) -> float:
    """Return half the mean squared distance of two different rows; 1 where all are equal."""
    n_rows = len(grid)
    if n_rows < 2:
        return 1.0
    mean = grid.mean(axis=0, dtype=np.float64)
    variance = 2 * half_squares(grid).mean(dtype=np.float64) - (mean * mean).sum()
    half = float(variance) * n_rows / (n_rows - 1)
    return half if half > 1e-9 else 1.0


def farthest(
    grid: Floats, base: NDArray[np.float64], weight: float, n_wanted: int
) -> NDArray[np.int64]:
    """Return the first row, then greedily the row with the highest base + weight * gap, int64.

    A row's gap is half its squared distance from the closest pick. Ties go to the earlier row.
    """
    half = half_squares(grid)
    gap = np.full(len(grid), np.inf, np.float32)
    picked: list[int] = [0] if n_wanted > 0 and len(grid) else []
    n_wanted = min(n_wanted, len(grid))
    n_known = 0
    while len(picked) < n_wanted:
        new = np.array(picked[n_known:])
        for start in range(0, len(grid), ROWS):
            rows = slice(start, start + ROWS)
            gaps = half[rows, None] + half[new] - grid[rows] @ grid[new].T
            gap[rows] = np.minimum(gap[rows], gaps.min(axis=1))
        n_known = len(picked)
        values = base + weight * gap
        values[picked] = -np.inf
        ranked = np.argsort(-values, kind="stable")
        # In the given order, so that the highest value is found at the earliest row that has it.
        front = np.sort(ranked[:FRONT])
        # No row behind the front can come to lie above this place, as values only fall.
        limit = [(values[row], -row) for row in ranked[FRONT : FRONT + 1]] or [(-np.inf, 0)]
        known = _Front(front, grid[front], half[front], gap[front], base[front], weight)
        known.pick_above(limit[0], picked, n_wanted)
    return np.array(picked, np.int64)


@dataclass
class _Front:
    """The rows with the highest values, kept up to date after every pick."""

    rows: NDArray[np.int64]
    vectors: Floats
    half: Floats
    gap: Floats
    base: NDArray[np.float64]
    weight: float

    def pick_above(self, limit: tuple[float, int], picked: list[int], n_wanted: int) -> None:
        """Add picks to `picked` while the best row has a (value, -row) above the limit."""
        is_picked = np.isin(self.rows, picked)
        while len(picked) < n_wanted:
            values = np.where(is_picked, -np.inf, self.base + self.weight * self.gap)
            best = int(values.argmax())
            row = int(self.rows[best])
            if is_picked[best] or (values[best], -row) < limit:
                return
            picked.append(row)
            is_picked[best] = True
            gaps = self.half + self.half[best] - self.vectors @ self.vectors[best]
            np.minimum(self.gap, gaps, out=self.gap)

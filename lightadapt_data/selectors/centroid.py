"""centroid: the rows closest to the centre of the target, or to one of a few centres of it.

Good when the target rows are many, noisy and of one kind; `nearest` is the better choice when they
are of several kinds and few. With `centres` above 1 a spherical k-means finds the kinds, and the
closest centre counts. All vectors are centred on the corpus mean first.

Source: Rocchio 1971, "Relevance feedback in information retrieval"; Dhillon and Modha 2001,
https://doi.org/10.1023/A:1007612920971, section 3 (spherical k-means)
"""

from __future__ import annotations

import numpy as np
from pydantic import Field

from lightadapt_data.config import Config
from lightadapt_data.selectors import Corpus, Floats, Scores, Target
from lightadapt_data.selectors.nearest import cosine_blocks, directions, origin


class Settings(Config):
    """Settings of the centroid selector."""

    centres: int = Field(default=1, ge=1)
    """Centres of the target; at most as many as it has different rows."""
    centred: bool = True
    """Subtract the corpus mean from every vector first."""


def score(corpus: Corpus, target: Target, settings: Settings, seed: int) -> Scores:
    """Return the cosine with the closest centre, in [-1, 1], and the closest target row."""
    mean = origin(corpus, settings.centred)
    rows = directions(target.vectors, mean)
    centres = target_centres(rows, settings.centres, seed)
    scores = np.empty(corpus.n_rows, np.float32)
    nearest = np.empty(corpus.n_rows, np.int32)
    for start, cosines in cosine_blocks(corpus, np.concatenate([centres, rows]), mean):
        span = slice(start, start + len(cosines))
        scores[span] = cosines[:, : len(centres)].max(axis=1)
        nearest[span] = cosines[:, len(centres) :].argmax(axis=1)
    return Scores(scores, nearest, {"centres": len(centres)})


def target_centres(rows: Floats, n_centres: int, seed: int) -> Floats:
    """Return unit centres of unit rows, float32 [at most `n_centres`, dim], in any order of rows.

    Rows without a common direction have no centre: zeros.
    """
    # Sorted, so that the order of target rows changes neither sums nor the first centres.
    rows = rows[np.lexsort(rows.T)]
    n_centres = min(n_centres, len(np.unique(rows, axis=0)))
    if n_centres == 1:
        centre = rows.mean(axis=0, dtype=np.float64)
        length = np.linalg.norm(centre)
        return np.asarray(centre / length if length > 1e-6 else 0 * centre, np.float32)[None]
    import faiss

    means = faiss.Kmeans(
        rows.shape[1],
        n_centres,
        niter=25,
        seed=seed % (1 << 31),
        spherical=True,
        min_points_per_centroid=1,
        max_points_per_centroid=len(rows),
    )
    means.train(np.ascontiguousarray(rows))
    return np.asarray(means.centroids, np.float32)

"""nearest: the rows whose vectors are closest to target rows, after centring on the corpus mean.

Centring takes out the direction that all texts share; the mean over the k closest target rows
keeps one odd target row from deciding. Measured on the nine-domain pool: precision at R 0.65 for
the plain maximum, 0.71 centred, 0.76 centred with k = 5.

Source: Mu and Viswanath 2018, arXiv 1702.01417, section 2 (centring); k nearest neighbours
"""

from __future__ import annotations

import numpy as np
from pydantic import Field

from lightadapt_data.config import Config
from lightadapt_data.selectors import Corpus, Scores, Target
from lightadapt_data.vectors import unit


class Settings(Config):
    """Settings of the nearest selector."""

    k: int = Field(default=5, ge=1)
    """Closest target rows whose cosines are averaged [rows]."""
    centred: bool = True
    """Subtract the corpus mean from every vector first."""


def score(corpus: Corpus, target: Target, settings: Settings, seed: int) -> Scores:
    """Return the mean cosine with the k closest target rows, in [-1, 1], and the closest one."""
    mean = corpus.mean() if settings.centred else np.zeros(corpus.dim, np.float32)
    queries = unit(target.vectors - mean)
    k = min(settings.k, len(queries))
    scores = np.empty(corpus.n_rows, np.float32)
    nearest = np.empty(corpus.n_rows, np.int32)
    for start, block in corpus.blocks():
        cosines = unit(block - mean) @ queries.T
        stop = start + len(block)
        nearest[start:stop] = cosines.argmax(axis=1)
        # Sorted, so that the order of target rows cannot change the rounding of the mean.
        best = np.sort(
            np.partition(cosines, len(queries) - k, axis=1)[:, len(queries) - k :], axis=1
        )
        scores[start:stop] = best.mean(axis=1)
    return Scores(scores, nearest)

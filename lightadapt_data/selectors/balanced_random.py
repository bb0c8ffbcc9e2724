"""balanced_random: every source gives the same number of rows, drawn at random within it.

Source: Ivison et al. 2025, arXiv 2503.01807, section 4 ("random (balanced)")
"""

from __future__ import annotations

import numpy as np

from lightadapt_data.config import Config
from lightadapt_data.selectors import Corpus, Scores, Target
from lightadapt_data.vectors import uniform

NEEDS_TARGET = False


class Settings(Config):
    """Settings of the balanced_random selector."""

    by: str = "source"
    """Column whose values share the budget equally."""


def score(corpus: Corpus, target: Target, settings: Settings, seed: int) -> Scores:
    """Return -(place within its source) - draw / 2: first places come first, then second ones."""
    groups = corpus.column(settings.by)
    draws = uniform(corpus.keys, seed)
    order = np.lexsort((corpus.keys, draws, groups))
    is_first = np.ones(corpus.n_rows, dtype=bool)
    is_first[1:] = groups[order][1:] != groups[order][:-1]
    starts = np.maximum.accumulate(np.where(is_first, np.arange(corpus.n_rows), 0))
    places = np.empty(corpus.n_rows, np.int64)
    places[order] = np.arange(corpus.n_rows) - starts
    # Halved draws keep a row of place n before all rows of place n + 1 after rounding to float32.
    scores = (-places - draws / 2).astype(np.float32)
    return Scores(scores, np.full(corpus.n_rows, -1, np.int32))

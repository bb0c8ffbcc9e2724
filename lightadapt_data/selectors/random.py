"""random: every row has the same chance; the baseline that selection has to beat.

Source: Ivison et al. 2025, arXiv 2503.01807 (most published methods lose to balanced random)
"""

from __future__ import annotations

import numpy as np

from lightadapt_data.config import Config
from lightadapt_data.selectors import Corpus, Scores, Target
from lightadapt_data.vectors import uniform

NEEDS_TARGET = False


class Settings(Config):
    """The random selector has no settings; the recipe's seed decides."""


def score(corpus: Corpus, target: Target, settings: Settings, seed: int) -> Scores:
    """Return a number in [0, 1) drawn from each row's id and the seed."""
    draws = uniform(corpus.keys, seed).astype(np.float32)
    return Scores(draws, np.full(corpus.n_rows, -1, np.int32))

"""rds: target rows take corpus rows in turn (round_robin), or the closest target row counts.

RDS+ compares hidden states of a language model, so its own vectors are those of
`embed.method = "language_model"`; this selector works on the vectors of the run, whatever they are.
It has two modes, which the published code offers under one flag though they differ:

- round_robin: target row 0 takes the corpus row closest to it, then target row 1 the one closest to
  it, and so on in rounds. A narrow group of target rows gets no more than its share. When a target
  row's best row is gone it takes its next best; with `lose_turn = true` its turn is lost, as in the
  published code, and a row stands where it was first asked for.
- best_of: the cosine with the closest target row decides, over the whole corpus.

Cost: one pass over the corpus; memory is target rows x `depth` x about 50 bytes, and 8 bytes per
corpus row. Rows beyond every list of `depth` follow, ordered by their highest cosine.

Source: Ivison et al. 2025, arXiv 2503.01807 (RDS+ and its round-robin choice);
https://github.com/hamishivi/automated-instruction-selection
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from lightadapt_data.config import Config
from lightadapt_data.selectors import Corpus, Scores, Target
from lightadapt_data.selectors.nearest import closest_rows

MOST_PLACES = 1 << 23
"""Places in the order of taking that float32 tells apart between 1 and 2."""


class Settings(Config):
    """Settings of the rds selector."""

    mode: Literal["round_robin", "best_of"] = "round_robin"
    """round_robin: target rows take rows in turn; best_of: the highest cosine decides."""
    depth: int = Field(default=1000, ge=1)
    """Corpus rows that each target row may take [rows]."""
    lose_turn: bool = False
    """A target row whose best row is gone loses its turn, as in the published code."""
    centred: bool = True
    """Subtract the corpus mean from every vector first; the paper does not."""


def score(corpus: Corpus, target: Target, settings: Settings, seed: int) -> Scores:
    """Return scores that fall in the order of taking, and the closest target row.

    A row that is taken in turn has 2 - place / number of such rows, in (1, 2]; every other row, and
    every row in mode best_of, has its highest cosine, in [-1, 1].
    """
    depth = 1 if settings.mode == "best_of" else settings.depth
    depth = min(depth, max(1, MOST_PLACES // len(target.vectors)))
    found = closest_rows(corpus, target, depth, settings.centred)
    scores = np.clip(found.best, -1, 1)
    if settings.mode == "best_of":
        return Scores(scores, found.nearest)
    taken = _first_asked(found.rows) if settings.lose_turn else _taken_in_turn(found.rows)
    scores[taken] = 2 - np.arange(len(taken)) / len(taken)
    facts = {"taken_in_turn": len(taken), "depth": found.rows.shape[1]}
    return Scores(scores, found.nearest, facts)


def _first_asked(lists: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the rows of the lists [targets, depth] by the turn in which they come up first."""
    asked = lists.T.ravel()
    _, first = np.unique(asked, return_index=True)
    return asked[np.sort(first)]


def _taken_in_turn(lists: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the rows of the lists [targets, depth] in the order in which targets take them."""
    taken: dict[int, None] = {}
    waiting = [iter(row) for row in lists.tolist()]
    while waiting:
        still = []
        for rows in waiting:
            fresh = next((row for row in rows if row not in taken), None)
            if fresh is not None:
                taken[fresh] = None
                still.append(rows)
        waiting = still
    return np.array(list(taken), np.int64)

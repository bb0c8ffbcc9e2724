"""Choosing: scores -> the rows that a budget, quotas, shares and a diversity method leave.

The data's way: scores by target -> one order of rows per target -> caps, diversity, budget ->
one `Choice` over all corpus rows. No row is read here but the vectors of the best candidates.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lightadapt_data.budget import Budget, Cap, gumbel, ranking, take, within_caps
from lightadapt_data.diversity import Order

Floats = NDArray[np.float32]
Places = NDArray[np.int64]

CHOSEN, BELOW, CAPPED, ALIKE = range(4)
"""What became of a row: chosen, below the cut, over a quota, too much like a better row."""


@dataclass(frozen=True)
class Rules:
    """How rows are chosen once they are scored."""

    budget: Budget
    seed: int = 0
    temperature: float = 0.0
    """Size of the Gumbel noise that is added to the scores, in units of the score; 0 for none."""
    caps: Sequence[Cap] = ()
    diversity: Callable[[Places, Floats, int], Order] | None = None
    """Reorders (rows, their scores, number wanted); called with the best `pool` times as many."""
    pool: float = 3.0


@dataclass(frozen=True)
class Choice:
    """What was decided, one entry per corpus row."""

    order: Places
    """int64 [rows]: chosen rows first, in the order of choosing, then the others by score."""
    n_kept: int
    is_all: bool
    """Whether every row that was free to take is taken, so that the budget may fall short."""
    fate: NDArray[np.int8]
    """int8 [rows]: CHOSEN, BELOW, CAPPED or ALIKE."""
    like: Places
    """int64 [rows]: the better row that an ALIKE one is too close to, else -1."""
    target: NDArray[np.int16]
    """int16 [rows]: number of the target that chose the row, or that ranks it best."""

    @property
    def rank(self) -> Places:
        """int64 [rows]: place in the order, from 1; chosen rows have 1 to `n_kept`."""
        rank = np.empty(len(self.order), np.int64)
        rank[self.order] = np.arange(1, len(self.order) + 1)
        return rank


def choose(
    scores: Mapping[str, Floats],
    shares: Mapping[str, float],
    keys: NDArray[np.uint64],
    tokens: NDArray[np.int32],
    rules: Rules,
) -> Choice:
    """Return the choice for one target or several.

    With several, a row belongs to the target that ranks it best, and each target takes its share
    of the budget from its own rows first: no order of targets decides.

    Args:
        scores: float32 [rows] by target; its keys are in the order of `Choice.target`.
        shares: share of the budget by target; they add up to 1.
        keys: uint64 [rows], for ties and noise.
        tokens: int32 [rows].
        rules: budget, caps, noise and diversity.
    """
    names = list(scores)
    n_rows = len(keys)
    orders = {name: _relevance(scores[name], keys, rules) for name in names}
    if len(names) == 1:
        return _one(orders[names[0]], scores[names[0]], tokens, rules)
    ranks = np.stack([_ranks(orders[name], n_rows) for name in names])
    owner = ranks.argmin(axis=0).astype(np.int16)
    fate = np.full(n_rows, BELOW, np.int8)
    like = np.full(n_rows, -1, np.int64)
    chosen_at = np.full(n_rows, n_rows, np.int64)
    is_all = True
    for number, name in enumerate(names):
        is_free = fate[orders[name]] != CHOSEN
        order = orders[name][is_free]
        order = order[np.argsort(owner[order] != number, kind="stable")]
        part = Rules(
            rules.budget.part(shares[name], n_rows),
            caps=[Cap(cap.codes, cap.most * shares[name]) for cap in rules.caps],
            diversity=rules.diversity,
            pool=rules.pool,
        )
        found = _one(order, scores[name], tokens, part)
        taken = found.order[: found.n_kept]
        seen = order[owner[order] == number]
        fate[seen], like[seen] = found.fate[seen], found.like[seen]
        fate[taken], like[taken], owner[taken] = CHOSEN, -1, number
        chosen_at[taken] = np.arange(len(taken))
        is_all &= found.is_all
    best = np.take_along_axis(ranks, owner[None].astype(np.int64), axis=0)[0]
    order = np.lexsort((keys, best, chosen_at))
    return Choice(order, int((fate == CHOSEN).sum()), is_all, fate, like, owner)


def _relevance(scores: Floats, keys: NDArray[np.uint64], rules: Rules) -> Places:
    if rules.temperature == 0:
        return ranking(scores, keys)
    return ranking(scores + rules.temperature * gumbel(keys, rules.seed), keys)


def _ranks(order: Places, n_rows: int) -> Places:
    """Return each row's place in `order`; rows that it lacks come last."""
    ranks = np.full(n_rows, n_rows, np.int64)
    ranks[order] = np.arange(len(order))
    return ranks


def _one(order: Places, scores: Floats, tokens: NDArray[np.int32], rules: Rules) -> Choice:
    """Return the choice from rows in the order of their relevance; `order` may lack rows."""
    n_rows = len(tokens)
    fate = np.full(n_rows, BELOW, np.int8)
    like = np.full(n_rows, -1, np.int64)
    free = order
    if rules.caps:
        is_free = within_caps(order, tokens, rules.budget, rules.caps)
        free = order[is_free]
        fate[order[~is_free]] = CAPPED
    n_kept = take(free, tokens, rules.budget, scores)
    if rules.diversity is not None and n_kept:
        pool = 1.0 if rules.budget.unit == "threshold" else rules.pool
        candidates = free[: int(np.ceil(pool * n_kept))]
        found = rules.diversity(candidates, scores[candidates], n_kept)
        free = np.concatenate([candidates[found.places], free[len(candidates) :]])
        n_kept = take(free, tokens, rules.budget, scores)
        is_alike = found.close_to >= 0
        like[candidates[is_alike]] = candidates[found.close_to[is_alike]]
    fate[free[:n_kept]] = CHOSEN
    is_alike = (like >= 0) & (fate != CHOSEN) & (fate[like] == CHOSEN)
    fate[is_alike] = ALIKE
    like[~is_alike] = -1
    # A capped row behind the last chosen one would have come too late in any case.
    places = _ranks(order, n_rows)
    last = places[free[:n_kept]].max() if n_kept else -1
    fate[(fate == CAPPED) & (places > last)] = BELOW
    final = np.concatenate([free[:n_kept], order[fate[order] != CHOSEN]])
    return Choice(final, n_kept, n_kept == len(free), fate, like, np.zeros(n_rows, np.int16))

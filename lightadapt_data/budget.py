"""The budget: how much to keep, and the one way in which every method's scores become rows."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lightadapt_data.errors import RecipeError
from lightadapt_data.vectors import uniform

FORM = re.compile(r"(?P<number>\d+(?:\.\d+)?)(?P<scale>[kKMG]?)(?P<unit>|rows|tok|tokens|%)")
THRESHOLD = re.compile(r">=(?P<number>-?\d+(?:\.\d+)?(?:[eE]-?\d+)?)")
SCALES = {"": 1, "k": 10**3, "K": 10**3, "M": 10**6, "G": 10**9}


@dataclass(frozen=True)
class Budget:
    """How much to keep."""

    amount: float
    unit: str
    """"rows", "tokens", "fraction" (of the corpus rows) or "threshold" (the least score)."""

    @classmethod
    def parse(cls, text: str) -> Budget:
        """Return the budget that "5000", "20krows", "2Mtok", "10%" or ">=0.3" means.

        Raises:
            RecipeError: another form, zero, or more than 100 %.
        """
        plain = text.strip().replace("_", "").replace(" ", "")
        if threshold := THRESHOLD.fullmatch(plain):
            return cls(float(threshold["number"]), "threshold")
        match = FORM.fullmatch(plain)
        amount = float(match["number"]) * SCALES[match["scale"]] if match else 0.0
        is_share = bool(match and match["unit"] == "%")
        is_scaled_share = bool(match and is_share and match["scale"])
        if match is None or amount <= 0 or is_scaled_share or (is_share and amount > 100):
            raise RecipeError(
                f"keep = {text!r}: allowed: rows (5000, 20k), tokens (2Mtok) or a share of the "
                "corpus (10%), above 0, or the least score (>=0.3)"
            )
        if is_share:
            return cls(amount / 100, "fraction")
        unit = "tokens" if match["unit"].startswith("tok") else "rows"
        if unit == "rows" and amount < 1:
            raise RecipeError(f"keep = {text!r}: less than one row; a share is written as 10%")
        return cls(amount, unit)

    def part(self, share: float, n_rows: int) -> Budget:
        """Return a share of this budget for a corpus of `n_rows` rows; a threshold has no parts."""
        if self.unit == "fraction":
            return Budget(self.amount * share * n_rows, "rows")
        return self if self.unit == "threshold" else Budget(self.amount * share, self.unit)


def gumbel(keys: NDArray[np.uint64], seed: int) -> NDArray[np.float64]:
    """Return standard Gumbel draws by key: the best k of score + draw are a sample of softmax.

    Source: Vieira 2014, "Gumbel-max trick and weighted reservoir sampling"; Xie et al. 2023,
    arXiv 2302.03169, section 3
    """
    draws = np.clip(uniform(keys, seed), 1e-300, None)
    return np.asarray(-np.log(-np.log(draws)))


def ranking(scores: NDArray[np.floating[Any]], keys: NDArray[np.uint64]) -> NDArray[np.int64]:
    """Return row indices from the best score to the worst; ties by key, so by no order of rows."""
    return np.lexsort((keys, -scores))


def take(
    order: NDArray[np.int64],
    tokens: NDArray[np.int32],
    budget: Budget,
    scores: NDArray[np.float32] | None = None,
) -> int:
    """Return how many rows of `order`, from its head, fit into the budget; never one more.

    `scores` is needed for a threshold only; the order is then from the best score down.
    """
    if budget.unit == "tokens":
        spent = np.cumsum(tokens[order], dtype=np.int64)
        return int(np.searchsorted(spent, budget.amount, "right"))
    if budget.unit == "threshold":
        return 0 if scores is None else int((scores[order] >= budget.amount).sum())
    wanted = budget.amount * len(tokens) if budget.unit == "fraction" else budget.amount
    # A product such as 0.29 * 100 falls a hair below the whole number that is meant.
    return min(len(order), int(wanted + 1e-9))


@dataclass(frozen=True)
class Cap:
    """The most that rows of one kind may take of the budget."""

    codes: NDArray[np.int32]
    """int32 [rows]: the kind of each row."""
    most: NDArray[np.float64]
    """float64 [kinds]: rows or tokens, as the budget counts; infinite where there is no cap."""


def within_caps(
    order: NDArray[np.int64], tokens: NDArray[np.int32], budget: Budget, caps: Sequence[Cap]
) -> NDArray[np.bool_]:
    """Return for each place of `order` whether its row fits under every cap, better rows first.

    Caps of several columns work one after the other: what one refuses takes no room under the
    next. The first row that does not fit closes its kind.
    """
    is_free = np.ones(len(order), bool)
    for cap in caps:
        places = np.flatnonzero(is_free)
        rows = order[places]
        kinds = cap.codes[rows]
        sizes = tokens[rows].astype(np.int64) if budget.unit == "tokens" else np.ones(len(rows))
        by_kind = np.argsort(kinds, kind="stable")
        spent = np.cumsum(sizes[by_kind])
        is_first = np.diff(kinds[by_kind], prepend=-1) != 0
        before = np.maximum.accumulate(np.where(is_first, spent - sizes[by_kind], 0))
        is_free[places[by_kind]] = spent - before <= cap.most[kinds[by_kind]] + 1e-9
    return is_free

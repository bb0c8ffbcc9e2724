"""The budget: how much to keep, and the one way in which every method's scores become rows."""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lightadapt_data.errors import RecipeError

FORM = re.compile(r"(?P<number>\d+(?:\.\d+)?)(?P<scale>[kKMG]?)(?P<unit>|rows|tok|tokens|%)")
SCALES = {"": 1, "k": 10**3, "K": 10**3, "M": 10**6, "G": 10**9}


@dataclass(frozen=True)
class Budget:
    """How much to keep."""

    amount: float
    unit: str
    """"rows", "tokens" or "fraction" (of the corpus rows)."""

    @classmethod
    def parse(cls, text: str) -> Budget:
        """Return the budget that "5000", "20krows", "2Mtok" or "10%" means.

        Raises:
            RecipeError: another form, zero, or more than 100 %.
        """
        match = FORM.fullmatch(text.strip().replace("_", "").replace(" ", ""))
        amount = float(match["number"]) * SCALES[match["scale"]] if match else 0.0
        is_share = bool(match and match["unit"] == "%")
        is_scaled_share = bool(match and is_share and match["scale"])
        if match is None or amount <= 0 or is_scaled_share or (is_share and amount > 100):
            raise RecipeError(
                f"keep = {text!r}: allowed: rows (5000, 20k), tokens (2Mtok) or a share of the "
                "corpus (10%), above 0"
            )
        if is_share:
            return cls(amount / 100, "fraction")
        unit = "tokens" if match["unit"].startswith("tok") else "rows"
        if unit == "rows" and amount < 1:
            raise RecipeError(f"keep = {text!r}: less than one row; a share is written as 10%")
        return cls(amount, unit)


def ranking(scores: NDArray[np.float32], keys: NDArray[np.uint64]) -> NDArray[np.int64]:
    """Return row indices from the best score to the worst; ties by key, so by no order of rows."""
    return np.lexsort((keys, -scores))


def take(order: NDArray[np.int64], tokens: NDArray[np.int32], budget: Budget) -> int:
    """Return how many rows of `order`, from its head, fit into the budget; never one more."""
    if budget.unit == "tokens":
        return int(
            np.searchsorted(np.cumsum(tokens[order], dtype=np.int64), budget.amount, "right")
        )
    wanted = budget.amount * len(order) if budget.unit == "fraction" else budget.amount
    # A product such as 0.29 * 100 falls a hair below the whole number that is meant.
    return min(len(order), int(wanted + 1e-9))

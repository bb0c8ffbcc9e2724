"""What happens at which step: the order of rows and the learning rate."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

WINDOW_BATCHES = 16
"""Rows of so many batches are sorted by length together; more saves little and mixes less."""


def batches_by_length(lengths: Sequence[int], batch_rows: int, generator: Any) -> list[list[int]]:
    """Return one epoch of batches: every row once, rows of like length together, shuffled.

    Args:
        lengths: of each row [tokens].
        batch_rows: rows of a batch; the epoch's last one may be smaller.
        generator: a torch.Generator, the only source of randomness.
    """
    import torch

    order = torch.randperm(len(lengths), generator=generator).tolist()
    batches = []
    window = batch_rows * WINDOW_BATCHES
    for start in range(0, len(order), window):
        rows = sorted(order[start : start + window], key=lambda row: lengths[row])
        batches += [rows[at : at + batch_rows] for at in range(0, len(rows), batch_rows)]
    return [batches[place] for place in torch.randperm(len(batches), generator=generator).tolist()]


def learning_rate_at(step: int, steps: int, warmup: float) -> float:
    """Return the share of the highest learning rate at a step from 0: up, then down to 0."""
    n_warmup = round(steps * warmup)
    if step < n_warmup:
        return (step + 1) / (n_warmup + 1)
    return (steps - step) / max(1, steps - n_warmup)

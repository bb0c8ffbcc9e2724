"""Metrics of models that give one label to a row."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray


def of_logits(logits: Sequence[NDArray[np.float32]], labels: Sequence[int]) -> dict[str, float]:
    """Return accuracy and macro F1 (0 to 1) and the mean cross-entropy [nats].

    A label that neither occurs nor is predicted does not count in macro F1.

    Args:
        logits: float32 [labels], of each row; at least one row.
        labels: the right one of each row, as its place among the logits.
    """
    from sklearn.metrics import accuracy_score, f1_score

    found = np.stack(logits)
    truth = np.array(labels)
    predicted = found.argmax(axis=1)
    shifted = found.astype(np.float64) - found.max(axis=1, keepdims=True)
    log_sums = np.log(np.exp(shifted).sum(axis=1))
    losses = log_sums - shifted[np.arange(len(truth)), truth]
    return {
        "accuracy": float(accuracy_score(truth, predicted)),
        "macro_f1": float(f1_score(truth, predicted, average="macro", zero_division=0.0)),
        "loss": float(losses.mean()),
    }

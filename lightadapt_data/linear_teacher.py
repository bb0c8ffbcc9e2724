"""A logistic regression that labels rows: calibrated, and taught by its own surest guesses.

Source: self-training, Yarowsky 1995, https://aclanthology.org/P95-1026; temperature, Guo et al.
2017, https://arxiv.org/abs/1706.04599, with the softened targets of Platt 1999, section 2.2
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import xxhash
from numpy.typing import NDArray

LEAST_SHARE, MOST_SHARE = 0.2, 0.8
"""Of each label's guesses, what the first round of self-training starts from and the last takes
[ratio]."""


@dataclass(frozen=True)
class Fit:
    """How to fit."""

    inverse_regularisation: float
    """The C of the logistic regression."""
    unlabelled: NDArray[np.float64]
    """Vectors of rows without a label, [rows, dim]; only read when there are rounds."""
    rounds: int = 0
    """Rounds of self-training."""


def folds(
    ids: Sequence[str], codes: NDArray[np.int64], n_folds: int, seed: int
) -> NDArray[np.int64]:
    """Return the fold of each row: within a label, rows are dealt out in the order of a hash.

    Every label with two rows or more so has a row outside each fold.
    """
    folds = np.zeros(len(ids), np.int64)
    dealt: Counter[int] = Counter()
    hashes = [xxhash.xxh3_64_intdigest(f"{seed}|{row_id}".encode()) for row_id in ids]
    for index in sorted(range(len(ids)), key=hashes.__getitem__):
        label = int(codes[index])
        folds[index] = dealt[label] % n_folds
        dealt[label] += 1
    return folds


def out_of_fold(
    vectors: NDArray[np.float64],
    codes: NDArray[np.int64],
    parts: NDArray[np.int64],
    how: Fit,
) -> NDArray[np.float64]:
    """Return logits [rows, labels] of each row from a teacher that has not seen its fold."""
    n_labels = int(codes.max()) + 1
    logits = np.zeros((len(codes), n_labels))
    for fold in np.unique(parts):
        inside = parts == fold
        weights, bias = fit(vectors[~inside], codes[~inside], n_labels, how)
        logits[inside] = vectors[inside] @ weights.T + bias
    return logits


def fit(
    vectors: NDArray[np.float64], codes: NDArray[np.int64], n_labels: int, how: Fit
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return weights [labels, dim] and bias [labels], after `how.rounds` of self-training.

    In each round the rows of `how.unlabelled` that the last fit is surest of, the same share of
    every label's, are added with that label; together they weigh as much as the labelled rows.
    """
    weights, bias = _regression(vectors, codes, None, n_labels, how)
    for number in range(how.rounds):
        logits = how.unlabelled @ weights.T + bias
        guesses, margins = _guesses(logits)
        share = LEAST_SHARE + (MOST_SHARE - LEAST_SHARE) * (number + 1) / how.rounds
        chosen = np.concatenate(
            [
                own[np.argsort(-margins[own], kind="stable")[: int(share * len(own))]]
                for own in (np.flatnonzero(guesses == label) for label in range(n_labels))
            ]
        )
        if not len(chosen):
            break
        rows = np.concatenate([vectors, how.unlabelled[chosen]])
        labels = np.concatenate([codes, guesses[chosen]])
        weight = np.ones(len(rows))
        weight[: len(codes)] = max(1.0, len(chosen) / len(codes))
        weights, bias = _regression(rows, labels, weight, n_labels, how)
    return weights, bias


def _guesses(logits: NDArray[np.float64]) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Return the best label of each row, and by how much it beats the second."""
    best = np.sort(logits, axis=1)
    return logits.argmax(axis=1), np.round(best[:, -1] - best[:, -2], 6)


def _regression(
    vectors: NDArray[np.float64],
    codes: NDArray[np.int64],
    row_weights: NDArray[np.float64] | None,
    n_labels: int,
    how: Fit,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return weights [labels, dim] and bias [labels]; a label that no row has is out of reach."""
    from sklearn.linear_model import LogisticRegression

    model = LogisticRegression(C=how.inverse_regularisation, max_iter=1000)
    model.fit(vectors, codes, row_weights)
    coefficients, intercepts = model.coef_, model.intercept_
    if len(model.classes_) == 2:  # scikit-learn then keeps one row, for the second class
        coefficients = np.vstack([np.zeros_like(coefficients), coefficients])
        intercepts = np.concatenate([np.zeros(1), intercepts])
    weights = np.zeros((n_labels, vectors.shape[1]))
    bias = np.full(n_labels, -1e3)
    weights[model.classes_], bias[model.classes_] = coefficients, intercepts
    return weights, bias


def temperature(logits: NDArray[np.float64], own: NDArray[np.int64]) -> float:
    """Return the temperature between 0.1 and 10 at which the logits explain the labels best.

    A row counts for its label with (n + 1) / (n + k), n rows having the label, and for each other
    of the k labels with 1 / (n + k): when every row is predicted rightly, plain labels would
    drive the temperature to zero, and any row at all would get a label with certainty.
    """
    low, high = np.log(0.1), np.log(10.0)
    golden = (np.sqrt(5) - 1) / 2
    counts = np.bincount(own, minlength=logits.shape[1])
    present = counts > 0
    totals = (counts[own] + present.sum())[:, None]
    targets = np.where(present, 1 / totals, 0.0)
    targets[np.arange(len(own)), own] = (counts[own] + 1) / totals[:, 0]

    def loss(log_temperature: float) -> float:
        chances = softmax(logits / np.exp(log_temperature))
        return float(-(targets * np.log(chances + 1e-12)).sum(axis=1).mean())

    while high - low > 1e-4:
        left, right = high - golden * (high - low), low + golden * (high - low)
        low, high = (low, right) if loss(left) <= loss(right) else (left, high)
    return float(np.exp((low + high) / 2))


def softmax(logits: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return probabilities, [rows, labels]."""
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=1, keepdims=True))

"""pseudo_label: selected corpus rows get their label from a teacher that knows the labelled rows.

The teacher is a logistic regression on the encoder's vectors. Its probabilities are calibrated
with one temperature on out-of-fold predictions. A row is kept when the probability of its label
reaches that label's own threshold: the mean probability that labelled rows of the class get for
their own class, out of fold.

Source: thresholds from confident learning, Northcutt et al. 2021, section 3.1,
https://arxiv.org/abs/1911.00068; temperature from Guo et al. 2017, https://arxiv.org/abs/1706.04599,
with the softened targets of Platt 1999, section 2.2, so that few rows never give certainty
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import xxhash
from numpy.typing import NDArray
from pydantic import Field

from lightadapt_data.augmenters import Candidate, Context, Encode
from lightadapt_data.config import Config
from lightadapt_data.errors import InputError

FEEDS_ON = "selected"
SKIPS_GATES = frozenset({"changed", "length", "numbers", "negation", "similarity"})
"""They compare texts, and the text stays as it is."""

_Labelled = tuple[tuple[str, str, str], ...]
"""(id, text, label) of each labelled row."""


class Settings(Config):
    """Settings of pseudo_label."""

    folds: int = Field(default=5, ge=2, le=20)
    """Parts of the labelled rows for out-of-fold predictions; fewer when rows are few."""
    inverse_regularisation: float = Field(default=10.0, gt=0)
    """The C of the logistic regression; larger follows the labelled rows more closely."""


@dataclass(frozen=True)
class _Teacher:
    """The fitted teacher."""

    labels: list[str]
    weights: NDArray[np.float64]
    """[labels, dim]."""
    bias: NDArray[np.float64]
    """[labels]."""
    temperature: float
    thresholds: Mapping[str, float]
    """By label; a label without one was seen on a single row and is never given."""

    def probabilities(self, vectors: NDArray[np.float32]) -> NDArray[np.float64]:
        """Return calibrated probabilities [rows, labels]."""
        return _softmax((vectors @ self.weights.T + self.bias) / self.temperature)


def augment(
    rows: Sequence[Mapping[str, Any]], settings: Settings, context: Context
) -> list[Candidate]:
    """Return each row once, in row order, with the teacher's label and its probability as score.

    Raises:
        InputError: fewer than two labels have two labelled rows.
    """
    labelled = tuple(
        sorted((str(row["id"]), str(row["text"]), str(row["label"])) for row in context.labelled)
    )
    teacher = _teacher(labelled, settings, context.encode, context.seed)
    if not rows:
        return []
    vectors = context.encode([str(row["text"]) for row in rows])
    # Rounded, so that the last bits of a sum never decide.
    found = np.round(teacher.probabilities(vectors), 6)
    candidates = []
    for row, chances in zip(rows, found, strict=True):
        best = int(chances.argmax())
        label, chance = teacher.labels[best], float(chances[best])
        refused = _refusal(label, chance, teacher.thresholds.get(label))
        candidates.append(
            Candidate(str(row["id"]), str(row["text"]), label, score=chance, refused=refused)
        )
    return candidates


def _refusal(label: str, chance: float, threshold: float | None) -> str:
    if threshold is None:
        return f"'{label}' has 1 labelled row; 2 are needed to measure its threshold"
    if chance < threshold:
        return f"p('{label}') = {chance:.3f}, below the class's threshold {threshold:.3f}"
    return ""


@lru_cache(maxsize=2)
def _teacher(labelled: _Labelled, settings: Settings, encode: Encode, seed: int) -> _Teacher:
    """Return the fitted teacher; remembered, because every shard of a run asks for the same."""
    counts = Counter(label for _, _, label in labelled)
    usable = sorted(label for label, n in counts.items() if n > 1)
    if len(usable) < 2:
        raise InputError(
            f"pseudo_label: {len(usable)} labels have two or more labelled training rows "
            f"({_listed(counts)}); allowed: 2 or more labels; label more rows"
        )
    names = np.array([label for _, _, label in labelled])
    vectors = np.asarray(encode([text for _, text, _ in labelled]), np.float64)
    labels = sorted(counts)
    codes = np.searchsorted(labels, names)
    is_usable = np.isin(names, usable)
    logits = _out_of_fold(vectors, codes, _folds(labelled, settings.folds, seed), settings)
    logits, own = logits[is_usable], codes[is_usable]
    temperature = _temperature(logits, own)
    chances = _softmax(logits / temperature)[np.arange(len(own)), own]
    thresholds = {
        label: round(float(chances[own == labels.index(label)].mean()), 6) for label in usable
    }
    weights, bias = _fit(vectors, codes, len(labels), settings)
    return _Teacher(labels, weights, bias, temperature, thresholds)


def _folds(labelled: _Labelled, n_folds: int, seed: int) -> NDArray[np.int64]:
    """Return the fold of each row: within a label, rows are dealt out in the order of a hash.

    Every label with two rows or more so has a row outside each fold.
    """
    folds = np.zeros(len(labelled), np.int64)
    dealt: Counter[str] = Counter()
    hashes = [xxhash.xxh3_64_intdigest(f"{seed}|{row_id}".encode()) for row_id, _, _ in labelled]
    for index in sorted(range(len(labelled)), key=hashes.__getitem__):
        label = labelled[index][2]
        folds[index] = dealt[label] % n_folds
        dealt[label] += 1
    return folds


def _out_of_fold(
    vectors: NDArray[np.float64],
    codes: NDArray[np.int64],
    folds: NDArray[np.int64],
    settings: Settings,
) -> NDArray[np.float64]:
    """Return logits [rows, labels] of each row from a teacher that has not seen its fold."""
    n_labels = int(codes.max()) + 1
    logits = np.zeros((len(codes), n_labels))
    for fold in np.unique(folds):
        inside = folds == fold
        weights, bias = _fit(vectors[~inside], codes[~inside], n_labels, settings)
        logits[inside] = vectors[inside] @ weights.T + bias
    return logits


def _fit(
    vectors: NDArray[np.float64], codes: NDArray[np.int64], n_labels: int, settings: Settings
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return weights [labels, dim] and bias [labels]; a label that no row has is out of reach."""
    from sklearn.linear_model import LogisticRegression

    model = LogisticRegression(C=settings.inverse_regularisation, max_iter=1000)
    model.fit(vectors, codes)
    coefficients, intercepts = model.coef_, model.intercept_
    if len(model.classes_) == 2:  # scikit-learn then keeps one row, for the second class
        coefficients = np.vstack([np.zeros_like(coefficients), coefficients])
        intercepts = np.concatenate([np.zeros(1), intercepts])
    weights = np.zeros((n_labels, vectors.shape[1]))
    bias = np.full(n_labels, -1e3)
    weights[model.classes_], bias[model.classes_] = coefficients, intercepts
    return weights, bias


def _temperature(logits: NDArray[np.float64], own: NDArray[np.int64]) -> float:
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
        chances = _softmax(logits / np.exp(log_temperature))
        return float(-(targets * np.log(chances + 1e-12)).sum(axis=1).mean())

    while high - low > 1e-4:
        left, right = high - golden * (high - low), low + golden * (high - low)
        low, high = (low, right) if loss(left) <= loss(right) else (left, high)
    return float(np.exp((low + high) / 2))


def _softmax(logits: NDArray[np.float64]) -> NDArray[np.float64]:
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=1, keepdims=True))


def _listed(counts: Counter[str]) -> str:
    found = sorted(counts.items())
    more = f", and {len(found) - 5} more" if len(found) > 5 else ""
    return (", ".join(f"'{label}': {n}" for label, n in found[:5]) or "no labelled rows") + more

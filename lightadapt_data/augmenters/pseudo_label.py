"""pseudo_label: selected corpus rows get their label from a teacher that knows the labelled rows.

The teacher is a logistic regression on the encoder's vectors. With `language_model`, what such a
model is about to say at the end of a question about the text (its hidden state there) is put beside
them: it knows from reading what few labelled rows cannot teach, such as what praise sounds like.
The teacher's probabilities are calibrated with one temperature on out-of-fold predictions. A row is
kept when the probability of its label reaches that label's own threshold: the mean probability that
labelled rows of the class get for their own class, out of fold.

Source: thresholds from confident learning, Northcutt et al. 2021, section 3.1,
https://arxiv.org/abs/1911.00068; temperature from Guo et al. 2017, https://arxiv.org/abs/1706.04599,
with the softened targets of Platt 1999, section 2.2, so that few rows never give certainty; a
prompted model as the teacher of a small one: Schick and Schütze 2021,
https://aclanthology.org/2021.eacl-main.20 (there tuned, here only read)
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

from lightadapt_data import methods
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
    language_model: str = ""
    """Model to ask besides the encoder: local folder, installed package, or Hub id; empty: none."""
    template: str = "{text}\n"
    """The question to it, as in "Review: {text}\\nSentiment:"; the text stands where {text} is."""
    layers: float = Field(default=0.75, gt=0, le=1)
    """Share of its layers to use, the lowest ones [ratio]."""
    max_tokens: int = Field(default=160, gt=0)
    """Longer questions are cut inside the text [tokens]."""


@dataclass(frozen=True)
class _View:
    """How the teacher sees a text: the vectors of one encoder or two, side by side."""

    encoders: tuple[Encode, ...]
    means: tuple[NDArray[np.float64], ...]
    scales: tuple[float, ...]

    def of(self, texts: Sequence[str]) -> NDArray[np.float64]:
        """Return float64 [texts, dim]."""
        parts = (
            (np.asarray(encode(texts), np.float64) - mean) / scale
            for encode, mean, scale in zip(self.encoders, self.means, self.scales, strict=True)
        )
        return np.concatenate(list(parts), axis=1)


def reads(settings: Settings) -> dict[str, str]:
    """Return the fingerprint of the language model, if one is asked.

    Raises:
        InputError: it cannot be found.
    """
    if not settings.language_model:
        return {}
    encoder = methods.load("encoders", "language_model")
    found: dict[str, str] = encoder.fingerprint(_question(settings))
    return found


def _question(settings: Settings) -> Any:
    """Return the settings of the encoder that asks the language model."""
    options = {
        "model": settings.language_model,
        "template": settings.template,
        "layers": settings.layers,
        "max_tokens": settings.max_tokens,
        "pooling": "last",
    }
    return methods.settings("encoders", "language_model", options)


def _view(texts: Sequence[str], settings: Settings, encode: Encode) -> _View:
    """Return the view in which the labelled texts have mean 0 and mean squared length 1.

    The encoder alone is taken as it is. A language model's states all point almost one way, and
    only what is left without their mean tells texts apart.
    """
    if not settings.language_model:
        return _View((encode,), (np.zeros(1),), (1.0,))
    ask = methods.load("encoders", "language_model").load(_question(settings)).encode
    means, scales = [], []
    for one in (encode, ask):
        vectors = np.asarray(one(texts), np.float64)
        means.append(vectors.mean(axis=0))
        scales.append(float(np.sqrt(((vectors - means[-1]) ** 2).sum(axis=1).mean())) or 1.0)
    return _View((encode, ask), tuple(means), tuple(scales))


@dataclass(frozen=True)
class _Teacher:
    """The fitted teacher."""

    labels: list[str]
    view: _View
    weights: NDArray[np.float64]
    """[labels, dim]."""
    bias: NDArray[np.float64]
    """[labels]."""
    temperature: float
    thresholds: Mapping[str, float]
    """By label; a label without one was seen on a single row and is never given."""

    def probabilities(self, texts: Sequence[str]) -> NDArray[np.float64]:
        """Return calibrated probabilities [rows, labels]."""
        vectors = self.view.of(texts)
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
    # Rounded, so that the last bits of a sum never decide.
    found = np.round(teacher.probabilities([str(row["text"]) for row in rows]), 6)
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
    texts = [text for _, text, _ in labelled]
    view = _view(texts, settings, encode)
    vectors = view.of(texts)
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
    return _Teacher(labels, view, weights, bias, temperature, thresholds)


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

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
from numpy.typing import NDArray
from pydantic import Field

from lightadapt_data import linear_teacher, methods
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

    self_training: int = Field(default=0, ge=0, le=20)
    """Rounds in which the teacher learns from its own surest guesses on up to 2,000 of the selected
    rows; 0 for none [rounds]."""

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
        return linear_teacher.softmax((vectors @ self.weights.T + self.bias) / self.temperature)


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
    unlabelled = tuple(context.unlabelled) if settings.self_training else ()
    teacher = _teacher(labelled, unlabelled, settings, context.encode, context.seed)
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
def _teacher(
    labelled: _Labelled,
    unlabelled: tuple[str, ...],
    settings: Settings,
    encode: Encode,
    seed: int,
) -> _Teacher:
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
    rounds = settings.self_training if unlabelled else 0
    how = linear_teacher.Fit(
        settings.inverse_regularisation, view.of(unlabelled) if rounds else vectors[:0], rounds
    )
    ids = [row_id for row_id, _, _ in labelled]
    folds = linear_teacher.folds(ids, codes, settings.folds, seed)
    logits = linear_teacher.out_of_fold(vectors, codes, folds, how)
    logits, own = logits[is_usable], codes[is_usable]
    temperature = linear_teacher.temperature(logits, own)
    chances = linear_teacher.softmax(logits / temperature)[np.arange(len(own)), own]
    thresholds = {
        label: round(float(chances[own == labels.index(label)].mean()), 6) for label in usable
    }
    weights, bias = linear_teacher.fit(vectors, codes, len(labels), how)
    return _Teacher(labels, view, weights, bias, temperature, thresholds)


def _listed(counts: Counter[str]) -> str:
    found = sorted(counts.items())
    more = f", and {len(found) - 5} more" if len(found) > 5 else ""
    return (", ".join(f"'{label}': {n}" for label, n in found[:5]) or "no labelled rows") + more

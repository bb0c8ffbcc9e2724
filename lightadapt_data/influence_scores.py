"""The influence of a finished training's rows: from rows and kept states to one score per row."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from lightadapt_data import adapter_jobs, kept_states, row_influence
from lightadapt_data.config import Config
from lightadapt_data.predicting import prompted
from lightadapt_data.rows import key_of
from lightadapt_data.training import Job
from lightadapt_data.vectors import uniform

Row = Mapping[str, Any]
Floats = NDArray[np.float64]


class GradientSettings(Config):
    """What gradients are taken of, and how they are kept."""

    include_head: bool = True
    """Take gradients of the head too; without it only the adapter's count."""
    validation_rows: int = Field(default=500, ge=1)
    """Validation rows that are read, drawn at random [rows]."""
    states: int = Field(default=0, ge=0)
    """Kept states that are read, the latest; each costs as much again; 0 for all [states]."""
    judges: int = Field(default=2000, ge=0)
    """Training rows that judge all others, drawn at random from those that a person labelled, or
    from all where there are none; the validation rows judge too [rows]."""
    damping: float = Field(default=0.01, gt=0)
    """Of the agreement; more goes by what all rows have in common [squared length]."""
    memory_gb: float = Field(default=2.0, gt=0)
    """Gradients of judges that need more memory are projected at random [10^9 bytes]."""
    projected_dim: int = Field(default=8192, ge=0)
    """Width of a projected gradient; 0 keeps all whole, whatever they need [numbers]."""
    seed: int = Field(default=0, ge=0)
    """Of the draws: validation rows, projections, bootstrap samples, checks."""


@dataclass(frozen=True)
class Training:
    """A finished training, and the rows that it read."""

    settings: Any
    """Of the train stage."""
    job: Job
    rows: Sequence[Row]
    """The training rows, each once."""
    validation: Sequence[Row]
    labels: Sequence[str]
    folder: Path
    """Holds `adapter/` and `states/`."""
    best_step: int


def of_training(what: Training, options: GradientSettings) -> dict[str, Floats]:
    """Return `tracin`, `cosine`, `agreement` and `loss`, float64 [rows], of the training rows.

    A row that gives several examples has the sum of their tracin and the mean of the others.

    Raises:
        InputError: no kept states, or states that do not fit the base model or the adapter.
    """
    job = what.job
    rate = job.adapter_settings.learning_rate
    states = kept_states.read(what.folder / "states", what.settings, rate, options.states)
    who = kept_states.learner(job, what.folder / "states", options.include_head)
    kept_states.check(who, job, what.best_step, what.folder)
    train, row_of = _examples(what, what.rows, who.model)
    chosen = drawn(what.validation, options.validation_rows, options.seed)
    validation, _ = _examples(what, [what.validation[place] for place in chosen], who.model)
    judging = row_influence.Judging(
        options.damping, int(options.memory_gb * 1e9), options.projected_dim, options.seed
    )
    is_judge = _judges(what.rows, options)[row_of]
    found = row_influence.scores(who, states, train, validation, is_judge, judging)
    n_rows = len(what.rows)
    counts = np.maximum(np.bincount(row_of, minlength=n_rows), 1)
    sums: dict[str, Floats] = {}
    for name in ("tracin", "cosine", "agreement", "loss"):
        sums[name] = np.bincount(row_of, getattr(found, name), n_rows).astype(np.float64)
    return {name: total if name == "tracin" else total / counts for name, total in sums.items()}


def drawn(rows: Sequence[Row], n_rows: int, seed: int) -> list[int]:
    """Return the places of `n_rows` random rows, in their order; seed and ids decide which."""
    keys = np.array([key_of(str(row["id"])) for row in rows], np.uint64)
    return sorted(np.lexsort((keys, uniform(keys, seed)))[:n_rows].tolist())


def _judges(rows: Sequence[Row], options: GradientSettings) -> NDArray[np.bool_]:
    """Return which rows judge the others, bool [rows]."""
    labelled = [place for place, row in enumerate(rows) if row.get("origin") == "seed"]
    places = labelled or list(range(len(rows)))
    chosen = drawn([rows[place] for place in places], options.judges, options.seed)
    found = np.zeros(len(rows), bool)
    found[[places[place] for place in chosen]] = True
    return found


def _examples(
    what: Training, rows: Sequence[Row], model: Any
) -> tuple[Sequence[Any], NDArray[np.int64]]:
    """Return the task's examples of some rows, as the model reads them, and the row of each."""
    job = what.job
    options = adapter_jobs.options(what.settings, "tasks", what.settings.task)
    plain = job.task.examples(rows, what.labels, job.tokenizer, options)
    row_of = [getattr(example, "row", place) for place, example in enumerate(plain)]
    return prompted(plain, job.task, job.adapter, model, job.tokenizer), np.array(row_of, int)

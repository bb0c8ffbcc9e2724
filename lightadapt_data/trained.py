"""Use a trained adapter: load it over its base model and label texts."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from lightadapt_data import methods, model_files, predicting
from lightadapt_data.errors import InputError


@dataclass(frozen=True)
class Trained:
    """A base model with a trained adapter in it."""

    model: Any
    tokenizer: Any
    labels: list[str]
    task: ModuleType
    options: Any
    adapter: ModuleType


def load_trained(folder: Path, base_model: str | None = None) -> Trained:
    """Return the adapter in `folder`, ready to use.

    Args:
        folder: the run's `adapter/`, with labels.json and PEFT's two files.
        base_model: where the base model is, when not where it was in training.

    Raises:
        InputError: the folder holds no adapter, or the base model cannot be found.
    """
    path = folder / "labels.json"
    if not path.exists():
        raise InputError(
            f"{folder}: holds no labels.json; allowed: the folder adapter/ of a run that trained"
        )
    how = json.loads(path.read_text("utf-8"))
    task = methods.load("tasks", how["task"])
    options = methods.settings("tasks", how["task"], how["task_options"])
    base = model_files.find(base_model or how["base_model"])
    built = task.build(base, how["base_model"], how["labels"], options)
    adapter = methods.load("adapters", how["adapter"])
    model = adapter.load(built.network, folder).eval()
    return Trained(model, task.tokenizer(base), how["labels"], task, options, adapter)


def predict_rows(trained: Trained, rows: Sequence[Mapping[str, Any]]) -> list[Any]:
    """Return what the model says of each row: a label, spans, an answer or a text, as the task has.

    Args:
        trained: the adapter.
        rows: with the task's fields; what is to be found may be missing.
    """
    if not rows:
        return []
    task, tokenizer = trained.task, trained.tokenizer
    plain = task.examples(rows, trained.labels, tokenizer, trained.options)
    examples = predicting.prompted(plain, task, trained.adapter, trained.model, tokenizer)
    outputs = predicting.predict(trained.model, examples, task, tokenizer)
    found: list[Any] = task.predictions(outputs, examples, trained.labels)
    return found


def label_texts(trained: Trained, texts: Sequence[str]) -> list[str]:
    """Return the label that the model gives to each text."""
    return predict_rows(trained, [{"text": text, "label": None} for text in texts])

"""Use a trained adapter: load it over its base model and label texts."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from lightadapt_data import methods, model_files, training
from lightadapt_data.errors import InputError


@dataclass(frozen=True)
class Trained:
    """A base model with a trained adapter in it."""

    model: Any
    tokenizer: Any
    labels: list[str]
    task: ModuleType
    options: Any


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
    model = methods.load("adapters", how["adapter"]).load(built.network, folder)
    return Trained(model.eval(), task.tokenizer(base), how["labels"], task, options)


def label_texts(trained: Trained, texts: Sequence[str]) -> list[str]:
    """Return the label that the model gives to each text."""
    if not texts:
        return []
    rows = [{"text": text, "label": None} for text in texts]
    examples = trained.task.examples(rows, trained.labels, trained.tokenizer, trained.options)
    logits = training.predict(trained.model, examples, trained.task, trained.tokenizer)
    return [trained.labels[place] for place in logits.argmax(axis=1)]

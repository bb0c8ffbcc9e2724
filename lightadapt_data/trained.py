"""Use trained adapters: load one over its base model, or several, and ask what it says of rows."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType
from typing import Any

from lightadapt_data import methods, model_files, predicting, stacking
from lightadapt_data.errors import InputError
from lightadapt_data.tasks import Built


@dataclass(frozen=True)
class Trained:
    """A base model with a trained adapter in it."""

    model: Any
    tokenizer: Any
    labels: list[str]
    task: ModuleType
    options: Any
    adapter: ModuleType
    how: Mapping[str, Any]
    """What labels.json says."""
    name: str = "default"
    """Of the adapter, where the model holds several."""


def load_trained(folder: Path, base_model: str | None = None) -> Trained:
    """Return the adapter in `folder`, ready to use.

    Args:
        folder: the run's `adapter/`, with labels.json and PEFT's two files.
        base_model: where the base model is, when not where it was in training.

    Raises:
        InputError: the folder holds no adapter, or the base model or the adapter under this one
            cannot be found.
    """
    how = _how(folder)
    base = model_files.find(base_model or how["base_model"])
    built = _built(how, base, folder)
    adapter = methods.load("adapters", how["adapter"])
    model = adapter.load(built.network, folder).eval()
    task = methods.load("tasks", how["task"])
    options = methods.settings("tasks", how["task"], how["task_options"])
    return Trained(model, task.tokenizer(base), how["labels"], task, options, adapter, how)


def load_beside(first: Trained, folder: Path, name: str, base_model: str | None = None) -> Trained:
    """Return the adapter in `folder`, put into the base model that `first` has already loaded.

    Both can be used in turn; each is switched on when it is asked. Not from two threads at once.

    Args:
        first: an adapter of the same method, task and base model; the labels may be others.
        folder: the run's `adapter/`.
        name: what to call it; must be new.
        base_model: where the base model is, when not where it was in training.

    Raises:
        InputError: it does not fit beside the first.
    """
    how = _how(folder)
    for key in ("adapter", "task", "base_model"):
        if how[key] != first.how[key] or how["adapter"] == "full":
            raise InputError(
                f"{folder}: has {key} = '{how[key]}', and the loaded one '{first.how[key]}'; "
                "allowed in one model: adapters of the same task, base model and method, which is "
                "not 'full'; load it with load_trained"
            )
    if how.get("under") or first.how.get("under"):
        raise InputError(f"{folder}: one of the two stands over another; load it with load_trained")
    # PEFT would take parts of its own keys for such a name.
    is_part_of_keys = "." in name or name in first.model.base_model.prefix
    if name in first.model.peft_config or is_part_of_keys:
        raise InputError(
            f"adapter name '{name}' is taken; allowed: a new one, without dots, and no part of "
            f"'{first.model.base_model.prefix}'"
        )
    base = model_files.find(base_model or how["base_model"])
    _load_into(first, _built(how, base, folder), folder, name)
    options = methods.settings("tasks", how["task"], how["task_options"])
    return replace(first, labels=how["labels"], options=options, how=how, name=name)


def predict_rows(trained: Trained, rows: Sequence[Mapping[str, Any]]) -> list[Any]:
    """Return what the model says of each row: a label, spans, an answer or a text, as the task has.

    Args:
        trained: the adapter.
        rows: with the task's fields; what is to be found may be missing.
    """
    if not rows:
        return []
    if len(getattr(trained.model, "peft_config", ())) > 1:
        trained.model.set_adapter(trained.name, inference_mode=True)
    task, tokenizer = trained.task, trained.tokenizer
    plain = task.examples(rows, trained.labels, tokenizer, trained.options)
    examples = predicting.prompted(plain, task, trained.adapter, trained.model, tokenizer)
    outputs = predicting.predict(trained.model, examples, task, tokenizer)
    found: list[Any] = task.predictions(outputs, examples, trained.labels)
    return found


def label_texts(trained: Trained, texts: Sequence[str]) -> list[str]:
    """Return the label that the model gives to each text."""
    return predict_rows(trained, [{"text": text, "label": None} for text in texts])


def _how(folder: Path) -> dict[str, Any]:
    path = folder / "labels.json"
    if not path.exists():
        raise InputError(
            f"{folder}: holds no labels.json; allowed: the folder adapter/ of a run that trained"
        )
    how: dict[str, Any] = json.loads(path.read_text("utf-8"))
    return how


def _built(how: Mapping[str, Any], base: Path, folder: Path) -> Built:
    """Return the base model with its head, and with the adapter in it that stands under this one.

    That one is in `folder`, where a run copies it to, or where it was in training.
    """
    task = methods.load("tasks", how["task"])
    options = methods.settings("tasks", how["task"], how["task_options"])
    built: Built = task.build(base, how["base_model"], how["labels"], options)
    if not how.get("under"):
        return built
    inside = folder / how["under"]
    under = inside if inside.is_dir() else Path(how["under"]).expanduser()
    return replace(built, network=stacking.load_under(built.network, under, built.head_modules))


def _load_into(first: Trained, built: Built, folder: Path, name: str) -> None:
    """Load an adapter and its head beside the first.

    Raises:
        InputError: they do not fit.
    """
    with _other_heads(first.model, built.network):
        try:
            result = first.model.load_adapter(str(folder), name)
        except (ValueError, RuntimeError) as error:
            reason = " ".join(str(error).split())[:300]
            raise InputError(
                f"{folder}: does not fit beside the loaded adapter: {reason}; load it with "
                "load_trained"
            ) from None
    if result.unexpected_keys:
        raise InputError(
            f"{folder}: {len(result.unexpected_keys)} of its tensors have no place beside the "
            f"loaded adapter, such as {result.unexpected_keys[0]}; load it with load_trained"
        )


@contextmanager
def _other_heads(model: Any, network: Any) -> Iterator[None]:
    """Let PEFT make the next adapter's head after another network's, which may be wider."""
    from peft.utils.other import ModulesToSaveWrapper

    heads = {
        name.removeprefix("base_model.model."): part
        for name, part in model.named_modules()
        if isinstance(part, ModulesToSaveWrapper)
    }
    own = {name: part.original_module for name, part in heads.items()}
    for name, part in heads.items():
        part.original_module = network.get_submodule(name)
    try:
        yield
    finally:
        for name, part in heads.items():
            part.original_module = own[name]

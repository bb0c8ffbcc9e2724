"""One adapter of the train stage: what it is trained on, and what it says of itself."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

from lightadapt_data import methods, model_files, predicting, stacking, training
from lightadapt_data.arms import ArmRows, Curated, n_tokens_of, repeated
from lightadapt_data.shards import Shard
from lightadapt_data.tasks import Built


def job(settings: Any, curated: Curated, content: ArmRows, seed: int) -> training.Job:
    """Return what is to be trained: the rows as numbers, and how a fresh model is made."""
    task = methods.load("tasks", settings.task)
    task_options = options(settings, "tasks", settings.task)
    folder = model_files.find(settings.base_model)
    adapter = methods.load("adapters", settings.adapter)
    adapter_settings = options(settings, "adapters", settings.adapter)
    tokenizer = task.tokenizer(folder)
    if hasattr(adapter, "room"):  # a soft prompt takes places of the text
        tokenizer.model_max_length -= adapter.room(adapter_settings)
    train, dev = (
        task.examples(rows, curated.labels, tokenizer, task_options)
        for rows in (repeated(content.rows, settings.seed_share), curated.validation)
    )

    def build() -> Built:
        built: Built = task.build(folder, settings.base_model, curated.labels, task_options)
        if not settings.under:
            return built
        under = stacking.load_under(built.network, Path(settings.under), built.head_modules)
        return Built(under, built.head_modules)

    return training.Job(
        build=build,
        start_head=lambda network: _start_head(task, network, train, tokenizer, task_options),
        task=task,
        adapter=adapter,
        adapter_settings=adapter_settings,
        tokenizer=tokenizer,
        train=train,
        dev=dev,
        seed=seed,
    )


def metrics(
    settings: Any,
    curated: Curated,
    content: ArmRows,
    shard: Shard,
    what: training.Job,
    result: training.Result,
) -> dict[str, Any]:
    """Return what one adapter has to say of itself; here the test rows are looked at."""
    task, model = what.task, result.model
    task_options = options(settings, "tasks", settings.task)
    plain = task.examples(curated.test, curated.labels, what.tokenizer, task_options)
    test = predicting.prompted(plain, task, what.adapter, model, what.tokenizer)
    best = next(point for point in result.dev_curve if point["step"] == result.best_step)
    return {
        "arm": shard.args["arm"],
        "seed": shard.args["seed"],
        "test": task.metrics(predicting.predict(model, test, task, what.tokenizer), test),
        "validation": {key: value for key, value in best.items() if key != "step"},
        "best_step": result.best_step,
        "dev_curve": result.dev_curve,
        "loss_curve": result.loss_curve,
        "n_rows": len(content.rows),
        "n_tokens": n_tokens_of(content.rows),
        "n_added": content.n_added,
        "tokens_added": content.tokens_added,
        "tokens_short": content.tokens_short,
        "n_trainable": result.n_trainable,
        "n_parameters": result.n_parameters,
        "bytes_on_disk": result.bytes_on_disk,
    }


def _start_head(
    task: ModuleType, network: Any, examples: Sequence[Any], tokenizer: Any, options: Any
) -> None:
    start = getattr(task, "start_head", None)
    if start is not None:
        start(network, examples, tokenizer, options)


def how_to_load(settings: Any, labels: Sequence[str]) -> dict[str, Any]:
    """Return what `trained.load_trained` needs besides the adapter's own files."""
    return {
        "task": settings.task,
        "task_options": options(settings, "tasks", settings.task).key_fields(),
        "adapter": settings.adapter,
        "base_model": settings.base_model,
        "labels": list(labels),
        **({"under": settings.under} if settings.under else {}),
    }


def options(settings: Any, family: str, name: str) -> Any:
    """Return the Settings of a method as the stage's table gives them."""
    return methods.settings(family, name, settings.options.get(name, {}))

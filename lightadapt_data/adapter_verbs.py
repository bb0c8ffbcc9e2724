"""What the verbs about adapters do; each function returns the exit code.

stdout carries data only; logs, progress and tables of a run go to stderr.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from lightadapt_data import advise, compare_adapters, invocation, recipe, run

PREPARING = ("ingest", "embed", "select", "augment", "curate")
"""Stages after which there are rows to train on."""
PILOT_STEPS = 60
"""Steps of a trial; the recipe's own when they are fewer [batches]."""
WIDE = 200
"""Width of a table that no terminal shows [characters]."""


def do_compare_adapters(arguments: argparse.Namespace) -> int:
    """Train with several methods and print quality beside cost."""
    what = recipe.load(arguments.recipe, invocation.overrides(arguments))
    asked = compare_adapters.question(what, arguments.methods, arguments.rates, arguments.seeds)
    folder = invocation.out_folder(arguments)
    with invocation.progress_bars(arguments.quiet) as on_shard:
        results = compare_adapters.compare(what, folder, asked, arguments.workers, on_shard)
    if arguments.json:
        print(json.dumps(results))
        return 0
    _print_adapters(results)
    return 0


def do_advise(arguments: argparse.Namespace) -> int:
    """Say which method to take for a recipe's rows and model, and why."""
    from lightadapt_data.stages import train

    what = recipe.load(arguments.recipe, invocation.overrides(arguments), ["train"])
    folder = invocation.out_folder(arguments)
    upto = recipe.only(what, [name for name in what.settings if name in PREPARING])
    with invocation.progress_bars(arguments.quiet) as on_shard:
        run.run_stages(upto, folder, arguments.workers, on_shard)
        settings: Any = what.settings["train"]
        found = train.advice(settings, what.workspace(folder))
        results: dict[str, Any] = {"advice": [asdict(one) for one in found], "pilot": None}
        if arguments.pilot:
            results["pilot"] = _pilot(what, folder, found, arguments, on_shard)
    if arguments.json:
        print(json.dumps(results))
        return 0
    for number, one in enumerate(found, start=1):
        options = ", ".join(f"{key} = {value}" for key, value in one.options.items())
        print(f"{number}. {one.method}" + (f" ({options})" if options else ""))
        for reason in one.reasons:
            print(f"   {reason}")
    if results["pilot"] is not None:
        print(results["pilot"]["sentence"])
    return 0


def do_influence(arguments: argparse.Namespace) -> int:
    """Say which training rows helped a run's adapter."""
    from lightadapt_data import influence

    folder = invocation.out_folder(arguments)
    settings = influence.Settings(adapters=arguments.adapters, check=arguments.check)
    found = influence.run_influence(folder, settings)
    if arguments.json:
        print(json.dumps(found))
        return 0
    print(
        f"{found['n_rows']:,} rows of {', '.join(found['adapters'])}; {found['n_drops']:,} to drop"
    )
    for field, groups in found["totals"].items():
        for entry in groups:
            mean = entry["agreement"]["mean"]
            name = str(entry["value"])[:32]
            print(f"{field:<12} {name:<32} {entry['rows']:>8,} rows  agreement {mean:+.4f}")
    if found["check"] is not None:
        print(json.dumps(found["check"], indent=1))
    print(f"written to {folder / influence.HOME}")
    return 0


def do_merge(arguments: argparse.Namespace) -> int:
    """Write the base model with a trained adapter merged into its weights."""
    from lightadapt_data import merging

    path = merging.merge(arguments.folder, arguments.to, arguments.base_model)
    print(json.dumps({"model": str(path)}) if arguments.json else path)
    return 0


def do_export(arguments: argparse.Namespace) -> int:
    """Write a trained bottleneck adapter in AdapterHub's format."""
    from lightadapt_data import adapterhub

    path = adapterhub.export(arguments.folder, arguments.to, base_model=arguments.base_model)
    print(json.dumps({"adapter": str(path)}) if arguments.json else path)
    return 0


def _pilot(
    what: recipe.Recipe,
    folder: Path,
    found: Sequence[advise.Advice],
    arguments: argparse.Namespace,
    on_shard: run.OnShard | None,
) -> dict[str, Any]:
    """Train the two best with few steps and return which one the validation rows prefer."""
    own: Any = what.settings["train"]
    two = [one for one in found if one.method not in compare_adapters.YARDSTICKS][:2] or found[:1]
    options = {**own.options}
    for one in two:
        options[one.method] = {**one.options, **options.get(one.method, {})}
    short = own.model_copy(update={"steps": min(own.steps, PILOT_STEPS), "options": options})
    pilot = replace(what, settings={**what.settings, "train": short})
    names = tuple(one.method for one in two)
    asked = compare_adapters.Question(names, 1, 2)
    return compare_adapters.pilot(pilot, folder, asked, arguments.workers, on_shard)


def _print_adapters(results: dict[str, Any]) -> None:
    from rich.console import Console
    from rich.table import Table

    metric = results["metric"].replace("_", " ")
    table = Table("method", "learning rate", box=None)
    headings = (
        "validation",
        f"test {metric}",
        "trained",
        "on disk",
        "peak memory",
        "time",
        "slower",
    )
    for heading in headings:
        table.add_column(heading, justify="right")
    for entry in results["methods"]:
        overhead = entry.get("inference_overhead")
        table.add_row(
            entry["method"] + (" *" if entry["is_pareto"] else ""),
            f"{entry['learning_rate']:.2g}",
            _spread(entry["validation"]),
            _spread(entry["test"]),
            f"{entry['trainable']:,.0f}",
            f"{entry['bytes_on_disk'] / 1e6:,.2f} MB",
            f"{entry['peak_memory_bytes'] / 1e6:,.0f} MB",
            f"{entry['train_seconds']:,.1f} s",
            "" if overhead is None else f"{overhead:+.0%}",
        )
    console = Console(width=None if sys.stdout.isatty() else WIDE, soft_wrap=True, highlight=False)
    console.print(table)
    console.print("* nothing is better in quality, time and size at once", markup=False)
    console.print(results["sentence"], markup=False)
    for method, reason in results["refused"].items():
        console.print(f"{method} was left out: {reason}", markup=False)


def _spread(entry: dict[str, Any]) -> str:
    spread = f" ± {entry['sd']:.3f}" if entry["sd"] is not None else ""
    return f"{entry['mean']:.3f}{spread}"

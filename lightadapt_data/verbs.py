"""What the verbs of the command line do; each function returns the exit code.

stdout carries data only; logs, progress and the summary table go to stderr.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any, TextIO

from lightadapt_data import invocation, recipe, run, status
from lightadapt_data.errors import RecipeError

WIDE = 200
"""Width of a table that no terminal shows [characters]."""
REPORTED = ("select", "augment", "curate", "train")
"""Verbs whose run ends with a report."""


def do_stage(arguments: argparse.Namespace) -> int:
    """Run one stage, and the stages that it reads."""
    wanted = [arguments.stage, *(["report"] if arguments.stage in REPORTED else [])]
    folder = invocation.out_folder(arguments)
    return _run(arguments, _recipe_for(arguments, folder, wanted), folder)


def _recipe_for(arguments: argparse.Namespace, folder: Path, wanted: list[str]) -> recipe.Recipe:
    """Return the recipe of the wanted stages: the one named, else the folder's own, else flags."""
    base = arguments.recipe
    if base is None and vars(arguments)["ingest.corpus"] is None:
        saved = folder / "work" / "recipe.json"
        base = saved if saved.exists() else None
    what = recipe.load(base, invocation.overrides(arguments), wanted)
    return recipe.only(what, wanted)


def do_run(arguments: argparse.Namespace) -> int:
    """Run all stages of a recipe."""
    return _run(
        arguments,
        recipe.load(arguments.recipe, invocation.overrides(arguments)),
        invocation.out_folder(arguments),
    )


def _run(arguments: argparse.Namespace, what: recipe.Recipe, folder: Path) -> int:
    invocation.check_workers(arguments)
    with invocation.progress_bars(arguments.quiet) as on_shard:
        reports = run.run_stages(what, folder, arguments.workers, on_shard)
    summary = status.summary(what.workspace(folder), reports)
    if arguments.json:
        print(json.dumps(summary))
    if not arguments.quiet:
        _print_summary(summary)
    return 0


def do_check(arguments: argparse.Namespace) -> int:
    """Read a recipe whole and say whether it is right."""
    what = recipe.load(arguments.recipe, invocation.overrides(arguments))
    if arguments.json:
        print(json.dumps({"recipe": str(arguments.recipe), "stages": list(what.settings)}))
    else:
        print(f"{arguments.recipe}: right; stages: {', '.join(what.settings)}")
    return 0


def do_plan(arguments: argparse.Namespace) -> int:
    """Print what a run would do."""
    what = recipe.load(arguments.recipe, invocation.overrides(arguments))
    entries = status.plan(what.workspace(invocation.out_folder(arguments)))
    if arguments.json:
        print(json.dumps(entries))
        return 0
    print(f"{'stage':<10} {'done':>7} {'to do':>7} {'expected':>10}  note")
    for entry in entries:
        expected = "" if entry["seconds"] is None else f"{entry['seconds']:.0f} s"
        print(
            f"{entry['stage']:<10} {entry['done']:>7} {entry['todo']:>7} {expected:>10}  "
            f"{entry['note']}"
        )
    return 0


def do_search(arguments: argparse.Namespace) -> int:
    """Print the rows of an indexed corpus nearest to a text."""
    from lightadapt_data.stages import index

    if arguments.k < 1:
        raise RecipeError(f"--k {arguments.k}: allowed: a whole number from 1")
    found = index.search(invocation.saved_run(arguments), arguments.text, arguments.k)
    if arguments.json:
        print(json.dumps(found, ensure_ascii=False))
        return 0
    for row in found:
        print(f"{row['score']:.4f}  {row['id']}  {row['source']}\n        {_one_line(row['text'])}")
    return 0


def do_explain(arguments: argparse.Namespace) -> int:
    """Print the story of one row."""
    from lightadapt_data.stages import report

    story = report.explain(invocation.saved_run(arguments), arguments.row_id)
    if arguments.json:
        print(json.dumps(story, ensure_ascii=False))
        return 0
    for key, value in story.items():
        for item in value if isinstance(value, list) else [value]:
            if item is not None:
                print(f"{key:<14} {_one_line(str(item), 400)}")
    return 0


def do_calibrate(arguments: argparse.Namespace) -> int:
    """Print precision and recall of cosine thresholds on the corpus."""
    from lightadapt_data import measured

    if arguments.pairs < 0:
        raise RecipeError(f"--pairs {arguments.pairs}: allowed: a whole number from 0")
    folder = invocation.out_folder(arguments)
    what = _recipe_for(arguments, folder, ["embed"])
    with invocation.progress_bars(arguments.quiet) as on_shard:
        run.run_stages(what, folder, arguments.workers, on_shard)
    found = measured.copies(what.workspace(folder), arguments.pairs)
    if arguments.json:
        print(json.dumps(found.as_json()))
        return 0
    kinds = list(found.table[0].recall_of)
    print("threshold  precision  recall  " + "  ".join(kinds))
    for level in found.table:
        if round(level.threshold * 100) % 2 == 0 or level.threshold == found.threshold:
            each = "  ".join(f"{level.recall_of[kind]:>{len(kind)}.2f}" for kind in kinds)
            print(f"{level.threshold:>9.2f}  {level.precision:>9.3f}  {level.recall:>6.2f}  {each}")
    print(found.sentence)
    return 0


def do_compare(arguments: argparse.Namespace) -> int:
    """Run a comparison of selectors and print what it found."""
    from lightadapt_data import compare

    what = recipe.load(arguments.recipe, invocation.overrides(arguments), ["select"])
    asked = compare.question(what, arguments.selectors, arguments.draws, arguments.pools)
    invocation.check_workers(arguments)
    with invocation.progress_bars(arguments.quiet) as on_shard:
        results = compare.compare(
            what, invocation.out_folder(arguments), asked, arguments.workers, on_shard
        )
    if arguments.json:
        print(json.dumps(results, ensure_ascii=False))
    if not (arguments.json and arguments.quiet):
        _print_comparison(results, sys.stderr if arguments.json else sys.stdout)
    return 0


def do_diff(arguments: argparse.Namespace) -> int:
    """Print what differs between the rows of two runs, and why."""
    from lightadapt_data.reporting import difference

    if arguments.rows < 0:
        raise RecipeError(f"--rows {arguments.rows}: allowed: a whole number from 0")
    found = difference.between(arguments.run_a, arguments.run_b, arguments.rows)
    if arguments.json:
        print(json.dumps(found, ensure_ascii=False))
        return 0
    for line in difference.lines(found):
        print(line)
    return 0


def _one_line(text: str, width: int = 160) -> str:
    flat = " ".join(text.split())
    return flat if len(flat) <= width else flat[: width - 1] + "\u2026"


def _print_summary(summary: dict[str, Any]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table("stage", box=None, pad_edge=False)
    for name in ("rows in", "rows out", "seconds", "shards", "reused"):
        table.add_column(name, justify="right")
    for entry in summary["stages"]:
        table.add_row(
            entry["stage"],
            f"{entry['rows_in']:,}",
            f"{entry['rows_out']:,}",
            f"{entry['seconds']:.1f}",
            str(entry["shards"]),
            str(entry["reused"]),
        )
    console = Console(stderr=True, soft_wrap=True, highlight=False)
    console.print(table)
    for line in summary["headline"]:
        console.print(line, markup=False)
    for name, path in summary["files"].items():
        console.print(f"{name}: {path}", markup=False)


def _print_comparison(results: dict[str, Any], file: TextIO) -> None:
    from rich.console import Console
    from rich.table import Table

    headings = {
        "rows": "rows",
        "tokens": "tokens",
        "tokens_left": "tokens left",
        "kl_reduction": "KL reduction",
        "coverage_radius": "coverage radius",
        "validation": f"validation {results['metric']}",
    }
    pools = results["pools"]
    first = next(iter(pools[0]["selectors"].values()))["summary"]
    shown = {key: heading for key, heading in headings.items() if key in first}
    table = Table(*(["pool", "corpus rows"] if pools[1:] else []), "selector", box=None)
    for heading in shown.values():
        table.add_column(heading, justify="right")
    for pool in pools:
        size = [f"x{pool['size']}", f"{pool['rows']:,}"] if pools[1:] else []
        for name, entry in pool["selectors"].items():
            table.add_row(*size, name, *(_spread(entry["summary"][key], key) for key in shown))
    width = None if file.isatty() else WIDE
    console = Console(file=file, width=width, soft_wrap=True, highlight=False)
    console.print(table)
    for sentence in results["sentences"]:
        console.print(sentence, markup=False)


def _spread(entry: dict[str, float], key: str) -> str:
    """Return mean and sample standard deviation of a measure."""
    form = "{:,.0f}" if key.startswith(("rows", "tokens")) else "{:.3f}"
    spread = f" ± {form.format(entry['sd'])}" if entry["sd"] else ""
    return form.format(entry["mean"]) + spread

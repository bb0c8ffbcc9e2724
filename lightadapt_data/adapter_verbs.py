"""What the verbs about adapters do; each function returns the exit code.

stdout carries data only; logs, progress and tables of a run go to stderr.
"""

from __future__ import annotations

import argparse
import json
import sys
from typing import Any

from lightadapt_data import compare_adapters, invocation, recipe

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

"""What the arguments of a call mean: its folder, its overrides, and whether to show progress."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from lightadapt_data import recipe, run
from lightadapt_data.errors import InputError, RecipeError
from lightadapt_data.shards import Workspace


def out_folder(arguments: argparse.Namespace) -> Path:
    """Return the run's folder: --out, else runs/<name of the recipe>.

    Raises:
        RecipeError: neither is given.
    """
    if arguments.out is not None:
        return Path(arguments.out).absolute()
    if getattr(arguments, "recipe", None) is not None:
        return Path("runs", arguments.recipe.stem).absolute()
    raise RecipeError("no folder: name the run's folder with --out DIR")


def saved_run(arguments: argparse.Namespace) -> Workspace:
    """Return the workspace of a folder that holds a run.

    Raises:
        InputError: there is none.
    """
    folder = out_folder(arguments)
    path = folder / "work" / "recipe.json"
    if not path.exists():
        raise InputError(f"{folder}: holds no run; name the folder of one with --out DIR")
    return recipe.load(path).workspace(folder)


def overrides(arguments: argparse.Namespace) -> Iterator[tuple[str, Any]]:
    """Yield (key of a recipe, value) for what the flags say."""
    given = vars(arguments)
    # Flags that stand for a key of a recipe are stored under that key.
    yield from ((key, value) for key, value in given.items() if "." in key and value is not None)
    if given.get("seed") is not None:
        yield "seed", given["seed"]
    for text in arguments.set:
        yield recipe.parse_override(text)


def check_workers(arguments: argparse.Namespace) -> None:
    """Check the number of processes.

    Raises:
        RecipeError: below 1.
    """
    if arguments.workers < 1:
        raise RecipeError(f"--workers {arguments.workers}: allowed: a whole number from 1")


@contextmanager
def progress_bars(is_quiet: bool) -> Iterator[run.OnShard | None]:
    """Show a bar per stage on a terminal; nothing where stderr is piped."""
    if is_quiet or not sys.stderr.isatty():
        yield None
        return
    from rich import progress
    from rich.console import Console

    columns = (
        progress.TextColumn("{task.description:<8}"),
        progress.BarColumn(),
        progress.MofNCompleteColumn(),
        progress.TextColumn("{task.fields[rows]:,} rows"),
        progress.TimeRemainingColumn(),
    )
    with progress.Progress(*columns, console=Console(stderr=True), transient=True) as bars:
        tasks: dict[str, progress.TaskID] = {}

        def on_shard(stage: str, n_done: int, n_shards: int, n_rows: int) -> None:
            if stage not in tasks:
                tasks[stage] = bars.add_task(stage, total=n_shards, rows=0)
            bars.update(tasks[stage], completed=n_done, total=n_shards, rows=n_rows)

        yield on_shard

"""The command line: one verb per stage, and run, check, plan, search, explain.

stdout carries data only; logs, progress and the summary table go to stderr. Settings live in the
stages: a flag here is a short name for one key of a recipe.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import shlex
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from lightadapt_data import __version__, recipe, run, stages, status
from lightadapt_data.errors import InputError, LightadaptError, RecipeError
from lightadapt_data.shards import Workspace

FLAGS = {
    "--corpus": ("ingest.corpus", "file, folder or glob of the pile; may be repeated"),
    "--target": ("ingest.target", "file with the examples to select toward; may be repeated"),
    "--unlike": ("ingest.unlike", "file with examples to select away from; may be repeated"),
    "--task": ("ingest.task", "file with labelled rows; may be repeated"),
    "--text-column": ("ingest.text_column", "column that holds the text"),
    "--label-column": ("ingest.label_column", "column that holds the label"),
    "--encoder": ("embed.sentence_transformer.model", "folder, installed package or Hub id"),
    "--method": ("select.method", "selector"),
    "--keep": ("select.keep", "budget: 5000 rows, 2Mtok or 10%%"),
}
REPEATED = ("--corpus", "--target", "--unlike", "--task")
REPORTED = ("select", "augment", "curate", "train")
"""Verbs whose run ends with a report."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one verb and return the exit code of the process."""
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")
    words = list(sys.argv[1:] if argv is None else argv)
    arguments = _parser().parse_args(words)
    _set_up_logging(arguments.quiet)
    verb: Callable[[argparse.Namespace], int] = arguments.do
    try:
        return verb(arguments)
    except LightadaptError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        command = shlex.join(["python", "-m", "lightadapt_data", *words])
        print(f"\ninterrupted; finished shards are kept. Resume with: {command}", file=sys.stderr)
        return 130
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m lightadapt_data",
        description="The smallest data set that makes a light adapter good at your domain.",
        epilog="Exit codes: 0 done, 2 wrong use or recipe, 3 unusable input, 4 nothing selected, "
        "5 outside service failed, 75 another run holds the folder, 130 interrupted.",
    )
    parser.add_argument("--version", action="version", version=__version__)
    verbs = parser.add_subparsers(metavar="VERB", required=True)
    for name in stages.STAGES:
        verb = _add(verbs, name, stages.summary(name), _do_stage)
        verb.set_defaults(stage=name)
        _add_recipe(verb, is_optional=True)
        _add_flags(verb)
        _add_run_options(verb)
    verb = _add(verbs, "run", "all stages that a recipe has a table for", _do_run)
    _add_recipe(verb)
    _add_run_options(verb)
    verb = _add(verbs, "check", "read a recipe whole and say whether it is right", _do_check)
    _add_recipe(verb)
    verb = _add(verbs, "plan", "what a run would do and what is already there", _do_plan)
    _add_recipe(verb)
    _add_out(verb)
    verb = _add(verbs, "search", "rows of an indexed corpus nearest to a text", _do_search)
    verb.add_argument("text")
    verb.add_argument("--k", type=int, default=10, help="rows to print (default 10)")
    _add_out(verb)
    verb = _add(verbs, "explain", "the whole story of one row", _do_explain)
    verb.add_argument("row_id", metavar="ROW_ID")
    _add_out(verb)
    return parser


def _add(
    verbs: Any, name: str, text: str, do: Callable[[argparse.Namespace], int]
) -> argparse.ArgumentParser:
    verb: argparse.ArgumentParser = verbs.add_parser(name, help=text, description=text)
    verb.set_defaults(do=do)
    verb.add_argument("--json", action="store_true", help="print one JSON value on stdout")
    verb.add_argument("-q", "--quiet", action="store_true", help="log warnings only")
    return verb


def _add_recipe(verb: argparse.ArgumentParser, *, is_optional: bool = False) -> None:
    nargs = "?" if is_optional else None
    verb.add_argument("recipe", metavar="RECIPE", nargs=nargs, type=Path, help="a TOML file")
    verb.add_argument(
        "--set", action="append", default=[], metavar="TABLE.KEY=VALUE", help="override one key"
    )


def _add_out(verb: argparse.ArgumentParser) -> None:
    verb.add_argument("--out", type=Path, metavar="DIR", help="the run's folder")


def _add_run_options(verb: argparse.ArgumentParser) -> None:
    _add_out(verb)
    verb.add_argument(
        "--workers", type=int, default=os.cpu_count() or 1, help="processes (default: all cores)"
    )
    verb.add_argument("--seed", type=int, help="seed of all randomness (default 0)")


def _add_flags(verb: argparse.ArgumentParser) -> None:
    for flag, (key, text) in FLAGS.items():
        action = "append" if flag in REPEATED else "store"
        verb.add_argument(flag, action=action, dest=key, help=f"{text} ({key})")


def _do_stage(arguments: argparse.Namespace) -> int:
    wanted = [arguments.stage, *(["report"] if arguments.stage in REPORTED else [])]
    base = arguments.recipe
    folder = _out(arguments)
    given = vars(arguments)
    if base is None and given["ingest.corpus"] is None:
        saved = folder / "work" / "recipe.json"
        base = saved if saved.exists() else None
    what = recipe.load(base, _overrides(arguments), wanted)
    return _run(arguments, recipe.only(what, wanted), folder)


def _do_run(arguments: argparse.Namespace) -> int:
    return _run(arguments, recipe.load(arguments.recipe, _overrides(arguments)), _out(arguments))


def _run(arguments: argparse.Namespace, what: recipe.Recipe, folder: Path) -> int:
    if arguments.workers < 1:
        raise RecipeError(f"--workers {arguments.workers}: allowed: a whole number from 1")
    with _progress(arguments.quiet) as on_shard:
        reports = run.run_stages(what, folder, arguments.workers, on_shard)
    summary = status.summary(what.workspace(folder), reports)
    if arguments.json:
        print(json.dumps(summary))
    if not arguments.quiet:
        _print_summary(summary)
    return 0


def _do_check(arguments: argparse.Namespace) -> int:
    what = recipe.load(arguments.recipe, _overrides(arguments))
    if arguments.json:
        print(json.dumps({"recipe": str(arguments.recipe), "stages": list(what.settings)}))
    else:
        print(f"{arguments.recipe}: right; stages: {', '.join(what.settings)}")
    return 0


def _do_plan(arguments: argparse.Namespace) -> int:
    what = recipe.load(arguments.recipe, _overrides(arguments))
    entries = status.plan(what.workspace(_out(arguments)))
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


def _do_search(arguments: argparse.Namespace) -> int:
    from lightadapt_data.stages import index

    if arguments.k < 1:
        raise RecipeError(f"--k {arguments.k}: allowed: a whole number from 1")
    found = index.search(_saved(arguments), arguments.text, arguments.k)
    if arguments.json:
        print(json.dumps(found, ensure_ascii=False))
        return 0
    for row in found:
        print(f"{row['score']:.4f}  {row['id']}  {row['source']}\n        {_one_line(row['text'])}")
    return 0


def _do_explain(arguments: argparse.Namespace) -> int:
    from lightadapt_data.stages import report

    story = report.explain(_saved(arguments), arguments.row_id)
    if arguments.json:
        print(json.dumps(story, ensure_ascii=False))
        return 0
    for key, value in story.items():
        if value is not None:
            print(f"{key:<14} {_one_line(str(value), 400)}")
    return 0


def _out(arguments: argparse.Namespace) -> Path:
    """Return the run's folder: --out, else runs/<name of the recipe>.

    Raises:
        RecipeError: neither is given.
    """
    if arguments.out is not None:
        return Path(arguments.out).absolute()
    if getattr(arguments, "recipe", None) is not None:
        return Path("runs", arguments.recipe.stem).absolute()
    raise RecipeError("no folder: name the run's folder with --out DIR")


def _saved(arguments: argparse.Namespace) -> Workspace:
    """Return the workspace of a folder that holds a run.

    Raises:
        InputError: there is none.
    """
    folder = _out(arguments)
    path = folder / "work" / "recipe.json"
    if not path.exists():
        raise InputError(f"{folder}: holds no run; name the folder of one with --out DIR")
    return recipe.load(path).workspace(folder)


def _overrides(arguments: argparse.Namespace) -> Iterator[tuple[str, Any]]:
    given = vars(arguments)
    for key, _ in FLAGS.values():
        if given.get(key) is not None:
            yield key, given[key]
    if given.get("seed") is not None:
        yield "seed", given["seed"]
    for text in arguments.set:
        yield recipe.parse_override(text)


def _one_line(text: str, width: int = 160) -> str:
    flat = " ".join(text.split())
    return flat if len(flat) <= width else flat[: width - 1] + "\u2026"


def _set_up_logging(is_quiet: bool) -> None:
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(levelname).1s %(name)s: %(message)s"))
    logger = logging.getLogger("lightadapt_data")
    logger.handlers[:] = [handler]
    logger.setLevel(logging.WARNING if is_quiet else logging.INFO)
    logger.propagate = False


@contextmanager
def _progress(is_quiet: bool) -> Iterator[run.OnShard | None]:
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
            bars.update(tasks[stage], completed=n_done, rows=n_rows)

        yield on_shard


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

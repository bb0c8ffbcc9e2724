"""The command line: one verb per stage, and those that look at runs and compare.

What the verbs do is in `verbs` and `adapter_verbs`. Settings live in the stages: a flag here is a
short name for one key of a recipe.
"""

from __future__ import annotations

import argparse
import logging
import os
import shlex
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from lightadapt_data import __version__, adapter_verbs, stages, verbs
from lightadapt_data.errors import LightadaptError

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
PUBLISH_FLAGS = {
    "--repo": ("publish.repo", "data set on the Hub, as in owner/name"),
    "--adapter-repo": ("publish.adapter_repo", "model on the Hub that gets the adapter"),
    "--license": ("publish.license", "the Hub's id of the licence, as in apache-2.0"),
    "--revision": ("publish.revision", "branch (default: main)"),
    "--tag": ("publish.tag", "name of this version (default: made from its content)"),
    "--endpoint": ("publish.endpoint", "another Hub than huggingface.co; it gets your token"),
}
PUBLISH_SWITCHES = {
    "--push": ("publish.push", "send it; without this the folder is only written"),
    "--private": ("publish.private", "make a new repository private"),
    "--create-pr": ("publish.create_pr", "open a pull request instead of committing"),
    "--allow-unknown-license": ("publish.allow_unknown_license", "send without a known licence"),
}
REPEATED = ("--corpus", "--target", "--unlike", "--task")


def main(argv: Sequence[str] | None = None) -> int:
    """Run one verb and return the exit code of the process."""
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")
    os.environ.setdefault("TQDM_DISABLE", "1")  # bars of libraries; progress is shown by our own
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
    subparsers = parser.add_subparsers(metavar="VERB", required=True)
    for name in stages.STAGES:
        verb = _add(subparsers, name, stages.summary(name), verbs.do_stage)
        verb.set_defaults(stage=name)
        _add_recipe(verb, is_optional=True)
        _add_flags(verb)
        if name == "publish":
            _add_publish_flags(verb)
        _add_run_options(verb)
    verb = _add(subparsers, "run", "all stages that a recipe has a table for", verbs.do_run)
    _add_recipe(verb)
    _add_run_options(verb)
    verb = _add(
        subparsers, "check", "read a recipe whole and say whether it is right", verbs.do_check
    )
    _add_recipe(verb)
    verb = _add(subparsers, "plan", "what a run would do and what is already there", verbs.do_plan)
    _add_recipe(verb)
    _add_out(verb)
    verb = _add(
        subparsers, "search", "rows of an indexed corpus nearest to a text", verbs.do_search
    )
    verb.add_argument("text")
    verb.add_argument("--k", type=int, default=10, help="rows to print (default 10)")
    _add_out(verb)
    verb = _add(subparsers, "explain", "the whole story of one row", verbs.do_explain)
    verb.add_argument("row_id", metavar="ROW_ID")
    _add_out(verb)
    text = "from which cosine on are two rows of the corpus copies: precision and recall"
    verb = _add(subparsers, "calibrate", text, verbs.do_calibrate)
    _add_recipe(verb, is_optional=True)
    _add_flags(verb)
    verb.add_argument(
        "--pairs",
        type=int,
        default=100,
        help="English rows translated and back as copies, 0 for none (default 100)",
    )
    _add_run_options(verb)
    _add_compare(subparsers)
    _add_diff(subparsers)
    _add_compare_adapters(subparsers)
    _add_advise(subparsers)
    _add_influence(subparsers)
    _add_formats(subparsers)
    return parser


def _add_compare(subparsers: Any) -> None:
    text = "does selection pay: selectors beside random ones, at equal tokens"
    verb = _add(subparsers, "compare", text, verbs.do_compare)
    _add_recipe(verb)
    verb.add_argument(
        "--selectors",
        metavar="A,B",
        default="",
        help="selectors to judge (default: the recipe's select.method)",
    )
    verb.add_argument(
        "--draws",
        type=int,
        default=3,
        help="runs of each selector, with other draws and training seeds (default 3)",
    )
    verb.add_argument(
        "--pools",
        metavar="1,5,25",
        default="",
        help="compare at growing piles too; the last one is the whole corpus",
    )
    _add_run_options(verb)


def _add_diff(subparsers: Any) -> None:
    text = "rows in, out and re-ranked between two runs, and what caused it"
    verb = _add(subparsers, "diff", text, verbs.do_diff)
    verb.add_argument("run_a", metavar="RUN_A", type=Path, help="folder of a run")
    verb.add_argument("run_b", metavar="RUN_B", type=Path, help="folder of another run")
    verb.add_argument(
        "--rows", type=int, default=20, help="example rows of each kind to print (default 20)"
    )


def _add_compare_adapters(subparsers: Any) -> None:
    text = "which adapter method pays: quality beside cost, with full fine-tuning as the yardstick"
    verb = _add(subparsers, "compare-adapters", text, adapter_verbs.do_compare_adapters)
    _add_recipe(verb)
    verb.add_argument(
        "--methods",
        metavar="A,B",
        default="",
        help="adapters to judge (default: the recipe's train.adapter)",
    )
    verb.add_argument(
        "--rates", type=int, default=1, help="learning rates per method, odd (default 1: its own)"
    )
    verb.add_argument("--seeds", type=int, default=3, help="adapters per method (default 3)")
    _add_run_options(verb)


def _add_influence(subparsers: Any) -> None:
    text = "which training rows helped a run's adapter; needs train.keep_states = true"
    verb = _add(subparsers, "influence", text, adapter_verbs.do_influence)
    verb.add_argument(
        "--adapters",
        choices=("best", "all"),
        default="best",
        help="explain the delivered adapter, or the mean over all seeds (default best)",
    )
    verb.add_argument(
        "--check", action="store_true", help="train again to see whether the scores hold"
    )
    _add_out(verb)


def _add_formats(subparsers: Any) -> None:
    for name, text, do in (
        ("merge", "the base model with an adapter merged into its weights", adapter_verbs.do_merge),
        (
            "export-adapter",
            "a bottleneck adapter for AdapterHub's library",
            adapter_verbs.do_export,
        ),
    ):
        verb = _add(subparsers, name, text, do)
        verb.add_argument("folder", metavar="ADAPTER", type=Path, help="adapter/ of a run")
        verb.add_argument("--to", metavar="DIR", type=Path, required=True, help="where to write")
        verb.add_argument("--base-model", help="where the base model is, if it has moved")


def _add_advise(subparsers: Any) -> None:
    text = "which adapter method suits the rows and the model, and why"
    verb = _add(subparsers, "advise", text, adapter_verbs.do_advise)
    _add_recipe(verb)
    verb.add_argument(
        "--pilot", action="store_true", help="train the two best for a trial and let dev decide"
    )
    _add_run_options(verb)


def _add(
    subparsers: Any, name: str, text: str, do: Callable[[argparse.Namespace], int]
) -> argparse.ArgumentParser:
    verb: argparse.ArgumentParser = subparsers.add_parser(name, help=text, description=text)
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


def _add_publish_flags(verb: argparse.ArgumentParser) -> None:
    for flag, (key, text) in PUBLISH_FLAGS.items():
        verb.add_argument(flag, dest=key, help=f"{text} ({key})")
    for flag, (key, text) in PUBLISH_SWITCHES.items():
        verb.add_argument(flag, action="store_const", const=True, dest=key, help=f"{text} ({key})")


def _set_up_logging(is_quiet: bool) -> None:
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(levelname).1s %(name)s: %(message)s"))
    logger = logging.getLogger("lightadapt_data")
    logger.handlers[:] = [handler]
    logger.setLevel(logging.WARNING if is_quiet else logging.INFO)
    logger.propagate = False

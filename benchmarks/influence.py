"""How well influence finds planted wrong labels: AUC of each score, beside loss and chance.

Training rows of a task get 10 % wrong labels, a bottleneck adapter is trained on them, and every
score has to find them. `agreement` is what `influence` ranks by, `loss` the yardstick that costs no
gradients. The rule was chosen on SST-2 and on the domains of the pool; AG News only measures it.

Run: python benchmarks/influence.py [--data ../shared/data] [--task ag_news] [--seeds 0 1 2]
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import time
from pathlib import Path
from typing import Any

import numpy as np

from lightadapt_data.arms import ArmRows, Curated
from lightadapt_data.influence_check import Checked, check_planted
from lightadapt_data.influence_scores import GradientSettings
from lightadapt_data.stages.train import Settings

BAR = 0.90
"""AUC of `agreement` on AG News."""


def main() -> None:
    """Print one line per score: mean, spread and values over the seeds."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--task", default="ag_news", help="a folder of tasks/, or pool")
    parser.add_argument("--rows", type=int, default=1000, help="training rows")
    parser.add_argument("--validation-rows", type=int, default=250)
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--evaluations", type=int, default=2, help="states that are kept")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--without-head", action="store_true")
    arguments = parser.parse_args()
    curated = _curated(arguments)
    settings = Settings(
        steps=arguments.steps, evaluations=arguments.evaluations, keep_states=True, seeds=1
    )
    options = GradientSettings(
        validation_rows=arguments.validation_rows, include_head=not arguments.without_head
    )
    what = Checked(settings, curated, ArmRows(curated.train, 0, 0, 0), options)
    print(f"{platform.machine()}, {os.cpu_count()} cores; {len(curated.train):,} training rows")
    started = time.perf_counter()
    found = check_planted(what, arguments.seeds)
    seconds = (time.perf_counter() - started) / len(arguments.seeds)
    print(json.dumps({**vars(arguments), "data": str(arguments.data), **found}))
    print(f"{'AUC of wrong labels':<22}{'mean':>8}{'sd':>8}  by seed")
    for name, spread in sorted(found["auc"].items(), key=lambda item: -item[1]["mean"]):
        sd = "" if spread["sd"] is None else f"{spread['sd']:.3f}"
        values = " ".join(f"{value:.3f}" for value in spread["values"])
        print(f"{name:<22}{spread['mean']:>8.3f}{sd:>8}  {values}")
    reached = found["auc"]["agreement"]["mean"]
    bar = f"bar {BAR}: {'reached' if reached >= BAR else 'MISSED'}; "
    print(f"{bar if arguments.task == 'ag_news' else ''}{seconds:.0f} s per seed")


def _curated(arguments: argparse.Namespace) -> Curated:
    """Return training and validation rows of a task that gives one label to a text."""
    if arguments.task == "pool":
        train, validation = _pool(arguments)
    else:
        folder = arguments.data / "tasks" / arguments.task
        train, validation = (_lines(folder / f"{name}.jsonl") for name in ("train", "dev"))
    draw = np.random.default_rng(0)
    chosen = [train[place] for place in draw.permutation(len(train))[: arguments.rows]]
    rows = [_row(row, "train", number) for number, row in enumerate(chosen)]
    labels = sorted({str(row["label"]) for row in rows})
    held_out = [_row(row, "validation", number) for number, row in enumerate(validation)]
    held_out = [row for row in held_out if row["label"] in labels][: arguments.validation_rows]
    return Curated(rows, held_out, held_out, [], labels, {})


def _pool(arguments: argparse.Namespace) -> tuple[list[Any], list[Any]]:
    """Return texts of the pool with their domain as the label."""
    import pyarrow.parquet as pq

    paths = sorted((arguments.data / "pool").glob("*.parquet"))
    rows = [row for path in paths for row in pq.read_table(path).to_pylist()]
    rows = [row for row in rows if not row["source"].endswith(("-copy", "-edited"))]
    order = np.random.default_rng(1).permutation(len(rows))
    texts = [{"text": rows[place]["text"], "label": rows[place]["domain"]} for place in order]
    return texts[arguments.validation_rows :], texts[: arguments.validation_rows]


def _lines(path: Path) -> list[Any]:
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


def _row(raw: dict[str, Any], split: str, number: int) -> dict[str, Any]:
    return {
        "id": f"{split}-{number}",
        "text": raw["text"],
        "label": str(raw["label"]),
        "origin": "seed",
        "split": split,
        "n_tokens": len(raw["text"].split()),
    }


if __name__ == "__main__":
    main()

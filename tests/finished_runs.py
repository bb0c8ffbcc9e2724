"""Two finished runs without a model: one that only selects, one with every stage.

They are made once; a test that changes a run works on a copy.
"""

import json
import shutil
from pathlib import Path

import pytest

from lightadapt_data import recipe, run, shards

EVIL = "</script><img src=x onerror=alert(1)> <!-- cost --> \u2028 'a' \"b\" & {{ 7*7 }} mean"
EVIL_ID = 'e"<b>'
HOME = "/home/someone/secret"
SELECT = ("ingest", "embed", "select", "report", "publish")
FULL = ("ingest", "embed", "select", "augment", "curate", "train", "report", "publish")

_WORDS = ("mean", "variance", "socket", "thread", "matrix", "file", "parse", "plot", "queue")


def _text(number):
    words = [_WORDS[(number * step + step) % len(_WORDS)] for step in (1, 3, 7)]
    return f"the {words[0]} of row {number} and its {words[1]} or {words[2]}"


def _jsonl(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    return str(path)


def _inputs(folder):
    corpus = [{"id": f"c{n}", "text": _text(n), "source": f"s{n % 3}"} for n in range(60)]
    corpus.append({"id": EVIL_ID, "text": EVIL, "source": "<i>*evil*</i>"})
    corpus.append({"id": "copy", "text": "how to take the mean of a sample", "source": "s0"})
    corpus.append({"id": "empty", "text": ""})
    path = folder / "corpus.jsonl"
    _jsonl(path, corpus)
    with path.open("a", encoding="utf-8") as file:
        file.write("no json <script>alert(2)</script>\n")
    (folder / "target.txt").write_text("the mean of a sample & <more>\nits variance\n", "utf-8")
    task = [{"text": "how to take the mean of a sample", "label": "<b>statistics</b>"}]
    for split, n_rows in (("train", 12), ("validation", 4), ("test", 4)):
        more = task if split == "train" else []
        rows = [
            {"text": f"{split} {_text(100 * n + 7)}", "label": ("<b>statistics</b>", "code")[n % 2]}
            for n in range(n_rows)
        ]
        _jsonl(folder / f"{split}.jsonl", more + rows)
    return [
        ("ingest.corpus", [str(path)]),
        ("ingest.target", [str(folder / "target.txt")]),
        ("ingest.task", [str(folder / f"{s}.jsonl") for s in ("train", "validation", "test")]),
        ("embed.method", "hashing"),
        ("select.method", "nearest"),
        ("select.keep", "30"),
        ("report.samples", 6),
    ]


def _write_training(space):
    """Put the results of a training that never took place."""

    def summary(values):
        found = {"mean": sum(values) / 2, "sd": 0.01, "values": values}
        scores = dict.fromkeys(("loss", "accuracy", "macro_f1"), found)
        counts = {"n_rows": 12, "n_tokens": 99, "n_added": 3, "tokens_added": 33}
        return {"test": scores, "validation": scores, **counts}

    values = {"seed": [0.50, 0.52], "adapted": [0.61, 0.63], "balanced_random": [0.55, 0.50]}
    runs = [
        {
            "arm": arm,
            "seed": seed,
            "dev_curve": [{"step": 5 * i, "accuracy": 0.1 * i, "loss": 1.0} for i in (1, 2, 3)],
        }
        for arm in values
        for seed in (0, 1)
    ]
    results = {
        "headline": "The adapted model reaches accuracy 0.620 on 4 test rows (mean of 2 seeds).",
        "metric": "accuracy",
        "majority_accuracy": 0.5,
        "n_test": 4,
        "steps": 15,
        "batch_rows": 8,
        "adapter": "adapted-1",
        "arms": {arm: summary(found) for arm, found in values.items()},
        "runs": runs,
    }

    def make(out):
        (out / "adapter").mkdir()
        config = {"base_model_name_or_path": f"{HOME}/tiny-model"}
        (out / "adapter" / "adapter_config.json").write_text(json.dumps(config))
        (out / "adapter" / "adapter_model.safetensors").write_bytes(b"weights")
        (out / "results.json").write_text(json.dumps(results))
        (out / "labels.json").write_text(json.dumps({"base_model": f"{HOME}/tiny-model"}))
        return {"rows_in": 12, "rows_out": 12}

    folder = space.folder / "work" / "train"
    shards.put_in_place(folder / "k", make)
    manifest = {
        "stage": "train",
        "version": 1,
        "settings": {"base_model": f"{HOME}/tiny-model"},
        "shards": [],
        "result": {"name": "result", "key": "k", "args": {}},
        "digest": "d",
    }
    (folder / "manifest.json").write_text(json.dumps(manifest))


def _made(folder, wanted, more):
    inputs = folder / "someone"
    inputs.mkdir()
    overrides = [*_inputs(inputs), *more]
    what = recipe.load(None, overrides, wanted)
    space = what.workspace(folder / "run")
    (space.folder / "work").mkdir(parents=True)
    shards.write_text(space.folder / "work" / "recipe.json", recipe.saved_text(what))
    for stage in what.settings:
        if stage == "train":
            _write_training(space)
        else:
            run.run_stage(space, stage)
    return space


@pytest.fixture(scope="session")
def select_run(tmp_path_factory):
    """The workspace of a run that selects, reports and publishes."""
    return _made(tmp_path_factory.mktemp("select"), SELECT, [])


@pytest.fixture(scope="session")
def full_run(tmp_path_factory):
    """The workspace of a run with every stage but index; the training is made up."""
    more = [
        ("augment.methods", ["char_noise", "pseudo_label"]),
        ("augment.gates", ["changed", "length"]),
        ("train.base_model", f"{HOME}/tiny-model"),
        ("publish.license", "apache-2.0"),
        ("publish.repo", "me/tiny_set"),
        ("publish.title", "Rows | of <b>mine</b>"),
    ]
    return _made(tmp_path_factory.mktemp("full"), FULL, more)


@pytest.fixture
def copy_of(tmp_path):
    """Return the same run in a folder of its own."""

    def copied(space):
        folder = shutil.copytree(space.folder, tmp_path / "copy")
        return type(space)(Path(folder), space.seed, space.settings)

    return copied

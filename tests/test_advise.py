"""Advice: what the rules say for kinds of rows and models, and that a reason stands beside it."""

import json
from dataclasses import replace

import pytest

from lightadapt_data import advise, cli, model_files
from lightadapt_data.errors import InputError
from lightadapt_data.methods import settings

BERT = {"model_type": "bert", "num_hidden_layers": 6, "hidden_size": 384}
FACTS = advise.Facts(
    task="text_classification",
    n_rows=200,
    least_per_label=90,
    n_parameters=22_000_000,
    memory_bytes=16 * 10**9,
    has_gpu=True,
    config=BERT,
)


def best(**changes):
    return advise.advise(replace(FACTS, **changes))[0]


@pytest.mark.parametrize(
    ("changes", "method", "said"),
    [
        ({}, "bottleneck", "when rows are few"),
        ({"n_rows": 20_000}, "bottleneck", "within a point of full tuning"),
        ({"n_rows": 500_000}, "full", "enough for all parameters"),
        ({"n_rows": 20_000, "task": "translation"}, "lora", "within a point of full tuning"),
        ({"n_rows": 3_000_000, "memory_bytes": 200_000_000}, "lora", "low-rank changes run out"),
        ({"task": "token_classification"}, "bottleneck", "marking parts of a text"),
        ({"has_gpu": False}, "bottleneck", "on a processor"),
        (
            {"config": {"model_type": "llama", "architectures": ["LlamaForCausalLM"]}},
            "lora",
            "can be merged",
        ),
        ({"n_parameters": 7 * 10**9, "memory_bytes": 80 * 10**9}, "bottleneck", "rows are few"),
        ({"least_per_label": 16}, "bottleneck", "task = 'cloze'"),
    ],
)
def test_the_rules_say_what_to_take_and_why(changes, method, said):
    found = best(**changes)
    assert found.method == method
    assert any(said in reason for reason in found.reasons)


def test_every_method_that_fits_is_ranked_with_settings_that_are_right():
    found = advise.advise(FACTS)
    assert {advice.method for advice in found} == set(advise.CANDIDATES)
    assert [advice.points for advice in found] == sorted(
        (advice.points for advice in found), reverse=True
    )
    for advice in found:
        settings("adapters", advice.method, advice.options)


def test_a_family_that_a_method_cannot_serve_is_not_recommended():
    found = advise.advise(replace(FACTS, config=BERT | {"model_type": "never-heard-of"}))
    assert {advice.method for advice in found} <= {"full", "head_only"}


def test_a_model_that_fits_nowhere_is_refused_with_the_sizes():
    with pytest.raises(InputError, match=r"bottleneck: needs about 0.1 GB of memory, and 0.0 GB"):
        best(memory_bytes=10**6)


def test_parameters_are_counted_in_the_weight_files(tmp_path):
    import torch
    from safetensors.torch import save_file

    save_file({"a": torch.zeros(3, 5), "b": torch.zeros(7)}, tmp_path / "model.safetensors")
    assert model_files.n_parameters(tmp_path) == 22
    (tmp_path / "model.safetensors").rename(tmp_path / "x")
    (tmp_path / "pytorch_model.bin").write_bytes(b"x" * 4000)
    assert model_files.n_parameters(tmp_path) == 1000


RECIPE = """
[ingest]
task = ["rows.jsonl"]

[curate]
filters = []

[train]
adapter = "auto"
steps = 2
seeds = 1
"""


@pytest.fixture
def written(tmp_path):
    rows = [
        {"text": f"{word} {i} things", "label": word, "split": split}
        for split, words in (
            ("train", ["red", "blue"] * 4),
            ("validation", ["red", "blue"] * 2),
            ("test", ["red", "blue"] * 2),
        )
        for i, word in enumerate([f"{w}" for w in words])
    ]
    rows = [{**row, "text": f"{row['split']} {row['text']}"} for row in rows]
    (tmp_path / "rows.jsonl").write_text("\n".join(json.dumps(row) for row in rows))
    path = tmp_path / "auto.toml"
    path.write_text(RECIPE)
    return path


def test_the_verb_prints_methods_reasons_and_a_pilot(written, tmp_path, capsys):
    words = ["advise", str(written), "--pilot", "--out", str(tmp_path / "run"), "-q"]
    assert cli.main([*words, "--workers", "1"]) == 0
    printed = capsys.readouterr().out
    assert printed.startswith("1. bottleneck")
    assert "Pilot: take " in printed
    assert cli.main([*words, "--workers", "1", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["advice"][0]["method"] == "bottleneck"
    assert {entry["method"] for entry in found["pilot"]["methods"]} == {"bottleneck", "lora"}


def test_auto_trains_what_is_advised_and_notes_it(written, tmp_path):
    assert cli.main(["run", str(written), "--out", str(tmp_path / "run"), "-q"]) == 0
    how = json.loads((tmp_path / "run" / "adapter" / "labels.json").read_text())
    assert how["adapter"] == "bottleneck"

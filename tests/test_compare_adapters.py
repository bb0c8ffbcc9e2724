"""compare-adapters: the grid, the choice on validation, what is said of it."""

import json

import pytest
import torch
import transformers
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from torch import nn

from lightadapt_data import cli, compare_adapters, recipe
from lightadapt_data.errors import RecipeError

WORDS = ["[PAD]", "[CLS]", "[SEP]", "[UNK]", "good", "bad", *"abcdefghijklmnopqrst"]


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    folder = tmp_path_factory.mktemp("base")
    torch.manual_seed(0)
    config = transformers.BertConfig(
        vocab_size=len(WORDS),
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=24,
    )
    model = transformers.BertModel(config)
    for parameter in model.parameters():
        if parameter.ndim > 1:
            nn.init.normal_(parameter, std=0.3)
    model.save_pretrained(folder)
    core = Tokenizer(models.WordLevel({word: i for i, word in enumerate(WORDS)}, "[UNK]"))
    core.pre_tokenizer = pre_tokenizers.Whitespace()
    core.post_processor = processors.BertProcessing(("[SEP]", 2), ("[CLS]", 1))
    transformers.PreTrainedTokenizerFast(
        tokenizer_object=core, pad_token="[PAD]", model_max_length=24
    ).save_pretrained(folder)
    return folder


@pytest.fixture
def written(base, tmp_path):
    """Return the path of a recipe that trains on rows of two words."""
    letters = "abcdefghijklmnopqrst"
    for split, shift in (("train", 0), ("validation", 5), ("test", 11)):
        rows = [
            {"text": f"{word} {letters[(i + shift) % 20]} {letters[i]}", "label": word}
            for i in range(12)
            for word in ("good", "bad")
        ]
        path = tmp_path / f"{split}.jsonl"
        path.write_text("\n".join(json.dumps(row) for row in rows))
    path = tmp_path / "few.toml"
    path.write_text(
        f"""
[ingest]
task = ["train.jsonl", "validation.jsonl", "test.jsonl"]

[curate]
filters = ["exact_duplicate"]

[train]
base_model = "{base}"
steps = 6
batch_rows = 8
seeds = 1

[train.text_classification]
pooling = "mean"
"""
    )
    return path


def test_all_methods_are_trained_and_measured_once(written, tmp_path, capsys):
    words = ["compare-adapters", str(written), "--methods", "bottleneck,prefix", "--seeds", "2"]
    words += ["--rates", "3", "--out", str(tmp_path / "run"), "--workers", "1", "-q"]
    assert cli.main([*words, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    saved = json.loads((tmp_path / "run/compare-adapters/results.json").read_text())
    assert found == saved
    by_name = {entry["method"]: entry for entry in found["methods"]}
    assert set(by_name) == {"bottleneck", "prefix", "full", "head_only"}
    assert found["arm"] == "seed"
    assert (found["metric"], found["goal"], found["n_test"]) == ("accuracy", "max", 24)
    for entry in by_name.values():
        assert len(entry["rates"]) == 3
        assert entry["validation"]["mean"] == max(entry["rates"].values())
        assert len(entry["test"]["values"]) == 2
        assert entry["train_seconds"] > 0
    assert by_name["head_only"]["trainable"] < by_name["bottleneck"]["trainable"]
    assert by_name["full"]["trainable"] > 0.9 * by_name["full"]["parameters"]
    means = [entry["test"]["mean"] for entry in found["methods"]]
    assert means == sorted(means, reverse=True)
    assert any(entry["is_pareto"] for entry in found["methods"])
    keys = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("adapter_model.safetensors")}
    assert cli.main(words) == 0  # again: everything is there
    assert "nothing is better in quality, time and size" in capsys.readouterr().out
    assert keys == {path: path.stat().st_mtime_ns for path in keys}


def test_a_method_that_cannot_be_used_is_left_out_with_the_reason(written, tmp_path, capsys):
    text = written.read_text() + "\n[train.bottleneck]\nskip_layers = 5\n"
    written.write_text(text)
    words = ["compare-adapters", str(written), "--seeds", "2", "--out", str(tmp_path / "run")]
    assert cli.main([*words, "-q", "--workers", "1"]) == 0
    assert "bottleneck was left out: bottleneck.skip_layers = 5" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("names", "rates", "seeds", "message"),
    [
        ("bottelneck", 1, 2, "no method 'bottelneck' in adapters.*did you mean 'bottleneck'"),
        ("", 2, 2, "--rates 2: allowed: an odd whole number"),
        ("", 1, 1, "--seeds 1: allowed: a whole number from 2"),
    ],
)
def test_wrong_questions_are_refused(written, names, rates, seeds, message):
    with pytest.raises(RecipeError, match=message):
        compare_adapters.question(recipe.load(written), names, rates, seeds)


def test_a_recipe_without_training_is_refused(tmp_path):
    path = tmp_path / "none.toml"
    path.write_text("[ingest]\n")
    with pytest.raises(RecipeError, match=r"trains nothing; add a \[train\] table"):
        compare_adapters.question(recipe.load(path), "", 1, 2)


def entry(method, values, seconds=10.0, trainable=10, size=100):
    return {
        "method": method,
        "test": {"mean": sum(values) / len(values), "values": values},
        "trainable": trainable,
        "parameters": 1000,
        "train_seconds": seconds,
        "bytes_on_disk": size,
    }


def test_the_sentence_names_ties_and_both_yardsticks():
    found = [
        entry("full", [0.9, 0.91], 40.0, 1000),
        entry("lora", [0.86, 0.88]),
        entry("prefix", [0.85, 0.87]),
        entry("head_only", [0.6, 0.61], 5.0),
    ]
    text = compare_adapters.sentence(found, "accuracy", 1)
    assert text == (
        "lora is the best adapter, with accuracy 0.870 ± 0.014 on test and 1.0% of the parameters "
        "trained. Within the spread of it: prefix. Against full fine-tuning (0.905) it is worse by "
        "0.035, at 25% of its training time. Against the head alone (0.605) it is better by 0.265, "
        "at 200% of its training time."
    )


def test_where_lower_is_better_the_gap_turns_round():
    found = [entry("lora", [3.0, 3.1]), entry("full", [4.0, 4.1])]
    assert "it is better by 1.000" in compare_adapters.sentence(found, "perplexity", -1)

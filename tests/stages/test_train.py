import json
import re

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
import transformers
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from torch import nn

from lightadapt_data import comparison, predicting, recipe, shards
from lightadapt_data.arms import ARMS, Curated, read_curated, rows_of_arms
from lightadapt_data.errors import InputError, RecipeError
from lightadapt_data.run import prepare, run_stage
from lightadapt_data.shards import Workspace
from lightadapt_data.stages import ingest
from lightadapt_data.stages import train as stage
from lightadapt_data.tasks import text_classification
from lightadapt_data.trained import label_texts, load_trained

WORDS = ["[PAD]", "[CLS]", "[SEP]", "[UNK]", "good", "bad", "film", "plot", "a", "the"]
LABELS = {"good": "positive", "bad": "negative"}
TEXTS = {"train": "a {} film", "validation": "the {} film", "test": "a {} plot"}
QUICK = {"steps": 4, "batch_rows": 4, "seeds": 2, "evaluations": 2}


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


def rows(split, origin, n, words=("good", "bad"), tokens=3, label="from text"):
    found = []
    for number in range(n):
        word = words[number % len(words)]
        name = f"{split}-{origin}-{number}"
        found.append(
            {
                "id": name,
                "text": TEXTS[split].format(word),
                "label": LABELS[word] if label == "from text" else label,
                "origin": origin,
                "n_tokens": tokens,
                "split": split,
            }
        )
    return found


def curated_rows():
    return {
        "train": [*rows("train", "seed", 6), *rows("train", "selected", 4)],
        "validation": rows("validation", "seed", 4),
        "test": rows("test", "seed", 5),
        "baseline": rows("train", "baseline", 9, tokens=5),
    }


SCHEMA = pa.schema(
    [
        *((name, pa.string()) for name in ("id", "text", "label", "origin", "split", "parent_id")),
        ("n_tokens", pa.int32()),
    ]
)


def put_curated(folder, parts):
    """Write what the curate stage leaves, as if it had just run."""

    def make(out):
        (out / "data").mkdir()
        for name, members in parts.items():
            table = pa.Table.from_pylist(members, SCHEMA)
            file = "baseline.parquet" if name == "baseline" else f"data/{name}-{'0' * 12}.parquet"
            if members:
                pq.write_table(table, out / file)
        return {}

    key = shards.digest_of(parts)
    stage_folder = folder / "work" / "curate"
    shards.put_in_place(stage_folder / key, make)
    manifest = {
        "shards": [],
        "result": {"name": "result", "key": key, "args": {}},
        "digest": key,
    }
    (stage_folder / "manifest.json").write_text(json.dumps(manifest))


def workspace(folder, base, parts=None, seed=0, **settings):
    put_curated(folder, parts or curated_rows())
    made = stage.Settings(**{**QUICK, "base_model": str(base), **settings})
    return Workspace(folder, seed, {"train": made})


def run(space):
    report = run_stage(space, "train")
    done = space.result("train")
    return report, json.loads(done.file("results.json").read_text())


def test_trains_all_arms_and_says_which_wins(base, tmp_path):
    space = workspace(tmp_path, base)
    report, results = run(space)
    assert [done.name for done in space.shards("train")] == [
        f"{a}-{n}" for a in ARMS for n in (0, 1)
    ]
    assert list(results["arms"]) == list(ARMS)
    arms = results["arms"]
    assert [arms[arm]["n_rows"] for arm in ARMS] == [6, 10, 8]
    assert [arms[arm]["tokens_added"] for arm in ARMS] == [0, 12, 10]
    assert [arms[arm]["tokens_short"] for arm in ARMS] == [0, 0, 2]
    accuracy = arms["adapted"]["test"]["accuracy"]
    assert accuracy["mean"] == pytest.approx(sum(accuracy["values"]) / 2)
    assert results["headline"].startswith(
        f"The adapted model reaches accuracy {accuracy['mean']:.3f}"
    )
    assert results["majority_accuracy"] == pytest.approx(3 / 5)
    assert report.n_shards == 7
    assert (report.rows_in, report.rows_out) == (10, 10)
    assert all(len(entry["loss_curve"]) == 4 for entry in results["runs"])


def test_best_adapted_adapter_is_delivered_and_labels_texts(base, tmp_path):
    space = workspace(tmp_path, base, steps=30, seeds=1, arms=("adapted",))
    space.settings["train"].options["bottleneck"] = {"learning_rate": 0.05}
    space.settings["train"].options["text_classification"] = {"pooling": "mean"}
    _, results = run(space)
    assert results["adapter"] == "adapted-0"
    names = ["adapter_config.json", "adapter_model.safetensors", "labels.json", "results.json"]
    assert sorted(path.name for path in (tmp_path / "adapter").iterdir()) == names
    trained = load_trained(tmp_path / "adapter")
    assert label_texts(trained, ["a good film", "a bad film"]) == ["positive", "negative"]
    assert label_texts(trained, []) == []
    curated = read_curated(space, text_classification)
    examples = text_classification.examples(
        curated.test, trained.labels, trained.tokenizer, trained.options
    )
    logits = predicting.predict(trained.model, examples, trained.task, trained.tokenizer)
    expected = results["runs"][0]["test"]
    assert text_classification.metrics(logits, examples) == pytest.approx(expected, abs=1e-5)


def test_two_runs_are_equal_to_the_byte(base, tmp_path):
    digests = []
    for name in ("one", "two"):
        space = workspace(tmp_path / name, base, seeds=1, arms=("adapted", "balanced_random"))
        run(space)
        digests.append([done.files for done in [*space.shards("train"), space.result("train")]])
    assert digests[0] == digests[1]


def test_second_run_does_nothing_and_another_arm_list_trains_nothing_anew(base, tmp_path):
    run(workspace(tmp_path, base))
    report, _ = run(workspace(tmp_path, base))
    assert report.is_hit
    report, results = run(workspace(tmp_path, base, arms=("seed", "adapted"), seeds=1))
    assert list(results["arms"]) == ["seed", "adapted"]
    assert report.n_shards - report.n_reused == 1  # the comparison itself


def test_another_selection_leaves_the_seed_arm_alone(base, tmp_path):
    run(workspace(tmp_path, base, seeds=1))
    parts = curated_rows()
    parts["train"][-1]["text"] = "the good plot"
    todo = prepare(workspace(tmp_path, base, parts, seeds=1), "train").todo
    assert {shard.args["arm"] for shard in todo} == {"adapted"}


def test_seed_of_the_run_changes_the_adapters(base, tmp_path):
    one, two = (
        {s.name: dict(s.reads) for s in stage.shards(space.settings["train"], space)}
        for space in (workspace(tmp_path, base), workspace(tmp_path, base, seed=7))
    )
    assert one["seed-0"] != two["seed-0"]
    assert one["seed-0"] != one["seed-1"]


def test_rows_without_a_label_are_left_out_and_counted(base, tmp_path):
    parts = curated_rows()
    parts["train"] += rows("train", "augmented", 3, label=None)
    parts["baseline"] = rows("train", "baseline", 2, label=None) + parts["baseline"]
    space = workspace(tmp_path, base, parts, seeds=1, arms=("adapted",))
    report, results = run(space)
    assert results["n_unlabelled"] == {"train": 3, "validation": 0, "test": 0, "baseline": 2}
    assert report.counts["unlabelled"] == 5
    assert results["arms"]["adapted"]["n_rows"] == 10


@pytest.mark.parametrize(
    ("drop", "arms"),
    [
        ("baseline", ["seed", "adapted"]),
        ("selected", ["seed"]),
        ("seed", ["adapted", "balanced_random"]),
    ],
)
def test_arm_without_rows_is_left_out(base, tmp_path, drop, arms):
    parts = curated_rows()
    parts["train"] = [row for row in parts["train"] if row["origin"] != drop]
    parts["baseline"] = [] if drop == "baseline" else parts["baseline"]
    space = workspace(tmp_path, base, parts)
    found = stage.shards(space.settings["train"], space)
    assert list(dict.fromkeys(shard.args["arm"] for shard in found)) == arms


def arms_with(baseline_tokens, added_tokens):
    seed, added = rows("train", "seed", 2), rows("train", "selected", 1, tokens=added_tokens)
    baseline = [
        {**row, "n_tokens": n, "id": f"b{i}"}
        for i, (row, n) in enumerate(
            zip(rows("train", "baseline", len(baseline_tokens)), baseline_tokens, strict=True)
        )
    ]
    curated = Curated([*seed, *added], [], [], baseline, ["negative", "positive"], {})
    return rows_of_arms(curated, ARMS)


@pytest.mark.parametrize(
    ("baseline", "budget", "taken", "short"),
    [
        ([3, 3, 3], 6, ["b0", "b1"], 0),
        ([3, 3, 3], 7, ["b0", "b1"], 1),
        ([3, 9, 4, 1], 8, ["b0", "b2", "b3"], 0),
        ([2], 50, ["b0"], 48),
    ],
)
def test_random_rows_are_taken_in_order_up_to_the_added_tokens(baseline, budget, taken, short):
    arm = arms_with(baseline, budget)["balanced_random"]
    assert [row["id"] for row in arm.rows[2:]] == taken
    assert (arm.n_added, arm.tokens_short) == (len(taken), short)
    assert arm.tokens_added + arm.tokens_short == budget


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda p: p.update(test=[]), "no test rows with a label; allowed: 1 or more"),
        (lambda p: p.update(validation=[]), "no validation rows with a label"),
        (
            lambda p: p.update(train=rows("train", "seed", 3, ["good"])),
            r"3 training rows .* with 1 label\(s\) \(positive\); allowed: 2 or more",
        ),
        (lambda p: p.update(train=[]), r"0 training rows .* 0 label\(s\) \(none\)"),
        (
            lambda p: p["train"].append({**p["test"][3], "split": "train"}),
            "row 'test-seed-3' is the test row 'test-seed-3', or made from it",
        ),
        (
            lambda p: p["train"].append(
                {**p["train"][0], "text": "new", "parent_id": "validation-seed-1"}
            ),
            "is the validation row 'validation-seed-1', or made from it",
        ),
        (
            lambda p: p["test"].append({**p["test"][0], "id": "x", "label": "mixed"}),
            "label 'mixed' is in test but in no training row; allowed: negative, positive",
        ),
    ],
)
def test_rows_that_cannot_be_trained_on_are_refused_before_training(
    base, tmp_path, change, message
):
    parts = curated_rows()
    change(parts)
    space = workspace(tmp_path, base, parts)
    with pytest.raises(InputError, match=message):
        stage.shards(space.settings["train"], space)


def test_arms_that_have_no_rows_are_refused(base, tmp_path):
    parts = curated_rows()
    parts["train"] = rows("train", "seed", 4)
    space = workspace(tmp_path, base, parts, arms=("adapted",))
    with pytest.raises(
        InputError, match=r"4 seed and 0 added training rows .* nothing to train on"
    ):
        stage.shards(space.settings["train"], space)


def test_states_are_kept_when_asked_and_costs_stand_beside_the_shards(base, tmp_path):
    space = workspace(tmp_path, base, seeds=1, arms=("seed",), keep_states=True)
    run(space)
    folder = space.shards("train")[0].folder / "states"
    assert sorted(path.name for path in folder.iterdir()) == [
        "adam.safetensors",
        "step-2.safetensors",
        "step-4.safetensors",
    ]
    (path,) = (tmp_path / "work" / "costs").iterdir()
    found = json.loads(path.read_text())
    assert (found["arm"], found["adapter"]) == ("seed", "bottleneck")
    assert found["train_rows_per_second"] > 0
    assert found["peak_memory_bytes"] > 2**20
    assert found["inference_overhead"] > -1
    assert not list((tmp_path / "work" / "checkpoints").iterdir())


def test_rows_read_for_another_task_are_refused(base, tmp_path):
    space = workspace(tmp_path, base)
    space.settings["ingest"] = ingest.Settings(kind="question_answering")
    with pytest.raises(InputError, match='write task = "text_classification" once'):
        stage.check(space.settings["train"], space)


def test_missing_curated_rows_are_refused(base, tmp_path):
    space = Workspace(tmp_path, 0, {"train": stage.Settings(base_model=str(base))})
    with pytest.raises(InputError, match="no curated data set to train on; run curate first"):
        stage.shards(space.settings["train"], space)


def test_check_accepts_the_default_model_and_refuses_others_early(base, tmp_path):
    stage.check(stage.Settings(), Workspace(tmp_path, 0, {}))
    with pytest.raises(InputError, match="no-such-model"):
        stage.check(stage.Settings(base_model="no-such-model"), Workspace(tmp_path, 0, {}))
    (tmp_path / "config.json").write_text('{"model_type": "xlnet"}')
    settings = stage.Settings(base_model=str(tmp_path))
    with pytest.raises(InputError, match="no insertion points for model_type 'xlnet'"):
        stage.check(settings, Workspace(tmp_path, 0, {}))
    stage.check(settings.model_copy(update={"adapter": "head_only"}), Workspace(tmp_path, 0, {}))
    (tmp_path / "config.json").unlink()
    (tmp_path / "modules.json").write_text("[]")
    with pytest.raises(InputError, match=r"holds no config.json; give the folder"):
        stage.check(settings, Workspace(tmp_path, 0, {}))


def test_recipe_takes_options_of_task_and_adapter(tmp_path):
    path = tmp_path / "one.toml"
    path.write_text(
        "[train.bottleneck]\nvariant = 'houlsby'\n[train.text_classification]\nmax_tokens = 64\n"
    )
    settings = recipe.load(path).settings["train"]
    assert recipe.method_options(settings, "adapters", "bottleneck").variant == "houlsby"
    assert recipe.resolved(stage, settings)["task.text_classification"]["max_tokens"] == 64
    path.write_text("[train]\narms = ['seeds']\n")
    with pytest.raises(RecipeError, match="arms"):
        recipe.load(path)


def test_adapter_folder_without_labels_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"holds no labels.json; allowed: the folder adapter/"):
        load_trained(tmp_path)


@pytest.mark.parametrize(
    ("values", "said"),
    [
        (
            {"seed": [0.60, 0.62], "adapted": [0.70, 0.72], "balanced_random": [0.69, 0.75]},
            [
                "rows alone (0.610): a gain of 0.100 (spread 0.020).",
                "(0.720): no gain; the difference",
            ],
        ),
        ({"seed": [0.80, 0.81], "adapted": [0.70, 0.71]}, ["a loss of 0.100"]),
        ({"seed": [0.7, 0.7], "adapted": [0.7, 0.7]}, ["no gain; the difference of +0.000"]),
        (
            {"seed": [0.5], "adapted": [0.9]},
            ["+0.400, from one seed only, so its spread is not known"],
        ),
        ({"adapted": [0.9]}, ["There is no other arm"]),
        ({"seed": [0.9]}, ["The model trained on the seed rows reaches", "no other arm"]),
    ],
)
def test_headline_claims_no_more_than_the_spread_allows(values, said):
    text = comparison.headline(values, "accuracy", 200)
    assert all(part in text for part in said), text
    assert "200 test rows" in text
    assert not re.search(r"\.\.|\s\s", text)


def test_summary_of_one_run_has_no_spread():
    same = dict.fromkeys(
        ("n_rows", "n_tokens", "n_added", "tokens_added", "tokens_short", "n_trainable"), 1
    )
    found = comparison.summary(
        [{"test": {"accuracy": 0.5}, "validation": {"accuracy": 1.0}, **same}]
    )
    assert found["test"]["accuracy"] == {"mean": 0.5, "sd": None, "values": [0.5]}

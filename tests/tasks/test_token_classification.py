import json
import logging
import re
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pytest
import torch
import transformers
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from torch import nn

from lightadapt_data import predicting
from lightadapt_data.adapters import bottleneck, full, head_only, lora, prefix, prompt
from lightadapt_data.errors import InputError
from lightadapt_data.tasks import token_classification as task
from lightadapt_data.training import Job, TrainingSettings, train

COLUMNS = SimpleNamespace(text_column="text", label_column="label")
WORDS = ["[PAD]", "[CLS]", "[SEP]", "[UNK]", "ann", "bob", "rome", "oslo", "saw", "in", ",", "new"]
SIZES = {
    "vocab_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "hidden_size": 16,
    "intermediate_size": 32,
    "max_position_embeddings": 40,
    "pad_token_id": 0,
}
KINDS = {
    "Bert": SIZES,
    "DebertaV2": SIZES,
    "DistilBert": {"vocab_size": 16, "dim": 16, "n_layers": 2, "n_heads": 2, "hidden_dim": 32},
    "Electra": SIZES | {"embedding_size": 16},
    "GPT2": {"vocab_size": 16, "n_embd": 16, "n_layer": 2, "n_head": 2, "n_positions": 40},
    "Llama": SIZES,
    "ModernBert": SIZES
    | {"cls_token_id": 1, "sep_token_id": 2, "bos_token_id": 1, "eos_token_id": 2},
    "MPNet": SIZES,
    "Qwen3": SIZES | {"num_key_value_heads": 2, "head_dim": 8},
    "Roberta": SIZES,
    "T5": {"vocab_size": 16, "d_model": 16, "num_layers": 2, "num_heads": 2, "d_ff": 32, "d_kv": 8},
}
LABELS = ["LOC", "PER"]


@pytest.fixture(params=["Bert"])
def folder(request, tmp_path):
    torch.manual_seed(0)
    config = getattr(transformers, f"{request.param}Config")(**KINDS[request.param])
    model = getattr(transformers, f"{request.param}Model")(config)
    for parameter in model.parameters():
        if parameter.ndim > 1:
            nn.init.normal_(parameter, std=0.3)
    model.save_pretrained(tmp_path / "base")
    core = Tokenizer(models.WordLevel({word: i for i, word in enumerate(WORDS)}, "[UNK]"))
    core.pre_tokenizer = pre_tokenizers.Whitespace()
    core.post_processor = processors.BertProcessing(("[SEP]", 2), ("[CLS]", 1))
    special = {"pad_token": "[PAD]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
    transformers.PreTrainedTokenizerFast(
        tokenizer_object=core, unk_token="[UNK]", model_max_length=40, **special
    ).save_pretrained(tmp_path / "base")
    return tmp_path / "base"


def span(text, part, label):
    start = text.index(part)
    return {"start": start, "end": start + len(part), "label": label}


def row(text, *parts):
    return {"id": text, "text": text, "spans": [span(text, *part) for part in parts]}


def rows(n, seed):
    rng = np.random.default_rng(seed)
    found = []
    for _ in range(n):
        name, place = rng.choice(["ann", "bob"]), rng.choice(["rome", "new oslo", "oslo"])
        text = f"{name} saw, in {place}" if rng.integers(2) else f"in {place} {name} saw"
        found.append(row(text, (name, "PER"), (place, "LOC")))
    return found


def of(folder, given, **options):
    return task.examples(given, LABELS, task.tokenizer(folder), task.Settings(**options))


def job(folder, adapter, n=48, fit_head=True, **options):
    settings, tokenizer = task.Settings(fit_head=fit_head), task.tokenizer(folder)
    examples = of(folder, rows(n, 1))
    return Job(
        build=lambda: task.build(folder, "base", LABELS, settings),
        start_head=lambda network: task.start_head(network, examples, tokenizer, settings),
        task=task,
        adapter=adapter,
        adapter_settings=adapter.Settings(**({"learning_rate": 0.01} | options)),
        tokenizer=tokenizer,
        train=examples,
        dev=of(folder, rows(24, 2)),
        seed=0,
    )


def test_a_row_has_its_spans_in_order_and_none_without_the_column():
    text = "ann saw rome"
    late, early = span(text, "rome", "LOC"), span(text, "ann", "PER")
    raw = {"text": text, "spans": [late, early]}
    assert task.row(raw, COLUMNS) == {"text": text, "spans": [early, late]}
    for raw, is_labelled in (({"text": text}, False), ({"text": text, "spans": []}, True)):
        found = task.row(raw, COLUMNS)
        assert task.is_labelled(found) == is_labelled
    assert not task.is_labelled({"text": text})


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        ({"text": "", "spans": []}, "column 'text' is empty, not text"),
        ({"text": "ann", "spans": "PER"}, "spans is str, not a list"),
        ({"text": "ann", "spans": [{"start": 0, "end": 4, "label": "A"}]}, "span 1 goes from 0 to"),
    ],
)
def test_a_row_that_cannot_be_used_gives_the_reason(raw, reason):
    with pytest.raises(ValueError, match=reason):
        task.row(raw, COLUMNS)


def test_the_column_of_spans_keeps_empty_and_missing_apart():
    ((name, kind),) = task.columns()
    values = [[{"start": 0, "end": 3, "label": "PER"}], [], None]
    assert name == "spans"
    assert pa.array(values, kind).to_pylist() == values


def test_labels_are_the_types_of_entities_sorted():
    given = [row("ann", ("ann", "PER")), row("rome", ("rome", "LOC")), {"text": "x", "spans": None}]
    assert task.labels(given) == ["LOC", "PER"]
    assert task.labels([row("saw")]) == []


def test_examples_have_a_tag_for_every_word(folder):
    given = [row("ann saw new oslo", ("new oslo", "LOC"), ("ann", "PER")), row("saw")]
    given += [{"text": "saw ann", "spans": None}]
    first, empty, unknown = of(folder, given)
    assert first.token_ids == (1, 4, 8, 11, 7, 2)
    assert (first.row, first.places) == (0, (1, 2, 3, 4))
    assert first.words == ((0, 3), (4, 7), (8, 11), (12, 16))
    assert first.tags == (3, 0, 1, 2)
    assert (empty.row, empty.tags, empty.entities) == (1, (0,), ())
    assert (unknown.row, unknown.tags, unknown.entities) == (2, (-100, -100), None)
    assert of(folder, []) == []


def test_a_long_text_is_read_in_windows_that_give_every_word_once(folder):
    text = " ".join(["saw"] * 20 + ["new", "oslo"] + ["saw"] * 20)
    given = [row("ann"), row(text, ("new oslo", "LOC"))]
    found = of(folder, given, max_tokens=12, stride=4)
    assert [example.row for example in found[:2]] == [0, 1]
    windows = found[1:]
    assert {example.row for example in windows} == {1}
    assert max(len(example.token_ids) for example in windows) == 12
    words = [word for example in windows for word in example.words]
    assert [text[slice(*word)] for word in words] == text.split()
    assert sum((example.tags for example in windows), ()) == (0,) * 20 + (1, 2) + (0,) * 20
    for example in windows:
        assert (example.token_ids[0], example.token_ids[-1]) == (1, 2)
        ids = [example.token_ids[place] for place in example.places]
        assert ids == [WORDS.index(text[slice(*word)]) for word in example.words]


def test_a_text_without_a_token_is_an_example_without_words(folder):
    core = task.tokenizer(folder)
    core.backend_tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    core.backend_tokenizer.normalizer = normalizers.Replace("saw", "")
    (found,) = task.examples([row("saw")], LABELS, core, task.Settings())
    assert found.words == ()
    batch = task.collate([found], core)
    assert batch["labels"].tolist()[0][0] == 0  # else a batch of such rows would have no loss
    network = task.build(folder, "base", LABELS, task.Settings()).network
    outputs = predicting.predict(network, [found], task, core)
    assert outputs[0].shape == (0, 5)
    assert task.predictions(outputs, [found], LABELS) == [[]]
    assert task.metrics(outputs, [found])["loss"] == 0.0


def test_the_tag_may_stand_on_the_last_token_of_a_word():
    core = Tokenizer(models.WordPiece({"[UNK]": 0, "an": 1, "##n": 2, "saw": 3}))
    core.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer = transformers.PreTrainedTokenizerFast(tokenizer_object=core)
    for place, expected in (("first", (0, 2)), ("last", (1, 2))):
        settings = task.Settings(place_of_tag=place)
        (found,) = task.examples([row("ann saw", ("ann", "PER"))], LABELS, tokenizer, settings)
        assert (found.token_ids, found.places, found.tags) == ((1, 2, 3), expected, (3, 0))


def test_spans_inside_words_are_counted_and_logged(folder, caplog):
    given = [row("ann saw oslo", ("sl", "LOC"), ("ann", "PER")), row("ann", ("nn", "PER"))]
    with caplog.at_level(logging.WARNING):
        found = of(folder, given)
    assert "2 of 3 spans start or end inside a word of the tokenizer" in caplog.text
    assert [example.tags for example in found] == [(3, 0, 1), (3,)]
    perfect = [np.eye(5, dtype=np.float32)[list(example.tags)] for example in found]
    scores = task.metrics(perfect, found)
    assert scores["token_accuracy"] == 1.0
    assert scores["recall"] == pytest.approx(1 / 3)


def test_white_space_at_the_edge_of_a_span_does_not_count(folder, caplog):
    given = [{"text": "ann saw", "spans": [{"start": 0, "end": 4, "label": "PER"}]}]
    found = of(folder, given)
    assert found[0].entities == ((0, 3, 1),)
    assert not caplog.records


def test_wrong_spans_name_the_row(folder):
    bad = {"id": "r7", "text": "ann", "spans": [{"start": 2, "end": 9, "label": "PER"}]}
    message = "token_classification: row 'r7': span 1 goes from 2 to 9; allowed"
    with pytest.raises(InputError, match=re.escape(message)):
        of(folder, [bad])


def test_a_soft_prompt_moves_the_places_along(folder):
    (example,) = of(folder, [row("ann saw", ("ann", "PER"))])
    found = task.prompted(example, [20, 21], 1)
    assert found.token_ids == (1, 20, 21, 4, 8, 2)
    assert found.places == (3, 4)
    assert replace(found, token_ids=(), places=()) == replace(example, token_ids=(), places=())
    assert task.prompted(example, [20], 2).places == (1, 3)


def test_collate_has_tags_at_their_places_and_nothing_elsewhere(folder):
    tokenizer = task.tokenizer(folder)
    batch = task.collate(of(folder, [row("ann saw", ("ann", "PER")), row("saw")]), tokenizer)
    assert batch["input_ids"].tolist() == [[1, 4, 8, 2], [1, 8, 2, 0]]
    assert batch["attention_mask"].tolist() == [[1, 1, 1, 1], [1, 1, 1, 0]]
    assert batch["labels"].tolist() == [[-100, 3, 0, -100], [-100, 0, -100, -100]]


def test_metrics_of_a_row_do_not_depend_on_its_windows(folder):
    given = [row("ann saw new oslo in rome , saw bob", ("new oslo", "LOC"), ("bob", "PER"))]
    logits = np.random.default_rng(0).normal(size=(9, 5)).astype(np.float32)
    whole, cut = of(folder, given), of(folder, given, max_tokens=8, stride=2)
    assert len(cut) > 1
    parts = np.split(logits, np.cumsum([len(example.words) for example in cut])[:-1])
    assert task.metrics([logits], whole) == pytest.approx(task.metrics(parts, cut))
    assert task.predictions([logits], whole, LABELS) == task.predictions(parts, cut, LABELS)


def test_unlabelled_rows_do_not_count_but_are_predicted(folder):
    found = of(folder, [{"text": "ann"}, row("ann", ("ann", "PER"))])
    outputs = [np.eye(5, dtype=np.float32)[[0]], np.eye(5, dtype=np.float32)[[3]] * 9]
    scores = task.metrics(outputs, found)
    assert (scores["f1"], scores["token_accuracy"]) == (1.0, 1.0)
    assert scores["loss"] == pytest.approx(np.log(1 + 4 * np.exp(-9.0)), rel=1e-3)
    predicted = task.predictions(outputs, found, LABELS)
    assert predicted == [[], [{"start": 0, "end": 3, "label": "PER"}]]
    assert json.dumps(predicted)


@pytest.mark.parametrize("folder", sorted(KINDS), indirect=True)
def test_every_family_learns_from_the_head_up(folder, tmp_path):
    (tmp_path / "out").mkdir()
    settings = TrainingSettings(steps=20, batch_rows=16, evaluations=1)
    result = train(job(folder, head_only, learning_rate=0.03), settings, tmp_path / "out")
    assert result.dev_curve[-1]["f1"] > 0.5
    assert result.loss_curve[-1] < np.log(5)


@pytest.mark.parametrize("adapter", [bottleneck, full, lora, prefix, prompt])
def test_adapters_learn_and_read_back(folder, adapter, tmp_path):
    (tmp_path / "out").mkdir()
    options = {"length": 4} if adapter is prompt else {}
    what = job(folder, adapter, fit_head=False, learning_rate=0.03, **options)
    settings = TrainingSettings(steps=60, batch_rows=16, evaluations=2)
    result = train(what, settings, tmp_path / "out")
    assert np.mean(result.loss_curve[-5:]) < 0.5 * np.mean(result.loss_curve[:5])
    loaded = adapter.load(what.build().network, tmp_path / "out")
    dev = predicting.prompted(what.dev, task, adapter, loaded, what.tokenizer)
    outputs = predicting.predict(loaded, dev, task, what.tokenizer)
    best = max(point["f1"] for point in result.dev_curve)
    assert task.metrics(outputs, dev)["f1"] == best > 0
    predicted = task.predictions(outputs, dev, LABELS)
    truth = [task.row(given, COLUMNS)["spans"] for given in rows(24, 2)]
    pairs = list(zip(predicted, truth, strict=True))
    n_right = sum(span in truth for found, truth in pairs for span in found)
    n_spans = sum(len(found) + len(truth) for found, truth in pairs)
    assert best == pytest.approx(2 * n_right / n_spans)


def test_a_fitted_head_finds_entities_before_any_step(folder):
    what = job(folder, head_only)
    network = what.build().network
    before = {name: p.clone() for name, p in network.named_parameters() if "classifier" not in name}
    what.start_head(network)
    outputs = predicting.predict(network, what.train, task, what.tokenizer)
    assert task.metrics(outputs, what.train)["f1"] > 0.8
    after = dict(network.named_parameters())
    assert all(torch.equal(tensor, after[name]) for name, tensor in before.items())


def test_the_head_stays_random_when_fitting_is_off_or_nothing_is_labelled(folder):
    tokenizer = task.tokenizer(folder)
    network = task.build(folder, "base", LABELS, task.Settings()).network
    before = network.classifier.weight.clone()
    task.start_head(network, of(folder, rows(4, 1)), tokenizer, task.Settings(fit_head=False))
    task.start_head(network, of(folder, [{"text": "ann"}]), tokenizer, task.Settings())
    assert torch.equal(network.classifier.weight, before)


def test_a_model_without_such_a_head_is_refused(tmp_path):
    config = transformers.BartConfig(vocab_size=16, d_model=16, pad_token_id=0)
    config.save_pretrained(tmp_path)
    with pytest.raises(InputError, match="cannot be loaded: Unrecognized configuration class"):
        task.build(tmp_path, "base", LABELS, task.Settings())

import re
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pytest
import torch
import transformers
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from torch import nn

from lightadapt_data import methods, predicting
from lightadapt_data.adapters import bottleneck, full, head_only, lora, prefix, prompt
from lightadapt_data.errors import InputError, RecipeError
from lightadapt_data.networks.entity_pair import EntityPairClassifier
from lightadapt_data.tasks import relation_extraction as task
from lightadapt_data.tasks.relation_extraction import Pair
from lightadapt_data.training import Job, TrainingSettings, train

COLUMNS = SimpleNamespace(text_column="text", label_column="label")
WORDS = ["[PAD]", "[CLS]", "[SEP]", "[UNK]", "@", "#", "cat", "dog", "eats", "in", ",", "now"]
SIZES = {
    "vocab_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "hidden_size": 16,
    "intermediate_size": 32,
    "max_position_embeddings": 40,
    "pad_token_id": 0,
}
T5 = {"vocab_size": 16, "d_model": 16, "num_layers": 2, "num_heads": 2, "d_ff": 32, "d_kv": 8}
SEQUENCES = {
    "vocab_size": 16,
    "d_model": 16,
    "encoder_layers": 1,
    "decoder_layers": 1,
    "encoder_attention_heads": 2,
    "decoder_attention_heads": 2,
    "encoder_ffn_dim": 32,
    "decoder_ffn_dim": 32,
    "max_position_embeddings": 40,
    "pad_token_id": 0,
    "decoder_start_token_id": 0,
}
KINDS = {
    "Bart": SEQUENCES,
    "Bert": SIZES,
    "DebertaV2": SIZES,
    "DistilBert": {"vocab_size": 16, "dim": 16, "n_layers": 2, "n_heads": 2, "hidden_dim": 32},
    "Electra": SIZES | {"embedding_size": 16},
    "GPT2": {"vocab_size": 16, "n_embd": 16, "n_layer": 2, "n_head": 2, "n_positions": 40},
    "Llama": SIZES,
    "Marian": SEQUENCES,
    "ModernBert": SIZES
    | {"cls_token_id": 1, "sep_token_id": 2, "bos_token_id": 1, "eos_token_id": 2},
    "MPNet": SIZES,
    "Qwen3": SIZES | {"num_key_value_heads": 2, "head_dim": 8},
    "Roberta": SIZES,
    "T5": T5,
}
CAUSAL = {"GPT2", "Llama", "Qwen3"}
LABELS = ["eats", "in", "none"]


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


def row(text, head, tail, label="eats"):
    found = {"id": text, "text": text, "label": label}
    for name, part in (("head", head), ("tail", tail)):
        found[name] = {"start": text.index(part), "end": text.index(part) + len(part)}
    return found


def rows(n, seed):
    """The label is the word between the two, or none where both change places."""
    rng = np.random.default_rng(seed)
    found = []
    for _ in range(n):
        word, is_turned = rng.choice(["eats", "in"]), rng.integers(3) == 0
        text = f"{'now, ' * rng.integers(2)}cat {word} dog{' now' * rng.integers(3)}"
        head, tail = ("dog", "cat") if is_turned else ("cat", "dog")
        found.append(row(text, head, tail, "none" if is_turned else str(word)))
    return found


def of(folder, given, **options):
    return task.examples(given, LABELS, task.tokenizer(folder), task.Settings(**options))


def job(folder, adapter, fit_head=True, **options):
    settings, tokenizer = task.Settings(fit_head=fit_head), task.tokenizer(folder)
    examples = of(folder, rows(60, 1))
    return Job(
        build=lambda: task.build(folder, "base", LABELS, settings),
        start_head=lambda network: task.start_head(network, examples, tokenizer, settings),
        task=task,
        adapter=adapter,
        adapter_settings=adapter.Settings(**({"learning_rate": 0.03} | options)),
        tokenizer=tokenizer,
        train=examples,
        dev=of(folder, rows(30, 2)),
        seed=0,
    )


def test_a_row_has_its_entities_and_its_label_as_text():
    raw = row("cat eats dog", "cat", "dog", 3) | {"head": {"start": 0, "end": 3, "type": "X"}}
    assert task.row(raw, COLUMNS) == {
        "text": "cat eats dog",
        "head": {"start": 0, "end": 3},
        "tail": {"start": 9, "end": 12},
        "label": "3",
    }
    del raw["label"]
    found = task.row(raw, COLUMNS)
    assert found["label"] is None
    assert not task.is_labelled(found)
    assert task.is_labelled(found | {"label": "a"})
    assert not task.is_labelled({"text": "a", "label": "a", "head": None, "tail": None})


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"text": None}, "column 'text' is empty, not text"),
        ({"head": None}, "there is no head; allowed: an object with start and end"),
        ({"tail": {"start": 9, "end": 13}}, "tail goes from 9 to 13; allowed"),
        ({"tail": [9, 12]}, "tail is list, not an object"),
        ({"tail": {"start": 2, "end": 5}}, "head and tail overlap: 0 to 3 and 2 to 5; allowed"),
    ],
)
def test_a_row_that_cannot_be_used_gives_the_reason(folder, change, reason):
    bad = row("cat eats dog", "cat", "dog") | {"id": "r7"} | change
    with pytest.raises(ValueError, match=reason):
        task.row(bad, COLUMNS)
    if "text" not in change:
        message = f"relation_extraction: row 'r7': {reason}"
        with pytest.raises(InputError, match=re.escape(message)):
            of(folder, [bad])


def test_the_columns_hold_the_entities():
    for (name, kind), expected in zip(task.columns(), ("head", "tail"), strict=True):
        assert name == expected
        assert pa.array([{"start": 0, "end": 3}, None], kind).to_pylist()[1] is None


def test_labels_are_sorted_and_a_missing_one_does_not_count():
    given = [row("cat dog", "cat", "dog", label) for label in ("b", None, "a", "b")]
    assert task.labels(given) == ["a", "b"]


def test_examples_have_markers_around_the_entities(folder):
    found = of(folder, [row("cat eats dog, now", "dog", "cat", "in"), row("cat dog", "cat", "dog")])
    assert [WORDS[token] for token in found[0].token_ids] == (
        ["[CLS]", "#", "cat", "#", "eats", "@", "dog", "@", ",", "now", "[SEP]"]
    )
    assert found[0].markers == ((5, 7), (1, 3))
    assert found[1].markers == ((1, 3), (4, 6))
    assert [example.label for example in found] == [1, 0]
    assert of(folder, []) == []


def test_a_row_without_a_known_label_can_be_predicted(folder):
    given = [row("cat dog", "cat", "dog", None), row("cat dog", "cat", "dog", "new")]
    examples = of(folder, given)
    assert [example.label for example in examples] == [-1, -1]
    network = task.build(folder, "base", LABELS, task.Settings()).network
    outputs = predicting.predict(network, examples, task, task.tokenizer(folder))
    assert set(task.predictions(outputs, examples, LABELS)) <= set(LABELS)


def test_a_long_text_keeps_both_entities(folder):
    text = "now " * 60 + "cat eats dog" + " now" * 60
    for longest in (12, 40):
        (found,) = of(folder, [row(text, "cat", "dog")], max_tokens=longest)
        assert len(found.token_ids) == longest
        words = [WORDS[token] for token in found.token_ids]
        (a, b), (c, d) = found.markers
        assert words[a : b + 1] == ["@", "cat", "@"]
        assert words[c : d + 1] == ["#", "dog", "#"]


def test_entities_that_do_not_fit_name_the_row(folder):
    bad = row("cat " * 20 + "dog", "cat " * 20, "dog") | {"id": "r9"}
    message = (
        "relation_extraction: row 'r9': head and tail take 25 tokens with their markers; allowed: "
        "at most 10, by max_tokens and the base model; correct the row, or take it out"
    )
    with pytest.raises(InputError, match=message):
        of(folder, [bad], max_tokens=12)


def test_a_soft_prompt_moves_the_markers_along(folder):
    (example,) = of(folder, [row("cat dog", "cat", "dog")])
    found = task.prompted(example, [20, 21], 1)
    assert found.token_ids == (1, 20, 21, *example.token_ids[1:])
    assert found.markers == ((3, 5), (6, 8))
    assert task.prompted(example, [20], 3).markers == ((1, 4), (5, 7))


def test_collate_pads_and_says_where_the_markers_are(folder):
    given = [row("cat dog", "cat", "dog"), row("dog eats cat", "cat", "dog", "in")]
    batch = task.collate(of(folder, given), task.tokenizer(folder))
    assert batch["input_ids"].shape == batch["attention_mask"].shape == (2, 9)
    assert batch["attention_mask"].sum(1).tolist() == [8, 9]
    assert batch["markers"].tolist() == [[[1, 3], [4, 6]], [[5, 7], [1, 3]]]
    assert batch["labels"].tolist() == [0, 1]


@pytest.mark.parametrize("folder", sorted(KINDS), indirect=True)
def test_the_classifier_reads_the_markers_and_no_padding(folder, request):
    network = task.build(folder, "base", LABELS, task.Settings()).network.eval()
    kind = request.node.callspec.params["folder"]
    assert network.side == (kind in CAUSAL)
    examples = of(
        folder, [row("cat eats dog", "cat", "dog"), row("cat dog now now now", "cat", "dog")]
    )
    tokenizer = task.tokenizer(folder)
    with torch.inference_mode():
        alone = task.outputs(network, task.collate(examples[:1], tokenizer), examples[:1], None)
        padded = task.outputs(network, task.collate(examples, tokenizer), examples, None)
        batch = task.collate(examples[:1], tokenizer)
        hidden = network.encoder(batch["input_ids"], attention_mask=batch["attention_mask"])[0][0]
        places = [pair[network.side] for pair in examples[0].markers]
        expected = network.classifier(torch.cat([hidden[place] for place in places]))
    np.testing.assert_allclose(alone[0], padded[0], atol=1e-4)
    np.testing.assert_allclose(alone[0], expected, atol=1e-4)


@pytest.mark.parametrize("folder", sorted(KINDS), indirect=True)
def test_every_family_learns_from_the_head_up(folder, tmp_path):
    (tmp_path / "out").mkdir()
    settings = TrainingSettings(steps=12, batch_rows=16, evaluations=1)
    result = train(job(folder, head_only), settings, tmp_path / "out")
    assert result.dev_curve[-1]["accuracy"] > 0.6
    assert result.n_trainable == 2 * 16 * 3 + 3


@pytest.mark.parametrize(
    ("adapter", "is_checkpointed"),
    [
        (bottleneck, False),
        (bottleneck, True),
        (full, False),
        (lora, False),
        (prefix, False),
        (prompt, False),
    ],
)
def test_adapters_learn_and_read_back(folder, adapter, is_checkpointed, tmp_path):
    (tmp_path / "out").mkdir()
    options = {"length": 4} if adapter is prompt else {}
    what = job(folder, adapter, fit_head=False, learning_rate=0.01, **options)
    settings = TrainingSettings(
        steps=40, batch_rows=16, evaluations=2, gradient_checkpointing=is_checkpointed
    )
    result = train(what, settings, tmp_path / "out")
    assert np.mean(result.loss_curve[-5:]) < np.mean(result.loss_curve[:5])
    loaded = adapter.load(what.build().network, tmp_path / "out")
    dev = predicting.prompted(what.dev, task, adapter, loaded, what.tokenizer)
    outputs = predicting.predict(loaded, dev, task, what.tokenizer)
    best = max(point["macro_f1"] for point in result.dev_curve)
    assert task.metrics(outputs, dev)["macro_f1"] == best


def test_a_fitted_classifier_is_right_before_any_step(folder):
    what = job(folder, head_only)
    network = what.build().network
    what.start_head(network)
    outputs = predicting.predict(network, what.train, task, what.tokenizer)
    assert task.metrics(outputs, what.train)["accuracy"] > 0.9


def test_the_classifier_stays_random_when_fitting_is_off_or_there_is_one_label(folder):
    tokenizer = task.tokenizer(folder)
    network = task.build(folder, "base", LABELS, task.Settings()).network
    before = network.classifier.weight.clone()
    task.start_head(network, of(folder, rows(9, 1)), tokenizer, task.Settings(fit_head=False))
    same = [row("cat dog", "cat", "dog")] * 3
    task.start_head(network, of(folder, same), tokenizer, task.Settings())
    assert torch.equal(network.classifier.weight, before)


def test_without_markers_the_first_token_is_read_twice(folder):
    network = task.build(folder, "base", LABELS, task.Settings()).network.eval()
    ids = torch.tensor([[1, 6, 7, 2]])
    first = torch.zeros((1, 2, 2), dtype=torch.int64)
    assert isinstance(network, EntityPairClassifier)
    with torch.inference_mode():
        found = network(ids, torch.ones_like(ids)).logits
        assert torch.equal(found, network(ids, torch.ones_like(ids), first).logits)
    assert network.get_input_embeddings().weight.shape == (16, 16)


@settings(max_examples=25, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=1, max_size=20),
    st.sets(st.integers(0, 3), max_size=3),
)
def test_metrics_equal_counting(pairs, not_counted):
    truth, guess = zip(*pairs, strict=True)
    places = ((0, 0), (0, 0))
    examples = [Pair((), places, label, tuple(sorted(not_counted))) for label in truth]
    found = task.metrics([np.eye(4, dtype=np.float32)[label] for label in guess], examples)
    counted = (set(truth) | set(guess)) - not_counted
    assert found["accuracy"] == pytest.approx(np.mean([t == g for t, g in pairs]))
    scores = [
        2 * sum(t == g == label for t, g in pairs) / (truth.count(label) + guess.count(label))
        for label in counted
    ]
    assert found["macro_f1"] == pytest.approx(np.mean(scores) if scores else 0.0)
    hits = sum(t == g and t in counted for t, g in pairs)
    total = sum((t in counted) + (g in counted) for t, g in pairs)
    assert found["micro_f1"] == pytest.approx(2 * hits / total if total else 0.0)
    assert np.isfinite(found["loss"])


def test_labels_of_no_relation_are_named_to_the_metrics(folder):
    given = [row("cat dog", "cat", "dog")]
    assert of(folder, given, no_relation=["none", "in"])[0].not_counted == (1, 2)
    message = "no_relation: 'nine' is no label .* allowed: eats, in, none; did you mean 'none'"
    with pytest.raises(InputError, match=message):
        of(folder, given, no_relation=["nine"])


def test_a_marker_with_white_space_is_refused():
    with pytest.raises(RecipeError, match="head_marker = 'E 1'"):
        methods.settings("tasks", "relation_extraction", {"head_marker": "E 1"})

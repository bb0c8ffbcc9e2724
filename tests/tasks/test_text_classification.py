import json
import math

import numpy as np
import pytest
import torch
import transformers
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, pre_tokenizers, processors

from lightadapt_data import methods
from lightadapt_data.errors import InputError, RecipeError
from lightadapt_data.networks.mean_pooling import MeanPoolingClassifier
from lightadapt_data.tasks import Example
from lightadapt_data.tasks import text_classification as task

WORDS = ["[PAD]", "[CLS]", "[SEP]", "[UNK]", "good", "bad", "film", "plot"]
SIZES = {"vocab_size": 8, "num_hidden_layers": 2, "num_attention_heads": 2}
BERT = SIZES | {"hidden_size": 16, "intermediate_size": 32, "max_position_embeddings": 24}
LABELS = ["negative", "positive"]


def save_tokenizer(folder):
    core = Tokenizer(models.WordLevel({word: i for i, word in enumerate(WORDS)}, "[UNK]"))
    core.pre_tokenizer = pre_tokenizers.Whitespace()
    core.post_processor = processors.BertProcessing(("[SEP]", 2), ("[CLS]", 1))
    transformers.PreTrainedTokenizerFast(
        tokenizer_object=core,
        pad_token="[PAD]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        unk_token="[UNK]",
        model_max_length=24,
    ).save_pretrained(folder)


@pytest.fixture
def bert_folder(tmp_path):
    torch.manual_seed(0)
    transformers.BertModel(transformers.BertConfig(**BERT)).save_pretrained(tmp_path)
    save_tokenizer(tmp_path)
    return tmp_path


def as_sentence_encoder(folder):
    (folder / "1_Pooling").mkdir()
    (folder / "1_Pooling" / "config.json").write_text('{"pooling_mode_mean_tokens": true}')
    return folder


def row(text, label="positive"):
    return {"id": text, "text": text, "label": label}


def test_labels_are_sorted_and_a_missing_one_does_not_count():
    assert task.labels([row("a", "b"), row("b", None), row("c", "a"), row("d", "b")]) == ["a", "b"]


def test_examples_are_token_ids_in_row_order_with_the_label_place(bert_folder):
    tokenizer = task.tokenizer(bert_folder)
    rows = [row("good film"), row("bad", "negative"), row("?", None)]
    found = task.examples(rows, LABELS, tokenizer, task.Settings())
    assert found == [
        Example((1, 4, 6, 2), 1),
        Example((1, 5, 2), 0),
        Example((1, 3, 2), -1),
    ]
    assert task.examples([], LABELS, tokenizer, task.Settings()) == []


@pytest.mark.parametrize(("max_tokens", "longest"), [(8, 8), (128, 24)])
def test_long_texts_are_cut_to_what_settings_and_model_allow(bert_folder, max_tokens, longest):
    tokenizer = task.tokenizer(bert_folder)
    rows = [row("film " * 50)]
    found = task.examples(rows, LABELS, tokenizer, task.Settings(max_tokens=max_tokens))
    assert len(found[0].token_ids) == longest


def test_collate_pads_to_the_longest_and_masks_the_padding(bert_folder):
    tokenizer = task.tokenizer(bert_folder)
    batch = task.collate([Example((1, 4, 6, 2), 1), Example((1, 2), 0)], tokenizer)
    assert batch["input_ids"].tolist() == [[1, 4, 6, 2], [1, 2, 0, 0]]
    assert batch["attention_mask"].tolist() == [[1, 1, 1, 1], [1, 1, 0, 0]]
    assert batch["labels"].tolist() == [1, 0]


@pytest.mark.parametrize(
    ("pooling", "is_mean"), [("auto", False), ("mean", True), ("model", False)]
)
def test_head_is_as_asked_for(bert_folder, pooling, is_mean):
    built = task.build(bert_folder, "name", LABELS, task.Settings(pooling=pooling))
    assert isinstance(built.network, MeanPoolingClassifier) == is_mean
    assert built.head_modules == ("classifier",)
    assert built.network.name_or_path == "name"


@pytest.mark.parametrize(
    "config", ['{"pooling_mode_mean_tokens": true}', '{"pooling_mode": "mean"}']
)
def test_sentence_encoder_gets_the_mean_head(bert_folder, config):
    (as_sentence_encoder(bert_folder) / "1_Pooling" / "config.json").write_text(config)
    built = task.build(bert_folder, "name", LABELS, task.Settings())
    assert isinstance(built.network, MeanPoolingClassifier)


def test_pooler_that_the_checkpoint_lacks_is_trained_too(tmp_path):
    config = transformers.BertConfig(**BERT)
    transformers.BertModel(config, add_pooling_layer=False).save_pretrained(tmp_path)
    built = task.build(tmp_path, "name", LABELS, task.Settings())
    assert built.head_modules == ("classifier", "bert.pooler.dense")


@pytest.mark.parametrize(
    ("kind", "config", "heads"),
    [
        ("Roberta", BERT, ("classifier",)),
        ("Electra", BERT | {"embedding_size": 16}, ("classifier",)),
        (
            "DistilBert",
            {"vocab_size": 8, "dim": 16, "n_layers": 2, "n_heads": 2, "hidden_dim": 32},
            ("pre_classifier", "classifier"),
        ),
    ],
)
def test_heads_of_other_families_are_found(tmp_path, kind, config, heads):
    model = getattr(transformers, f"{kind}Model")(getattr(transformers, f"{kind}Config")(**config))
    model.save_pretrained(tmp_path)
    built = task.build(tmp_path, "name", ["a", "b", "c"], task.Settings())
    assert built.head_modules == heads
    assert built.network.config.num_labels == 3


def test_mean_head_reads_only_what_the_mask_shows(bert_folder):
    built = task.build(bert_folder, "name", LABELS, task.Settings(pooling="mean"))
    model = built.network.eval()
    ids = torch.tensor([[1, 4, 6, 2]])
    padded = torch.tensor([[1, 4, 6, 2, 7, 7]])
    mask = torch.tensor([[1, 1, 1, 1, 0, 0]])
    with torch.no_grad():
        alone = model(ids, torch.ones_like(ids)).logits
        hidden = model.encoder(input_ids=ids).last_hidden_state
        torch.testing.assert_close(alone, model.classifier(hidden.mean(1)))
        torch.testing.assert_close(model(padded, mask).logits, alone)


def test_mean_head_gives_the_cross_entropy(bert_folder):
    model = task.build(bert_folder, "n", LABELS, task.Settings(pooling="mean")).network.eval()
    examples = [Example((1, 4, 2), 1), Example((1, 5, 6, 2), 0)]
    output = model(**task.collate(examples, task.tokenizer(bert_folder)))
    logits = output.logits.detach().numpy()
    assert output.loss.item() == pytest.approx(task.metrics(logits, examples)["loss"], rel=1e-5)


def test_same_seed_gives_the_same_head(bert_folder):
    def weights(seed):
        torch.manual_seed(seed)
        return task.build(bert_folder, "n", LABELS, task.Settings()).network.classifier.weight

    assert torch.equal(weights(1), weights(1))
    assert not torch.equal(weights(1), weights(2))


@settings(max_examples=30, deadline=None)
@given(
    st.lists(
        st.tuples(st.integers(0, 2), st.tuples(*[st.floats(-30, 30, width=32)] * 3)),
        min_size=1,
        max_size=20,
    )
)
def test_metrics_equal_counting(rows):
    examples = [Example((), label) for label, _ in rows]
    logits = np.array([values for _, values in rows], np.float32)
    found = task.metrics(logits, examples)
    truth = [label for label, _ in rows]
    guess = [max(range(3), key=lambda k: (values[k], -k)) for _, values in rows]
    assert found["accuracy"] == pytest.approx(
        sum(t == g for t, g in zip(truth, guess, strict=True)) / len(rows)
    )
    scores = []
    for label in set(truth) | set(guess):
        hits = sum(t == g == label for t, g in zip(truth, guess, strict=True))
        scores.append(2 * hits / (truth.count(label) + guess.count(label)))
    assert found["macro_f1"] == pytest.approx(sum(scores) / len(scores))
    losses = [
        math.log(sum(math.exp(float(v) - float(values[t])) for v in values))
        for t, (_, values) in zip(truth, rows, strict=True)
    ]
    assert found["loss"] == pytest.approx(sum(losses) / len(losses), abs=1e-5)


def test_folder_without_weights_is_refused(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "bert"}))
    with pytest.raises(
        InputError, match=r"cannot be loaded: .*; give the folder of a transformers"
    ):
        task.build(tmp_path, "name", LABELS, task.Settings())


def test_folder_without_tokenizer_is_refused(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "bert"}))
    with pytest.raises(
        InputError, match=r"it has no tokenizer; allowed: a folder with one of tokenizer.json"
    ):
        task.tokenizer(tmp_path)


def test_loading_prints_nothing_and_leaves_the_loggers_as_they_were(bert_folder, capfd):
    from transformers.utils import logging

    before = logging.get_verbosity(), logging.is_progress_bar_enabled()
    task.build(bert_folder, "name", LABELS, task.Settings())
    assert (logging.get_verbosity(), logging.is_progress_bar_enabled()) == before
    assert capfd.readouterr() == ("", "")


def test_unknown_pooling_is_refused():
    with pytest.raises(RecipeError, match="pooling = 'max'"):
        methods.settings("tasks", "text_classification", {"pooling": "max"})


def test_a_fitted_head_tells_the_training_rows_apart_before_any_step(tmp_path):
    from transformers import BertConfig, BertModel

    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=30,
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=32,
    )
    pad = type("Tokenizer", (), {"pad_token_id": 0})()
    for n_labels in (2, 3):
        network = MeanPoolingClassifier(BertModel(config), n_labels, 0.0)
        examples = [
            Example((1, 5 + 4 * (i % n_labels), 6 + 4 * (i % n_labels), 20 + i % 5), i % n_labels)
            for i in range(30)
        ]
        frozen = [p.clone() for p in network.encoder.parameters()]
        settings = task.Settings(inverse_regularisation=100.0)
        task.start_head(network, examples, pad, settings)
        batch = task.collate(examples, pad)
        logits = network(**batch).logits.detach().numpy()
        assert task.metrics(logits, examples)["accuracy"] == 1.0
        assert all(
            torch.equal(a, b) for a, b in zip(frozen, network.encoder.parameters(), strict=True)
        )


def test_a_head_is_left_alone_when_fitting_is_off_or_there_is_one_label():
    class Network:
        pass

    off = task.Settings(fit_head=False)
    task.start_head(Network(), [Example((1,), 0)], None, off)
    on = task.Settings()
    task.start_head(Network(), [Example((1,), 0)] * 2, None, on)

import json

import numpy as np
import pytest
import torch
import transformers
from tiny_models import (
    CAUSAL,
    DECODERS,
    ENCODERS,
    MASKED,
    SEQ2SEQ,
    SIZES,
    tiny,
)
from tokenizers import Tokenizer, models, pre_tokenizers, processors

from lightadapt_data import methods, predicting, training
from lightadapt_data.adapters import bottleneck, full, lora, prompt
from lightadapt_data.errors import InputError, RecipeError
from lightadapt_data.tasks import cloze

KNOWN = ["[PAD]", "[CLS]", "[SEP]", "[UNK]", "[MASK]", "<extra_id_0>"]
WORDS = [*KNOWN, "good", "bad", "great", "film", "plot", "It", "was", ".", "N", "/", "A", "not"]
WORDS += [f"w{place}" for place in range(len(WORDS), 40)]
LABELS = ["negative", "positive"]
SAID = {"negative": ("bad",), "positive": ("good", "great")}
CELLS = [
    *((family, MASKED) for family in ENCODERS),
    *((family, CAUSAL) for family in DECODERS),
    ("bart", SEQ2SEQ),
    ("t5", SEQ2SEQ),
]
ROWS = [
    {"id": "a", "text": "w20 w21 film w22", "label": "positive"},
    {"id": "b", "text": "plot", "label": "negative"},
    {"id": "c", "text": "w23 plot w24 w25 w26 w27 w28", "label": "negative"},
    {"id": "d", "text": "film w29 w30", "label": "positive"},
]


def save_tokenizer(folder, kind):
    core = Tokenizer(models.WordLevel({word: i for i, word in enumerate(WORDS)}, "[UNK]"))
    core.pre_tokenizer = pre_tokenizers.Whitespace()
    names = {"pad_token": "[PAD]", "unk_token": "[UNK]", "eos_token": "[SEP]"}
    if kind != "causal":
        core.post_processor = processors.BertProcessing(("[SEP]", 2), ("[CLS]", 1))
    if kind == "masked":
        names["mask_token"] = "[MASK]"
    more = ["<extra_id_0>"] if kind == "paired" else []
    if kind != "paired":
        core = without_gap(core)
    transformers.PreTrainedTokenizerFast(
        tokenizer_object=core, model_max_length=32, additional_special_tokens=more, **names
    ).save_pretrained(folder)


def without_gap(core):
    vocab = {("[GAP]" if word == "<extra_id_0>" else word): i for i, word in enumerate(WORDS)}
    core.model = models.WordLevel(vocab, "[UNK]")
    return core


def saved(folder, family, auto):
    tiny(family, auto=auto).save_pretrained(folder)
    kind = {"t5": "paired", "bart": "masked"}.get(family)
    save_tokenizer(folder, kind or ("masked" if auto == MASKED else "causal"))
    return folder


@pytest.fixture
def bert_folder(tmp_path):
    return saved(tmp_path, "bert", MASKED)


def options(**more):
    return cloze.Settings(**{"words": SAID, "max_tokens": 24, **more})


def built(folder, **more):
    network = cloze.build(folder, "name", LABELS, options(**more)).network.eval()
    return network, cloze.tokenizer(folder)


def logits(network, tokenizer, rows=ROWS, **more):
    found = cloze.examples(rows, LABELS, tokenizer, options(**more))
    return np.stack(predicting.predict(network, found, cloze, tokenizer))


def by_hand(folder, family, auto, tokenizer, row):
    """The labels' scores of one row, from all of the language model's scores, without batches."""
    model = getattr(transformers, auto).from_pretrained(folder).eval()
    text = row["text"]
    with torch.no_grad():
        if family == "t5":
            ids = tokenizer(f"{text} It was <extra_id_0> .", return_tensors="pt")["input_ids"]
            gap = torch.tensor([[0, WORDS.index("<extra_id_0>")]])
            scores = model(input_ids=ids, decoder_input_ids=gap).logits[0, 1]
        elif auto == CAUSAL:
            ids = tokenizer(f"{text} It was", return_tensors="pt")["input_ids"]
            scores = model(input_ids=ids).logits[0, -1]
        else:
            ids = tokenizer(f"{text} It was [MASK] .", return_tensors="pt")["input_ids"]
            place = int((ids[0] == WORDS.index("[MASK]")).nonzero())
            scores = model(input_ids=ids).logits[0, place]
    return [float(np.mean([scores[WORDS.index(word)] for word in SAID[label]])) for label in LABELS]


@pytest.mark.parametrize(("family", "auto"), CELLS)
def test_scores_are_those_of_the_words_in_the_blank(family, auto, tmp_path):
    folder = saved(tmp_path, family, auto)
    network, tokenizer = built(folder)
    expected = [by_hand(folder, family, auto, tokenizer, row) for row in ROWS]
    np.testing.assert_allclose(logits(network, tokenizer), expected, atol=1e-4)


@pytest.mark.parametrize("adapter", [bottleneck, full, lora, prompt])
@pytest.mark.parametrize(("family", "auto"), [("bert", MASKED), ("llama", CAUSAL), ("t5", SEQ2SEQ)])
def test_trains_and_is_read_back_the_same(family, auto, adapter, tmp_path):
    folder = saved(tmp_path / "base", family, auto)
    settings = {"length": 3} if adapter is prompt else {}
    _, tokenizer = built(folder)
    found = cloze.examples(ROWS, LABELS, tokenizer, options())
    job = training.Job(
        build=lambda: cloze.build(folder, "name", LABELS, options()),
        task=cloze,
        adapter=adapter,
        adapter_settings=adapter.Settings(**settings, learning_rate=0.01),
        tokenizer=tokenizer,
        train=found,
        dev=found,
        seed=0,
    )
    steps = training.TrainingSettings(steps=12, batch_rows=4, evaluations=1)
    result = training.train(job, steps, tmp_path / "adapter")
    assert result.loss_curve[-1] < result.loss_curve[0]


@pytest.mark.parametrize("family", ["bert", "llama"])
def test_gradients_reach_an_adapter_with_checkpointing(family, tmp_path):
    folder = saved(tmp_path, family, MASKED if family == "bert" else CAUSAL)
    network, tokenizer = built(folder)
    assert not network.is_gradient_checkpointing
    model = lora.attach(network, lora.Settings(), [])
    model.enable_input_require_grads()
    model.gradient_checkpointing_enable({"use_reentrant": False})
    assert network.is_gradient_checkpointing
    found = cloze.examples(ROWS, LABELS, tokenizer, options())
    model.train()(**cloze.collate(found, tokenizer)).loss.backward()
    training.check_gradients(model)


def test_soft_tokens_stand_where_the_template_says(bert_folder):
    network, tokenizer = built(bert_folder)
    settings = options(template="{text} {soft:2} was {mask}.")
    model = prompt.attach(network, prompt.Settings(length=2), [])
    plain = cloze.examples(ROWS[1:2], LABELS, tokenizer, settings)
    found = predicting.prompted(plain, cloze, prompt, model, tokenizer)
    names = ["S" if token >= 40 else WORDS[token] for token in found[0].token_ids]
    assert names == ["[CLS]", "plot", "S", "S", "was", "[MASK]", ".", "[SEP]"]
    assert names[found[0].blank] == "[MASK]"
    behind = cloze.examples(ROWS[1:2], LABELS, tokenizer, options())
    first = predicting.prompted(behind, cloze, prompt, model, tokenizer)[0]
    assert first.token_ids[1:3] == (40, 41)


def test_a_prompt_starts_from_the_labels_names(bert_folder):
    network, _ = built(bert_folder)
    assert network.config.id2label == {0: "negative", 1: "positive"}


def test_of_use_without_training(bert_folder):
    network, tokenizer = built(bert_folder)
    found = cloze.examples(ROWS, LABELS, tokenizer, options())
    outputs = predicting.predict(network, found, cloze, tokenizer)
    assert set(cloze.metrics(outputs, found)) == {"accuracy", "macro_f1", "loss"}
    assert set(cloze.predictions(outputs, found, LABELS)) <= set(LABELS)
    assert cloze.build(bert_folder, "name", LABELS, options()).head_modules == ()


@pytest.mark.parametrize(("family", "auto"), [("bert", MASKED), ("gpt2", CAUSAL), ("t5", SEQ2SEQ)])
def test_calibration_takes_off_what_is_likely_without_a_text(family, auto, tmp_path):
    folder = saved(tmp_path, family, auto)
    plain, tokenizer = built(folder)
    network, _ = built(folder, calibrate=True)
    rows = [{"text": text, "label": None} for text in cloze.EMPTY]
    scores = torch.tensor(logits(plain, tokenizer, rows))
    offset = scores.softmax(-1).mean(0).log()
    torch.testing.assert_close(network.offset, offset, atol=1e-5, rtol=1e-4)
    expected = logits(plain, tokenizer) - offset.numpy()
    np.testing.assert_allclose(logits(network, tokenizer), expected, atol=1e-4)


def test_loss_is_the_cross_entropy_over_the_labels(bert_folder):
    network, tokenizer = built(bert_folder)
    found = cloze.examples(ROWS, LABELS, tokenizer, options())
    output = network(**cloze.collate(found, tokenizer))
    expected = cloze.metrics(list(output.logits.detach().numpy()), found)["loss"]
    assert output.loss.item() == pytest.approx(expected, rel=1e-5)


def test_the_head_works_on_one_place_of_each_row(bert_folder):
    network, tokenizer = built(bert_folder)
    shapes = []
    network.language_model.cls.register_forward_hook(
        lambda _, __, output: shapes.append(tuple(output.shape))
    )
    logits(network, tokenizer)
    assert shapes == [(4, 1, 40)]


def test_a_label_is_its_own_word_by_default(bert_folder):
    settings = cloze.Settings()
    network = cloze.build(bert_folder, "name", ["bad", "good"], settings).network
    assert network.word_ids.tolist() == [WORDS.index("bad"), WORDS.index("good")]


@pytest.mark.parametrize(
    ("labels", "words", "reason"),
    [
        (
            ["bad plot", "good"],
            {},
            r"label 'bad plot': its word 'bad plot' is not one token but 2 here \('bad', 'plot'\); "
            r'allowed: words of one known token.*words = \{"bad plot"',
        ),
        (["awful", "good"], {}, r"its word 'awful' is not one token but 1 here \('\[UNK\]'\)"),
        (
            ["a", "b"],
            {"a": ("good",), "b": ("bad", "good")},
            "'good' stands for the labels 'a' and",
        ),
        (["neg", "pos"], {"ne": ("bad",)}, "none for the label 'neg'; allowed: ne; did you mean"),
        (["neg"], {"neg": ()}, "none for the label 'neg'"),
    ],
)
def test_words_that_cannot_fill_a_blank_are_refused(bert_folder, labels, words, reason):
    with pytest.raises(InputError, match=reason):
        cloze.build(bert_folder, "name", labels, cloze.Settings(words=words))


def test_a_model_without_a_head_over_words_is_refused(tmp_path):
    transformers.BertModel(transformers.BertConfig(**SIZES)).save_pretrained(tmp_path)
    save_tokenizer(tmp_path, "masked")
    with pytest.raises(
        InputError, match=r"without a language-model head \(cls.predictions.*task = 'text_class"
    ):
        cloze.build(tmp_path, "name", LABELS, options())


@pytest.mark.parametrize(
    ("family", "auto", "kind", "reason"),
    [
        ("marian", SEQ2SEQ, "causal", "'marian' cannot fill a blank: it neither fills masks nor"),
        ("bert", MASKED, "causal", "'bert' cannot fill a blank: its tokenizer has no mask"),
    ],
)
def test_a_model_that_fills_no_blanks_is_refused(tmp_path, family, auto, kind, reason):
    tiny(family, auto=auto).save_pretrained(tmp_path)
    save_tokenizer(tmp_path, kind)
    with pytest.raises(InputError, match=reason):
        cloze.tokenizer(tmp_path)


def test_a_decoder_whose_tokenizer_knows_a_mask_writes_on(tmp_path):
    saved(tmp_path, "llama", CAUSAL)
    save_tokenizer(tmp_path, "masked")
    network, tokenizer = built(tmp_path)
    assert network.kind == "causal"
    found = cloze.examples(ROWS[1:2], LABELS, tokenizer, options())
    assert WORDS.index("[MASK]") not in found[0].token_ids


def test_what_comes_after_the_blank_cannot_be_read_by_a_decoder(tmp_path):
    tokenizer = cloze.tokenizer(saved(tmp_path, "gpt2", CAUSAL))
    with pytest.raises(InputError, match=r"cannot see what comes after \{mask\}; allowed: columns"):
        cloze.examples(ROWS, LABELS, tokenizer, options(template="It was {mask}: {text}"))


def test_pairs_and_renamed_columns_go_into_the_template(bert_folder):
    class Columns:
        text_column, label_column = "premise", "label"

    row = cloze.row({"premise": "film", "text_b": "plot", "label": 1}, Columns())
    assert row == {"text": "film\nplot", "text_a": "film", "text_b": "plot", "label": "1"}
    assert [name for name, _ in cloze.columns()] == ["text_a", "text_b"]
    settings = cloze.Settings(
        template="{text_b} was {mask} {hypothesis}", columns={"hypothesis": "text_a"}
    )
    found = cloze.examples([row], ["0", "1"], cloze.tokenizer(bert_folder), settings)[0]
    names = [WORDS[token] for token in found.token_ids]
    assert names == ["[CLS]", "plot", "was", "[MASK]", "film", "[SEP]"]
    assert found.label == 1
    with pytest.raises(ValueError, match="column 'text_b' is empty"):
        cloze.row({"premise": "film", "text_b": " ", "label": 1}, Columns())


def test_a_row_of_one_text_is_text_and_label():
    class Columns:
        text_column, label_column = "text", "label"

    assert cloze.row({"text": "a", "label": None}, Columns()) == {"text": "a", "label": None}
    assert not cloze.is_labelled({"text": "a", "label": None})
    assert cloze.labels([{"label": "b"}, {"label": None}, {"label": "a"}]) == ["a", "b"]


def test_a_row_without_what_the_template_names_is_refused(bert_folder):
    tokenizer = cloze.tokenizer(bert_folder)
    with pytest.raises(
        InputError, match=r"row 'a' has nothing in column 'txt'; allowed: .*did you mean 'text'"
    ):
        cloze.examples(ROWS, LABELS, tokenizer, options(template="{txt} was {mask}"))


def test_unknown_labels_are_predicted_and_not_trained_on(bert_folder):
    tokenizer = cloze.tokenizer(bert_folder)
    found = cloze.examples([{"text": "film"}], LABELS, tokenizer, options())
    assert found[0].label == -1
    assert cloze.examples([], LABELS, tokenizer, options()) == []


def test_a_faulty_template_is_refused_with_the_recipe():
    with pytest.raises(RecipeError, match=r"template = '\{text\}': 0 times \{mask\}"):
        methods.settings("tasks", "cloze", {"template": "{text}"})


def test_a_template_of_prompt_source_is_read_once(tmp_path, bert_folder):
    path = tmp_path / "templates.yaml"
    path.write_text(
        "templates:\n  a: !Template\n    answer_choices: bad ||| good\n    name: n\n"
        "    jinja: '{{ sentence }} It was ||| {{ answer_choices[label] }}'\n"
    )
    settings = methods.settings(
        "tasks",
        "cloze",
        {
            "prompt_source": str(path),
            "template_name": "n",
            "label_order": LABELS,
            "columns": {"sentence": "text"},
        },
    )
    path.unlink()
    assert settings.template == "{sentence} It was {mask}"
    assert settings.taken_from == "templates.yaml: n"
    again = methods.settings("tasks", "cloze", json.loads(json.dumps(settings.key_fields())))
    assert again == settings
    network = cloze.build(bert_folder, "name", LABELS, settings).network
    assert network.word_ids.tolist() == [WORDS.index("bad"), WORDS.index("good")]
    found = cloze.examples(ROWS[1:2], LABELS, cloze.tokenizer(bert_folder), settings)
    assert [WORDS[i] for i in found[0].token_ids] == [
        "[CLS]",
        "plot",
        "It",
        "was",
        "[MASK]",
        "[SEP]",
    ]


def test_faults_of_a_template_file_are_told_with_the_recipe(tmp_path):
    with pytest.raises(InputError, match="cannot be read as PromptSource's templates"):
        methods.settings("tasks", "cloze", {"prompt_source": str(tmp_path / "no.yaml")})

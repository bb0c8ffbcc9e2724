import math
from types import SimpleNamespace

import pytest
import torch
import transformers
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from tiny_models import CAUSAL, MASKED, SEQ2SEQ, tiny
from tokenizers import Tokenizer, models, pre_tokenizers, processors

from lightadapt_data import methods, predicting, training
from lightadapt_data.errors import InputError
from lightadapt_data.tasks import language_modeling as task
from lightadapt_data.text_pieces import Frame, masked_pieces, pieces
from lightadapt_data.token_losses import IGNORED, TokenScores

SPECIAL = ["[PAD]", "[CLS]", "[SEP]", "[UNK]", "[MASK]"]
WORDS = [*SPECIAL, *(f"w{number}" for number in range(35))]
TEXTS = [
    "w1 w2 w3 w4 w5 w6",
    "w1 w2",
    "w9 w8 w7 w6 w5 w4 w3 w2 w1 w9 w8 w7 w6 w5 w4 w3 w2 w1 w0",
    "w3",
]
ROWS = [{"text": text} for text in TEXTS]


def put_tokenizer(folder, framed, mask=True):
    """Write a tokenizer of words; `framed`: with a token before each text and one behind it."""
    core = Tokenizer(models.WordLevel({word: i for i, word in enumerate(WORDS)}, "[UNK]"))
    core.pre_tokenizer = pre_tokenizers.Whitespace()
    if framed:
        core.post_processor = processors.BertProcessing(("[SEP]", 2), ("[CLS]", 1))
    transformers.PreTrainedTokenizerFast(
        tokenizer_object=core,
        pad_token="[PAD]",
        unk_token="[UNK]",
        mask_token="[MASK]" if mask else None,
        model_max_length=40,
    ).save_pretrained(folder)


@pytest.fixture(scope="module")
def bases(tmp_path_factory):
    found = {}
    for family, auto in (
        ("bert", MASKED),
        ("gpt2", CAUSAL),
        ("llama", CAUSAL),
        ("t5", SEQ2SEQ),
        ("encoder", "AutoModel"),
    ):
        found[family] = tmp_path_factory.mktemp(family)
        made = tiny("bert" if family == "encoder" else family, auto=auto)
        made.save_pretrained(found[family])
        put_tokenizer(found[family], family in ("bert", "encoder", "llama"))
    return found


def made(folder, settings=None, rows=ROWS):
    settings = settings or task.Settings(max_tokens=10, masks_per_text=2)
    tokenizer = task.tokenizer(folder)
    return tokenizer, task.examples(rows, [], tokenizer, settings)


def predicted(pieces):
    return [label for piece in pieces for label in piece.labels if label != IGNORED]


def ids_of(text):
    return [WORDS.index(word) for word in text.split()]


def test_a_row_is_its_text_and_always_labelled():
    columns = SimpleNamespace(text_column="body", label_column="label")
    assert task.row({"body": "w1", "label": "x"}, columns) == {"text": "w1"}
    with pytest.raises(ValueError, match="column 'body' is empty"):
        task.row({"body": " "}, columns)
    assert task.is_labelled({"text": "w1", "label": None})
    assert task.labels(ROWS) == []
    assert task.columns() == []
    assert task.LEAST_LABELS == 0


def test_a_decoder_without_a_start_token_predicts_all_tokens_but_the_first(bases):
    _, found = made(bases["gpt2"])
    for row, text in enumerate(TEXTS):
        own = [example for example in found if example.row == row]
        assert predicted(own) == ids_of(text)[1:]
        assert all(len(example.token_ids) <= 10 for example in own)
        assert sum(example.n_bytes for example in own) == len(text) - len(text.split()[0])


def test_a_decoder_with_a_start_token_predicts_all_tokens(bases):
    _, found = made(bases["llama"])
    for row, text in enumerate(TEXTS):
        own = [example for example in found if example.row == row]
        assert predicted(own) == ids_of(text)
        assert sum(example.n_bytes for example in own) == len(text)
        assert all(example.token_ids[0] == 1 and example.token_ids[-1] == 2 for example in own)


@given(st.lists(st.integers(5, 30), min_size=1, max_size=40), st.integers(2, 12), st.booleans())
def test_pieces_predict_every_token_once_with_the_one_before_it_in_sight(ids, room, has_start):
    found = list(pieces(ids, 3, 7, Frame((1,) if has_start else (), (2,), room)))
    assert predicted(found) == (ids if has_start else ids[1:])
    assert sum(piece.n_bytes for piece in found) == 7
    for piece in found:
        inner = piece.token_ids[has_start:-1]
        assert 1 <= len(inner) <= room
        assert ",".join(map(str, inner)) in ",".join(map(str, ids))
        assert piece.labels[0] == IGNORED  # nothing stands before it


@given(
    st.lists(st.integers(5, 30), min_size=1, max_size=40),
    st.integers(2, 12),
    st.floats(0.05, 0.9),
    st.integers(1, 6),
)
def test_masks_cover_their_share_and_never_the_same_token_twice(ids, room, share, n_masks):
    frame = Frame((1,), (2,), room)
    options = {"mask_id": 4, "share": share, "n_masks": n_masks, "seed": (0, 5)}
    found = list(masked_pieces(ids, 0, frame, **options))
    assert found == list(masked_pieces(ids, 0, frame, **options))
    seen = {}
    for piece in found:
        restored = tuple(
            token if label == IGNORED else label
            for token, label in zip(piece.token_ids, piece.labels, strict=True)
        )
        assert restored[0] == 1
        assert restored[-1] == 2
        places = {at for at, token in enumerate(piece.token_ids) if token == 4}
        assert places == {at for at, label in enumerate(piece.labels) if label != IGNORED}
        assert 1 <= len(places) <= max(1, round(share * (len(restored) - 2)))
        seen.setdefault(restored, []).append(places)
    assert n_masks * len(range(0, len(ids), room)) >= len(found)
    if len(ids) <= room:  # else two pieces may be equal
        (all_places,) = seen.values()
        assert sum(map(len, all_places)) == len(set().union(*all_places))
        assert next(iter(seen))[1:-1] == tuple(ids)


def test_masks_depend_on_the_text_and_the_seed_alone(bases):
    settings = task.Settings(max_tokens=30)
    _, first = made(bases["bert"], settings)
    _, turned = made(bases["bert"], settings, ROWS[::-1])
    by_row = [
        [e.token_ids for e in found if e.row == row] for found, row in ((first, 2), (turned, 1))
    ]
    assert by_row[0] == by_row[1]
    _, other = made(bases["bert"], task.Settings(max_tokens=30, mask_seed=1))
    assert [e.token_ids for e in other] != [e.token_ids for e in first]


def test_a_text_without_known_tokens_is_an_example_without_labels(bases):
    for family in ("bert", "gpt2"):
        tokenizer, found = made(bases[family], rows=[{"text": "   "}])
        assert len(found) == 1
        assert predicted(found) == []
        batch = task.collate(found, tokenizer)
        network = task.build(bases[family], "x", [], task.Settings()).network
        assert network(**batch).loss.item() == 0.0
        outputs = task.outputs(network, batch, found, tokenizer)
        assert task.predictions(outputs, found, []) == [None]


def test_a_soft_prompt_is_read_and_not_predicted(bases):
    _, (first, *_) = made(bases["llama"])
    longer = task.prompted(first, [40, 41], 1)
    assert longer.token_ids == (1, 40, 41, *first.token_ids[1:])
    assert longer.labels == (IGNORED, IGNORED, IGNORED, *first.labels[1:])
    assert (longer.row, longer.n_bytes) == (first.row, first.n_bytes)


def test_collate_fills_up_at_the_end(bases):
    tokenizer, found = made(bases["gpt2"])
    batch = task.collate(found[:2], tokenizer)
    assert batch["input_ids"].tolist() == [[6, 7, 8, 9, 10, 11], [6, 7, 0, 0, 0, 0]]
    assert batch["attention_mask"].tolist() == [[1] * 6, [1, 1, 0, 0, 0, 0]]
    assert batch["labels"].tolist()[1] == [IGNORED, 7, *[IGNORED] * 4]


@pytest.mark.parametrize("family", ["bert", "gpt2", "llama"])
def test_scores_are_those_of_each_example_alone(bases, family):
    settings = task.Settings(max_tokens=10, masks_per_text=2)
    network = task.build(bases[family], "x", [], settings).network
    plain = getattr(transformers, MASKED if family == "bert" else CAUSAL)
    twin = plain.from_pretrained(bases[family]).eval()
    tokenizer, found = made(bases[family], settings)
    together = predicting.predict(network, found, task, tokenizer)
    for example, output in zip(found, together, strict=True):
        batch = task.collate([example], tokenizer)
        n_tokens = len(predicted([example]))
        assert output.n_tokens == n_tokens
        if n_tokens:
            expected = twin(**batch).loss.item() * n_tokens
            assert output.loss_sum == pytest.approx(expected, rel=1e-4)
            logits = twin(**{k: v for k, v in batch.items() if k != "labels"}).logits[0]
            if family != "bert":
                logits = torch.cat([logits[:1], logits[:-1]])
            labels = batch["labels"][0]
            right = (logits.argmax(-1) == labels)[labels != IGNORED]
            assert output.n_right == int(right.sum())


def test_metrics_weigh_by_tokens_and_bytes():
    outputs = [TokenScores(2.0, 1, 1), TokenScores(4.0, 5, 2)]
    examples = [SimpleNamespace(n_bytes=9, row=0), SimpleNamespace(n_bytes=0, row=0)]
    found = task.metrics(outputs, examples)
    assert found["loss"] == pytest.approx(1.0)
    assert found["perplexity"] == pytest.approx(math.e)
    assert found["token_accuracy"] == pytest.approx(0.5)
    assert found["bits_per_byte"] == pytest.approx(6 / math.log(2) / 9)
    assert task.predictions(outputs, examples, []) == [pytest.approx(math.e)]
    examples[0].n_bytes = 0
    assert "bits_per_byte" not in task.metrics(outputs, examples)
    assert math.isfinite(task.metrics([TokenScores(1e6, 1, 0)], examples[:1])["perplexity"])


def test_there_is_one_prediction_per_row(bases):
    settings = task.Settings(max_tokens=10)
    network = task.build(bases["llama"], "x", [], settings).network
    tokenizer, found = made(bases["llama"], settings)
    assert len(found) > len(ROWS)
    values = task.predictions(predicting.predict(network, found, task, tokenizer), found, [])
    assert len(values) == len(ROWS)
    assert all(value >= 1 for value in values)


def test_an_encoder_without_a_head_trains_one_and_does_not_save_its_embeddings(bases, tmp_path):
    built = task.build(bases["encoder"], "x", [], task.Settings())
    assert built.head_modules == (
        "cls.predictions.transform.LayerNorm",
        "cls.predictions.transform.dense",
    )
    result = train(bases["encoder"], "head_only", tmp_path)
    assert result.n_trainable == 16 * 16 + 16 + 2 * 16
    assert (tmp_path / "adapter_model.safetensors").stat().st_size < 4 * result.n_trainable + 1000
    assert task.build(bases["bert"], "x", [], task.Settings()).head_modules == ()


def train(folder, adapter, out, steps=3):
    settings = task.Settings(max_tokens=10, masks_per_text=2)
    tokenizer, found = made(folder, settings)
    family = methods.load("adapters", adapter)
    job = training.Job(
        build=lambda: task.build(folder, "x", [], settings),
        task=task,
        adapter=family,
        adapter_settings=family.Settings(),
        tokenizer=tokenizer,
        train=found,
        dev=found,
        seed=0,
    )
    options = training.TrainingSettings(steps=steps, batch_rows=4, evaluations=2)
    return training.train(job, options, out)


@pytest.mark.parametrize("family", ["bert", "encoder", "gpt2", "llama"])
@pytest.mark.parametrize("adapter", ["bottleneck", "lora", "full"])
def test_every_adapter_trains_and_is_read_back(bases, tmp_path, family, adapter):
    result = train(bases[family], adapter, tmp_path)
    assert len(result.loss_curve) == 3
    assert {"loss", "perplexity", "token_accuracy"} <= set(result.dev_curve[0])


def test_training_lowers_perplexity(bases, tmp_path):
    curve = train(bases["gpt2"], "full", tmp_path, steps=12).dev_curve
    assert curve[-1]["perplexity"] < curve[0]["perplexity"]


def test_a_decoder_still_writes(bases):
    network = task.build(bases["gpt2"], "x", [], task.Settings()).network
    twin = transformers.AutoModelForCausalLM.from_pretrained(bases["gpt2"])
    ids = torch.tensor([[6, 7, 8]])
    options = {"max_new_tokens": 5, "do_sample": False, "attention_mask": torch.ones_like(ids)}
    assert network.generate(ids, **options).tolist() == twin.generate(ids, **options).tolist()


def test_what_cannot_be_used_is_refused_with_the_reason(bases, tmp_path):
    with pytest.raises(InputError, match="encoder-decoder, which has no loss of a text alone"):
        task.build(bases["t5"], "x", [], task.Settings())
    tokenizer = task.tokenizer(bases["bert"])
    tokenizer.model_max_length = 3
    with pytest.raises(InputError, match=r"max_tokens = 8: a piece holds 3 tokens, 2 of them"):
        task.examples(ROWS, [], tokenizer, task.Settings(max_tokens=8))
    tiny("bert", auto=MASKED).save_pretrained(tmp_path)
    put_tokenizer(tmp_path, True, mask=False)
    with pytest.raises(InputError, match="its tokenizer has no mask token"):
        made(tmp_path)
    with pytest.raises(ValidationError, match="greater than or equal to 8"):
        task.Settings(max_tokens=4)


def test_files_that_lack_weights_of_the_base_are_refused(bases, tmp_path):
    model = tiny("llama", auto=CAUSAL)
    state = {k: v for k, v in model.state_dict().items() if "layers.1.mlp" not in k}
    model.save_pretrained(tmp_path, state_dict=state)
    put_tokenizer(tmp_path, False)
    with pytest.raises(InputError, match=r"its files lack model\.layers\.1\.mlp"):
        task.build(tmp_path, "x", [], task.Settings())


def test_the_objective_can_be_named(bases):
    settings = task.Settings(objective="causal", max_tokens=10)
    with pytest.raises(InputError, match="cannot be loaded"):
        task.build(bases["t5"], "x", [], settings)
    tokenizer = task.tokenizer(bases["bert"])
    found = task.examples(ROWS[:1], [], tokenizer, settings)
    assert predicted(found) == ids_of(TEXTS[0])

import json
import math

import pyarrow as pa
import pytest
import tiny_models
import torch
import transformers
from tokenizers import Tokenizer, models, pre_tokenizers, processors

from lightadapt_data import methods, predicting, training
from lightadapt_data.answers import Reading
from lightadapt_data.errors import InputError
from lightadapt_data.tasks import question_answering as task

WORDS = ["[PAD]", "[CLS]", "[SEP]", "[UNK]", *(f"w{i}" for i in range(34)), "who", "where"]
CONFIGS = {
    **tiny_models.CONFIGS,
    **tiny_models.DECODER_CONFIGS,
    **tiny_models.ENCODER_DECODER_CONFIGS,
}
HEADS = {
    **dict.fromkeys(tiny_models.DECODERS, tiny_models.CAUSAL),
    **dict.fromkeys(tiny_models.ENCODER_DECODERS, tiny_models.SEQ2SEQ),
}
"""What the checkpoints of other models than encoders hold."""
FAMILIES = [*tiny_models.CONFIGS, *tiny_models.DECODERS, "t5", "bart"]


def save_tokenizer(folder, is_decoder=False):
    core = Tokenizer(models.WordLevel({word: i for i, word in enumerate(WORDS)}, "[UNK]"))
    core.pre_tokenizer = pre_tokenizers.Whitespace()
    names = {"eos_token": "[SEP]"}
    if not is_decoder:
        core.post_processor = processors.BertProcessing(("[SEP]", 2), ("[CLS]", 1))
        names = {"cls_token": "[CLS]", "sep_token": "[SEP]"}
    transformers.PreTrainedTokenizerFast(
        tokenizer_object=core, pad_token="[PAD]", unk_token="[UNK]", **names
    ).save_pretrained(folder)


def save_base(folder, model_type):
    """Save a base without a head of ours, as people find it; return its weights."""
    torch.manual_seed(0)
    name, known = CONFIGS[model_type]
    auto_class = getattr(transformers, HEADS.get(model_type, "AutoModel"))
    model = auto_class.from_config(getattr(transformers, name)(**known))
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    model.save_pretrained(folder)
    save_tokenizer(folder, model_type in tiny_models.DECODERS)
    return model


@pytest.fixture
def bert_folder(tmp_path):
    save_base(tmp_path, "bert")
    return tmp_path


def asked(context="w1 w2 w3", question="who", text="w2", start=3):
    answers = (
        {"text": [text], "answer_start": [start]} if text else {"text": [], "answer_start": []}
    )
    return {"context": context, "question": question, "answers": answers}


ROWS = [
    asked(),
    asked("w4 w5", "where", "w4", 0),
    asked("w6 w7 w8 w9 w10 w11", "who", "w8 w9", 6),
    asked("w1 w2", "where", ""),
]
SHORT = task.Settings(max_tokens=20, stride=4)


def examples_of(folder, rows=ROWS, settings=SHORT, labels=("no answer",)):
    tokenizer = task.tokenizer(folder)
    return tokenizer, task.examples(rows, labels, tokenizer, settings)


# --- rows ---


def test_a_row_is_squads_and_its_text_is_question_and_context():
    raw = {**asked(), "id": "x", "title": "y"}
    assert task.row(raw, None) == {**asked(), "text": "who\nw1 w2 w3"}


def test_answers_may_be_a_list_or_missing():
    raw = asked() | {"answers": [{"text": "w2", "answer_start": 3}]}
    assert task.row(raw, None)["answers"] == asked()["answers"]
    del raw["answers"]
    assert task.row(raw, None)["answers"] is None


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"context": " "}, "column 'context' is empty, not text"),
        ({"question": 3}, "column 'question' is int, not text"),
        ({"answers": {"text": ["w2"], "answer_start": [0]}}, "it is at character 3"),
    ],
)
def test_rows_that_cannot_be_used_are_refused_with_the_reason(change, reason):
    with pytest.raises(ValueError, match=reason):
        task.row(asked() | change, None)


def test_rows_are_labelled_when_the_answers_are_known_even_to_be_none():
    assert task.is_labelled(asked())
    assert task.is_labelled(asked(text=""))
    assert not task.is_labelled({"context": "w1", "question": "who"})


def test_no_answer_is_a_label_only_where_a_row_has_none():
    unknown = {"context": "w1", "question": "who"}
    assert task.labels([asked(), unknown]) == []
    assert task.labels([unknown, asked(text=""), asked()]) == ["no answer"]


def test_a_model_whose_training_rows_all_have_an_answer_always_gives_one(bert_folder):
    outputs = [read(0, 2, 1.0, null_score=99.0)]
    for labels, text in (([], "w1"), (["no answer"], "")):
        _, found = examples_of(bert_folder, [asked()], labels=labels)
        assert task.predictions(outputs, found, labels)[0]["text"] == text


def test_fields_go_through_arrow_unchanged():
    rows = [task.row(asked() | {"answers": a}, None) for a in (asked()["answers"], [], None)]
    columns = task.columns()
    fields = [{name: row[name] for name, _ in columns} for row in rows]
    table = pa.Table.from_pylist(fields, pa.schema(columns))
    assert table.to_pylist() == fields


# --- tokenizers and models ---


def test_types_are_given_to_models_that_tell_them_apart(bert_folder):
    tokenizer, found = examples_of(bert_folder)
    assert found[0].type_ids == (0, 0, 0, 1, 1, 1, 1)
    assert "token_type_ids" in task.collate(found, tokenizer)
    config = json.loads((bert_folder / "config.json").read_text())
    (bert_folder / "config.json").write_text(json.dumps(config | {"type_vocab_size": 1}))
    tokenizer, found = examples_of(bert_folder)
    assert found[0].type_ids == ()
    assert "token_type_ids" not in task.collate(found, tokenizer)


def test_types_reach_the_base_model_through_an_adapter(bert_folder):
    adapter = methods.load("adapters", "bottleneck")
    built = task.build(bert_folder, "n", [], SHORT)
    model = adapter.attach(built.network, adapter.Settings(), built.head_modules).eval()
    tokenizer, found = examples_of(bert_folder)
    batch = task.collate(found, tokenizer)
    others = batch | {"token_type_ids": torch.zeros_like(batch["token_type_ids"])}
    assert not torch.allclose(model(**batch).start_logits, model(**others).start_logits)


def test_a_tokenizer_that_knows_no_characters_is_refused(bert_folder, monkeypatch):
    class Slow:
        is_fast = False

    monkeypatch.setattr(task.base_models, "tokenizer", lambda folder: Slow())
    with pytest.raises(InputError, match=r"does not say which characters .*; allowed: one with a"):
        task.tokenizer(bert_folder)


@pytest.mark.parametrize("model_type", FAMILIES)
def test_every_weight_of_the_base_is_loaded_and_only_the_head_is_new(tmp_path, model_type):
    base = save_base(tmp_path, model_type).base_model.state_dict()
    built = task.build(tmp_path, "name", [], SHORT)
    assert built.network.name_or_path == "name"
    prefix = f"{built.network.base_model_prefix}."
    new = {}
    for key, value in built.network.state_dict().items():
        if key.removeprefix(prefix) in base:
            assert torch.equal(value, base[key.removeprefix(prefix)]), key
        else:
            new[key.rpartition(".")[0]] = value
    head = {"classifier"} if model_type == "modernbert" else {"qa_outputs"}
    assert {name.split(".")[0] for name in new} - {"head"} == head
    assert set(built.head_modules) >= head
    assert all(value.shape[0] == 2 for name, value in new.items() if name in head)


def test_a_model_without_such_a_head_is_refused(tmp_path):
    save_base(tmp_path, "marian")
    with pytest.raises(InputError, match=r"Marian.*AutoModelForQuestionAnswering.*of a kind that"):
        task.build(tmp_path, "name", [], SHORT)


@pytest.mark.parametrize("adapter_name", ["bottleneck", "full"])
@pytest.mark.parametrize("model_type", FAMILIES)
def test_every_family_trains_and_reads_back_to_the_same(tmp_path, model_type, adapter_name):
    (tmp_path / "base").mkdir()
    (tmp_path / "out").mkdir()
    save_base(tmp_path / "base", model_type)
    adapter = methods.load("adapters", adapter_name)
    tokenizer, found = examples_of(tmp_path / "base")
    job = training.Job(
        build=lambda: task.build(tmp_path / "base", "name", [], SHORT),
        task=task,
        adapter=adapter,
        adapter_settings=adapter.Settings(learning_rate=1e-3),
        tokenizer=tokenizer,
        train=found,
        dev=found,
        seed=0,
    )
    few = training.TrainingSettings(steps=2, batch_rows=4, evaluations=1)
    result = training.train(job, few, tmp_path / "out")
    outputs = predicting.predict(result.model, found, task, tokenizer)
    assert result.dev_curve[-1] == {"step": 2, **task.metrics(outputs, found)}
    answers = task.predictions(outputs, found, [])
    assert [set(answer) for answer in answers] == [{"text", "start", "score"}] * len(ROWS)
    for answer, row in zip(answers, ROWS, strict=True):
        assert row["context"][answer["start"] :].startswith(answer["text"]) or not answer["text"]
        assert 0 <= answer["score"] <= 1


def test_answers_are_learned_and_the_lack_of_one_too(bert_folder):
    rows = [asked(f"w{i} w30 w31 w{i + 1}", "who", "w30 w31", 3) for i in range(5, 9)]
    rows += [asked(f"w{i} w{i + 1} w{i + 2}", "who", "") for i in range(5, 9)]
    tokenizer, found = examples_of(bert_folder, rows)
    torch.manual_seed(0)
    model = task.build(bert_folder, "n", [], SHORT).network
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    batch = task.collate(found, tokenizer)
    for _ in range(100):
        optimizer.zero_grad()
        model(**batch).loss.backward()
        optimizer.step()
    outputs = predicting.predict(model, found, task, tokenizer)
    assert task.metrics(outputs, found)["f1"] == 1.0
    answers = task.predictions(outputs, found, [])
    assert [answer["text"] for answer in answers] == ["w30 w31"] * 4 + [""] * 4
    assert [answer["start"] for answer in answers] == [3] * 4 + [-1] * 4
    assert min(answer["score"] for answer in answers) > 0.8


# --- batches, prompts ---


def test_collate_pads_masks_and_leaves_unknown_positions_out_of_the_loss(bert_folder):
    unknown = {"context": "w1 w2 w3 w4", "question": "who"}
    tokenizer, found = examples_of(bert_folder, [asked(), unknown])
    batch = task.collate(found, tokenizer)
    assert batch["input_ids"].tolist() == [
        [1, 38, 2, 5, 6, 7, 2, 0],
        [1, 38, 2, 5, 6, 7, 8, 2],
    ]
    assert batch["attention_mask"].tolist() == [[1] * 7 + [0], [1] * 8]
    assert batch["token_type_ids"].tolist() == [[0] * 3 + [1] * 4 + [0], [0] * 3 + [1] * 5]
    assert batch["start_positions"].tolist() == batch["end_positions"].tolist() == [4, 8]
    model = task.build(bert_folder, "n", [], SHORT).network.eval()
    one = {name: tensor[:1] for name, tensor in batch.items()}
    assert model(**batch).loss.item() == pytest.approx(model(**one).loss.item(), rel=1e-5)


@pytest.mark.parametrize("at", range(8))
def test_a_soft_prompt_moves_all_places_behind_it(bert_folder, at):
    _, found = examples_of(bert_folder, [asked(), asked(text=""), {**asked(), "answers": None}])
    for window in found:
        ids = [50, 51, 52]
        moved = task.prompted(window, ids, at)
        assert [*moved.token_ids[:at], *moved.token_ids[at + 3 :]] == list(window.token_ids)
        assert list(moved.token_ids[at : at + 3]) == ids
        assert len(moved.type_ids) == len(moved.token_ids)
        assert [*moved.type_ids[:at], *moved.type_ids[at + 3 :]] == list(window.type_ids)
        assert moved.tokens[:, 1:].tolist() == window.tokens[:, 1:].tolist()

        def at_places(one, places):
            return [one.token_ids[place] for place in places]

        assert at_places(moved, moved.tokens[:, 0]) == at_places(window, window.tokens[:, 0])
        for name in ("null_place", "start", "end"):
            old, new = getattr(window, name), getattr(moved, name)
            assert new == old == -1 or at_places(moved, [new]) == at_places(window, [old])


# --- outputs, metrics, predictions ---


def test_outputs_do_not_depend_on_what_else_is_in_the_batch(bert_folder):
    tokenizer, found = examples_of(bert_folder)
    model = task.build(bert_folder, "n", [], SHORT).network.eval()
    together = predicting.predict(model, found, task, tokenizer)
    for one, window in zip(together, found, strict=True):
        (alone,) = predicting.predict(model, [window], task, tokenizer)
        assert (one.start, one.end) == (alone.start, alone.end)
        assert one.loss == pytest.approx(alone.loss, abs=1e-4)


def read(start, end, score, null_score=-9.0, loss=1.0):
    return Reading(start, end, score, null_score, score, loss)


def test_a_row_of_several_windows_counts_once(bert_folder):
    context = " ".join(f"w{i}" for i in range(1, 30))
    rows = [asked(context, "who", "w29", context.index("w29")), asked()]
    _, found = examples_of(bert_folder, rows)
    n_windows = len(found) - 1
    assert n_windows > 1
    start = context.index("w29")
    outputs = [read(0, 2, 1.0, loss=3.0)] * (n_windows - 1) + [read(start, start + 3, 2.0)]
    outputs += [read(0, 2, 1.0, loss=2.0)]
    scores = task.metrics(outputs, found)
    assert scores["exact_match"] == scores["f1"] == 0.5
    assert scores["loss"] == pytest.approx((3.0 * (n_windows - 1) + 1.0 + 2.0) / (n_windows + 1))
    answers = task.predictions(outputs, found, [])
    assert [answer["text"] for answer in answers] == ["w29", "w1"]
    assert [answer["start"] for answer in answers] == [start, 0]
    assert json.loads(json.dumps(answers)) == answers


def test_no_answer_is_told_by_the_threshold(bert_folder):
    for threshold, text in ((0.0, ""), (3.0, "w1")):
        settings = task.Settings(null_threshold=threshold)
        _, found = examples_of(bert_folder, [asked(text="")], settings)
        outputs = [read(0, 2, 1.0, null_score=3.0)]
        (answer,) = task.predictions(outputs, found, [])
        assert (answer["text"], answer["start"]) == (text, -1 if text == "" else 0)
        assert task.metrics(outputs, found)["f1"] == float(text == "")


def test_rows_without_answers_are_predicted_and_do_not_count(bert_folder):
    rows = [{"context": "w1 w2", "question": "who"}, asked()]
    tokenizer, found = examples_of(bert_folder, rows)
    outputs = [read(0, 2, 1.0, loss=math.nan), read(3, 5, 1.0, loss=0.5)]
    assert task.metrics(outputs, found) == {"f1": 1.0, "exact_match": 1.0, "loss": 0.5}
    assert len(task.predictions(outputs, found, [])) == 2
    assert task.examples([], [], tokenizer, SHORT) == []


def test_partly_right_answers_get_part_of_f1(bert_folder):
    _, found = examples_of(bert_folder, [asked("w1 w2 w3", text="w2 w3")])
    scores = task.metrics([read(0, 5, 1.0)], found)
    assert scores["f1"] == pytest.approx(0.5)
    assert scores["exact_match"] == 0.0

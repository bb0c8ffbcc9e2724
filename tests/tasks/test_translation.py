import logging
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
import transformers
from pydantic import ValidationError
from tiny_models import CAUSAL, MASKED, SEQ2SEQ, tiny
from tokenizers import Tokenizer, models, pre_tokenizers, processors

from lightadapt_data import methods, predicting, training
from lightadapt_data.errors import InputError
from lightadapt_data.tasks import translation as task
from lightadapt_data.token_losses import IGNORED

SPECIAL = ["[PAD]", "[CLS]", "[SEP]", "[UNK]"]
WORDS = [*SPECIAL, *(f"w{number}" for number in range(34)), "eng", "deu"]
ROWS = [
    {"text": "w1 w2 w3", "target": "w11 w12 w13"},
    {"text": "w4", "target": "w14"},
    {"text": "w5 w6 w7 w8 w9 w1 w2 w3 w4 w5", "target": "w15 w16 w17 w18 w19 w11 w12"},
    {"text": "w7 w8", "target": None},
]
PAIRED = ("t5", "bart", "marian")
FAMILIES = (*PAIRED, "gpt2", "llama")
QUICK = {"max_tokens": 12, "max_target_tokens": 8, "template": "{source} w20 w21"}


def put_tokenizer(folder, form):
    core = Tokenizer(models.WordLevel({word: i for i, word in enumerate(WORDS)}, "[UNK]"))
    core.pre_tokenizer = pre_tokenizers.Whitespace()
    if form:
        core.post_processor = processors.TemplateProcessing(
            single=form, special_tokens=[("[CLS]", 1), ("[SEP]", 2)]
        )
    transformers.PreTrainedTokenizerFast(
        tokenizer_object=core,
        pad_token="[PAD]",
        unk_token="[UNK]",
        bos_token="[CLS]",
        eos_token="[SEP]",
        model_max_length=40,
    ).save_pretrained(folder)


FORMS = {"t5": "$A [SEP]", "marian": "$A [SEP]", "bart": "[CLS] $A [SEP]", "llama": "[CLS] $A"}


@pytest.fixture(scope="module")
def bases(tmp_path_factory):
    found = {}
    for family in FAMILIES:
        found[family] = tmp_path_factory.mktemp(family)
        auto = SEQ2SEQ if family in PAIRED else CAUSAL
        model = tiny(family, auto=auto)
        for name, parameter in model.named_parameters():  # else all tokens become the same one
            if parameter.ndim < 2:
                torch.nn.init.constant_(parameter, float(name.endswith("weight")))
        model.save_pretrained(found[family])
        put_tokenizer(found[family], FORMS.get(family))
    return found


def made(folder, rows=ROWS, **options):
    settings = task.Settings(**(QUICK | options))
    tokenizer = task.tokenizer(folder)
    return tokenizer, task.examples(rows, [], tokenizer, settings)


def network_of(folder, **options):
    return task.build(folder, "x", [], task.Settings(**(QUICK | options))).network


def ids_of(text):
    return tuple(WORDS.index(word) for word in text.split())


def test_a_row_is_a_source_and_perhaps_a_target():
    columns = SimpleNamespace(text_column="ignored", label_column="label")
    assert task.row({"source": "a", "target": "b"}, columns) == {"text": "a", "target": "b"}
    for target in (None, " "):
        found = task.row({"source": "a", "target": target}, columns)
        assert found == {"text": "a", "target": None}
        assert not task.is_labelled(found)
    assert task.is_labelled(ROWS[0])
    with pytest.raises(ValueError, match="column 'source' is empty"):
        task.row({"source": "", "target": "b"}, columns)
    with pytest.raises(ValueError, match="column 'target' is int, not text"):
        task.row({"source": "a", "target": 3}, columns)
    assert task.NEEDS == ("source", "target")
    assert [name for name, _ in task.columns()] == ["target"]
    assert task.labels(ROWS) == []


def test_an_encoder_decoder_reads_the_source_and_writes_the_target_with_its_end(bases):
    _, found = made(bases["t5"], prefix="w30 ")
    assert found[0].token_ids == (*ids_of("w30 w1 w2 w3"), 2)
    assert found[0].target_ids == (*ids_of("w11 w12 w13"), 2)
    assert (found[3].target_ids, found[3].target) == ((), None)
    _, found = made(bases["bart"])
    assert found[1].target_ids == (1, *ids_of("w14"), 2)


def test_a_decoder_reads_the_source_in_the_template(bases):
    _, found = made(bases["llama"], prefix="w30 ")
    assert found[0].token_ids == (1, *ids_of("w30 w1 w2 w3 w20 w21 w11 w12 w13"), 2)
    assert found[0].n_read == 7
    assert found[0].target_ids == (*ids_of("w11 w12 w13"), 2)
    _, found = made(bases["gpt2"], template="w20 {source}")
    assert found[1].token_ids[: found[1].n_read] == ids_of("w20 w4")
    assert found[3].token_ids == ids_of("w20 w7 w8")


def test_only_the_source_and_the_target_are_cut_and_the_end_is_kept(bases):
    _, found = made(bases["gpt2"], max_tokens=6, max_target_tokens=4)
    assert found[2].token_ids == (*ids_of("w5 w6 w7 w8 w20 w21 w15 w16 w17"), 2)
    assert found[2].target_ids == (*ids_of("w15 w16 w17"), 2)
    _, found = made(bases["t5"], max_tokens=6, max_target_tokens=4)
    assert found[2].token_ids == (*ids_of("w5 w6 w7 w8 w9"), 2)
    assert found[2].target_ids == (*ids_of("w15 w16 w17"), 2)


def test_collate_gives_labels_to_the_target_alone(bases):
    tokenizer, found = made(bases["gpt2"])
    batch = task.collate(found[:2], tokenizer)
    assert batch["input_ids"].tolist() == [
        [*ids_of("w1 w2 w3 w20 w21 w11 w12 w13"), 2],
        [*ids_of("w4 w20 w21 w14"), 2, 0, 0, 0, 0],
    ]
    assert batch["attention_mask"].tolist()[1] == [1] * 5 + [0] * 4
    assert batch["labels"].tolist() == [
        [*[IGNORED] * 5, *ids_of("w11 w12 w13"), 2],
        [*[IGNORED] * 3, *ids_of("w14"), 2, *[IGNORED] * 4],
    ]
    tokenizer, found = made(bases["t5"])
    batch = task.collate(found[:2], tokenizer)
    assert batch["labels"].tolist() == [[*ids_of("w11 w12 w13"), 2], [18, 2, IGNORED, IGNORED]]


def test_a_soft_prompt_stands_in_the_source(bases):
    for family in ("t5", "gpt2"):
        _, (first, *_) = made(bases[family])
        longer = task.prompted(first, [40, 41], 0)
        assert longer.token_ids == (40, 41, *first.token_ids)
        assert longer.n_read == first.n_read + 2
        assert longer.target_ids == first.target_ids


@pytest.mark.parametrize("family", FAMILIES)
def test_outputs_are_those_of_each_row_alone_in_the_plain_model(bases, family):
    tokenizer, found = made(bases[family])
    outputs = predicting.predict(network_of(bases[family]), found, task, tokenizer)
    auto = SEQ2SEQ if family in PAIRED else CAUSAL
    twin = getattr(transformers, auto).from_pretrained(bases[family]).eval()
    for example, output in zip(found, outputs, strict=True):
        assert output.n_tokens == len(example.target_ids)
        if example.target_ids:
            batch = task.collate([example], tokenizer)
            expected = twin(**batch).loss.item() * output.n_tokens
            assert output.loss_sum == pytest.approx(expected, rel=1e-4)
        ids = torch.tensor([example.token_ids[: example.n_read]])
        written = twin.generate(
            input_ids=ids,
            attention_mask=torch.ones_like(ids),
            max_new_tokens=8,
            do_sample=False,
            num_beams=1,
        )[0, 0 if family in PAIRED else example.n_read :]
        assert output.text == tokenizer.decode(written, skip_special_tokens=True).strip()
    assert task.predictions(outputs, found, []) == [output.text for output in outputs]
    assert set(task.metrics(outputs, found)) == {"chrf", "bleu", "loss"}


def test_metrics_are_sacrebleus_over_rows_with_a_target(caplog):
    import sacrebleu

    texts = ["the cat sat on the mat", "a dog runs in the park", "not scored"]
    targets = ["the cat sat on a mat", "a dog ran in the park today", None]
    outputs = [task.Written(text, 3.0, 2) for text in texts[:2]] + [task.Written(texts[2], 0, 0)]
    examples = [task.Example((1,), 1, (), target, False) for target in targets]
    with caplog.at_level(logging.DEBUG, "lightadapt_data"):
        found = task.metrics(outputs, examples)
    assert found["bleu"] == pytest.approx(sacrebleu.corpus_bleu(texts[:2], [targets[:2]]).score)
    assert found["chrf"] == pytest.approx(sacrebleu.corpus_chrf(texts[:2], [targets[:2]]).score)
    assert found["loss"] == pytest.approx(1.5)
    assert 0 < found["bleu"] < found["chrf"] < 100
    assert "bleu is nrefs:1" in caplog.text
    assert "chrf is nrefs:1" in caplog.text


def job(folder, adapter, **options):
    settings = task.Settings(**(QUICK | options))
    tokenizer, found = made(folder, **options)
    labelled = [example for example in found if example.target_ids]
    family = methods.load("adapters", adapter)
    return training.Job(
        build=lambda: task.build(folder, "x", [], settings),
        task=task,
        adapter=family,
        adapter_settings=family.Settings(),
        tokenizer=tokenizer,
        train=labelled,
        dev=labelled,
        seed=0,
    )


def train(folder, adapter, out, steps=2, rows=2, **options):
    settings = training.TrainingSettings(steps=steps, batch_rows=rows, evaluations=1)
    return training.train(job(folder, adapter, **options), settings, out)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("adapter", ["bottleneck", "lora", "full"])
def test_every_adapter_trains_and_is_read_back(bases, tmp_path, family, adapter):
    result = train(bases[family], adapter, tmp_path)
    assert len(result.loss_curve) == 2
    assert 0 <= result.dev_curve[0]["chrf"] <= 100


def steps_of(model, examples, tokenizer, use_cache):
    """Return the logits of every written token, [tokens, rows, vocabulary]."""
    read = [replace(e, token_ids=e.token_ids[: e.n_read], target_ids=()) for e in examples]
    batch = task.collate(read, tokenizer)
    found = model.generate(
        input_ids=batch["input_ids"],
        attention_mask=batch["attention_mask"],
        use_cache=use_cache,
        output_logits=True,
        return_dict_in_generate=True,
    )
    return torch.stack(found.logits)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("adapter", ["bottleneck", "lora", "prefix", "prompt"])
def test_an_adapter_writes_the_same_with_a_cache_and_without(bases, family, adapter):
    start = job(bases[family], adapter)
    settings = {"length": 3} if adapter in ("prefix", "prompt") else {}
    torch.manual_seed(0)
    network = start.build().network
    with torch.no_grad():  # one row at a time: nothing is padded
        plain = steps_of(network, start.dev[:1], start.tokenizer, True)
    model = start.adapter.attach(network, start.adapter.Settings(**settings), ())
    for parameter in model.parameters():
        if parameter.requires_grad:  # a fresh adapter does nothing
            torch.nn.init.normal_(parameter, std=0.3)
    model.eval()
    dev = predicting.prompted(start.dev[:1], task, start.adapter, model, start.tokenizer)
    with torch.no_grad():
        found = [steps_of(model, dev, start.tokenizer, use_cache) for use_cache in (True, False)]
    assert torch.allclose(*found, atol=1e-4)
    assert not torch.allclose(found[0][0], plain[0], atol=1e-2)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("adapter", ["lora", "prefix", "prompt"])
def test_an_adapter_writes_for_rows_of_unlike_length_what_it_writes_for_each(
    bases, family, adapter
):
    start = job(bases[family], adapter)
    settings = {"length": 3} if adapter in ("prefix", "prompt") else {}
    torch.manual_seed(0)
    model = start.adapter.attach(start.build().network, start.adapter.Settings(**settings), ())
    for parameter in model.parameters():
        if parameter.requires_grad:
            torch.nn.init.normal_(parameter, std=0.3)
    dev = predicting.prompted(start.dev, task, start.adapter, model, start.tokenizer)
    together = predicting.predict(model, dev, task, start.tokenizer)
    for example, output in zip(dev, together, strict=True):
        (alone,) = predicting.predict(model, [example], task, start.tokenizer)
        assert alone.text == output.text
        assert alone.loss_sum == pytest.approx(output.loss_sum, rel=1e-4)


def test_outputs_kept_of_frozen_layers_change_nothing(bases, tmp_path, monkeypatch):
    start = job(bases["gpt2"], "bottleneck")
    start = replace(start, adapter_settings=start.adapter.Settings(skip_layers=1))
    settings = training.TrainingSettings(steps=9, batch_rows=3, evaluations=1)
    kept = training.train(start, settings, tmp_path)
    monkeypatch.setattr(training, "LEAST_EPOCHS", 1000)
    assert kept.loss_curve == pytest.approx(training.train(start, settings, tmp_path).loss_curve)


def test_training_learns_a_few_rows_by_heart(bases, tmp_path):
    start = job(bases["t5"], "full")
    fast = start.adapter.Settings(learning_rate=1e-2)
    learner = replace(start, adapter_settings=fast)
    settings = training.TrainingSettings(steps=40, batch_rows=3, evaluations=1)
    assert training.train(learner, settings, tmp_path).dev_curve[-1]["chrf"] > 90


def test_beams_find_a_text_at_least_as_likely(bases):
    tokenizer, found = made(bases["bart"])
    network = network_of(bases["bart"], beams=3)
    assert network.generation_config.num_beams == 3
    assert len(predicting.predict(network, found, task, tokenizer)) == len(found)


def test_a_model_of_many_languages_begins_with_the_target_s(tmp_path):
    tiny("m2m_100", auto=SEQ2SEQ).save_pretrained(tmp_path)
    vocab = {
        "<s>": 1,
        "<pad>": 0,
        "</s>": 2,
        "<unk>": 3,
        "▁w1": 4,
        "▁w2": 5,
        "▁w3": 6,
        "<mask>": 39,
    }
    names = {"eng_Latn": 37, "deu_Latn": 38}
    fillers = {f"x{number}": number for number in range(7, 37)}
    transformers.NllbTokenizer(
        vocab=vocab | names | fillers,
        merges=[],
        additional_special_tokens=list(names),
        src_lang="eng_Latn",
        tgt_lang="deu_Latn",
    ).save_pretrained(tmp_path)
    languages = {"source_language": "deu_Latn", "target_language": "eng_Latn"}
    tokenizer, found = made(tmp_path, [{"text": "w1", "target": "w2"}], **languages)
    target = tokenizer.convert_tokens_to_ids("eng_Latn")
    assert found[0].token_ids[0] == tokenizer.convert_tokens_to_ids("deu_Latn")
    assert found[0].target_ids[0] == target
    network = network_of(tmp_path, **languages)
    assert network.generation_config.forced_bos_token_id == target
    with pytest.raises(InputError, match=r"source_language = '': the base model is one of many"):
        made(tmp_path)
    with pytest.raises(InputError, match="knows no language 'xyz'"):
        made(tmp_path, **languages | {"target_language": "xyz"})


def test_what_cannot_be_used_is_refused_with_the_reason(bases, tmp_path):
    with pytest.raises(InputError, match="target_language = 'de': the base model has no names"):
        made(bases["t5"], target_language="de")
    with pytest.raises(InputError, match="no token of the source fits in"):
        made(bases["gpt2"], max_target_tokens=39)
    with pytest.raises(ValidationError, match="0 places for the source"):
        task.Settings(template="translate:")
    tiny("bert", auto=MASKED).save_pretrained(tmp_path)
    with pytest.raises(InputError, match="it is an encoder, which writes no text"):
        task.build(tmp_path, "x", [], task.Settings())


def test_files_that_lack_weights_are_refused(tmp_path):
    model = tiny("bart", auto=SEQ2SEQ)
    state = {k: v for k, v in model.state_dict().items() if "decoder.layers.1.fc1" not in k}
    model.save_pretrained(tmp_path, state_dict=state)
    with pytest.raises(InputError, match=r"its files lack model\.decoder\.layers\.1\.fc1"):
        task.build(tmp_path, "x", [], task.Settings())


def test_no_rows_are_no_examples(bases):
    assert made(bases["t5"], [])[1] == []

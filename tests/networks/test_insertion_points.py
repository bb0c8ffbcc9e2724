import copy
import re
import subprocess
import sys

import pytest
import torch
from tiny_models import (
    CAUSAL,
    CONFIGS,
    DECODER_CONFIGS,
    ENCODER_DECODER_CONFIGS,
    SEQ2SEQ,
    SEQUENCE,
    batch,
    tiny,
)
from torch import nn

from lightadapt_data.adapters import bottleneck
from lightadapt_data.networks.bottleneck import BottleneckLayer
from lightadapt_data.networks.insertion_points import (
    POINTS,
    hidden_size,
    how_to_change,
    n_layers,
    target_pattern,
)

KNOWN = {**CONFIGS, **DECODER_CONFIGS, **ENCODER_DECODER_CONFIGS}
VARIANTS = {"pfeiffer": 1, "houlsby": 2, "parallel": 1}
"""Variant -> adapters per layer."""
TESTED_ELSEWHERE = ("bart", "gpt2", "llama", "marian", "qwen3", "t5")
RELATIVES = sorted(
    {*DECODER_CONFIGS, *ENCODER_DECODER_CONFIGS} - {*TESTED_ELSEWHERE, "m2m_100", "qwen2"}
)


def head_of(model_type):
    if model_type in ENCODER_DECODER_CONFIGS:
        return SEQ2SEQ
    return CAUSAL if model_type in DECODER_CONFIGS else SEQUENCE


def fresh(model_type):
    return tiny(model_type, auto=head_of(model_type))


def attached(network, **options):
    settings = bottleneck.Settings(**{"reduction_factor": 4, **options})
    return bottleneck.attach(network, settings, []).eval()


def shaken(network, **options):
    """Return the model with large random weights in its adapters."""
    model = attached(network, **options)
    for name, parameter in model.named_parameters():
        if "bottleneck_" in name:
            nn.init.normal_(parameter, std=0.3)
    return model


def logits(model, model_type):
    with torch.no_grad():
        return model(**batch(head_of(model_type))).logits


def places(model):
    """Return the full names of the modules with an adapter, inside the base model."""
    names = [name for name, part in model.named_modules() if isinstance(part, BottleneckLayer)]
    return [name.removeprefix("base_model.model.") for name in names]


def test_every_family_of_the_table_has_a_tiny_model():
    assert set(KNOWN) == set(POINTS)


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("model_type", sorted(KNOWN))
def test_every_layer_gets_as_many_adapters_as_the_variant_has(model_type, variant):
    with torch.device("meta"):
        network = fresh(model_type)
    names = [name for name, _ in network.named_modules()]
    for skip_layers, n_left in ((0, 2), (1, 1)):
        pattern = target_pattern(model_type, variant, skip_layers)
        found = [name for name in names if re.fullmatch(pattern, name)]
        n_stacks = 2 if model_type in ENCODER_DECODER_CONFIGS else 1
        assert len(found) == n_stacks * n_left * VARIANTS[variant]
        assert all(how_to_change(model_type, variant, name) for name in found)


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("model_type", RELATIVES)
def test_starts_as_no_op_and_every_adapter_learns(model_type, variant):
    network = fresh(model_type)
    before = logits(network, model_type)
    model = attached(network, variant=variant)
    assert torch.equal(logits(model, model_type), before)
    model = shaken(fresh(model_type), variant=variant)
    model(**batch(head_of(model_type))).loss.backward()
    trainable = [parameter for parameter in model.parameters() if parameter.requires_grad]
    assert all(parameter.grad.abs().sum() > 0 for parameter in trainable)
    with model.disable_adapter():
        assert torch.equal(logits(model, model_type), before)


@pytest.mark.parametrize(
    ("model_type", "skipped", "left"),
    [
        ("gpt2", 1, ["transformer.h.1"]),
        ("llama", 1, ["model.layers.1"]),
        ("t5", 1, ["encoder.block.1", "decoder.block.1"]),
        ("bart", 1, [f"model.{part}.layers.1.final_layer_norm" for part in ("encoder", "decoder")]),
    ],
)
def test_the_lowest_layers_of_encoder_and_decoder_are_skipped(model_type, skipped, left):
    assert places(attached(fresh(model_type), skip_layers=skipped)) == left


def test_a_part_of_a_block_of_t5_is_no_block():
    pattern = target_pattern("t5", "pfeiffer", 0)
    names = ["block.0", "encoder.block.0", "encoder.block.0.layer.1", "block.0.layer.1.dropout"]
    assert [re.fullmatch(pattern, name) is not None for name in names] == [True, True, False, False]
    pattern = target_pattern("t5", "parallel", 1)
    ends = "layer.1.DenseReluDense"
    assert re.fullmatch(pattern, f"encoder.block.1.{ends}")
    assert not re.fullmatch(pattern, f"encoder.block.0.{ends}")
    assert re.fullmatch(pattern, f"encoder.block.10.{ends}")


def test_the_cross_attention_gets_no_adapter():
    for model_type in ENCODER_DECODER_CONFIGS:
        found = places(attached(fresh(model_type), variant="houlsby"))
        assert not any("encoder_attn" in name or "EncDec" in name for name in found)
        assert sum("decoder" in name for name in found) == 4


def delta(layer, hidden):
    down, up = layer.bottleneck_down["default"], layer.bottleneck_up["default"]
    return (hidden @ down.weight.T + down.bias).clamp(min=0) @ up.weight.T + up.bias


def bare(part):
    return part.base_layer if isinstance(part, BottleneckLayer) else part


def gpt2_by_formula(block, hidden, variant):
    inner = bare(block)
    attention = bare(inner.attn.resid_dropout)(
        inner.attn.c_proj(
            nn.functional.scaled_dot_product_attention(
                *(
                    part.unflatten(-1, (2, 8)).transpose(1, 2)
                    for part in inner.attn.c_attn(inner.ln_1(hidden)).split(16, dim=2)
                ),
                is_causal=True,
            )
            .transpose(1, 2)
            .flatten(2)
        )
    )
    if variant == "houlsby":
        attention = attention + delta(inner.attn.resid_dropout, attention)
    hidden = hidden + attention
    normed = inner.ln_2(hidden)
    added = bare(inner.mlp)(normed)
    if variant == "houlsby":
        added = added + delta(inner.mlp, added)
    if variant == "parallel":
        added = added + delta(inner.mlp, normed)
    hidden = hidden + added
    return hidden + delta(block, hidden) if variant == "pfeiffer" else hidden


def bart_by_formula(layer, hidden, variant):
    attention = layer.self_attn.out_proj
    with_adapter = layer.self_attn(hidden, attention_mask=None)[0]
    if variant == "houlsby":  # checked apart: what goes into the projection is not at hand
        layer.self_attn.out_proj = bare(attention)
        plain = layer.self_attn(hidden, attention_mask=None)[0]
        layer.self_attn.out_proj = attention
        torch.testing.assert_close(with_adapter, plain + delta(attention, plain))
    hidden = layer.self_attn_layer_norm(hidden + with_adapter)
    added = bare(layer.fc2)(nn.functional.gelu(layer.fc1(hidden)))
    if variant == "houlsby":
        added = added + delta(layer.fc2, added)
    if variant == "parallel":
        added = added + delta(layer.fc2, hidden)
    total, norm = hidden + added, bare(layer.final_layer_norm)
    if variant == "pfeiffer":
        return norm(total + delta(layer.final_layer_norm, norm(total)))
    return norm(total)


def t5_by_formula(block, hidden, variant):
    inner = bare(block)
    attention, part = inner.layer[0], inner.layer[1]
    added = attention.SelfAttention(attention.layer_norm(hidden))[0]
    if variant == "houlsby":
        added = added + delta(attention.dropout, added)
    hidden = hidden + added
    normed = part.layer_norm(hidden)
    added = bare(part.DenseReluDense)(normed)
    if variant == "houlsby":
        added = added + delta(part.DenseReluDense, added)
    if variant == "parallel":
        added = added + delta(part.DenseReluDense, normed)
    hidden = hidden + added
    return hidden + delta(block, hidden) if variant == "pfeiffer" else hidden


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize(
    ("model_type", "layer", "formula"),
    [
        ("gpt2", "transformer.h.0", gpt2_by_formula),
        ("bart", "model.encoder.layers.0", bart_by_formula),
        ("t5", "encoder.block.0", t5_by_formula),
    ],
)
def test_a_layer_equals_the_formula(model_type, layer, formula, variant):
    model = shaken(fresh(model_type), variant=variant)
    part = model.base_model.model.get_submodule(layer)
    hidden = torch.randn(2, 5, 16, generator=torch.Generator().manual_seed(1))
    options = {"attention_mask": None} if model_type == "bart" else {}
    with torch.no_grad():
        found = part(hidden, **options)
        found = found[0] if isinstance(found, tuple) else found
        expected = formula(part, hidden, variant)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("model_type", ["bart", "gemma2", "opt"])
def test_what_is_noted_beside_a_module_is_right_when_layers_are_computed_again(model_type):
    gradients = []
    for is_checkpointed in (False, True):
        torch.manual_seed(1)
        network = tiny(model_type, auto=head_of(model_type), sizes={"dropout": 0.0})
        model = shaken(network, variant="parallel").train()
        if is_checkpointed:
            model.enable_input_require_grads()
            model.gradient_checkpointing_enable({"use_reentrant": False})
        model(**batch(head_of(model_type))).loss.backward()
        gradients.append([p.grad for p in model.parameters() if p.requires_grad])
    for plain, again in zip(*gradients, strict=True):
        torch.testing.assert_close(plain, again)


def test_a_copy_of_a_model_notes_for_itself():
    model = shaken(fresh("bart"), variant="parallel")
    expected = logits(model, "bart")
    other = copy.deepcopy(model)
    for name, parameter in model.named_parameters():
        if "bottleneck_" in name:
            nn.init.zeros_(parameter)
    assert torch.equal(logits(other, "bart"), expected)


@pytest.mark.parametrize("model_type", sorted(KNOWN))
def test_layers_and_width_are_read_from_the_config(model_type):
    config = fresh(model_type).config.to_dict()
    assert (n_layers(config), hidden_size(config)) == (2, 16)


def test_the_part_with_fewer_layers_counts():
    assert n_layers({"encoder_layers": 12, "decoder_layers": 6, "num_hidden_layers": 12}) == 6
    assert n_layers({"num_layers": 8, "num_decoder_layers": None}) == 8
    assert n_layers({}) is None
    assert hidden_size({}) is None


def test_no_torch_is_loaded():
    code = (
        "import sys; from lightadapt_data.networks import insertion_points, linear_layers;"
        "assert not {'torch', 'peft', 'transformers'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)

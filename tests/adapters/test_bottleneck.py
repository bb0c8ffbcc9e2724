import json

import peft
import pytest
import torch
from safetensors.torch import load_file
from tiny_models import CONFIGS, IDS, LABELS, SEQ2SEQ, SEQUENCE
from tiny_models import tiny as fresh
from torch import nn

from lightadapt_data import methods
from lightadapt_data.adapters import bottleneck, head_only
from lightadapt_data.errors import InputError, RecipeError
from lightadapt_data.networks.bottleneck import BottleneckLayer
from lightadapt_data.networks.insertion_points import POINTS, target_pattern

VARIANTS = ("pfeiffer", "houlsby", "parallel")


def heads(model):
    named = model.named_children()
    return [n for n, m in named if n != model.base_model_prefix and list(m.parameters())]


def logits(model):
    with torch.no_grad():
        return model(input_ids=IDS, attention_mask=torch.ones_like(IDS)).logits


def attached(model, **options):
    settings = bottleneck.Settings(**{"reduction_factor": 4, **options})
    return bottleneck.attach(model, settings, heads(model)).eval()


def trained(model, steps=2):
    parameters = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=0.05)
    for _ in range(steps):
        mask = torch.ones_like(IDS)
        model(input_ids=IDS, attention_mask=mask, labels=LABELS).loss.backward()
        assert all(p.grad is not None for p in parameters)
        optimizer.step()
        optimizer.zero_grad()
    return model


def test_every_family_of_the_table_is_tested():
    assert set(CONFIGS) <= set(POINTS)  # those that write: tests/networks/test_insertion_points.py


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("model_type", sorted(CONFIGS))
def test_starts_as_no_op_trains_switches_off_and_reloads_exactly(model_type, variant, tmp_path):
    base = fresh(model_type)
    before = logits(base)
    model = attached(base, variant=variant)
    assert torch.equal(logits(model), before)
    after = logits(trained(model))
    assert not torch.allclose(after, before, atol=1e-2)
    with model.disable_adapter():
        assert torch.equal(logits(model), before)
    model.save_pretrained(tmp_path)
    other = fresh(model_type)
    for name in heads(other):  # a head that is not in the file would show
        for parameter in getattr(other, name).parameters():
            nn.init.normal_(parameter)
    assert torch.equal(logits(bottleneck.load(other, tmp_path).eval()), after)


@pytest.mark.parametrize("variant", VARIANTS)
def test_only_adapters_and_head_are_trained(variant):
    base = fresh("bert")
    before = {name: value.clone() for name, value in base.state_dict().items()}
    model = trained(attached(base, variant=variant))
    names = [name for name, p in model.named_parameters() if p.requires_grad]
    assert all("bottleneck_" in name or "classifier" in name for name in names)
    after = model.unload().state_dict()
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed <= {"classifier.weight", "classifier.bias"}


@pytest.mark.parametrize(
    ("variant", "per_layer"), [("pfeiffer", 1), ("houlsby", 2), ("parallel", 1)]
)
def test_parameter_count_is_that_of_the_paper(variant, per_layer):
    model = attached(fresh("bert"), variant=variant)
    n_adapter = sum(p.numel() for n, p in model.named_parameters() if "bottleneck_" in n)
    width, inner, layers = 16, 4, 2
    assert n_adapter == layers * per_layer * (2 * width * inner + width + inner)


def delta(layer, hidden, scaling=1.0):
    down, up = layer.bottleneck_down["default"], layer.bottleneck_up["default"]
    inner = (hidden @ down.weight.T + down.bias).clamp(min=0)
    return scaling * (inner @ up.weight.T + up.bias)


def bert_layer_by_formula(layer, attention, variant, scaling):
    """What one BERT layer gives after its attention part, written out from the papers."""
    output = layer.output
    if variant == "parallel":
        wrapped, output = output, output.base_layer
        added = output.dense(layer.intermediate(attention))
        return output.LayerNorm(added + delta(wrapped, attention, scaling) + attention)
    added = output.dense(layer.intermediate(attention))
    if variant == "houlsby":
        added = added + delta(output.dropout, added, scaling)
        return output.LayerNorm(added + attention)
    norm = output.LayerNorm.base_layer
    total = added + attention
    return norm(total + delta(output.LayerNorm, norm(total), scaling))


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_layer_equals_the_formula(variant):
    model = trained(attached(fresh("bert"), variant=variant, scaling=2.0))
    layer = model.base_model.model.bert.encoder.layer[0]
    hidden = torch.randn(2, 5, 16, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        attention = layer.attention(hidden)[0]
        if variant == "houlsby":
            part = layer.attention.output
            plain = part.dense(layer.attention.self(hidden)[0])
            attention = part.LayerNorm(plain + delta(part.dropout, plain, 2.0) + hidden)
            torch.testing.assert_close(attention, layer.attention(hidden)[0])
        expected = bert_layer_by_formula(layer, attention, variant, 2.0)
        torch.testing.assert_close(layer(hidden), expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("model_type", sorted(CONFIGS))
def test_skipped_layers_get_no_adapter(model_type):
    model = attached(fresh(model_type), skip_layers=1)
    names = [name for name, m in model.named_modules() if isinstance(m, BottleneckLayer)]
    assert len(names) == 1
    assert ".1" in names[0]


def test_skipping_layers_counts_whole_numbers():
    import re

    pattern = target_pattern("bert", "pfeiffer", 2)
    hits = [
        number
        for number in range(12)
        if re.fullmatch(pattern, f"bert.encoder.layer.{number}.output.LayerNorm")
    ]
    assert hits == list(range(2, 12))


def test_file_names_no_adapter_so_it_loads_under_any_name(tmp_path):
    model = trained(attached(fresh("bert")))
    expected = logits(model)
    model.save_pretrained(tmp_path)
    assert not any("default" in key for key in load_file(tmp_path / "adapter_model.safetensors"))
    loaded = peft.PeftModel.from_pretrained(fresh("bert"), tmp_path, adapter_name="other").eval()
    assert torch.equal(logits(loaded), expected)


def test_two_adapters_switch(tmp_path):
    first = trained(attached(fresh("bert")))
    expected = logits(first)
    first.save_pretrained(tmp_path)
    second = trained(attached(fresh("bert", seed=0), variant="pfeiffer"), steps=4)
    expected_second = logits(second)
    second.load_adapter(str(tmp_path), "first")
    assert torch.equal(logits(second), expected_second)
    second.set_adapter("first")
    assert torch.equal(logits(second), expected)


def test_two_active_adapters_are_refused(tmp_path):
    model = bottleneck.attach(fresh("bert"), bottleneck.Settings(), [])
    model.save_pretrained(tmp_path)
    model.load_adapter(str(tmp_path), "other")
    model.base_model.set_adapter(["default", "other"])
    with pytest.raises(ValueError, match="2 bottleneck adapters are active; allowed: one"):
        logits(model)


FAMILIES = [
    "bert",
    "deberta-v2",
    "distilbert",
    "mpnet",
    "modernbert",
    "gpt2",
    "llama",
    "t5",
    "bart",
]


def said(model):
    with torch.no_grad():
        if hasattr(model.config, "decoder_start_token_id") and model.config.is_encoder_decoder:
            return model(input_ids=IDS, decoder_input_ids=IDS[:, :4]).logits
        return logits(model)


def norms(model):
    return [p for name, p in model.named_parameters() if ".bottleneck_norm." in name]


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("model_type", FAMILIES)
def test_trained_norms_start_as_they_were_switch_off_and_read_back(model_type, variant, tmp_path):
    auto = SEQ2SEQ if model_type in ("t5", "bart") else SEQUENCE
    base = fresh(model_type, auto=auto)
    before = said(base)
    n_norms = sum(type(part).__name__.endswith("Norm") for part in base.modules())
    in_heads = [getattr(base, name) for name in heads(base)] if auto == SEQUENCE else []
    n_norms -= sum(type(p).__name__.endswith("Norm") for head in in_heads for p in head.modules())
    names = heads(base) if auto == SEQUENCE else []
    settings = bottleneck.Settings(variant=variant, reduction_factor=4, train_layer_norm=True)
    model = bottleneck.attach(base, settings, names).eval()
    assert torch.allclose(said(model), before, atol=1e-6)
    parameters = [p for p in model.parameters() if p.requires_grad]
    weights = [p for p in norms(model) if p.requires_grad]
    assert sum(name.endswith("norm.default.weight") for name, _ in model.named_parameters()) == (
        n_norms
    )
    said_with_gradients = model(
        input_ids=IDS, **({"decoder_input_ids": IDS[:, :4]} if auto == SEQ2SEQ else {})
    )
    said_with_gradients.logits.square().sum().backward()
    assert all(p.grad is not None for p in parameters)
    with torch.no_grad():
        for weight in weights:
            weight.add_(torch.randn_like(weight) * 0.2)
    after = said(model)
    assert not torch.allclose(after, before, atol=1e-2)
    with model.disable_adapter():
        assert torch.equal(said(model), before)
    model.save_pretrained(tmp_path)
    assert torch.equal(said(bottleneck.load(fresh(model_type, auto=auto), tmp_path).eval()), after)


def test_norms_below_the_lowest_adapter_stay_frozen():
    model = attached(fresh("bert"), skip_layers=1, train_layer_norm=True)
    names = {name for name, p in model.named_parameters() if "norm" in name and p.requires_grad}
    assert names
    assert all(".layer.1." in name for name in names)


def test_a_norm_around_which_an_adapter_stands_is_the_trained_one():
    model = attached(fresh("bert"), train_layer_norm=True)
    place = model.base_model.model.bert.encoder.layer[0].output.LayerNorm
    norm = place.bottleneck_norm["default"]
    with torch.no_grad():
        for part in (norm, place.bottleneck_up["default"]):
            part.weight.normal_(generator=torch.Generator().manual_seed(0))
    total = torch.randn(2, 5, 16, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        expected = norm(total + delta(place, norm(total)))
        torch.testing.assert_close(place(total), expected)


def test_adapters_with_and_without_norms_switch(tmp_path):
    for name, has_norms in (("with", True), ("without", False)):
        model = attached(fresh("bert"), variant="houlsby", train_layer_norm=has_norms)
        trained(model, steps=3).save_pretrained(tmp_path / name)
    alone = {
        name: logits(bottleneck.load(fresh("bert"), tmp_path / name).eval())
        for name in ("with", "without")
    }
    for first, second in (("with", "without"), ("without", "with")):
        model = bottleneck.load(fresh("bert"), tmp_path / first).eval()
        model.load_adapter(str(tmp_path / second), "second")
        assert torch.equal(logits(model), alone[first])
        model.set_adapter("second")
        assert torch.equal(logits(model), alone[second])


def test_an_adapter_of_another_variant_in_the_same_place_is_refused(tmp_path):
    attached(fresh("distilbert"), variant="parallel").save_pretrained(tmp_path)
    model = attached(fresh("distilbert"), variant="houlsby")
    with pytest.raises(
        ValueError, match=r"in the way 'beside'.*'after'; allowed: the same variant"
    ):
        model.load_adapter(str(tmp_path), "other")


@pytest.mark.parametrize(
    "model_type", ["bert", "deberta-v2", "distilbert", "electra", "gpt2", "mpnet", "roberta"]
)
def test_houlsbys_adapters_stand_after_the_dropout(model_type):
    model = attached(fresh(model_type), variant="houlsby")
    layers = [part for part in model.modules() if isinstance(part, BottleneckLayer)]
    for part in model.modules():
        if isinstance(part, nn.Dropout):
            part.p = 1.0  # nothing that stands before a dropout can come through
    model.train()
    body = getattr(model.base_model.model, model.base_model.model.base_model_prefix)
    found = []
    for shift in (0.0, 1.0):
        for layer in layers:
            nn.init.normal_(layer.bottleneck_up["default"].bias, shift, 0.1)
        with torch.no_grad():
            found.append(body(input_ids=IDS).last_hidden_state)
    assert not torch.allclose(*found, atol=1e-2)


@pytest.mark.parametrize("non_linearity", ["relu", "gelu", "silu", "tanh"])
def test_non_linearities_differ(non_linearity):
    model = trained(attached(fresh("bert"), non_linearity=non_linearity))
    relu = trained(attached(fresh("bert")))
    assert torch.equal(logits(model), logits(relu)) == (non_linearity == "relu")


def test_works_on_a_bfloat16_base():
    for has_norms in (False, True):
        model = attached(fresh("bert").to(torch.bfloat16), train_layer_norm=has_norms)
        assert logits(trained(model)).dtype == torch.bfloat16


def test_saved_config_says_what_it_is(tmp_path):
    attached(fresh("bert"), variant="houlsby").save_pretrained(tmp_path)
    config = json.loads((tmp_path / "adapter_config.json").read_text())
    assert config["peft_type"] == "LIGHTADAPT_BOTTLENECK"
    assert (config["variant"], config["model_type"], config["task_type"]) == (
        "houlsby",
        "bert",
        None,
    )


def test_unknown_family_of_models_is_refused_with_the_known_ones():
    with pytest.raises(
        InputError, match="no insertion points for model_type 'gptj'; allowed: bart"
    ):
        bottleneck.check({"model_type": "gptj"}, bottleneck.Settings())


def test_skipping_all_layers_is_refused():
    settings = bottleneck.Settings(skip_layers=2)
    with pytest.raises(
        InputError, match="skip_layers = 2: the base model has 2 layers; allowed: 0 to 1"
    ):
        bottleneck.attach(fresh("distilbert"), settings, [])


def test_unknown_variant_is_refused():
    with pytest.raises(RecipeError, match="variant = 'adapterp'"):
        methods.settings("adapters", "bottleneck", {"variant": "adapterp"})


@pytest.mark.parametrize("model_type", ["bert", "distilbert"])
def test_head_only_trains_nothing_but_the_head(model_type, tmp_path):
    base = fresh(model_type)
    before = logits(base)
    head_only.check({"model_type": "bart"}, head_only.Settings())
    model = head_only.attach(base, head_only.Settings(), heads(base)).eval()
    names = [name for name, p in model.named_parameters() if p.requires_grad]
    assert names
    assert all("classifier" in name for name in names)
    after = logits(trained(model))
    assert not torch.equal(after, before)
    model.save_pretrained(tmp_path)
    assert torch.equal(logits(head_only.load(fresh(model_type), tmp_path).eval()), after)

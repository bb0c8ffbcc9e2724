import peft
import pytest
import torch
from tiny_models import CAUSAL, IDS, SEQ2SEQ, batch, tiny

from lightadapt_data import methods
from lightadapt_data.adapters import bottleneck, full, head_only, lora
from lightadapt_data.errors import InputError
from lightadapt_data.strength import set_strength, strengths

KINDS = [
    pytest.param("bottleneck", {"variant": variant}, id=variant)
    for variant in ("pfeiffer", "houlsby", "parallel")
]
KINDS += [pytest.param("bottleneck", {"train_layer_norm": True}, id="norms")]
KINDS += [
    pytest.param("lora", {"kind": kind, "rank": 4}, id=kind)
    for kind in ("lora", "rslora", "dora", "ia3", "loha", "lokr", "vera", "oft")
]
KINDS += [pytest.param("prefix", {"length": 3}, id="prefix")]


def adapted(method, options, model):
    """Return the model with an adapter that does a lot."""
    module = methods.load("adapters", method)
    settings = methods.settings("adapters", method, options)
    model = module.attach(model, settings, ["classifier"] if hasattr(model, "classifier") else [])
    torch.manual_seed(1)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.requires_grad and "modules_to_save" not in name:
                parameter.add_(torch.randn_like(parameter) * 0.3)
    return model.eval()


def logits(model, auto=None):
    inputs = batch(auto) if auto else {"input_ids": IDS, "attention_mask": torch.ones_like(IDS)}
    with torch.no_grad():
        return model(**inputs).logits


@pytest.mark.parametrize(("method", "options"), KINDS)
def test_0_is_the_base_1_is_as_trained_and_the_rest_lies_between(method, options):
    base = logits(tiny("bert"))
    model = adapted(method, options, tiny("bert"))
    full_strength = logits(model)
    assert not torch.allclose(full_strength, base, atol=1e-2)
    far = []
    for strength in (0.0, 0.001, 0.999, 1.0):
        set_strength(model, strength)
        far.append(
            ((logits(model) - base).abs().max(), (logits(model) - full_strength).abs().max())
        )
    assert far[0][0] == 0
    assert far[3][1] == 0
    assert 0 < far[1][0] < 0.1
    assert 0 < far[2][1] < 0.1


@pytest.mark.parametrize(("method", "options"), KINDS)
def test_layers_are_switched_one_by_one(method, options):
    base = logits(tiny("bert"))
    model = adapted(method, options, tiny("bert"))
    full_strength = logits(model)
    set_strength(model, 0.0, [1])
    assert strengths(model) == {0: 1.0, 1: 0.0}
    lower = logits(model)
    set_strength(model, 1.0, [1])
    assert torch.equal(logits(model), full_strength)
    set_strength(model, 0.0, [0])
    upper = logits(model)
    set_strength(model, 0.0, [1])
    if not options.get("train_layer_norm"):  # one norm stands before the layers
        assert torch.equal(logits(model), base)
    for one in (lower, upper):
        assert not torch.allclose(one, base, atol=1e-3)
        assert not torch.allclose(one, full_strength, atol=1e-3)


@pytest.mark.parametrize("kind", ["lora", "rslora", "loha", "lokr", "ia3", "oft", "vera", "dora"])
def test_half_of_a_low_rank_change_is_half_of_the_change_of_the_weights(kind):
    model = adapted("lora", {"kind": kind, "rank": 4}, tiny("bert"))
    set_strength(model, 0.5)
    found = logits(model)
    set_strength(model, 1.0)
    merged = model.merge_and_unload()
    halfway = tiny("bert")
    ends = zip(halfway.parameters(), merged.parameters(), strict=True)
    with torch.no_grad():
        for plain, changed in ends:
            plain.copy_((plain + changed) / 2)
    assert torch.allclose(logits(halfway), found, atol=1e-5)


def test_what_a_bottleneck_adds_is_scaled():
    model = adapted("bottleneck", {"variant": "houlsby"}, tiny("bert"))
    set_strength(model, 0.25)
    found = logits(model)
    other = adapted("bottleneck", {"variant": "houlsby", "scaling": 0.25}, tiny("bert"))
    assert torch.allclose(logits(other), found, atol=1e-6)


def test_a_disabled_adapter_stays_the_base_and_comes_back_at_its_strength():
    base = logits(tiny("bert"))
    model = adapted("lora", {}, tiny("bert"))
    for strength in (0.0, 0.5):
        set_strength(model, strength)
        before = logits(model)
        with model.disable_adapter():
            assert torch.equal(logits(model), base)
        assert torch.equal(logits(model), before)


@pytest.mark.parametrize("method", ["bottleneck", "lora", "prefix"])
@pytest.mark.parametrize("model_type", ["t5", "bart", "marian"])
def test_layers_of_a_decoder_are_numbered_on(method, model_type):
    model = adapted(method, {}, tiny(model_type, auto=SEQ2SEQ))
    base = logits(tiny(model_type, auto=SEQ2SEQ), SEQ2SEQ)
    set_strength(model, 0.0, [0, 1])
    assert strengths(model) == {0: 0.0, 1: 0.0, 2: 1.0, 3: 1.0}
    with torch.no_grad():
        own, plain = (
            part.get_encoder()(input_ids=IDS).last_hidden_state
            for part in (model, tiny(model_type, auto=SEQ2SEQ))
        )
    assert torch.equal(own, plain)
    assert not torch.allclose(logits(model, SEQ2SEQ), base, atol=1e-3)
    set_strength(model, 0.0)
    assert torch.equal(logits(model, SEQ2SEQ), base)


@pytest.mark.parametrize("strength", [0.0, 0.5])
@pytest.mark.parametrize("method", ["bottleneck", "lora", "prefix"])
@pytest.mark.parametrize("model_type", ["gpt2", "llama", "qwen3"])
def test_writing_with_a_cache_is_writing_without(method, model_type, strength):
    model = adapted(method, {}, tiny(model_type, auto=CAUSAL))
    set_strength(model, strength)
    ids = [
        model.generate(
            input_ids=IDS[:, :4],
            attention_mask=torch.ones_like(IDS[:, :4]),
            max_new_tokens=5,
            min_new_tokens=5,
            do_sample=False,
            use_cache=use_cache,
        )
        for use_cache in (True, False)
    ]
    assert torch.equal(*ids)


def test_strength_belongs_to_no_file(tmp_path):
    model = adapted("bottleneck", {}, tiny("bert"))
    as_trained = logits(model)
    set_strength(model, 0.3)
    model.save_pretrained(tmp_path)
    assert torch.equal(logits(bottleneck.load(tiny("bert"), tmp_path).eval()), as_trained)


@pytest.mark.parametrize("strength", [-0.1, 1.1, float("nan")])
def test_a_strength_out_of_range_is_refused(strength):
    model = lora.attach(tiny("bert"), lora.Settings(), [])
    with pytest.raises(InputError, match=r"allowed: 0 \(the base model\) to 1 \(as trained\)"):
        set_strength(model, strength)


def test_unknown_layers_are_refused():
    model = bottleneck.attach(tiny("bert"), bottleneck.Settings(skip_layers=1), [])
    with pytest.raises(InputError, match=r"layers \[0, 7\] have no adapter; allowed: 1"):
        set_strength(model, 0.5, [0, 1, 7])


def test_methods_without_a_part_of_their_own_are_refused():
    with pytest.raises(InputError, match="with head_only nothing is added"):
        set_strength(head_only.attach(tiny("bert"), head_only.Settings(), ["classifier"]), 0.5)
    with pytest.raises(InputError, match="full has replaced it"):
        set_strength(full.attach(tiny("bert"), full.Settings(), []), 0.5)


def test_a_prefix_without_a_gate_is_on_or_off():
    base = logits(tiny("bert"))
    model = adapted("prefix", {"is_gated": False}, tiny("bert"))
    with pytest.raises(InputError, match="shares one softmax with the text"):
        set_strength(model, 0.5)
    set_strength(model, 0.0)
    assert torch.equal(logits(model), base)


def test_a_prompt_is_refused():
    prompt = methods.load("adapters", "prompt")
    model = prompt.attach(tiny("bert"), prompt.Settings(length=2), [])
    with pytest.raises(InputError, match="a prompt stands in the input"):
        set_strength(model, 0.5)


def test_a_merged_adapter_is_refused():
    model = adapted("lora", {}, tiny("bert"))
    assert isinstance(model, peft.PeftModel)
    model.merge_adapter()
    with pytest.raises(InputError, match="merged into the weights"):
        set_strength(model, 0.5)

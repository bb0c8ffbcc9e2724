import json
import zlib

import peft
import pytest
import torch
from safetensors.torch import load_file
from tiny_models import CAUSAL, IDS, MASKED, SEQ2SEQ, SEQUENCE, batch
from tiny_models import tiny as tiny_of_one_head

from lightadapt_data import frozen_layers, methods, stacking
from lightadapt_data.errors import InputError
from lightadapt_data.networks.mean_pooling import MeanPoolingClassifier
from lightadapt_data.networks.under import NAME

VARIANTS = [("bottleneck", {"variant": v}) for v in ("pfeiffer", "houlsby", "parallel")]
BELOW = [
    *VARIANTS,
    ("bottleneck", {"variant": "houlsby", "train_layer_norm": True}),
    ("lora", {}),
    ("full", {}),
    ("prefix", {"length": 3}),
]


@pytest.fixture(autouse=True)
def _without_a_card(monkeypatch):
    """PEFT writes a card with every adapter, which a run removes again; it takes long."""
    monkeypatch.setattr(peft.PeftModel, "create_or_update_model_card", lambda *_: None)


def tiny(model_type, auto=SEQUENCE):
    """Return a tiny model whose weights are the same under every head."""
    model = tiny_of_one_head(model_type, auto=auto)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.requires_grad:
                seed = torch.Generator().manual_seed(zlib.crc32(name.encode()))
                parameter.normal_(0, 0.3, generator=seed)
    return model


def named(cases):
    return [
        pytest.param(*case, id="-".join(map(str, [case[0], *case[1].values()]))) for case in cases
    ]


def attached(method, options, model, heads=(), noise=0.3):
    """Return the model with an adapter that does a lot."""
    module = methods.load("adapters", method)
    model = module.attach(model, methods.settings("adapters", method, options), heads)
    torch.manual_seed(1)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.requires_grad and "modules_to_save" not in name:
                parameter.add_(torch.randn_like(parameter) * noise)
    return model.eval()


def language_adapter(folder, method, options, model_type, auto=MASKED):
    """Save an adapter of a language model as a run does, and return the adapted model."""
    heads = {"bert": ["cls"], "distilbert": ["vocab_layer_norm"], "modernbert": ["head"]}
    model = attached(method, options, tiny(model_type, auto=auto), heads.get(model_type, []))
    model.save_pretrained(str(folder))
    how = {"adapter": method, "base_model": "?", "task": "language_modeling"}
    (folder / "labels.json").write_text(json.dumps(how))
    return model


def logits(model, auto=SEQUENCE):
    with torch.no_grad():
        return model(**batch(auto)).logits


def encoder_of(model, name):
    model = getattr(model, "network", model)
    return getattr(model.get_base_model() if hasattr(model, "peft_config") else model, name)


def hidden(model, name):
    with torch.no_grad():
        output = encoder_of(model, name)(input_ids=IDS, attention_mask=torch.ones_like(IDS))
        return output.last_hidden_state


@pytest.mark.parametrize(("method", "options"), named(BELOW))
@pytest.mark.parametrize(
    ("model_type", "name", "auto"),
    [
        ("bert", "bert", MASKED),
        ("distilbert", "distilbert", MASKED),
        ("modernbert", "model", MASKED),
        ("gpt2", "transformer", CAUSAL),
        ("llama", "model", CAUSAL),
    ],
)
def test_the_body_of_a_language_model_comes_into_the_classifier(
    method, options, model_type, name, auto, tmp_path
):
    language = language_adapter(tmp_path, method, options, model_type, auto)
    network = tiny(model_type)
    before = hidden(network, name)
    assert stacking.load_under(network, tmp_path) is network
    found = hidden(network, name)
    assert not torch.allclose(found, before, atol=1e-2)
    assert torch.allclose(found, hidden(language, name), atol=2e-5)


@pytest.mark.parametrize(("method", "options"), named(BELOW))
@pytest.mark.parametrize("model_type", ["t5", "bart", "marian"])
def test_encoder_decoders(method, options, model_type, tmp_path):
    language = language_adapter(tmp_path, method, options, model_type, SEQ2SEQ)
    network = tiny(model_type, auto=SEQ2SEQ)
    stacking.load_under(network, tmp_path)
    assert torch.allclose(logits(network, SEQ2SEQ), logits(language, SEQ2SEQ), atol=2e-5)


def trained(model):
    parameters = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=0.05)
    for _ in range(2):
        model(**batch()).loss.backward()
        assert all(p.grad is not None for p in parameters)
        optimizer.step()
        optimizer.zero_grad()
    return model


ABOVE = [
    *VARIANTS,
    ("bottleneck", {"train_layer_norm": True}),
    ("lora", {"targets": ["all-linear"]}),
    ("prefix", {"length": 3}),
    ("head_only", {}),
    ("full", {}),
]
QUICK = {"bottleneck", "lora"}
"""What is tried over one another in a decoder too."""
PAIRS = [
    (model_type, below, above)
    for model_type in ("bert", "gpt2")
    for below in BELOW
    for above in ABOVE
    if (below[0], above[0]) != ("prefix", "prefix")
    if model_type == "bert" or ({below[0], above[0]} <= QUICK and "houlsby" not in str(below))
]


@pytest.mark.parametrize(("model_type", "below", "above"), PAIRS, ids=str)
def test_a_task_adapter_over_it_trains_alone_and_loads_over_it_again(
    model_type, below, above, tmp_path
):
    (tmp_path / "under").mkdir()
    auto = MASKED if model_type == "bert" else CAUSAL
    language_adapter(tmp_path / "under", *below, model_type, auto)
    heads = ["classifier" if model_type == "bert" else "score"]

    def network():
        return stacking.load_under(tiny(model_type), tmp_path / "under", heads)

    plain = network()
    before = logits(plain)
    frozen = {name: tensor.clone() for name, tensor in plain.state_dict().items()}
    method = methods.load("adapters", above[0])
    settings = methods.settings("adapters", *above)
    model = method.attach(network(), settings, heads).eval()
    assert torch.allclose(logits(model), before, atol=1e-5)
    after = logits(trained(model))
    assert not torch.allclose(after, before, atol=1e-3)
    model.save_pretrained(str(tmp_path / "task"))
    if above[0] != "full":
        saved = load_file(tmp_path / "task" / "adapter_model.safetensors")
        assert not any(NAME in key for key in saved)
        now = {
            name.replace("base_layer.", "").removeprefix("base_model.model."): tensor
            for name, tensor in model.state_dict().items()
        }
        unchanged = [name for name in frozen if name in now and not name.startswith(heads[0])]
        assert all(torch.equal(frozen[name], now[name]) for name in unchanged)
        assert len(unchanged) > 10
        with model.disable_adapter():
            assert torch.equal(logits(model), before)
    assert torch.equal(logits(method.load(network(), tmp_path / "task").eval()), after)
    if below[0] != "full" and above[0] != "full":
        without = method.load(tiny(model_type), tmp_path / "task").eval()
        assert not torch.allclose(logits(without), after, atol=1e-3)


def test_two_of_one_place_work_one_after_the_other(tmp_path):
    language_adapter(tmp_path, "bottleneck", {}, "bert")
    network = stacking.load_under(tiny("bert"), tmp_path)
    model = attached("bottleneck", {}, network)
    place = model.base_model.model.bert.encoder.layer[0].output.LayerNorm
    norm, below = place.base_layer, place.base_layer.under_adapter
    down, up = place.bottleneck_down["default"], place.bottleneck_up["default"]
    total = torch.randn(2, 3, 16, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        first = total + below.up(below.down(norm.forward(total)).relu())
        second = first + up(down(norm.forward(first)).relu())
        torch.testing.assert_close(place(total), norm.forward(second))


def test_two_parallel_ones_read_the_same(tmp_path):
    language_adapter(tmp_path, "bottleneck", {"variant": "parallel"}, "bert")
    network = stacking.load_under(tiny("bert"), tmp_path)
    model = attached("bottleneck", {"variant": "parallel"}, network)
    place = model.base_model.model.bert.encoder.layer[0].output
    plain, below = place.base_layer, place.base_layer.under_adapter
    wide, narrow = (torch.randn(2, 3, width) for width in (32, 16))
    with torch.no_grad():
        added = below(narrow) + place._delta("default", narrow)
        torch.testing.assert_close(place(wide, narrow), plain.forward(wide, narrow + added))


@pytest.mark.parametrize(("method", "options"), named(BELOW))
def test_an_encoder_that_another_model_calls_otherwise(method, options, tmp_path):
    language = language_adapter(tmp_path, method, options, "bert")
    network = MeanPoolingClassifier(tiny("bert").bert, 3, 0.0).eval()
    stacking.load_under(network, tmp_path, ["classifier"])
    assert torch.allclose(hidden(network, "encoder"), hidden(language, "bert"), atol=2e-5)


def test_a_head_of_the_same_name_is_left_as_it_is(tmp_path):
    attached("full", {}, tiny("bert")).save_pretrained(str(tmp_path))
    (tmp_path / "labels.json").write_text(json.dumps({"adapter": "full"}))
    network = stacking.load_under(tiny("bert"), tmp_path, ["classifier"])
    assert torch.equal(network.classifier.weight, tiny("bert").classifier.weight)
    assert not torch.equal(network.bert.pooler.dense.weight, tiny("bert").bert.pooler.dense.weight)


@pytest.mark.parametrize("model_type", ["bert", "gpt2", "llama"])
def test_kept_outputs_of_frozen_layers_hold_it_once(model_type, tmp_path):
    auto = MASKED if model_type == "bert" else CAUSAL
    language_adapter(tmp_path, "bottleneck", {}, model_type, auto)
    network = stacking.load_under(tiny(model_type), tmp_path)
    model = attached("bottleneck", {"skip_layers": 1}, network)
    expected = logits(model)
    rows = list(range(len(IDS)))
    lengths = [IDS.shape[1]] * len(rows)
    with frozen_layers.kept(model, lengths, [rows], lambda _: model(**batch())) as recall:
        recall(rows)
        assert torch.allclose(logits(model), expected, atol=1e-6)


def run_folder(path, **how):
    path.mkdir()
    (path / "labels.json").write_text(json.dumps({"adapter": "lora", **how}))
    return path


@pytest.fixture
def models(tmp_path):
    """Two base models."""
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.json").write_text(json.dumps({"name": name}))
    return [str(tmp_path / name) for name in ("one", "two")]


def test_the_check_takes_the_same_base_model_only(tmp_path, models):
    folder = run_folder(tmp_path / "run", base_model=models[0])
    stacking.check(folder, models[0], "lora")
    with pytest.raises(InputError, match=r"was trained on base model .*one.*base_model = .*two"):
        stacking.check(folder, models[1], "lora")


@pytest.mark.parametrize("method", ["prompt", "head_only"])
def test_methods_that_leave_nothing_in_the_model_are_refused(method, tmp_path, models):
    folder = run_folder(tmp_path / "run", adapter=method, base_model=models[0])
    with pytest.raises(InputError, match=f"'{method}'.*allowed: bottleneck, full, lora, prefix"):
        stacking.check(folder, models[0], "lora")
    with pytest.raises(InputError, match=f"'{method}' cannot stand under another"):
        stacking.load_under(tiny("bert"), folder)


def test_a_prefix_over_a_prefix_is_refused(tmp_path, models):
    folder = run_folder(tmp_path / "run", adapter="prefix", base_model=models[0])
    stacking.check(folder, models[0], "bottleneck")
    with pytest.raises(InputError, match="would put a second one in the same place"):
        stacking.check(folder, models[0], "prefix")


def test_a_prefix_under_a_written_out_attention_is_refused(tmp_path):
    language_adapter(tmp_path, "prefix", {}, "mpnet")
    with pytest.raises(InputError, match="model_type 'mpnet' takes one only while"):
        stacking.load_under(tiny("mpnet"), tmp_path)


def test_a_folder_without_an_adapter_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"holds no labels.json"):
        stacking.load_under(tiny("bert"), tmp_path)
    folder = run_folder(tmp_path / "run")
    with pytest.raises(InputError, match=r"adapter_model.safetensors cannot be read"):
        stacking.load_under(tiny("bert"), folder)
    (folder / "adapter_model.safetensors").write_bytes(b"no tensors")
    with pytest.raises(InputError, match=r"adapter_model.safetensors cannot be read"):
        stacking.load_under(tiny("bert"), folder)


def test_an_adapter_of_another_model_is_refused(tmp_path):
    language_adapter(tmp_path, "lora", {}, "bert")
    with pytest.raises(InputError, match=r"its layers are called bert.encoder.layer.0"):
        stacking.load_under(tiny("distilbert"), tmp_path)


@pytest.mark.parametrize("method", ["lora", "full"])
def test_an_adapter_that_lacks_tensors_is_refused(method, tmp_path):
    from safetensors.torch import save_file

    language_adapter(tmp_path, method, {}, "bert")
    path = tmp_path / "adapter_model.safetensors"
    tensors = load_file(path)
    save_file({k: v for k, v in tensors.items() if ".layer.1." not in k}, path)
    with pytest.raises(InputError, match=r"differ in \d+ places, such as .*layer.1"):
        stacking.load_under(tiny("bert"), tmp_path)

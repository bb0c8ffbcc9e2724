import peft
import pytest
import torch
from adapter_folders import TEXTS, adapter_folder, base_folder, logits
from safetensors.torch import load_file, save_file

from lightadapt_data.errors import InputError
from lightadapt_data.strength import set_strength
from lightadapt_data.trained import label_texts, load_beside, load_trained


@pytest.fixture(autouse=True)
def _without_a_card(monkeypatch):
    """PEFT writes a card with every adapter, which a run removes again; it takes long."""
    monkeypatch.setattr(peft.PeftModel, "create_or_update_model_card", lambda *_: None)


@pytest.fixture
def base(tmp_path):
    return base_folder(tmp_path / "base")


@pytest.mark.parametrize("method", ["bottleneck", "lora", "prefix", "head_only"])
def test_several_adapters_of_one_base_answer_in_turn_as_they_do_alone(method, base, tmp_path):
    three = adapter_folder(tmp_path / "three", base, method)
    two = adapter_folder(tmp_path / "two", base, method, seed=2, labels=["ham", "spam"])
    alone = [label_texts(load_trained(folder), TEXTS) for folder in (three, two)]
    assert set(alone[1]) <= {"ham", "spam"}
    first = load_trained(three)
    second = load_beside(first, two, "two")
    assert second.model is first.model
    for _ in range(2):
        assert [label_texts(one, TEXTS) for one in (first, second)] == alone
    assert label_texts(second, []) == []


@pytest.mark.parametrize("method", ["bottleneck", "lora"])
def test_the_logits_of_several_are_exactly_those_of_each(method, base, tmp_path):
    folders = [adapter_folder(tmp_path / str(seed), base, method, seed=seed) for seed in (1, 2)]
    alone = [logits(load_trained(folder)) for folder in folders]
    first = load_trained(folders[0])
    second = load_beside(first, folders[1], "second")
    for one, expected in zip((first, second, first), (*alone, alone[0]), strict=True):
        label_texts(one, TEXTS[:1])
        assert torch.equal(logits(one), expected)


def test_strength_holds_for_whichever_is_in_use(base, tmp_path):
    folders = [adapter_folder(tmp_path / str(seed), base, "lora", seed=seed) for seed in (1, 2)]
    first = load_trained(folders[0])
    second = load_beside(first, folders[1], "second")
    alone = load_trained(folders[1])
    for trained in (first, alone):
        set_strength(trained.model, 0.4)
    label_texts(second, TEXTS[:1])
    assert torch.equal(logits(second), logits(alone))


def test_an_adapter_over_another_loads_with_it(base, tmp_path):
    under = adapter_folder(tmp_path / "under", base, "bottleneck")
    over = adapter_folder(tmp_path / "over", base, "lora", seed=2, under=under)
    found = logits(load_trained(over))
    copied = tmp_path / "moved" / "under"
    copied.parent.mkdir()
    under.rename(copied)
    for path in over.iterdir():
        path.rename(copied.parent / path.name)
    how = (copied.parent / "labels.json").read_text().replace(str(under), "under")
    (copied.parent / "labels.json").write_text(how)
    assert torch.equal(logits(load_trained(copied.parent)), found)
    copied.rename(tmp_path / "gone")
    with pytest.raises(InputError, match=r"holds no labels.json"):
        load_trained(copied.parent)


@pytest.mark.parametrize("method", ["bottleneck", "lora", "prefix", "full"])
def test_a_language_adapter_stands_under_a_classifier(method, base, tmp_path):
    language = {"task": "language_modeling", "labels": []}
    under = adapter_folder(tmp_path / "under", base, method, **language)
    over = adapter_folder(tmp_path / "over", base, "bottleneck", seed=2, under=under)
    other = adapter_folder(tmp_path / "other", base, method, seed=3, **language)
    found = logits(load_trained(over))
    how = (over / "labels.json").read_text()
    (over / "labels.json").write_text(how.replace(str(under), str(other)))
    assert not torch.allclose(logits(load_trained(over)), found, atol=1e-3)
    (over / "labels.json").write_text(how)
    assert torch.equal(logits(load_trained(over)), found)


def test_what_does_not_fit_beside_is_refused(base, tmp_path):
    first = load_trained(adapter_folder(tmp_path / "first", base, "lora"))
    other = adapter_folder(tmp_path / "other", base, "bottleneck")
    with pytest.raises(InputError, match="has adapter = 'bottleneck', and the loaded one 'lora'"):
        load_beside(first, other, "other")
    moved = adapter_folder(tmp_path / "moved", base_folder(tmp_path / "base2"), "lora")
    with pytest.raises(InputError, match=r"has base_model = .*base2"):
        load_beside(first, moved, "moved")
    for name in ("default", "a.b", "lora"):
        with pytest.raises(InputError, match=f"adapter name '{name}' is taken"):
            load_beside(first, tmp_path / "first", name)
    over = adapter_folder(tmp_path / "over", base, "lora", under=tmp_path / "first")
    with pytest.raises(InputError, match="stands over another"):
        load_beside(first, over, "over")
    whole = adapter_folder(tmp_path / "whole", base, "full")
    with pytest.raises(InputError, match="which is not 'full'"):
        load_beside(load_trained(whole), whole, "again")
    with pytest.raises(InputError, match=r"holds no labels.json"):
        load_beside(first, tmp_path, "none")


def test_tensors_without_a_place_are_refused(base, tmp_path):
    folder = adapter_folder(tmp_path / "a", base, "lora")
    first = load_trained(folder)
    path = adapter_folder(tmp_path / "b", base, "lora") / "adapter_model.safetensors"
    tensors = load_file(path)
    extra = next(key for key in tensors if "lora_A" in key)
    save_file(tensors | {extra.replace("layer.0", "layer.7"): tensors[extra].clone()}, path)
    with pytest.raises(InputError, match="have no place beside the loaded adapter"):
        load_beside(first, tmp_path / "b", "second")


def test_another_shape_is_refused(base, tmp_path):
    folder = adapter_folder(tmp_path / "a", base, "bottleneck")
    path = adapter_folder(tmp_path / "b", base, "bottleneck") / "adapter_model.safetensors"
    tensors = load_file(path)
    key = next(key for key in tensors if key.endswith("bottleneck_down.weight"))
    save_file(tensors | {key: torch.zeros(5, 16)}, path)
    with pytest.raises(
        InputError, match=r"does not fit beside the loaded adapter: .*size mismatch"
    ):
        load_beside(load_trained(folder), tmp_path / "b", "second")

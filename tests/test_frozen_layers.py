"""Frozen lower layers: how many there are, and that their kept outputs change nothing."""

import pytest
import torch
from tiny_models import tiny

from lightadapt_data import frozen_layers
from lightadapt_data.adapters import bottleneck, full, head_only

IDS = torch.arange(3, 33).reshape(3, 10)
LENGTHS = [10, 7, 4]


def adapted(family, adapter=bottleneck, **options):
    return adapter.attach(tiny(family), adapter.Settings(**options), ["classifier"])


def batch(rows):
    width = max(LENGTHS[row] for row in rows)
    mask = torch.tensor([[int(at < LENGTHS[row]) for at in range(width)] for row in rows])
    return {"input_ids": IDS[rows, :width] * mask, "attention_mask": mask}


@pytest.mark.parametrize("family", ["bert", "roberta", "distilbert", "electra", "modernbert"])
def test_kept_outputs_give_the_same_logits_in_any_batch(family):
    model = adapted(family, skip_layers=1).eval()
    rows = [2, 0]
    expected = model(**batch(rows)).logits
    calls = []
    layers, n = frozen_layers.n_frozen(model)
    assert n == 1
    handle = layers[0].register_forward_hook(lambda *_: calls.append(1))

    def run(rows):
        model(**batch(rows))

    with frozen_layers.kept(model, LENGTHS, [[0, 1], [2]], run) as recall:
        handle.remove()
        recall(rows)
        found = model(**batch(rows)).logits
        recall(())
        assert torch.equal(model(**batch(rows)).logits, expected)
    assert len(calls) == 2
    assert torch.allclose(found, expected, atol=1e-5)
    assert torch.equal(model(**batch(rows)).logits, expected)
    assert "forward" not in vars(layers[0])


def test_nothing_is_frozen_where_the_lowest_layer_or_the_embeddings_are_trained():
    assert frozen_layers.n_frozen(adapted("bert"))[1] == 0
    assert frozen_layers.n_frozen(adapted("bert", full))[1] == 0
    model = adapted("bert", skip_layers=1)
    model.get_input_embeddings().weight.requires_grad_(True)
    assert frozen_layers.n_frozen(model)[1] == 0


def test_all_layers_are_frozen_under_a_head():
    assert frozen_layers.n_frozen(adapted("bert", head_only))[1] == 2


@pytest.mark.parametrize(("most", "is_kept"), [(3 * 10 * 16 * 4, True), (21 * 16 * 4 - 1, False)])
def test_outputs_that_need_too_much_memory_are_not_kept(monkeypatch, most, is_kept):
    monkeypatch.setattr(frozen_layers, "MOST_BYTES", most)
    model = adapted("bert", skip_layers=1).eval()
    ran = []
    with frozen_layers.kept(model, LENGTHS, [[0, 1, 2]], ran.append) as recall:
        recall([0])
    assert bool(ran) == is_kept

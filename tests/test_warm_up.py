from types import SimpleNamespace

import numpy as np
import pytest
import torch
import transformers
from torch import nn

from lightadapt_data.errors import InputError
from lightadapt_data.row_losses import Encoded, Head, LanguageModel
from lightadapt_data.warm_up import Plan, attach, warm_up

PLAN = Plan(
    epochs=3, checkpoints=2, learning_rate=0.01, head_learning_rate=0.01, batch_rows=4, seed=0
)


def tiny(has_head=True):
    torch.manual_seed(0)
    config = transformers.BertConfig(
        vocab_size=20,
        hidden_size=8,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=16,
        max_position_embeddings=16,
    )
    network = transformers.BertForMaskedLM(config).eval()
    for parameter in network.parameters():
        nn.init.normal_(parameter, std=0.3)
    head = None if has_head else Head(nn.Linear(8, 8), nn.Parameter(torch.zeros(20)))
    network = network if has_head else network.base_model
    return LanguageModel(network, SimpleNamespace(pad_token_id=0), False, head, 16)


def rows(n=10, seed=0):
    """Rows whose masked token is always 7 or 8."""
    draw = np.random.default_rng(seed)
    return [
        Encoded((3, *draw.integers(4, 20, 4).tolist()), (0,), (int(draw.integers(7, 9)),))
        for _ in range(n)
    ]


def test_an_adapter_starts_as_an_exact_no_op():
    model = tiny()
    before = model.losses(rows()).detach()
    adapted = attach(model, 2, 8, ())
    assert torch.equal(adapted.model.losses(rows()), before)


def test_only_lora_and_a_head_of_our_own_are_trainable():
    whole = attach(tiny(), 2, 8, ())
    names = [n for n, p in whole.model.network.named_parameters() if p.requires_grad]
    assert sorted(names) == sorted(whole.adapter)
    assert len(names) == 4
    assert all(".lora_" in name for name in names)
    assert whole.head == {}
    assert sorted(attach(tiny(has_head=False), 2, 8, ()).head) == ["bias", "out", "weight"]


@pytest.mark.parametrize("has_head", [True, False])
def test_checkpoints_are_the_last_epochs_and_can_be_put_back(has_head):
    torch.manual_seed(0)
    adapted = attach(tiny(has_head), 2, 8, ())
    first, last = warm_up(adapted, rows(), PLAN)
    end = adapted.model.losses(rows()).detach()
    first.restore(adapted)
    middle = adapted.model.losses(rows()).detach()
    last.restore(adapted)
    assert torch.equal(adapted.model.losses(rows()), end)
    assert not torch.equal(middle, end)
    assert 0.01 > first.learning_rate > last.learning_rate > 0
    assert set(first.moments) == set(adapted.adapter)
    assert all((square > 0).any() for _, square in last.moments.values())


def test_the_moments_are_adams():
    torch.manual_seed(0)
    adapted = attach(tiny(), 2, 8, ())
    one = Plan(1, 1, 0.01, 0.01, 16, 0)
    adapted.model.losses(rows()).mean().backward()
    gradients = {name: p.grad.clone() for name, p in adapted.adapter.items()}
    adapted.model.network.zero_grad()
    (point,) = warm_up(adapted, rows(), one)
    for name, (mean, square) in point.moments.items():
        torch.testing.assert_close(mean, 0.1 * gradients[name])
        torch.testing.assert_close(square, 0.001 * gradients[name].square())


def test_training_lowers_the_loss_and_is_repeatable():
    losses = []
    for _ in range(2):
        torch.manual_seed(0)
        adapted = attach(tiny(), 2, 8, ())
        before = float(adapted.model.losses(rows()).mean())
        warm_up(adapted, rows(), PLAN)
        losses.append(float(adapted.model.losses(rows()).mean()))
    assert losses[0] == losses[1] < before


def test_a_new_head_starts_near_the_frequencies_of_the_tokens():
    torch.manual_seed(0)
    adapted = attach(tiny(has_head=False), 2, 8, ())
    still = Plan(1, 1, 1e-9, 1e-9, 16, 0)
    warm_up(adapted, rows(40), still)
    assert float(adapted.model.losses(rows(40)).mean()) < np.log(20) - 0.5
    likely = torch.topk(adapted.head["out"], 2).indices
    assert set(likely.tolist()) == {7, 8}


def test_a_new_head_can_start_from_one_place():
    adapted = attach(tiny(has_head=False), 2, 8, ())
    (point,) = warm_up(adapted, rows(1), Plan(1, 1, 0.01, 0.01, 4, 0))
    assert np.isfinite(point.loss)
    assert all(value.isfinite().all() for value in point.values.values())


def test_a_loss_that_is_no_number_stops_the_warm_up():
    model = tiny()
    adapted = attach(model, 2, 8, ())
    nn.init.constant_(model.network.bert.embeddings.LayerNorm.weight, float("nan"))
    with pytest.raises(InputError, match="loss became nan; lower learning_rate or choose another"):
        warm_up(adapted, rows(), PLAN)


def test_an_adapter_outside_of_the_loss_stops_the_warm_up():
    model = tiny()
    model.network.spare = nn.Linear(4, 4)
    adapted = attach(model, 2, 8, ("spare",))
    model.network.cls.predictions.decoder.bias.requires_grad_(True)  # something to learn remains
    with pytest.raises(InputError, match="no parameter of the adapter got a gradient"):
        warm_up(adapted, rows(), PLAN)

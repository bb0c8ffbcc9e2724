import pytest
import torch
import toy_training as toy
from torch.nn import functional

from lightadapt_data import kept_states
from lightadapt_data.errors import InputError
from lightadapt_data.example_gradients import (
    can_batch,
    parameters,
    passes,
    row_losses,
)
from lightadapt_data.predicting import batch_of, prompted

ADAPTERS = {
    "bottleneck": {"reduction_factor": 4},
    "lora": {"rank": 2},
    "head_only": {},
    "prefix": {"length": 3},
    "prompt": {"length": 3},
}
BATCHED = ("bottleneck", "lora", "head_only")


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return toy.tiny_base(tmp_path_factory.mktemp("base"))


def learner_of(base, folder, adapter, include_head=True, **options):
    own = toy.settings(
        base,
        adapter=adapter,
        steps=3,
        evaluations=1,
        options={adapter: {**ADAPTERS.get(adapter, {}), **options, "learning_rate": 1e-2}},
    )
    what = toy.finished(folder, own, toy.curated(6, 4))
    who = kept_states.learner(what.job, folder / "states", include_head)
    kept_states.check(who, what.job, what.best_step, folder)
    examples = prompted(what.job.train, what.job.task, what.job.adapter, who.model, who.tokenizer)
    return who, examples


def one_by_one(who, examples):
    """The brute-force twin: a backward pass per example."""
    found = []
    for example in examples:
        who.model.zero_grad()
        who.model(**batch_of([example], who.task, who.tokenizer)).loss.backward()
        known = dict(who.model.named_parameters())
        found.append(torch.cat([known[name].grad.flatten() for name in who.names]))
    who.model.zero_grad()
    return torch.stack(found)


@pytest.mark.parametrize("adapter", sorted(ADAPTERS))
def test_gradients_are_those_of_one_backward_pass_per_row(base, tmp_path, adapter):
    who, examples = learner_of(base, tmp_path, adapter)
    is_batched = can_batch(who, examples[:3])
    assert is_batched == (adapter in BATCHED)
    expected = one_by_one(who, examples)
    seen = set()
    for places, gradients, losses in passes(who, examples, is_batched):
        assert gradients.dtype == torch.float32
        torch.testing.assert_close(gradients, expected[places], atol=1e-6, rtol=1e-4)
        assert losses.shape == (len(places),)
        seen |= set(places)
    assert seen == set(range(len(examples)))
    assert expected.shape[1] == who.n_numbers
    assert all(parameter.grad is None for parameter in who.model.parameters())


def test_trained_layer_norms_and_dora_vectors_are_taken_one_row_at_a_time(base, tmp_path):
    who, examples = learner_of(base, tmp_path, "lora", kind="dora", rank=2)
    assert any("magnitude" in name for name in who.names)
    assert not can_batch(who, examples[:3])
    ((places, gradients, _),) = passes(who, examples, False)
    torch.testing.assert_close(gradients, one_by_one(who, examples)[places])


def test_batches_that_are_not_exact_are_not_used(base, tmp_path, monkeypatch):
    who, examples = learner_of(base, tmp_path, "bottleneck")
    right = "lightadapt_data.example_gradients.row_losses"
    monkeypatch.setattr(right, lambda *given: 2 * row_losses(*given))
    assert not can_batch(who, examples[:3])


def test_the_head_can_be_left_out_unless_nothing_else_is_trained(base, tmp_path):
    who, _ = learner_of(base, tmp_path / "a", "bottleneck", include_head=False)
    assert who.names
    assert not any("classifier" in name for name in who.names)
    everything = parameters(who.model, ["classifier"], True)
    assert sum("classifier" in name for name in everything) == 2
    assert parameters(who.model, [], False) == everything
    alone, _ = learner_of(base, tmp_path / "b", "head_only", include_head=False)
    assert all("classifier" in name for name in alone.names)


class Output:
    def __init__(self, **given):
        vars(self).update(given)


def test_a_rows_loss_is_the_mean_over_what_it_predicts():
    torch.manual_seed(0)
    one = torch.randn(3, 5)
    labels = torch.tensor([0, 4, 2])
    expected = functional.cross_entropy(one, labels, reduction="none")
    torch.testing.assert_close(row_losses(Output(logits=one), {"labels": labels}, 3), expected)
    many = torch.randn(2, 3, 5)
    places = torch.tensor([[1, -100, 2], [-100, 4, -100]])
    expected = torch.stack([functional.cross_entropy(many[row], places[row]) for row in range(2)])
    torch.testing.assert_close(row_losses(Output(logits=many), {"labels": places}, 2), expected)
    at = places != -100
    picked = Output(logits=many[at], labels=places[at], rows=at.nonzero()[:, 0])
    torch.testing.assert_close(row_losses(picked, {}, 2), expected)


@pytest.mark.parametrize(
    ("output", "batch"),
    [
        (Output(start_logits=1), {"labels": torch.zeros(2)}),
        (Output(logits=torch.zeros(2, 3)), {}),
        (Output(logits=torch.zeros(2, 3)), {"labels": torch.zeros(2, 4)}),
    ],
)
def test_other_outputs_have_no_loss_per_row(output, batch):
    with pytest.raises(InputError, match="an output of Output gives no loss per row"):
        row_losses(output, batch, 2)

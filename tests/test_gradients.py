from types import SimpleNamespace

import numpy as np
import peft
import pytest
import torch
import transformers
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from lightadapt_data.errors import InputError
from lightadapt_data.gradients import adam_direction, per_row_gradients, project
from lightadapt_data.row_losses import Encoded, LanguageModel

SIZES = {
    "vocab_size": 30,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "hidden_size": 16,
    "intermediate_size": 24,
    "max_position_embeddings": 24,
}
KINDS = {
    "bert": ("BertConfig", "BertForMaskedLM", SIZES),
    "llama": ("LlamaConfig", "LlamaForCausalLM", SIZES),
    "gpt2": (
        "GPT2Config",
        "GPT2LMHeadModel",
        {"vocab_size": 30, "n_embd": 16, "n_layer": 2, "n_head": 2, "n_positions": 24},
    ),
}


def language_model(kind):
    """A tiny random model with LoRA whose second matrices are not zero."""
    torch.manual_seed(0)
    config, model, sizes = KINDS[kind]
    network = getattr(transformers, model)(getattr(transformers, config)(**sizes)).eval()
    for parameter in network.parameters():
        nn.init.normal_(parameter, std=0.3)
    network = peft.get_peft_model(network, peft.LoraConfig(r=3, lora_dropout=0.0)).eval()
    layers = {
        name: module
        for name, module in network.named_modules()
        if isinstance(module, nn.Linear) and ("lora_A." in name or "lora_B." in name)
    }
    for layer in layers.values():
        nn.init.normal_(layer.weight, std=0.3)
    tokenizer = SimpleNamespace(pad_token_id=0)
    return LanguageModel(network, tokenizer, kind != "bert", None, 24), layers


def rows_of(lengths, seed=1):
    """Rows of these lengths; about every third token is predicted, one at least."""
    draw = np.random.default_rng(seed)
    rows = []
    for length in lengths:
        places = tuple(range(0, length, 3))
        ids = tuple(draw.integers(1, 30, length).tolist())
        rows.append(Encoded(ids, places, tuple(draw.integers(1, 30, len(places)).tolist())))
    return rows


def one_by_one(model, layers, rows):
    """The same gradients by one backward pass per row: the brute-force twin."""
    found = {f"{name}.{part}": [] for name, x in layers.items() for part, _ in x.named_parameters()}
    for row in rows:
        model.network.zero_grad()
        model.losses([row]).sum().backward()
        for name, layer in layers.items():
            for part, parameter in layer.named_parameters():
                found[f"{name}.{part}"].append(parameter.grad.clone())
    model.network.zero_grad()
    return {name: torch.stack(parts) for name, parts in found.items()}


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_batched_gradients_of_rows_are_those_of_one_row_at_a_time(kind):
    model, layers = language_model(kind)
    rows = rows_of([4, 9, 1, 20, 9])
    expected = one_by_one(model, layers, rows)
    found = dict(per_row_gradients(layers, lambda: model.losses(rows)))
    assert list(found) == list(expected)
    assert len(found) >= 4
    for name, gradients in found.items():
        assert gradients.dtype == torch.float32
        assert gradients.shape == expected[name].shape
        error = (gradients - expected[name]).abs().max()
        assert error < 1e-5
        assert error < 1e-3 * expected[name].abs().max()


def test_a_row_has_the_same_gradient_in_every_batch():
    model, layers = language_model("bert")
    rows = rows_of([5, 12, 7])
    together = dict(per_row_gradients(layers, lambda: model.losses(rows)))
    turned = dict(per_row_gradients(layers, lambda: model.losses(rows[::-1])))
    alone = dict(per_row_gradients(layers, lambda: model.losses(rows[:1])))
    for name, gradients in together.items():
        torch.testing.assert_close(gradients, turned[name].flip(0), atol=1e-5, rtol=0)
        torch.testing.assert_close(gradients[:1], alone[name], atol=1e-5, rtol=0)


class Shared(nn.Module):
    """One layer used twice, one with a bias on vectors, one that is not used."""

    def __init__(self):
        super().__init__()
        self.twice = nn.Linear(4, 4)
        self.last = nn.Linear(4, 2)
        self.spare = nn.Linear(4, 4, bias=False)

    def forward(self, x):
        states = torch.tanh(self.twice(torch.tanh(self.twice(x))))
        return self.last(states.mean(1)).square().sum(1)


def test_layers_used_twice_biases_and_unused_layers_are_right():
    torch.manual_seed(0)
    network = Shared()
    layers = dict(network.named_children())
    data = torch.randn(3, 5, 4)
    found = dict(per_row_gradients(layers, lambda: network(data)))
    assert list(found) == ["twice.weight", "twice.bias", "last.weight", "last.bias", "spare.weight"]
    for row in range(3):
        network.zero_grad()
        network(data[row : row + 1]).sum().backward()
        for name, parameter in network.named_parameters():
            expected = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
            torch.testing.assert_close(found[name][row], expected, atol=1e-6, rtol=1e-5)


def test_frozen_parameters_give_nothing_and_gradients_of_the_network_are_left_alone():
    network = Shared()
    network.last.bias.requires_grad_(False)
    network.twice.weight.grad = torch.ones(4, 4)
    found = dict(
        per_row_gradients(dict(network.named_children()), lambda: network(torch.randn(2, 3, 4)))
    )
    assert "last.bias" not in found
    assert torch.equal(network.twice.weight.grad, torch.ones(4, 4))
    assert network.last.weight.grad is None


def test_hooks_are_gone_afterwards_even_after_a_failure():
    network = Shared()

    def fail():
        network(torch.randn(1, 2, 4))
        raise RuntimeError("stop")

    with pytest.raises(RuntimeError, match="stop"):
        next(per_row_gradients({"twice": network.twice}, fail))
    assert not network.twice._forward_hooks


def test_nothing_trainable_gives_nothing():
    network = Shared().requires_grad_(False)
    found = per_row_gradients(dict(network.named_children()), lambda: network(torch.randn(2, 3, 4)))
    assert list(found) == []


def test_a_layer_that_mixes_rows_is_refused():
    layer = nn.Linear(4, 1)
    losses = lambda: layer(torch.randn(6, 4)).reshape(2, 3).sum(1)  # noqa: E731
    with pytest.raises(InputError, match=r"layer x gave .*\(6, 1\) for 2 rows; allowed: \[rows"):
        list(per_row_gradients({"x": layer}, losses))


def test_adam_direction_is_the_rule_of_less():
    gradients = torch.tensor([[1.0, -2.0], [0.0, 0.0]])
    mean, square = torch.tensor([0.5, 0.0]), torch.tensor([0.04, 0.0])
    found = adam_direction(gradients, mean, square)
    first = (0.9 * 0.5 + 0.1) / np.sqrt(0.999 * 0.04 + 0.001 + 1e-8)
    second = -0.2 / np.sqrt(0.001 * 4 + 1e-8)
    idle = 0.45 / np.sqrt(0.999 * 0.04 + 1e-8)
    torch.testing.assert_close(found, torch.tensor([[first, second], [idle, 0.0]]).float())


def test_adam_direction_is_the_step_that_torch_takes_but_for_bias_correction():
    # After many steps the correction is 1; with numbers this large epsilon's place does not matter.
    torch.manual_seed(0)
    weight = nn.Parameter(torch.randn(5))
    optimizer = torch.optim.Adam([weight], lr=0.1)
    for gradient in torch.randn(6_000, 5):
        weight.grad = gradient
        optimizer.step()
    state = optimizer.state[weight]
    gradient = torch.randn(5)
    found = adam_direction(gradient[None], state["exp_avg"], state["exp_avg_sq"])[0]
    before = weight.detach().clone()
    weight.grad = gradient
    optimizer.step()
    torch.testing.assert_close((before - weight.detach()) / 0.1, found, atol=1e-3, rtol=5e-3)


@given(
    n_columns=st.integers(1, 40),
    dim=st.integers(1, 30),
    n_rows=st.integers(1, 4),
    seed=st.integers(0, 99),
)
def test_projection_is_linear_and_every_coordinate_has_one_signed_place(
    n_columns, dim, n_rows, seed
):
    matrix = project(torch.eye(n_columns), dim, [seed, 1])
    assert matrix.shape == (n_columns, dim)
    assert torch.equal(matrix.abs().sum(1), torch.ones(n_columns))
    assert (matrix.abs().sum(0) <= -(-n_columns // dim)).all()
    vectors = torch.from_numpy(
        np.random.default_rng(seed).normal(size=(n_rows, n_columns)).astype(np.float32)
    )
    torch.testing.assert_close(project(vectors, dim, [seed, 1]), vectors @ matrix)


def test_projection_keeps_inner_products_within_the_stated_error():
    draw = np.random.default_rng(0)
    x, y = torch.from_numpy(draw.normal(size=(2, 3000)).astype(np.float32))
    y = y + x / 2
    true, dim = float(x @ y), 256
    errors = []
    for seed in range(200):
        a, b = project(torch.stack([x, y]), dim, [seed])
        errors.append(float(a @ b) - true)
    bound = np.sqrt((float(x @ x) * float(y @ y) + true**2) / dim)
    assert abs(np.mean(errors)) < 4 * bound / np.sqrt(200)
    assert 0.7 * bound < np.std(errors) < 1.15 * bound


def test_projections_of_parts_add_up_to_inner_products_of_the_whole():
    draw = np.random.default_rng(1)
    vectors = torch.from_numpy(draw.normal(size=(2, 9000)).astype(np.float32))
    vectors[1] += vectors[0]
    parts = [project(part, 4096, [0, at]) for at, part in enumerate(vectors.split(3000, dim=1))]
    a, b = torch.stack(parts).sum(0)
    assert float(a @ b) == pytest.approx(float(vectors[0] @ vectors[1]), rel=0.1)


def test_projection_is_repeatable_and_another_seed_gives_another():
    vectors = torch.randn(2, 50, generator=torch.Generator().manual_seed(0))
    assert torch.equal(project(vectors, 8, [3, 4]), project(vectors, 8, [3, 4]))
    assert not torch.equal(project(vectors, 8, [3, 4]), project(vectors, 8, [4, 3]))

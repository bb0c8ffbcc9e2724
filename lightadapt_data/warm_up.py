"""Put LoRA into a language model and warm it up on rows, keeping Adam's state at checkpoints.

A LoRA adapter starts as an exact no-op whose first matrix gets no gradient at all, so gradients
say little of a row before some training.

Source: Hu et al. 2022, arXiv 2106.09685, section 4.1 (LoRA); Xia et al. 2024, arXiv 2402.04333,
section 4.1 (the warm-up and its checkpoints)
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from lightadapt_data.errors import InputError
from lightadapt_data.gradients import BETAS
from lightadapt_data.row_losses import Encoded, Head, LanguageModel
from lightadapt_data.schedule import batches_by_length, learning_rate_at

if TYPE_CHECKING:
    from torch import Tensor, nn

RISE = 0.03
"""Share of the steps in which the learning rate rises, as in LESS [ratio]."""

RIDGE = 1.0
"""Strength of the regression that a new head starts from [mean variance of a hidden number]."""

TINY = 1e-12
"""Keeps the regression solvable where all hidden states are equal."""


@dataclass(frozen=True)
class Adapted:
    """A language model with LoRA in it; only LoRA and a head of our own are trainable."""

    model: LanguageModel
    """Its network is a PeftModel."""
    layers: Mapping[str, nn.Linear]
    """LoRA's linear layers by name."""

    @property
    def adapter(self) -> dict[str, nn.Parameter]:
        """LoRA's parameters by name."""
        return {
            f"{name}.{part}": parameter
            for name, layer in self.layers.items()
            for part, parameter in layer.named_parameters()
        }

    @property
    def head(self) -> dict[str, nn.Parameter]:
        """The parameters of a head of our own by name; none where the model has its own."""
        head = self.model.head
        return {} if head is None else {**dict(head.into.named_parameters()), "out": head.bias}


@dataclass(frozen=True)
class Plan:
    """How to warm up."""

    epochs: int
    checkpoints: int
    """Last epochs whose end is kept; at most `epochs`."""
    learning_rate: float
    """Highest of the adapter; it falls to 0 [per step]."""
    head_learning_rate: float
    """Highest of a new head [per step]."""
    batch_rows: int
    seed: int


@dataclass(frozen=True)
class Checkpoint:
    """The adapter after an epoch."""

    learning_rate: float
    """Mean of the epoch's steps [per step]."""
    loss: float
    """Mean of the epoch's steps."""
    values: Mapping[str, Tensor]
    """All that is trained, by name."""
    moments: Mapping[str, tuple[Tensor, Tensor]]
    """Adam's first and second moment of the adapter's parameters, by name."""

    def restore(self, adapted: Adapted) -> None:
        """Put the values back into the network they were taken from."""
        for name, parameter in (*adapted.adapter.items(), *adapted.head.items()):
            parameter.data.copy_(self.values[name])


def attach(model: LanguageModel, rank: int, alpha: float, targets: Sequence[str]) -> Adapted:
    """Return the model with LoRA in it; torch's global generator decides the start weights.

    Args:
        model: its network is changed in place.
        rank: of LoRA's matrices.
        alpha: LoRA's factor is alpha / rank.
        targets: ends of names of linear layers; none takes PEFT's choice for the model's type.

    Raises:
        InputError: PEFT knows no choice, or `targets` name nothing or no linear layer.
    """
    import peft
    from torch import nn

    network, kind = model.network, model.network.config.model_type
    known = peft.utils.TRANSFORMERS_MODELS_TO_LORA_TARGET_MODULES_MAPPING
    wanted = list(targets or known.get(kind) or ())
    linear = {
        name.rsplit(".", 1)[-1]
        for name, module in network.named_modules()
        if isinstance(module, nn.Linear) or type(module).__name__ == "Conv1D"
    }
    ends = {target.rsplit(".", 1)[-1] for target in wanted}
    if not wanted or not ends <= linear:
        given = f"targets = {wanted}" if wanted else f"PEFT has no default for '{kind}'"
        raise InputError(
            f"LoRA: {given}; allowed: ends of names of linear layers, here "
            f"{', '.join(sorted(linear))}; set targets, such as those of the attention"
        )
    config = peft.LoraConfig(r=rank, lora_alpha=alpha, target_modules=wanted, lora_dropout=0.0)
    adapted = peft.get_peft_model(network, config).eval()
    layers = {
        name: module
        for name, module in adapted.named_modules()
        if isinstance(module, nn.Linear) and (".lora_A." in name or ".lora_B." in name)
    }
    return Adapted(dataclasses.replace(model, network=adapted), layers)


def warm_up(adapted: Adapted, rows: Sequence[Encoded], plan: Plan) -> list[Checkpoint]:
    """Train in place on the rows and return the last checkpoints, in the order of time.

    Nothing is random but the order of the rows, which the seed decides.

    Raises:
        InputError: the loss is no number, or the adapter takes no part in it.
    """
    import torch

    if adapted.model.head is not None:
        _start_head(adapted.model, adapted.model.head, rows, plan.batch_rows)
    groups = [
        {"params": list(adapted.adapter.values()), "lr": plan.learning_rate},
        {"params": list(adapted.head.values()), "lr": plan.head_learning_rate},
    ]
    optimizer = torch.optim.Adam([group for group in groups if group["params"]], betas=BETAS)
    n_steps = -(-len(rows) // plan.batch_rows) * plan.epochs
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: learning_rate_at(step, n_steps, RISE)
    )
    order = torch.Generator().manual_seed(plan.seed)
    lengths = [len(row.ids) for row in rows]
    found = []
    for epoch in range(plan.epochs):
        rates, losses = [], []
        for batch in batches_by_length(lengths, plan.batch_rows, order):
            rates.append(float(schedule.get_last_lr()[0]))
            losses.append(_step(adapted, [rows[place] for place in batch], optimizer))
            schedule.step()
        if epoch >= plan.epochs - plan.checkpoints:
            found.append(_checkpoint(adapted, optimizer, rates, losses))
    return found


def _start_head(model: LanguageModel, head: Head, rows: Sequence[Encoded], batch_rows: int) -> None:
    """Start a new head where a few steps of training would never bring it.

    Its bias starts at the tokens' frequencies, its matrix at the ridge regression from the hidden
    states of masked tokens to the embeddings of what they hide.
    """
    import torch

    with torch.no_grad():
        parts = [
            model.at_places(rows[start : start + batch_rows])
            for start in range(0, len(rows), batch_rows)
        ]
        hidden = torch.cat(parts).double()
        labels = torch.tensor([label for row in rows for label in row.labels], device=hidden.device)
        embeddings = model.network.get_input_embeddings().weight
        wanted = embeddings[labels].double()
        middle, goal = hidden.mean(0), wanted.mean(0)
        spread = (hidden - middle).T @ (hidden - middle)
        size = float(spread.diagonal().mean()) + TINY
        ridge = RIDGE * size * torch.eye(len(spread), device=spread.device)
        weight = torch.linalg.solve(spread + ridge, (hidden - middle).T @ (wanted - goal)).T
        head.into.weight.copy_(weight)
        head.into.bias.copy_(goal - weight @ middle)
        counts = torch.bincount(labels, minlength=len(embeddings)) + 1.0
        head.bias.copy_((counts / counts.sum()).log())


def _step(adapted: Adapted, rows: Sequence[Encoded], optimizer: Any) -> float:
    """Do one step and return the mean loss of the rows."""
    loss: Any = adapted.model.losses(rows).mean()
    value = float(loss.detach())
    if not np.isfinite(value):
        raise InputError(
            f"warm-up: the loss became {value}; lower learning_rate or choose another model"
        )
    loss.backward()
    if all(parameter.grad is None for parameter in adapted.adapter.values()):
        raise InputError(
            "warm-up: no parameter of the adapter got a gradient, so it takes no part in the "
            "model's output; set other targets"
        )
    optimizer.step()
    optimizer.zero_grad()
    return value


def _checkpoint(
    adapted: Adapted, optimizer: Any, rates: Sequence[float], losses: Sequence[float]
) -> Checkpoint:
    import torch

    adapter = adapted.adapter
    moments = {}
    for name, parameter in adapter.items():
        state = optimizer.state[parameter]
        zeros = torch.zeros_like(parameter)
        first, second = state.get("exp_avg", zeros), state.get("exp_avg_sq", zeros)
        moments[name] = (first.detach().clone(), second.detach().clone())
    return Checkpoint(
        float(np.mean(rates)),
        float(np.mean(losses)),
        {k: v.detach().clone() for k, v in (*adapter.items(), *adapted.head.items())},
        moments,
    )

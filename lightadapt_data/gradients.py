"""Gradients of single rows from one batched backward pass, and what influence methods do to them.

The gradient of a linear layer's weight for one row is the product of what went into the layer and
of the gradient of what came out of it, added up over the row's tokens. Both are at hand after one
batched pass, so no loop with one row at a time is needed. The result is exact. `torch.func.vmap`
is no way: it fails inside the attention of transformers 5.

Source: Goodfellow 2015, "Efficient Per-Example Gradient Computations", arXiv 1510.01799 section 3
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from lightadapt_data.errors import InputError

if TYPE_CHECKING:
    from torch import Tensor, nn

BETAS = (0.9, 0.999)
"""Adam's decay of the first and of the second moment, torch's own values [ratio per step]."""

EPSILON = 1e-8
"""Stands inside the root, as in LESS."""


def per_row_gradients(
    layers: Mapping[str, nn.Linear], row_losses: Callable[[], Tensor]
) -> Iterator[tuple[str, Tensor]]:
    """Yield (name of a parameter, the gradients of every row's loss by it).

    The gradients are float32 [rows, *shape of the parameter], one parameter at a time so that
    never all are in memory. Names are those of `layers` with `.weight` or `.bias`, in the order of
    `layers`; layers without a trainable parameter give nothing, layers the losses do not use zeros.
    `grad` of the parameters is left alone.

    Args:
        layers: linear layers by name; their first input must be [rows, ..., features], a layer may
            be used more than once.
        row_losses: runs the model and returns the loss of every row, [rows]. No row's loss may
            depend on another row: no batch norm, no dropout.

    Raises:
        InputError: a layer saw another number of rows than there are losses.
    """
    import torch

    seen: dict[str, list[tuple[Tensor, Tensor]]] = {name: [] for name in layers}

    def watch(name: str) -> Callable[[Any, tuple[Tensor, ...], Tensor], None]:
        def hook(_: Any, inputs: tuple[Tensor, ...], output: Tensor) -> None:
            if output.requires_grad:
                seen[name].append((inputs[0].detach(), output))

        return hook

    handles = [layer.register_forward_hook(watch(name)) for name, layer in layers.items()]
    try:
        losses = row_losses()
    finally:
        for handle in handles:
            handle.remove()
    outputs = [output for uses in seen.values() for _, output in uses]
    slopes: Sequence[Tensor | None] = (
        torch.autograd.grad(losses.sum(), outputs, allow_unused=True) if outputs else ()
    )
    at = iter(slopes)
    pairs = {
        name: [(inputs, slope) for inputs, _ in uses if (slope := next(at)) is not None]
        for name, uses in seen.items()
    }
    seen.clear()  # lets the graph go before anything of the size rows x parameters is made
    outputs.clear()
    for name, layer in layers.items():
        yield from _of_layer(name, layer, pairs.pop(name), len(losses))


def _of_layer(
    name: str, layer: nn.Linear, pairs: list[tuple[Tensor, Tensor]], n_rows: int
) -> Iterator[tuple[str, Tensor]]:
    """Yield the gradients of one layer's trainable parameters, added up over its uses."""
    import torch

    for inputs, slope in pairs:
        if len(slope) != n_rows or slope.ndim < 2:
            raise InputError(
                f"gradients: layer {name} gave an output of shape {tuple(slope.shape)} for "
                f"{n_rows} rows; allowed: [rows, ..., features]; choose other layers, as this one "
                f"mixes rows (its input was {tuple(inputs.shape)})"
            )
    if layer.weight.requires_grad:
        total = torch.zeros((n_rows, *layer.weight.shape), device=layer.weight.device)
        for inputs, slope in pairs:
            rows_in = inputs.flatten(1, -2).float() if inputs.ndim > 2 else inputs[:, None].float()
            rows_out = slope.flatten(1, -2).float() if slope.ndim > 2 else slope[:, None].float()
            total += torch.bmm(rows_out.transpose(1, 2), rows_in)
        yield f"{name}.weight", total
    if layer.bias is not None and layer.bias.requires_grad:
        total = torch.zeros((n_rows, *layer.bias.shape), device=layer.bias.device)
        for _, slope in pairs:
            total += slope.float().flatten(1, -2).sum(1) if slope.ndim > 2 else slope.float()
        yield f"{name}.bias", total


def adam_direction(gradients: Tensor, mean: Tensor, square: Tensor) -> Tensor:
    """Return the step that Adam would take for each row's gradient, without the learning rate.

    m' = b1 m + (1 - b1) g, v' = b2 v + (1 - b2) g^2, and m' / sqrt(v' + 1e-8), without bias
    correction: the rule of LESS. Shape as `gradients`, [rows, ...].

    Args:
        gradients: [rows, ...].
        mean: Adam's first moment m of the parameter, [...].
        square: Adam's second moment v of the parameter, [...].

    Source: Xia et al. 2024, arXiv 2402.04333, section 3.1
    """
    first, second = BETAS
    mean = first * mean + (1 - first) * gradients
    square = second * square + (1 - second) * gradients.square()
    return mean / (square + EPSILON).sqrt()


def project(vectors: Tensor, dim: int, seed: Sequence[int]) -> Tensor:
    """Return random projections that keep inner products in expectation, [rows, dim].

    Every coordinate gets a random sign and a random one of `dim` sums, all sums of like many
    coordinates. The error of an inner product has the variance of a dense projection with random
    signs (at most (|x|^2 |y|^2 + <x,y>^2) / dim), but nothing of the size coordinates x dim is
    ever made: the cost does not grow with `dim`. Projections of the parts of a vector, each with a
    seed of its own, may be added up, so a long vector is never needed in one piece. Fixed sums
    instead of scattered additions give the same result on every run, on a GPU too.

    Args:
        vectors: [rows, coordinates].
        dim: width of the result; 1 or more.
        seed: of this part; the same numbers always give the same projection.

    Source: Weinberger et al. 2009, "Feature Hashing for Large Scale Multitask Learning", arXiv
    0902.2206, section 2 and lemma 2; here with buckets of equal size
    """
    import torch
    from torch.nn import functional

    n_rows, n_columns = vectors.shape
    generator = np.random.default_rng(list(seed))
    per_sum = -(-n_columns // dim)
    signs = generator.integers(0, 2, n_columns, dtype=np.int8) * 2 - 1
    order = generator.permutation(per_sum * dim)
    signed = vectors * torch.from_numpy(signs).to(vectors.device)
    padded = functional.pad(signed, (0, per_sum * dim - n_columns))
    shuffled = padded[:, torch.from_numpy(order).to(vectors.device)]
    return shuffled.reshape(n_rows, dim, per_sum).sum(dim=2)

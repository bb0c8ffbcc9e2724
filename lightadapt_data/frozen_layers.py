"""Frozen layers below the first trained one give the same output in every epoch: compute it once.

Without dropout, what the lowest layers put out for a row never changes. With adapters in the upper
layers only, most of the forward pass is then the same work again and again. The outputs are kept in
memory, as float32 [tokens, width] per row, and put in place of those layers in training.

Source: Rücklé et al. 2021, https://arxiv.org/abs/2010.11918 (adapters in the upper layers only);
the idea of keeping the outputs: Liu et al. 2021, AutoFreeze, https://arxiv.org/abs/2102.01386
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor, nn

MOST_BYTES = 1 << 30
"""Most memory for kept outputs; a training set that needs more computes them anew each time."""

Recall = Callable[[Sequence[int]], None]
"""Says which rows the next batch holds; none: other rows, which go through all layers."""


class _LowestDoneError(Exception):
    """Stops a forward pass whose upper part is not needed."""


def n_frozen(model: nn.Module) -> tuple[Sequence[nn.Module], int]:
    """Return the model's one stack of layers, and how many of the lowest train nothing.

    None are frozen when a part before the layers is trained, or where there is not one stack.
    """
    from torch import nn

    stacks = [
        (name, part)
        for name, part in model.named_modules()
        if isinstance(part, nn.ModuleList) and name.rpartition(".")[2] in ("layer", "layers", "h")
    ]
    if len(stacks) != 1:
        return [], 0
    name, stack = stacks[0]
    layers = list(stack)
    below, _, _ = name.rpartition(".")
    for part_name, parameter in model.named_parameters():
        is_before = "embed" in part_name and part_name.startswith(below.rpartition(".")[0])
        if parameter.requires_grad and is_before:
            return layers, 0
    for number, layer in enumerate(layers):
        if any(parameter.requires_grad for parameter in layer.parameters()):
            return layers, number
    return layers, len(layers)


@contextmanager
def kept(
    model: nn.Module, lengths: Sequence[int], batches: Sequence[Sequence[int]], run: Any
) -> Iterator[Recall]:
    """Compute the frozen layers' outputs once and use them inside, unless that is no use.

    Args:
        model: in evaluation mode, so without dropout.
        lengths: tokens of each row.
        batches: row numbers, every row once, rows of like length together.
        run: runs the model on the rows of a batch.
    """
    layers, n = n_frozen(model)
    width = getattr(model.config, "hidden_size", 0)
    if not n or not 0 < sum(lengths) * width * 4 <= MOST_BYTES:
        yield lambda rows: None
        return
    outputs = _outputs(layers[n - 1], lengths, batches, run)
    if len(outputs) < len(lengths):
        yield lambda rows: None
        return
    now: list[int] = []

    def recall(rows: Sequence[int]) -> None:
        now[:] = rows
        for number, layer in enumerate(layers[:n]):
            # So that networks/under.py adds nothing a second time.
            vars(layer)["is_recalled"] = bool(rows)
            if rows:
                layer.forward = others if number else first
            else:
                layer.__dict__.pop("forward", None)

    def first(hidden_states: Tensor, *_: Any, **__: Any) -> Any:
        padded = hidden_states.new_zeros(hidden_states.shape)
        for place, row in enumerate(now):
            padded[place, : lengths[row]] = outputs[row]
        return padded

    def others(hidden_states: Tensor, *_: Any, **__: Any) -> Any:
        return hidden_states

    try:
        yield recall
    finally:
        recall(())


def _outputs(
    layer: nn.Module, lengths: Sequence[int], batches: Sequence[Sequence[int]], run: Any
) -> dict[int, Tensor]:
    """Return what the layer puts out for each row, [tokens, width]; nothing if it is no tensor."""
    import torch

    found: dict[int, Tensor] = {}

    def keep(_: Any, __: Any, output: Any) -> None:
        if isinstance(output, torch.Tensor):
            at = enumerate(rows)
            found.update({row: output[place, : lengths[row]].clone() for place, row in at})
        raise _LowestDoneError

    handle = layer.register_forward_hook(keep)
    try:
        with torch.no_grad():
            for rows in batches:
                try:
                    run(rows)
                except _LowestDoneError:
                    continue
    finally:
        handle.remove()
    return found

"""Gradients of single examples by what an adapter trains, exact and as fast as the model allows.

They are taken in batches by hooks where that gives the same as one example at a time, which is
tried on the first ones: all that is trained are weights of linear layers (bottlenecks, LoRA, heads)
and the output has one loss per row. Else one example at a time (prefixes, soft prompts, DoRA).
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import TYPE_CHECKING, Any

from lightadapt_data.errors import InputError
from lightadapt_data.gradients import per_row_gradients
from lightadapt_data.predicting import batch_of

if TYPE_CHECKING:
    from torch import Tensor

logger = logging.getLogger(__name__)

BATCH_ROWS = 32
BATCH_NUMBERS = 2**25
"""Most gradients of one batch in memory: 128 MiB [numbers]."""
IGNORED = -100
"""The label of a place where nothing is predicted."""

Gradients = tuple[list[int], "Tensor", "Tensor"]
"""Numbers of some examples, their gradients float32 [examples, numbers], their losses [examples]"""


@dataclass(frozen=True)
class Learner:
    """A model with an adapter, and what makes batches for it."""

    model: Any
    """In evaluation mode; its trainable parameters are those of the states."""
    task: ModuleType
    tokenizer: Any
    moments: Mapping[str, Tensor]
    """Adam's, as "<parameter>/exp_avg" and "<parameter>/exp_avg_sq"."""
    names: Sequence[str]
    """The parameters that gradients are taken of."""

    @property
    def n_numbers(self) -> int:
        """Numbers of a gradient."""
        known = dict(self.model.named_parameters())
        return sum(known[name].numel() for name in self.names)


def parameters(model: Any, heads: Sequence[str], include_head: bool) -> list[str]:
    """Return the names of the trainable parameters to take gradients of.

    Args:
        model: with an adapter.
        heads: names of the modules that make the head.
        include_head: take its parameters too; they are taken in any case when nothing else is
            trained.
    """
    inside = re.compile(rf"(?:^|\.)(?:{'|'.join(map(re.escape, heads)) or '(?!)'})(?:\.|$)")
    found = [name for name, parameter in model.named_parameters() if parameter.requires_grad]
    below = [name for name in found if not inside.search(name)]
    return found if include_head else below or found


def passes(learner: Learner, examples: Sequence[Any], is_batched: bool) -> Iterator[Gradients]:
    """Yield the gradients of all examples, those of like length together.

    Args:
        learner: gradients are of its `names`, in the order of these.
        examples: of its task.
        is_batched: take them by hooks; else one example at a time.
    """
    import torch

    size = max(1, min(BATCH_ROWS, BATCH_NUMBERS // learner.n_numbers))
    order = sorted(range(len(examples)), key=lambda row: len(examples[row].token_ids))
    for start in range(0, len(order), size):
        rows = order[start : start + size]
        chosen = [examples[row] for row in rows]
        if is_batched:
            yield (rows, *_by_hooks(learner, chosen))
        else:
            found = [_of_one(learner, example) for example in chosen]
            gradients, losses = zip(*found, strict=True)
            yield rows, torch.stack(gradients), torch.stack(losses)


def can_batch(learner: Learner, examples: Sequence[Any]) -> bool:
    """Return whether hooks give the gradients that one row at a time gives, by a try."""
    import torch

    if set(_linear(learner)[1]) != set(learner.names):
        return False
    try:
        found, losses = _by_hooks(learner, examples)
    except InputError:  # a layer whose input has no rows
        return False
    for place, example in enumerate(examples):
        expected, loss = _of_one(learner, example)
        scale = float(expected.norm()) + 1e-6
        is_same = float((found[place] - expected).norm()) < 1e-3 * scale
        if not is_same or not torch.isclose(losses[place], loss, rtol=1e-3, atol=1e-5):
            logger.info("influence: batched gradients are not exact here; one row at a time")
            return False
    return True


def _linear(learner: Learner) -> tuple[dict[str, Any], list[str]]:
    """Return the linear layers that hold parameters of `names`, and the names of these."""
    from torch import nn

    wanted = set(learner.names)
    layers, held = {}, []
    for name, part in learner.model.named_modules():
        inside = [f"{name}.{own}" for own, _ in part.named_parameters(recurse=False)]
        if isinstance(part, nn.Linear) and wanted & set(inside):
            layers[name] = part
            held += [full for full in inside if full in wanted]
    return layers, held


def _by_hooks(learner: Learner, examples: Sequence[Any]) -> tuple[Tensor, Tensor]:
    """Return gradients, float32 [examples, numbers], and losses of a batch.

    Raises:
        InputError: the model's output is of no known form, or a layer's input has no rows.
    """
    import torch

    batch = batch_of(examples, learner.task, learner.tokenizer)
    seen: list[Tensor] = []

    def losses() -> Tensor:
        seen.append(row_losses(learner.model(**batch), batch, len(examples)))
        return seen[0]

    found = dict(per_row_gradients(_linear(learner)[0], losses))
    parts = [found[name].flatten(1) for name in learner.names]
    return torch.cat(parts, dim=1), seen[0].detach()


def _of_one(learner: Learner, example: Any) -> tuple[Tensor, Tensor]:
    """Return the gradient, float32 [numbers], and the loss of one example, by the model's loss."""
    import torch

    known = dict(learner.model.named_parameters())
    chosen = [known[name] for name in learner.names]
    loss = learner.model(**batch_of([example], learner.task, learner.tokenizer)).loss
    found = torch.autograd.grad(loss, chosen, allow_unused=True)
    parts = [
        torch.zeros(parameter.numel(), device=parameter.device)
        if gradient is None
        else gradient.float().flatten()
        for gradient, parameter in zip(found, chosen, strict=True)
    ]
    return torch.cat(parts), loss.detach().float()


def row_losses(output: Any, batch: Mapping[str, Any], n_rows: int) -> Tensor:
    """Return the loss of every row, the mean cross-entropy over what it has to predict, [rows].

    Args:
        output: with logits [rows, labels], [rows, tokens, labels], or only [places, labels] and
            then `labels` and `rows` of the places.
        batch: with `labels` where the output has none.
        n_rows: of the batch.

    Raises:
        InputError: it has another form.
    """
    from torch.nn import functional

    logits, labels = getattr(output, "logits", None), batch.get("labels")
    if hasattr(output, "rows"):
        losses = functional.cross_entropy(output.logits.float(), output.labels, reduction="none")
        is_of = functional.one_hot(output.rows, n_rows).T.to(losses)
        mean: Tensor = is_of @ losses / is_of.sum(1).clamp(min=1)
        return mean
    if logits is None or labels is None or logits.shape[:-1] != labels.shape:
        raise InputError(f"influence: an output of {type(output).__name__} gives no loss per row")
    flat = functional.cross_entropy(
        logits.float().flatten(0, -2), labels.flatten(), reduction="none", ignore_index=IGNORED
    )
    counts = (labels.reshape(n_rows, -1) != IGNORED).sum(1).clamp(min=1)
    mean = flat.reshape(n_rows, -1).sum(1) / counts
    return mean

"""How much each training row helped what a model learnt, from gradients at states kept in training.

Three scores of a row i, with g its loss's gradient by the trained parameters at a kept state, u the
same at length 1, and r the state's mean learning rate. All are summed or averaged over the states.

- tracin: r <g_i, mean of g over validation rows>: what a plain gradient step on the row takes off
  the validation loss. Long gradients decide it, those of rows that the model gets wrong;
- cosine: the mean cosine of Adam's step for g_i with g of each validation row (LESS);
- agreement: how far the step that suits all other labelled rows also suits this one. Judges are
  validation rows and training rows that a person labelled. The step w makes <w, u_j> come close to
  1 for all judges j but the row itself: w = (sum of u_j u_j' + damping n)^-1 (sum of u_j), that is
  an influence function with the judges' own curvature. The agreement <w, u_i> is about 1 for a row
  that goes along and below 0 for one that this step makes worse, as a wrong label does.

A plain mean of cosines in place of w lets directions that all rows share drown what tells classes
apart: with nine classes it found wrong labels with AUC 0.86, w with 0.98 (benchmarks/influence.py).

Source: Pruthi et al. 2020, "Estimating Training Data Influence by Tracing Gradient Descent", arXiv
2002.08484, section 3.2 (TracInCP); Xia et al. 2024, "LESS", arXiv 2402.04333, sections 2 and 3;
Koh and Liang 2017, arXiv 1703.04730, section 2 (influence functions, damping); Allen 1974, PRESS
(leaving one row out of a ridge regression without solving it again)
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from lightadapt_data.errors import InputError
from lightadapt_data.example_gradients import Learner, can_batch, passes
from lightadapt_data.gradients import adam_direction, project

if TYPE_CHECKING:
    from torch import Tensor

TRIED = 3
"""Examples on which batched gradients are tried."""

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class State:
    """What was trained, at one step."""

    values: Mapping[str, Tensor]
    """Trainable parameters by name."""
    rate: float
    """Mean learning rate of the steps since the state before."""


@dataclass(frozen=True)
class Judging:
    """How rows are judged by others."""

    damping: float
    """Added to the judges' curvature, per judge; more goes by what all share [squared length]."""
    memory: int
    """Most bytes for the judges' gradients; those that need more are projected."""
    projected_dim: int
    """Width of a projected gradient; 0 keeps all whole [numbers]."""
    seed: int


@dataclass(frozen=True)
class Scores:
    """Of every example; float64 [examples]."""

    tracin: Floats
    cosine: Floats
    agreement: Floats
    loss: Floats
    """Mean over the states [nats]."""


def scores(
    learner: Learner,
    states: Sequence[State],
    train: Sequence[Any],
    validation: Sequence[Any],
    is_judge: NDArray[np.bool_],
    judging: Judging,
) -> Scores:
    """Return the scores of all training examples.

    Args:
        learner: its model is left at the last state.
        states: at least one.
        train: the task's examples, with soft prompts in them if the adapter has one.
        validation: at least one example.
        is_judge: bool [train], the examples that judge all others, as validation does.
        judging: how.

    Raises:
        InputError: a state is of another model, or there is nothing to compare with.
    """
    if not states or not validation:
        raise InputError(
            f"influence: {len(states)} kept states, {len(validation)} validation rows; allowed: 1 "
            "or more of each"
        )
    weights = np.array([state.rate for state in states]) + 1e-30
    weights /= weights.sum()
    total = np.zeros((4, len(train)))
    is_batched: bool | None = None
    for state, weight in zip(states, weights, strict=True):
        restore(learner, state.values)
        if is_batched is None:
            is_batched = can_batch(learner, [*train[: TRIED - 1], validation[0]])
        tracin, *others = _at_state(learner, train, validation, is_judge, judging, is_batched)
        total[0] += state.rate * tracin
        total[1:] += weight * np.stack(others)
    return Scores(*total)


def restore(learner: Learner, values: Mapping[str, Tensor]) -> None:
    """Put a kept state into the learner's model.

    Raises:
        InputError: it is the state of another model.
    """
    known = {name: p for name, p in learner.model.named_parameters() if p.requires_grad}
    wrong = sorted(set(known) ^ set(values)) or [
        name for name, value in values.items() if value.shape != known[name].shape
    ]
    if wrong:
        raise InputError(
            f"influence: {len(wrong)} parameters of the kept state do not fit the model (the first "
            f"is {wrong[0]}); allowed: states of this base model, adapter and labels; run train "
            "again with keep_states = true"
        )
    learner.model.load_state_dict(dict(values), strict=False)


def _at_state(
    learner: Learner,
    train: Sequence[Any],
    validation: Sequence[Any],
    is_judge: NDArray[np.bool_],
    judging: Judging,
    is_batched: bool,
) -> tuple[Floats, Floats, Floats, Floats]:
    """Return dot product, cosine, agreement and loss of every training example at one state."""
    import torch

    judges, others = np.flatnonzero(is_judge), np.flatnonzero(~is_judge)
    kept = _keeper(learner.n_numbers, len(judges) + len(validation), judging)
    mean, towards = torch.zeros(2, learner.n_numbers)
    panel = []
    for _, gradients, _ in passes(learner, validation, is_batched):
        units = _unit(gradients)
        mean += gradients.sum(0).cpu() / len(validation)
        towards += units.sum(0).cpu() / len(validation)
        panel.append(kept(units).cpu())
    moments = _flat_moments(learner)
    dots, cosines, agreements, losses = torch.zeros(4, len(train))

    def judged(places: NDArray[np.int64]) -> Iterator[tuple[list[int], Tensor]]:
        """Note all but the agreement of some examples, and yield their kept gradients."""
        chosen = [train[place] for place in places]
        for rows, gradients, found in passes(learner, chosen, is_batched):
            at = places[rows].tolist()
            dots[at] = gradients.cpu() @ mean
            cosines[at] = _unit(adam_direction(gradients.cpu(), *moments)) @ towards
            losses[at] = found.cpu()
            yield at, kept(_unit(gradients)).cpu()

    order = []
    for at, units in judged(judges):
        order += at
        panel.append(units)
    step, without = shared_step(torch.cat(panel), judging.damping)
    agreements[order] = without[len(validation) :]
    for at, units in judged(others):
        agreements[at] = units @ step
    arrays = (dots, cosines, agreements, losses)
    dot, cosine, agreement, loss = (array.double().numpy() for array in arrays)
    return dot, cosine, agreement, loss


def shared_step(units: Tensor, damping: float) -> tuple[Tensor, Tensor]:
    """Return the step that suits all judges, and how far that of the others suits each one.

    Args:
        units: gradients of length 1 (or 0), float32 [judges, numbers].
        damping: per judge, above 0.

    Returns:
        w = (U'U + damping n)^-1 U'1, float32 [numbers]; and for each judge i the product of u_i and
        the w that is made without row i, with the same damping; float32 [judges].
    """
    import torch

    inner = (units @ units.T).double()
    ridge = damping * len(units)
    inverse = torch.linalg.inv(inner + ridge * torch.eye(len(units), dtype=torch.float64))
    weights = inverse.sum(1)
    # Fitted values 1 - ridge * weights, and each one's own part in it, 1 - ridge * diagonal.
    without = 1 - weights / inverse.diagonal()
    return units.T @ weights.float(), without.float()


def _keeper(n_numbers: int, n_rows: int, judging: Judging) -> Callable[[Tensor], Tensor]:
    """Return what makes of gradients what is kept of them: a projection, or all."""
    if judging.projected_dim == 0 or 4 * n_numbers * n_rows <= judging.memory:
        return lambda gradients: gradients
    return lambda gradients: project(gradients, judging.projected_dim, (judging.seed,))


def _flat_moments(learner: Learner) -> tuple[Tensor, Tensor]:
    import torch

    first, second = (
        torch.cat([learner.moments[f"{name}/{part}"].flatten() for name in learner.names])
        for part in ("exp_avg", "exp_avg_sq")
    )
    return first, second


def _unit(vectors: Tensor) -> Tensor:
    from torch.nn import functional

    return functional.normalize(vectors, dim=1)

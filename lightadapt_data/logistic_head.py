"""Fit the linear layer at the end of a model as a logistic regression, before it is trained.

With few rows a random head spends its steps on bending the features; a fitted one keeps them.

Source: Kumar et al. 2022, https://arxiv.org/abs/2202.10054 (fit the head first, then the features)
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

MOST_ROWS = 20_000
"""Rows of features that are fitted to, about; of more, examples at equal distances are taken."""
BATCH_ROWS = 64
UNSEEN = 3.0
"""How much lower than all others the bias of a label starts that no row has [nats]."""


def start(
    head: Any,
    network: Any,
    known: Sequence[tuple[Any, Sequence[int]]],
    collate: Callable[[Sequence[Any]], Mapping[str, Any]],
    features_of: Callable[[NDArray[np.float32], Any], NDArray[np.float32]],
    inverse: float,
) -> None:
    """Set the head of a network on the CPU to a regression on what goes into it.

    Args:
        head: the torch Linear of the network that gives the logits.
        network: called with batches.
        known: examples with `token_ids`, and the labels of the rows of features that each gives.
        collate: gives the batch of examples.
        features_of: given what goes into the head for an example, and the example, returns its rows
            of features, float32 [labels, width].
        inverse: as in `fit`.
    """
    n_rows = sum(len(truth) for _, truth in known)
    chosen = known[:: max(1, -(-n_rows // MOST_ROWS))]
    if not n_rows:
        return
    chosen = sorted(chosen, key=lambda pair: len(pair[0].token_ids))  # little padding
    features = []
    for at in range(0, len(chosen), BATCH_ROWS):
        examples = [example for example, _ in chosen[at : at + BATCH_ROWS]]
        inputs = inputs_of(head, network, collate(examples))
        features += [
            features_of(own, example) for own, example in zip(inputs, examples, strict=True)
        ]
    truth = np.array([label for _, labels in chosen for label in labels])
    fit(head, np.concatenate(features), truth, inverse)


def inputs_of(head: Any, network: Any, batch: Mapping[str, Any]) -> NDArray[np.float32]:
    """Run the network without gradients or dropout and return what went into its part `head`."""
    import torch

    caught: list[Any] = []
    hook = head.register_forward_pre_hook(lambda _, arguments: caught.append(arguments[0]))
    network.eval()
    try:
        with torch.inference_mode():
            network(**{name: tensor for name, tensor in batch.items() if name != "labels"})
    finally:
        hook.remove()
    found: NDArray[np.float32] = caught[0].float().numpy()
    return found


def fit(
    head: Any, features: NDArray[np.floating], truth: NDArray[np.integer], inverse: float
) -> None:
    """Set weights and bias of a torch Linear; with fewer than two labels it is left as it is.

    Args:
        head: the layer.
        features: [rows, width].
        truth: label of each row, int [rows].
        inverse: C of the regression, on features scaled to mean length 1.
    """
    import torch
    from sklearn.linear_model import LogisticRegression
    from threadpoolctl import threadpool_limits

    if len(np.unique(truth)) < 2:
        return
    features = features.astype(np.float64)
    scale = float(np.linalg.norm(features, axis=1).mean()) or 1.0
    model = LogisticRegression(C=inverse, max_iter=2000, fit_intercept=head.bias is not None)
    with threadpool_limits(1):  # many small products; on a busy machine threads wait for each other
        model.fit(features / scale, truth)
    weights, bias = model.coef_, model.intercept_
    if len(model.classes_) == 2:  # scikit-learn then keeps one row, for the second label
        weights, bias = np.vstack([-weights, weights]) / 2, np.array([-bias[0], bias[0]]) / 2
    with torch.no_grad():
        head.weight[model.classes_] = torch.from_numpy(weights / scale).to(head.weight.dtype)
        if head.bias is not None:
            head.bias.fill_(float(bias.min()) - UNSEEN)
            head.bias[model.classes_] = torch.from_numpy(bias).to(head.bias.dtype)


def mean_loss(logits: NDArray[np.float32], truth: NDArray[np.integer]) -> float:
    """Return the mean cross-entropy of logits, float32 [rows, labels], at least one row [nats]."""
    shifted = logits.astype(np.float64) - logits.max(axis=1, keepdims=True)
    log_sums = np.log(np.exp(shifted).sum(axis=1))
    return float((log_sums - shifted[np.arange(len(truth)), truth]).mean())

"""Losses of models that predict tokens: logits only where there is something to predict.

Over a vocabulary of 50,000 tokens the logits of all places cost more time and memory than all
layers of a small model, and of most places they are never read: padding, tokens that are not
masked, the prompt before a decoder's answer. `only_at_labels` leaves them out and changes nothing
else in the network: names of modules, `config`, `generate` and saving stay as they are, so PEFT
sees the model that it knows, and what is saved can be loaded without this package.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from lightadapt_data import base_models
from lightadapt_data.errors import InputError

IGNORED = -100
"""The label of a place where nothing is predicted."""

MAX_LOGITS = 2**26
"""Most logits of one forward pass without gradients: 256 MiB [numbers]."""

Kind = Literal["sequence", "next", "masked"]
"""What a model predicts: the tokens of a second text, the next token, or masked ones."""


@dataclass(frozen=True)
class Predicted:
    """What a network of `only_at_labels` returns for a batch with labels."""

    loss: Any
    """Mean negative log-likelihood of the batch's labels, float32 []; 0 where it has none [nats]"""
    logits: Any
    """Float [labels, vocabulary], row after row."""
    labels: Any
    """Token ids, int64 [labels]."""
    rows: Any
    """The row of the batch that a label is of, int64 [labels]."""


@dataclass(frozen=True)
class TokenScores:
    """How well a model predicts one example's tokens."""

    loss_sum: float
    """Sum of their negative log-likelihoods [nats]."""
    n_tokens: int
    n_right: int
    """Tokens that the model holds for the likeliest."""


@functools.lru_cache(maxsize=32)
def kind_of(folder: Path) -> Kind:
    """Return what the model in the folder predicts, by its configuration.

    Kept for each folder: of a GGUF file it takes seconds to read.

    Raises:
        InputError: it has a head for none of them.
    """
    from transformers.models.auto import modeling_auto

    config = base_models.config_of(folder)
    model_type = str(config.get("model_type"))
    if config.get("is_encoder_decoder"):
        return "sequence"
    saved_as = str((config.get("architectures") or [""])[0])
    is_decoder = config.get("is_decoder") or saved_as.endswith(("ForCausalLM", "LMHeadModel"))
    if model_type in modeling_auto.MODEL_FOR_MASKED_LM_MAPPING_NAMES and not is_decoder:
        return "masked"
    if model_type in modeling_auto.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES:
        return "next"
    raise InputError(
        f"base model {folder}: model_type '{model_type}' has no head that predicts tokens; "
        "allowed: encoders such as bert or roberta, decoders such as llama or gpt2, and "
        "encoder-decoders such as t5, bart or marian; choose another base_model"
    )


def only_at_labels(network: Any, kind: Kind) -> Any:
    """Let the network make logits only where it is given labels; it is changed in place.

    Given `labels` (int64 [rows, tokens], IGNORED where nothing is predicted) it then returns
    Predicted. Without labels it does what it did before.

    Args:
        network: a transformers model with a head for tokens.
        kind: with "next", the output at a place predicts the label of the place behind it.
    """
    own = type(network)

    @functools.wraps(own.forward)  # generation reads the names of its arguments
    def forward(self: Any, *args: Any, labels: Any = None, **kwargs: Any) -> Any:
        if labels is None:
            return own.forward(self, *args, **kwargs)
        if kind == "sequence":
            kwargs["decoder_input_ids"] = _decoder_inputs(self, labels)
            kwargs["use_cache"] = False
        labels = _in_place(labels) if kind == "next" else labels
        at = labels != IGNORED
        with _picked(self.get_output_embeddings(), at):
            logits = own.forward(self, *args, **kwargs).logits
        # Three axes: the output layer is no module of its own, so nothing was picked before it.
        logits = logits[at] if logits.ndim == 3 else logits
        return Predicted(_mean_loss(logits, labels[at]), logits, labels[at], at.nonzero()[:, 0])

    # A class, and no function put into the network: that would hold the network it was made for,
    # and a copy of the network would call the first one.
    names = {"forward": forward, "__module__": own.__module__, "__qualname__": own.__qualname__}
    network.__class__ = type(own.__name__, (own,), names)
    return network


def scores(model: Any, batch: Mapping[str, Any]) -> list[TokenScores]:
    """Return how well the model predicts each row's labels; without gradients.

    Args:
        model: a network of `only_at_labels`, or an adapter over one.
        batch: its arguments, with `labels`; all tensors [rows, ...].
    """
    import torch

    n_rows, width = batch["labels"].shape
    vocabulary = int(getattr(model.config, "vocab_size", 1))
    step = max(1, MAX_LOGITS // (width * vocabulary))
    found: list[TokenScores] = []
    for start in range(0, n_rows, step):
        part = {name: tensor[start : start + step] for name, tensor in batch.items()}
        with torch.no_grad():
            found += _scores(model(**part), len(part["labels"]))
    return found


def padded(rows: Sequence[Sequence[int]], fill: int, at_end: bool = True) -> Any:
    """Return the rows side by side, filled up to the longest, int64 [rows, longest, at least 1]."""
    import torch

    width = max(1, *(len(row) for row in rows))
    table = np.full((len(rows), width), fill, np.int64)
    for number, row in enumerate(rows):
        start = 0 if at_end else width - len(row)
        table[number, start : start + len(row)] = row
    return torch.from_numpy(table)


def specials(tokenizer: Any) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Return the special tokens that the tokenizer puts before every text and behind it."""
    found = tokenizer("a", return_special_tokens_mask=True)
    ids, is_special = found["input_ids"], found["special_tokens_mask"]
    own = [place for place, special in enumerate(is_special) if not special]
    if not own:
        return tuple(ids), ()
    return tuple(ids[: own[0]]), tuple(ids[own[-1] + 1 :])


def plain_ids(tokenizer: Any, texts: Sequence[str]) -> list[list[int]]:
    """Return the texts' own tokens, uncut and without special ones."""
    if not texts:
        return []
    encoded: list[list[int]] = tokenizer(
        list(texts), add_special_tokens=False, verbose=False, return_attention_mask=False
    )["input_ids"]
    return encoded


def _decoder_inputs(network: Any, labels: Any) -> Any:
    """Return the labels moved on by one place, as the decoder reads them in training."""
    config = network.config
    if hasattr(network, "prepare_decoder_input_ids_from_labels"):
        # mBART looks for the last token of every row, so there has to be one; any will do.
        is_empty = (labels == IGNORED).all(dim=1)
        labels = labels.clone()
        labels[is_empty, 0] = config.pad_token_id + 1
        return network.prepare_decoder_input_ids_from_labels(labels=labels)
    # M2M100 and NLLB have no such function.
    moved = labels.roll(1, dims=1)
    moved[:, 0] = config.decoder_start_token_id
    return moved.masked_fill(moved == IGNORED, config.pad_token_id)


def _in_place(labels: Any) -> Any:
    """Return for every place the label of the one behind it."""
    moved = labels.roll(-1, dims=1)
    moved[:, -1] = IGNORED
    return moved


@contextmanager
def _picked(output_layer: Any, at: Any) -> Iterator[None]:
    """Let the output layer see only the chosen places, as a list of vectors."""

    def pick(_: Any, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
        return (inputs[0][at], *inputs[1:])

    handle = None if output_layer is None else output_layer.register_forward_pre_hook(pick)
    try:
        yield
    finally:
        if handle is not None:
            handle.remove()


def _mean_loss(logits: Any, labels: Any) -> Any:
    from torch.nn import functional

    total = functional.cross_entropy(logits.float(), labels, reduction="sum")
    return total / max(1, len(labels))


def _scores(found: Predicted, n_rows: int) -> list[TokenScores]:
    from torch.nn import functional

    losses = functional.cross_entropy(found.logits.float(), found.labels, reduction="none")
    right = (found.logits.argmax(dim=-1) == found.labels).cpu().numpy()
    rows = found.rows.cpu().numpy()
    sums = np.bincount(rows, losses.double().cpu().numpy(), n_rows)
    counts, n_right = np.bincount(rows, minlength=n_rows), np.bincount(rows[right], None, n_rows)
    return [
        TokenScores(float(loss), int(n), int(good))
        for loss, n, good in zip(sums, counts, n_right, strict=True)
    ]

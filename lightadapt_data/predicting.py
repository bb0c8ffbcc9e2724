"""Run a model over examples: batches of like length, on the device that is there."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import ModuleType
from typing import Any

EVAL_ROWS = 64
"""Rows of one forward pass without gradients."""
EVAL_TOKENS = 8192
"""Most tokens of such a pass, padding included."""


def predict(model: Any, examples: Sequence[Any], task: ModuleType, tokenizer: Any) -> list[Any]:
    """Return the task's output for each example, in the order of the examples."""
    import torch

    was_training = model.training
    model.eval()
    found: dict[int, Any] = {}
    with torch.inference_mode():
        for rows in eval_batches([len(example.token_ids) for example in examples]):
            chosen = [examples[row] for row in rows]
            batch = batch_of(chosen, task, tokenizer)
            found.update(zip(rows, task.outputs(model, batch, chosen, tokenizer), strict=True))
    model.train(was_training)
    return [found[row] for row in range(len(examples))]


def eval_batches(lengths: Sequence[int]) -> Iterator[list[int]]:
    """Yield row numbers in batches, the shortest first, within EVAL_ROWS and EVAL_TOKENS."""
    batch: list[int] = []
    for row in sorted(range(len(lengths)), key=lambda row: lengths[row]):
        is_full = len(batch) == EVAL_ROWS or (len(batch) + 1) * lengths[row] > EVAL_TOKENS
        if batch and is_full:
            yield batch
            batch = []
        batch.append(row)
    if batch:
        yield batch


def prompted(
    examples: Sequence[Any], task: ModuleType, adapter: ModuleType, model: Any, tokenizer: Any
) -> Sequence[Any]:
    """Return the examples with the adapter's soft prompt in them, if it is an adapter with one.

    The prompt goes behind what stands before every text, such as [CLS]: heads of encoders read the
    first place.
    """
    soft_ids = getattr(adapter, "soft_ids", None)
    if soft_ids is None:
        return examples
    encoded = tokenizer("a", return_special_tokens_mask=True)["special_tokens_mask"]
    at = encoded.index(0) if 0 in encoded else 0
    ids = soft_ids(model)
    return [task.prompted(example, ids, at) for example in examples]


def batch_of(examples: Sequence[Any], task: ModuleType, tokenizer: Any) -> dict[str, Any]:
    """Return the task's batch on the device that is there."""
    kind = device()
    return {name: tensor.to(kind) for name, tensor in task.collate(examples, tokenizer).items()}


@contextmanager
def autocast(is_wanted: bool) -> Iterator[None]:
    """Compute in bfloat16 inside, if wanted and if the hardware has it."""
    import torch

    kind = device()
    with torch.autocast(kind, torch.bfloat16, enabled=is_wanted and has_bfloat16(kind)):
        yield


def has_bfloat16(device: str) -> bool:
    """Return whether torch says that the device computes bfloat16 in hardware."""
    import torch

    if device == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


def device() -> str:
    """Return "cuda" where torch finds a GPU, else "cpu"."""
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"

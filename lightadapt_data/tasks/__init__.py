"""Tasks say what a row means to a model. The family's contract:

- `MAIN_METRIC`: the metric by which the best step is chosen; higher is better;
- `labels(rows) -> list[str]`: the names the model has to tell apart, in the model's order;
- `build(folder, name, labels, settings) -> Built`: a fresh model with its head; the head's start
  weights come from torch's global generator, so the caller seeds it;
- `start_head(network, examples, tokenizer, settings)`, optional: better start weights of the head;
- `tokenizer(folder) -> tokenizer`;
- `examples(rows, labels, tokenizer, settings) -> list[Example]`, in the order of the rows;
- `collate(examples, tokenizer) -> dict of tensors`, the model's arguments, with `labels`;
- `metrics(logits, examples) -> dict[str, float]`, with `loss` and the main metric.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Built:
    """A model before training."""

    network: Any
    """torch module; called with what `collate` gives, it returns `.loss` and `.logits`."""
    head_modules: tuple[str, ...]
    """Names of the modules that no checkpoint fills, so that they are trained and saved."""


@dataclass(frozen=True)
class Example:
    """A row as numbers."""

    token_ids: tuple[int, ...]
    label: int
    """Place in the list of labels."""

"""Tasks say what a row means to a model. The family's contract, in the order in which it is used:

- `row(raw, columns) -> dict`: `text` and the task's own fields, made of a row as it was read;
  `ValueError` with the reason puts the row into quarantine. `text` is what the row is compared,
  embedded and deduplicated by;
- `NEEDS`, optional: columns of the input without which no row can be used, when they are not the
  text column; each is taken over as a field or else left out;
- `columns() -> list[(name, Arrow type)]`: the task's fields besides `text` and `label`;
- `is_labelled(row) -> bool`: whether a row can be trained on or tested with;
- `LEAST_LABELS`, `labels(rows) -> list[str]`: the names the model has to tell apart, in the model's
  order, and how many there have to be; both 0 and empty where there are none;
- `tokenizer(folder) -> tokenizer`;
- `build(folder, name, labels, settings) -> Built`: a fresh model with its head; the head's start
  weights come from torch's global generator, so the caller seeds it;
- `start_head(network, examples, tokenizer, settings)`, optional: better start weights of the head;
- `examples(rows, labels, tokenizer, settings) -> list`: frozen dataclasses with `token_ids`, in the
  order of the rows. A row may give several; an example then says which row it is of;
- `prompted(example, ids, at) -> example`: with the token ids of a soft prompt put in at place `at`,
  and all that the example says of places moved along;
- `collate(examples, tokenizer) -> dict of tensors`, the model's arguments, with `labels` or what
  else it needs to return a loss;
- `outputs(model, batch, examples, tokenizer) -> list`: one output per example, without gradients;
- `MAIN_METRIC`: the metric by which the best step is chosen, and `GOAL`: "max" or "min";
  `SCALE`, optional: its range in words, "0 to 1" where it is not given;
- `metrics(outputs, examples) -> dict[str, float]`, with `loss` and the main metric;
- `predictions(outputs, examples, labels) -> list`: what a person reads, one per row, in JSON types.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol


@dataclass(frozen=True)
class Built:
    """A model before training."""

    network: Any
    """torch module; called with what `collate` gives, it returns `.loss` and `.logits`."""
    head_modules: tuple[str, ...]
    """Names of the modules that no checkpoint fills, so that they are trained and saved."""


class Columns(Protocol):
    """The settings of ingest that name columns of the labelled rows."""

    @property
    def text_column(self) -> str: ...  # noqa: D102
    @property
    def label_column(self) -> str: ...  # noqa: D102


@dataclass(frozen=True)
class Example:
    """A row as numbers, of tasks that give one label to a row."""

    token_ids: tuple[int, ...]
    label: int
    """Place in the list of labels."""


def text_in(raw: Any, column: str) -> str:
    """Return the text in a column of a row.

    Raises:
        ValueError: there is none.
    """
    text = raw.get(column)
    if isinstance(text, str) and text.strip():
        return text
    is_empty = text is None or isinstance(text, str)
    raise ValueError(
        f"column '{column}' is {'empty' if is_empty else type(text).__name__}, not text"
    )

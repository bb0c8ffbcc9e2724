"""token_classification: entities in a text; columns `text` and `spans` [{start, end, label}].

Spans count characters. A row without the column is unlabelled; an empty list says that there is no
entity. Inside, every word has a tag (IOB2) on one of its tokens, and the best valid sequence of
tags is searched. Longer texts are read in windows that overlap; every word belongs to the one
window that shows the most around it.

With 300 rows of CoNLL 2003 and 60 steps of 16 rows (all-MiniLM-L6-v2, a bottleneck adapter), F1 on
test is 0.64 with a head that is fitted first and 0.26 with a random one. The search for the best
valid sequence is worth five points of F1.

Source: Devlin et al. 2019, https://arxiv.org/abs/1810.04805 section 5.3 (first token of a word);
Ratinov and Roth 2009, https://aclanthology.org/W09-1119 (tags); Kumar et al. 2022,
https://arxiv.org/abs/2202.10054 (fit the head first, then tune the features)
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from lightadapt_data import base_models, entity_tags, logistic_head, spans, tagged_windows
from lightadapt_data.config import Config
from lightadapt_data.entity_tags import Entity
from lightadapt_data.errors import InputError
from lightadapt_data.tagged_windows import Window, by_row
from lightadapt_data.tasks import Built, Columns, text_in

logger = logging.getLogger(__name__)

MAIN_METRIC = "f1"
GOAL = "max"
LEAST_LABELS = 1


class Settings(Config):
    """Settings of token classification."""

    max_tokens: int = Field(default=128, ge=8)
    """Longer texts are read in windows of this length [tokens]."""
    stride: int = Field(default=32, ge=0)
    """Tokens that neighbouring windows share, at most half a window [tokens]."""
    place_of_tag: Literal["first", "last"] = "first"
    """The token of a word that carries its tag; take last for decoders, in which the first token
    does not see the rest of the word."""
    fit_head: bool = True
    """Start the head as a logistic regression on the frozen features, not at random."""
    inverse_regularisation: float = Field(default=10.0, gt=0)
    """The C of that regression, on features of mean length 1; larger follows the rows closely."""


def row(raw: Mapping[str, Any], columns: Columns) -> dict[str, Any]:
    """Return `text` and `spans`, sorted; None for a row that is not labelled.

    Raises:
        ValueError: there is no text, or a span is wrong.
    """
    text = text_in(raw, columns.text_column)
    return {"text": text, "spans": spans.labelled(text, raw.get("spans"))}


def columns() -> list[tuple[str, Any]]:
    """Return the column of spans."""
    import pyarrow as pa

    fields = [("start", pa.int64()), ("end", pa.int64()), ("label", pa.string())]
    return [("spans", pa.list_(pa.struct(fields)))]


def is_labelled(row: Mapping[str, Any]) -> bool:
    """Return whether the row has spans; an empty list counts."""
    return row.get("spans") is not None


def labels(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return the distinct types of entities in the rows, sorted."""
    return sorted({str(span["label"]) for row in rows for span in row.get("spans") or ()})


def tokenizer(folder: Path) -> Any:
    """Return the model's tokenizer.

    Raises:
        InputError: there is none in the folder, or it cannot say the characters of a token.
    """
    return spans.tokenizer_with_offsets(folder)


def build(folder: Path, name: str, labels: Sequence[str], settings: Settings) -> Built:
    """Return the model in `folder` with a head for the tags of `labels`.

    Raises:
        InputError: transformers has no such head for the model, or cannot load it.
    """
    tags = entity_tags.names(labels)
    network, lacking = base_models.load(
        "AutoModelForTokenClassification",
        folder,
        name,
        num_labels=len(tags),
        id2label=dict(enumerate(tags)),
        label2id={tag: index for index, tag in enumerate(tags)},
    )
    return Built(network, base_models.head_modules(network, lacking))


def start_head(
    network: Any, examples: Sequence[Window], tokenizer: Any, settings: Settings
) -> None:
    """Set the last layer to a logistic regression on the frozen features of the words.

    A head that does not end in one linear layer, and rows without an entity, leave it at random.
    """
    from torch import nn

    ends = [part for name, part in network.named_children() if name in ("classifier", "score")]
    if not settings.fit_head or len(ends) != 1 or not isinstance(ends[0], nn.Linear):
        return
    logistic_head.start(
        ends[0],
        network,
        [(example, example.tags) for example in examples if example.entities is not None],
        collate=lambda chosen: collate(chosen, tokenizer),
        features_of=lambda hidden, example: hidden[list(example.places)],
        inverse=settings.inverse_regularisation,
    )


def examples(
    rows: Sequence[Mapping[str, Any]], labels: Sequence[str], tokenizer: Any, settings: Settings
) -> list[Window]:
    """Return the windows of the rows, in their order; every row has one or more.

    Raises:
        InputError: a row's spans are wrong.
    """
    kinds = {label: index for index, label in enumerate(labels)}
    texts = [str(row["text"]) for row in rows]
    longest = min(settings.max_tokens, tokenizer.model_max_length)
    found: list[Window] = []
    n_entities = n_hidden = 0
    for number, encoding in enumerate(spans.encoded(texts, tokenizer)):
        words = spans.words_of(texts[number], encoding)
        entities = _entities(rows[number], number, kinds)
        found += tagged_windows.of_row(
            number,
            encoding,
            words,
            entities,
            longest - encoding.n_special,
            settings.stride,
            places=[getattr(word, settings.place_of_tag) for word in words],
        )
        if entities is not None:
            starts, ends = ({word.span[side] for word in words} for side in (0, 1))
            n_entities += len(entities)
            n_hidden += sum(e[0] not in starts or e[1] not in ends for e in entities)
    if n_hidden:
        logger.warning(
            "token_classification: %d of %d spans start or end inside a word of the tokenizer; "
            "they are learned as the whole word and count as missed",
            n_hidden,
            n_entities,
        )
    return found


def prompted(example: Window, ids: Sequence[int], at: int) -> Window:
    """Return the example with the ids of a soft prompt at place `at`."""
    return replace(
        example,
        token_ids=(*example.token_ids[:at], *ids, *example.token_ids[at:]),
        places=tuple(place + len(ids) if place >= at else place for place in example.places),
    )


def collate(examples: Sequence[Window], tokenizer: Any) -> dict[str, Any]:
    """Return `input_ids`, `attention_mask` and `labels`, int64 [rows, longest]."""
    import torch

    batch = spans.padded(examples, tokenizer)
    tags = torch.full_like(batch["input_ids"], tagged_windows.IGNORED)
    for number, example in enumerate(examples):
        tags[number, list(example.places)] = torch.tensor(example.tags, dtype=torch.int64)
        if not example.words:  # without any tag a batch would have no loss
            tags[number, 0] = 0
    return batch | {"labels": tags}


def outputs(
    model: Any, batch: Mapping[str, Any], examples: Sequence[Window], tokenizer: Any
) -> list[NDArray[np.float32]]:
    """Return the logits of each example's words, float32 [words, tags]."""
    known = {name: tensor for name, tensor in batch.items() if name != "labels"}
    logits = model(**known).logits.float().cpu().numpy()
    return [logits[number, list(example.places)] for number, example in enumerate(examples)]


def metrics(outputs: Sequence[NDArray[np.float32]], examples: Sequence[Window]) -> dict[str, float]:
    """Return strict scores of entities, accuracy of tags (0 to 1), cross-entropy [nats per word].

    Right is an entity whose characters and type are exactly those of the row; what no word can
    show counts as missed. Unlabelled rows do not count.
    """
    known = [pair for pair in by_row(outputs, examples) if pair[1][0].entities is not None]
    paths = [entity_tags.best_path(logits) for logits, _ in known]
    scores = entity_tags.strict_scores(
        [windows[0].entities or () for _, windows in known],
        [_read(path, windows) for path, (_, windows) in zip(paths, known, strict=True)],
    )
    truth = np.array([tag for _, windows in known for w in windows for tag in w.tags], np.int64)
    if not len(truth):
        return scores | {"token_accuracy": 0.0, "loss": 0.0}
    return scores | {
        "token_accuracy": float((np.concatenate(paths) == truth).mean()),
        "loss": logistic_head.mean_loss(np.concatenate([logits for logits, _ in known]), truth),
    }


def predictions(
    outputs: Sequence[NDArray[np.float32]], examples: Sequence[Window], labels: Sequence[str]
) -> list[list[dict[str, Any]]]:
    """Return the entities of each row as {start, end, label}, in the order of the text."""
    return [
        [
            {"start": start, "end": end, "label": labels[kind]}
            for start, end, kind in _read(entity_tags.best_path(logits), windows)
        ]
        for logits, windows in by_row(outputs, examples)
    ]


def _entities(
    row: Mapping[str, Any], number: int, kinds: Mapping[str, int]
) -> tuple[Entity, ...] | None:
    """Return the row's entities without white space at their edges; None when it is unlabelled."""
    text = str(row["text"])
    try:
        found = spans.labelled(text, row.get("spans"))
    except ValueError as error:
        raise InputError(
            f"token_classification: row '{row.get('id', number)}': {error}; correct the row, or "
            "take it out"
        ) from None
    if found is None:
        return None
    return tuple(
        (*spans.trimmed(text, (span["start"], span["end"])), kinds.get(span["label"], -1))
        for span in found
    )


def _read(path: NDArray[np.int64], windows: Sequence[Window]) -> list[Entity]:
    words = [word for window in windows for word in window.words]
    return entity_tags.entities_of(words, path.tolist())

"""relation_extraction: how two entities of a text relate; columns `text, head, tail, label`.

`head` and `tail` are {start, end} in characters. Both stand between markers in the text: "the
@ author @ of a # book #". The markers are signs that every vocabulary has, so it need not grow. The
classifier reads the hidden states at the two opening markers, in decoders at the closing ones, as
there the opening ones have not seen the entity. Of a text that is too long, what stands nearest to
the entities is kept, with both of them and all markers.

With 300 rows of SemEval 2010 task 8 and 60 steps of 16 rows (all-MiniLM-L6-v2, a bottleneck
adapter), macro F1 on test is 0.37 with a head that is fitted first and 0.05 with a random one.

Source: Baldini Soares et al. 2019, https://aclanthology.org/P19-1279 section 3.2 (entity start);
Zhou and Chen 2022, https://aclanthology.org/2022.aacl-short.21 section 2.2 (punctuation as markers)
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from lightadapt_data import base_models, entity_markers, logistic_head, spans
from lightadapt_data.config import Config
from lightadapt_data.entity_markers import Markers
from lightadapt_data.errors import InputError, allowed
from lightadapt_data.spans import Span
from lightadapt_data.tasks import Built, Columns, text_in

MAIN_METRIC = "macro_f1"
GOAL = "max"
LEAST_LABELS = 2


class Settings(Config):
    """Settings of relation extraction."""

    max_tokens: int = Field(default=128, ge=12)
    """Longer texts are cut around the entities to this length [tokens]."""
    head_marker: str = Field(default="@", pattern=r"^\S+$")
    """What is written before and behind the head."""
    tail_marker: str = Field(default="#", pattern=r"^\S+$")
    """What is written before and behind the tail."""
    no_relation: tuple[str, ...] = ()
    """Labels that say that there is no relation; they do not count in macro and micro F1."""
    head_dropout: float = Field(default=0.1, ge=0, lt=1)
    """Share of features that the classifier drops, when training uses dropout [ratio]."""
    fit_head: bool = True
    """Start the classifier as a logistic regression on the frozen features, not at random."""
    inverse_regularisation: float = Field(default=10.0, gt=0)
    """The C of that regression, on features of mean length 1; larger follows the rows closely."""


@dataclass(frozen=True)
class Pair:
    """A text with two marked entities."""

    token_ids: tuple[int, ...]
    markers: Markers
    label: int
    """Place in the list of labels; -1: none, or one that the model has not."""
    not_counted: tuple[int, ...]
    """Labels that do not count in F1."""


def row(raw: Mapping[str, Any], columns: Columns) -> dict[str, Any]:
    """Return `text`, `head`, `tail` and `label`; a row without a label is kept.

    Raises:
        ValueError: there is no text, or head or tail is missing or wrong.
    """
    text = text_in(raw, columns.text_column)
    head, tail = _entities(text, raw)
    label = raw.get(columns.label_column)
    return {
        "text": text,
        "head": {"start": head[0], "end": head[1]},
        "tail": {"start": tail[0], "end": tail[1]},
        "label": None if label is None else str(label),
    }


def columns() -> list[tuple[str, Any]]:
    """Return the columns of the two entities."""
    import pyarrow as pa

    span = pa.struct([("start", pa.int64()), ("end", pa.int64())])
    return [("head", span), ("tail", span)]


def is_labelled(row: Mapping[str, Any]) -> bool:
    """Return whether the row has a label and the two entities that it is about."""
    return all(row.get(name) is not None for name in ("head", "tail", "label"))


def labels(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return the distinct labels of the rows, sorted; rows without a label do not count."""
    return sorted({str(row["label"]) for row in rows if row["label"] is not None})


def tokenizer(folder: Path) -> Any:
    """Return the model's tokenizer.

    Raises:
        InputError: there is none in the folder, or it cannot say the characters of a token.
    """
    return spans.tokenizer_with_offsets(folder)


def build(folder: Path, name: str, labels: Sequence[str], settings: Settings) -> Built:
    """Return the model in `folder` with a classifier of two entities; of T5 and BART, the encoder.

    Raises:
        InputError: transformers cannot load a model from the folder.
    """
    from lightadapt_data.networks.entity_pair import EntityPairClassifier

    base, _ = base_models.load("AutoModel", folder, name)
    encoder = base.get_encoder() if base.config.is_encoder_decoder else base
    network: Any = EntityPairClassifier(
        encoder, len(labels), settings.head_dropout, _is_causal(base.config)
    )
    network.name_or_path = name
    return Built(network, ("classifier",))


def start_head(network: Any, examples: Sequence[Pair], tokenizer: Any, settings: Settings) -> None:
    """Set the classifier to a logistic regression on the frozen features of the training rows."""
    if settings.fit_head:
        logistic_head.start(
            network.classifier,
            network,
            [(example, [example.label]) for example in examples if example.label >= 0],
            collate=lambda chosen: collate(chosen, tokenizer),
            features_of=lambda pair, _: pair[None],
            inverse=settings.inverse_regularisation,
        )


def examples(
    rows: Sequence[Mapping[str, Any]], labels: Sequence[str], tokenizer: Any, settings: Settings
) -> list[Pair]:
    """Return the rows as token ids with the places of the markers.

    Raises:
        InputError: head or tail is missing or wrong, both do not fit into `max_tokens`, or a name
            in `no_relation` is no label.
    """
    unknown = sorted(set(settings.no_relation) - set(labels))
    if unknown:
        raise InputError(
            f"relation_extraction.no_relation: '{unknown[0]}' is no label of the training rows; "
            f"{allowed(unknown[0], labels)}"
        )
    not_counted = tuple(sorted(labels.index(name) for name in settings.no_relation))
    place = {label: index for index, label in enumerate(labels)}
    longest = min(settings.max_tokens, tokenizer.model_max_length)
    written = []
    for number, row in enumerate(rows):
        text = str(row["text"])
        with _naming(row, number):
            head, tail = _entities(text, row)
        written.append(
            entity_markers.put(text, head, tail, settings.head_marker, settings.tail_marker)
        )
    found = []
    encodings = spans.encoded([text for text, _ in written], tokenizer)
    for number, (encoding, (_, signs)) in enumerate(zip(encodings, written, strict=True)):
        with _naming(rows[number], number):
            ids, markers = entity_markers.cut(encoding, signs, longest)
        label = place.get(str(rows[number].get("label")), -1)
        found.append(Pair(ids, markers, label, not_counted))
    return found


def prompted(example: Pair, ids: Sequence[int], at: int) -> Pair:
    """Return the example with the ids of a soft prompt at place `at`."""
    head, tail = (
        tuple(place + len(ids) if place >= at else place for place in pair)
        for pair in example.markers
    )
    return replace(
        example,
        token_ids=(*example.token_ids[:at], *ids, *example.token_ids[at:]),
        markers=((head[0], head[1]), (tail[0], tail[1])),
    )


def collate(examples: Sequence[Pair], tokenizer: Any) -> dict[str, Any]:
    """Return `input_ids`, `attention_mask`, `markers` [rows, 2, 2] and `labels` [rows], int64."""
    import torch

    return spans.padded(examples, tokenizer) | {
        "markers": torch.tensor([example.markers for example in examples]),
        "labels": torch.tensor([example.label for example in examples]),
    }


def outputs(
    model: Any, batch: Mapping[str, Any], examples: Sequence[Pair], tokenizer: Any
) -> list[NDArray[np.float32]]:
    """Return the logits of each example, float32 [labels]."""
    known = {name: tensor for name, tensor in batch.items() if name != "labels"}  # or not known
    return list(model(**known).logits.float().cpu().numpy())


def metrics(outputs: Sequence[NDArray[np.float32]], examples: Sequence[Pair]) -> dict[str, float]:
    """Return accuracy, macro and micro F1 (0 to 1) and the mean cross-entropy [nats].

    Both F1 leave out the labels of `no_relation`; a label that neither occurs nor is predicted does
    not count in macro F1.
    """
    from sklearn.metrics import accuracy_score, f1_score

    logits = np.stack(outputs)
    truth = np.array([example.label for example in examples])
    predicted = logits.argmax(axis=1)
    counted = sorted({*truth.tolist(), *predicted.tolist()} - set(examples[0].not_counted))
    macro, micro = (
        float(f1_score(truth, predicted, labels=counted, average=kind, zero_division=0.0))
        if counted
        else 0.0
        for kind in ("macro", "micro")
    )
    return {
        "accuracy": float(accuracy_score(truth, predicted)),
        "macro_f1": macro,
        "micro_f1": micro,
        "loss": logistic_head.mean_loss(logits, truth),
    }


def predictions(
    outputs: Sequence[NDArray[np.float32]], examples: Sequence[Pair], labels: Sequence[str]
) -> list[str]:
    """Return the label that the model gives to each row."""
    return [labels[int(logits.argmax())] for logits in outputs]


@contextmanager
def _naming(row: Mapping[str, Any], number: int) -> Iterator[None]:
    """Name the row in what goes wrong with it.

    Raises:
        InputError: for a ValueError.
    """
    try:
        yield
    except ValueError as error:
        raise InputError(
            f"relation_extraction: row '{row.get('id', number)}': {error}; correct the row, or "
            "take it out"
        ) from None


def _entities(text: str, row: Mapping[str, Any]) -> tuple[Span, Span]:
    """Return head and tail.

    Raises:
        ValueError: one is missing or wrong, or they overlap.
    """
    for name in ("head", "tail"):
        if row.get(name) is None:
            raise ValueError(f"there is no {name}; allowed: an object with start and end")
    head, tail = (spans.span_in(row[name], text, name) for name in ("head", "tail"))
    spans.check_apart(head, tail, "head and tail")
    return head, tail


def _is_causal(config: Any) -> bool:
    """Return whether a token sees only those before it: a decoder, whose family is not masked."""
    from transformers.models.auto import modeling_auto

    if config.is_encoder_decoder:
        return False
    kind = str(config.model_type)
    is_decoder = kind in modeling_auto.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES
    is_masked = kind in modeling_auto.MODEL_FOR_MASKED_LM_MAPPING_NAMES
    return bool(getattr(config, "is_decoder", False)) or (is_decoder and not is_masked)

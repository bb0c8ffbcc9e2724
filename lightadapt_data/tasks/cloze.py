"""cloze: classification as filling a blank; columns `text`, `label` and, for pairs, `text_b`.

A row is put into a template with a blank, "{text} It was {mask}.", and a language model with its
own head says how well each label's words fit in. Nothing starts at random, so the model is of use
before training and needs few rows: its score of a label is the mean of the scores of its words,
each of which has to be one token.

Models that write on (GPT-2, Llama, Qwen3) see the template up to the blank, T5 has a gap of its own
for it, and BERT and its relatives, BART too, have a mask. Models without a language-model head,
such as sentence encoders, are refused.

`calibrate` divides by what the untrained model says when the row says nothing: "N/A", "[MASK]" and
no text at all. It helps where one word is likely whatever the text.

A pair of texts (column `text_b`) is `{text_a}` and `{text_b}` in a template; `{text}` is both.

Source: Schick and Schütze 2021, https://arxiv.org/abs/2001.07676 section 3.1 (templates and label
words); Gao et al. 2021, https://arxiv.org/abs/2012.15723 section 5 (few rows); Zhao et al. 2021,
https://arxiv.org/abs/2102.09690 section 5 (calibration); Bach et al. 2022,
https://arxiv.org/abs/2202.01279 (PromptSource's templates)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from lightadapt_data import (
    base_models,
    label_metrics,
    label_words,
    language_heads,
    prompt_source,
    templates,
)
from lightadapt_data.config import Config
from lightadapt_data.errors import InputError, allowed
from lightadapt_data.tasks import Built, Columns, text_in

MAIN_METRIC = "accuracy"
GOAL = "max"
LEAST_LABELS = 2

EMPTY = ("N/A", "", "[MASK]")
"""Rows that say nothing."""


class Settings(Config):
    """Settings of classification by a blank."""

    template: str = "{text} It was {mask}."
    """Text with columns of the row in braces, {mask} for the blank, and {soft:5} or {soft} where
    the tokens of a soft prompt go (without: before the text). A space before {mask} counts."""
    words: dict[str, tuple[str, ...]] = Field(default_factory=dict)
    """Words that say a label, each one token; empty: the label's own name."""
    columns: dict[str, str] = Field(default_factory=dict)
    """Column of the row for a name in the template that is no column: {sentence = "text"}."""
    calibrate: bool = False
    """Divide by what the untrained model says of rows that say nothing."""
    max_tokens: int = Field(default=128, ge=4)
    """Longer rows are cut to this length; what is cut is what comes from the row [tokens]."""
    prompt_source: str = ""
    """A templates.yaml of PromptSource that gives template and words."""
    template_name: str = ""
    """Name of a template in it."""
    label_order: tuple[str, ...] = ()
    """The labels in the order of the template's answer choices; needed where they have other
    names."""
    taken_from: str = ""
    """Where template and words come from; set when `prompt_source` is read, which is once."""

    @model_validator(mode="before")
    @classmethod
    def _read_prompt_source(cls, values: Any) -> Any:
        """Put template and words in place of the file's name, so that results depend on them."""
        is_given = isinstance(values, dict) and values.get("prompt_source")
        return prompt_source.resolved(values) if is_given else values

    @model_validator(mode="after")
    def _has_a_blank(self) -> Settings:
        templates.parse(self.template)
        return self


@dataclass(frozen=True)
class ClozeExample:
    """A row as numbers."""

    token_ids: tuple[int, ...]
    label: int
    """Place in the list of labels; -1: not known."""
    blank: int
    """Place of the blank; in models that write on, behind the last token."""
    soft: tuple[tuple[int, int], ...] = ()
    """Before which token soft tokens go, and how many; 0: all."""


def labels(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return the distinct labels of the rows, sorted; rows without a label do not count."""
    return sorted({str(row["label"]) for row in rows if row["label"] is not None})


def row(raw: Mapping[str, Any], columns: Columns) -> dict[str, Any]:
    """Return `text` and `label`, and of a pair `text_a` and `text_b`, of which `text` is both.

    Raises:
        ValueError: there is no text.
    """
    label = raw.get(columns.label_column)
    text = text_in(raw, columns.text_column)
    found = {"text": text, "label": None if label is None else str(label)}
    if raw.get("text_b") is None:
        return found
    second = text_in(raw, "text_b")
    return {**found, "text": f"{text}\n{second}", "text_a": text, "text_b": second}


def columns() -> list[tuple[str, Any]]:
    """Return the two texts of a pair; both are empty in rows of one text."""
    import pyarrow as pa

    return [("text_a", pa.string()), ("text_b", pa.string())]


def is_labelled(row: Mapping[str, Any]) -> bool:
    """Return whether the row has a label."""
    return row.get("label") is not None


def tokenizer(folder: Path) -> Any:
    """Return the model's tokenizer; it has a mask only if the model fills masks.

    Raises:
        InputError: there is none in the folder, or the model has no head over words.
    """
    found = base_models.tokenizer(folder)
    config = base_models.config_of(folder)
    if language_heads.class_of(config, found, str(folder)) == "AutoModelForCausalLM":
        found.mask_token = None  # some decoders' tokenizers have one that means nothing to them
    return found


def build(folder: Path, name: str, labels: Sequence[str], settings: Settings) -> Built:
    """Return the language model in `folder` as a classifier; it is of use before any training.

    Raises:
        InputError: the model has no head over words, or a label's word is not one token.
    """
    from lightadapt_data.networks.cloze import ClozeClassifier

    words = tokenizer(folder)
    ids = label_words.token_ids(
        labels, settings.words, words, templates.parse(settings.template).has_space_before_mask
    )
    model = language_heads.load(folder, name, words)
    model.config.id2label = dict(enumerate(labels))
    model.config.label2id = {label: place for place, label in enumerate(labels)}
    kind = language_heads.kind(words)
    written: list[int] = []
    if kind == "paired":  # the decoder has begun, and written that the gap is next
        gap = words.convert_tokens_to_ids(language_heads.GAP)
        written = [model.config.decoder_start_token_id, gap]
    network: Any = ClozeClassifier(model, kind, ids, written)
    network.name_or_path = name
    if settings.calibrate:
        _calibrate(network, words, settings)
    return Built(network, ())


def _calibrate(network: Any, tokenizer: Any, settings: Settings) -> None:
    """Set what is taken off each label's score: its mean chance where the row says nothing."""
    import torch

    names = [settings.columns.get(name, name) for name in templates.parse(settings.template).fields]
    rows = [{"id": text, "label": None, **dict.fromkeys(names, text)} for text in EMPTY]
    found = examples(rows, (), tokenizer, settings)
    batch = collate([replace(example, soft=()) for example in found], tokenizer)
    del batch["labels"]
    network.eval()
    with torch.no_grad():
        chances = network(**batch).logits.softmax(-1).mean(0)
        network.offset.copy_(chances.clamp(min=1e-9).log())


def examples(
    rows: Sequence[Mapping[str, Any]], labels: Sequence[str], tokenizer: Any, settings: Settings
) -> list[ClozeExample]:
    """Return the rows in the template, as tokens, with the place of their label or -1.

    Raises:
        InputError: a row lacks a column that the template names; or the template is longer than
            `max_tokens`.
    """
    if not rows:
        return []
    template = templates.parse(settings.template)
    mask = {"paired": language_heads.GAP, "masked": tokenizer.mask_token}.get(
        language_heads.kind(tokenizer)
    )
    if mask is None and _is_field_after_mask(template):
        raise InputError(
            f"[cloze] template = '{settings.template}': the base model writes on and cannot see "
            "what comes after {mask}; allowed: columns before it only"
        )
    filled = [templates.fill(template, _values(row, template, settings), mask) for row in rows]
    longest = min(settings.max_tokens, tokenizer.model_max_length)
    mask_id = None if mask is None else tokenizer.convert_tokens_to_ids(mask)
    place = {label: index for index, label in enumerate(labels)}
    return [
        ClozeExample(one.token_ids, place.get(str(row.get("label")), -1), one.blank, one.soft)
        for one, row in zip(
            templates.tokens(filled, tokenizer, longest, mask_id), rows, strict=True
        )
    ]


def _is_field_after_mask(template: templates.Template) -> bool:
    kinds = [part.kind for part in template.parts]
    return "field" in kinds[kinds.index("mask") :]


def _values(
    row: Mapping[str, Any], template: templates.Template, settings: Settings
) -> dict[str, str]:
    """Return the row's values for the names in the template."""
    found = {}
    for name in template.fields:
        column = settings.columns.get(name, name)
        if row.get(column) is None:
            raise InputError(
                f"[cloze] template: the row '{row.get('id')}' has nothing in column '{column}'; "
                f"{allowed(column, [key for key, value in row.items() if value is not None])}; "
                "change the template, or name the column in `columns`"
            )
        found[name] = str(row[column])
    return found


def prompted(example: ClozeExample, ids: Sequence[int], at: int) -> ClozeExample:
    """Return the example with the ids of a soft prompt where the template says, else at place `at`.

    Raises:
        InputError: the template has room for another number of soft tokens.
    """
    token_ids, blank = templates.with_soft(example.token_ids, example.blank, example.soft, ids, at)
    return replace(example, token_ids=token_ids, blank=blank, soft=())


def collate(examples: Sequence[ClozeExample], tokenizer: Any) -> dict[str, Any]:
    """Return `input_ids`, `attention_mask` [rows, longest], `blank`, `labels` [rows], all int64."""
    import torch

    width = max(len(example.token_ids) for example in examples)
    ids = np.full((len(examples), width), tokenizer.pad_token_id or 0, np.int64)
    mask = np.zeros_like(ids)
    for row, example in enumerate(examples):
        ids[row, : len(example.token_ids)] = example.token_ids
        mask[row, : len(example.token_ids)] = 1
    return {
        "input_ids": torch.from_numpy(ids),
        "attention_mask": torch.from_numpy(mask),
        "blank": torch.tensor([example.blank for example in examples]),
        "labels": torch.tensor([example.label for example in examples]),
    }


def outputs(
    model: Any, batch: Mapping[str, Any], examples: Sequence[ClozeExample], tokenizer: Any
) -> list[NDArray[np.float32]]:
    """Return the logits of each example, float32 [labels]."""
    known = {name: tensor for name, tensor in batch.items() if name != "labels"}  # or not known
    return list(model(**known).logits.float().cpu().numpy())


def metrics(
    outputs: Sequence[NDArray[np.float32]], examples: Sequence[ClozeExample]
) -> dict[str, float]:
    """Return accuracy and macro F1 (0 to 1) and the mean cross-entropy over the labels [nats].

    Args:
        outputs: logits, float32 [labels], of each row.
        examples: as many rows, at least one.
    """
    return label_metrics.of_logits(outputs, [example.label for example in examples])


def predictions(
    outputs: Sequence[NDArray[np.float32]], examples: Sequence[ClozeExample], labels: Sequence[str]
) -> list[str]:
    """Return the label whose words fit best into each row's blank."""
    return [labels[int(logits.argmax())] for logits in outputs]

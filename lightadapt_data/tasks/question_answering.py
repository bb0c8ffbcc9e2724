"""question_answering: the words of a context that answer a question; SQuAD's columns.

Columns: `context`, `question`, and `answers` with `text` and `answer_start`. Without `answers` a
row is unlabelled; with empty lists its context does not answer the question. Long contexts are read
in windows that overlap, and the best answer of all windows counts.

The model scores every token as the start and as the end of the answer. Encoders say "no answer"
with their first token. Decoders have none that has seen the text, so an end token behind the
context says it for them. They do not part two texts, so a line break does. The question comes
first: a decoder's token knows only what stands before it, and so knows the question, but not how
the context goes on.

To find what a question asks for takes more trained weights than to sort texts. Of 200 questions, in
150 steps of 8, a bottleneck adapter of variant "houlsby", reduction_factor 2 and learning rate 3e-3
learned F1 0.29 on 104 others, one of the defaults' shape 0.09 (all-MiniLM-L6-v2, XQuAD, one seed).

Source: Devlin et al. 2019, https://arxiv.org/abs/1810.04805 sections 4.2 and 4.3, and its code,
https://github.com/google-research/bert run_squad.py (windows of a stride, no answer); Rajpurkar et
al. 2016, https://arxiv.org/abs/1606.05250 (columns)
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from lightadapt_data import answers, base_models, question_windows
from lightadapt_data.errors import InputError
from lightadapt_data.question_windows import Limits, Window
from lightadapt_data.tasks import Built, Columns, text_in

MAIN_METRIC = "f1"
GOAL = "max"
LEAST_LABELS = 0
NEEDS = ("context", "question")

NO_ANSWER = "no answer"
"""The only label: some training rows have a context that does not answer the question."""


class Settings(Limits):
    """Settings of question answering."""


def row(raw: Mapping[str, Any], columns: Columns) -> dict[str, Any]:
    """Return `text`, `context`, `question` and `answers`; None for answers that are not known.

    Raises:
        ValueError: context or question is empty, or the answers are not in the context.
    """
    context, question = text_in(raw, "context"), text_in(raw, "question")
    return {
        "text": f"{question}\n{context}",
        "context": context,
        "question": question,
        "answers": answers.checked(raw.get("answers"), context),
    }


def columns() -> list[tuple[str, Any]]:
    """Return `context`, `question` and `answers`, as SQuAD has them."""
    import pyarrow as pa

    many = [("text", pa.list_(pa.string())), ("answer_start", pa.list_(pa.int64()))]
    return [("context", pa.string()), ("question", pa.string()), ("answers", pa.struct(many))]


def is_labelled(row: Mapping[str, Any]) -> bool:
    """Return whether the answers are known; that there is none is known too."""
    return row.get("answers") is not None


def labels(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return `["no answer"]` if a row is known to have none, else nothing.

    A model is to say so only if its training rows have such questions. It learns to say it from
    windows too, those of long contexts that miss the answer, and then says it far too often.
    """
    has_none = any(is_labelled(row) and not row["answers"]["text"] for row in rows)
    return [NO_ANSWER] if has_none else []


def tokenizer(folder: Path) -> Any:
    """Return the model's tokenizer; it gives token types where the model tells them apart.

    Raises:
        InputError: there is none in the folder, or it does not tell the characters of a token.
    """
    found = base_models.tokenizer(folder)
    if not found.is_fast:
        raise InputError(
            f"base model {folder}: its tokenizer does not say which characters a token stands for; "
            "allowed: one with a tokenizer.json; save it with tokenizers' own format"
        )
    has_types = int(base_models.config_of(folder).get("type_vocab_size") or 0) > 1
    names = [name for name in found.model_input_names if name != "token_type_ids"]
    found.model_input_names = [*names, "token_type_ids"] if has_types else names
    return found


def build(folder: Path, name: str, labels: Sequence[str], settings: Settings) -> Built:
    """Return the model in `folder` with a fresh head for start and end.

    Raises:
        InputError: transformers has no such head for the model, or cannot load it.
    """
    # A base that was a classifier says how many labels it had; start and end are two.
    auto_class = "AutoModelForQuestionAnswering"
    network, lacking = base_models.load(auto_class, folder, name, num_labels=2)
    base = network.base_model_prefix
    inside = [key for key in lacking if key.startswith(f"{base}.")]
    if inside and len(inside) == len(list(getattr(network, base).parameters())):
        # Llama and its kin call the base by another name here, and then none of it is loaded.
        loaded, missing = base_models.load("AutoModel", folder, name)
        setattr(network, base, loaded)
        lacking = [*(set(lacking) - set(inside)), *(f"{base}.{key}" for key in missing)]
    return Built(network, base_models.head_modules(network, lacking))


def examples(
    rows: Sequence[Mapping[str, Any]], labels: Sequence[str], tokenizer: Any, settings: Settings
) -> list[Window]:
    """Return the windows of every row, one or more, in the order of the rows."""
    is_always_answered = NO_ANSWER not in labels
    limits = (
        settings.model_copy(update={"null_threshold": math.inf}) if is_always_answered else settings
    )
    return question_windows.windows(rows, tokenizer, limits) if rows else []


def prompted(example: Window, ids: Sequence[int], at: int) -> Window:
    """Return the window with the ids of a soft prompt at place `at`; what stands behind moves."""
    size = len(ids)

    def moved(place: int) -> int:
        return place + size if place >= at else place

    tokens = example.tokens.copy()
    tokens[tokens[:, 0] >= at, 0] += size
    types = example.type_ids
    if types:
        types = (*types[:at], *[types[max(0, at - 1)]] * size, *types[at:])
    return replace(
        example,
        token_ids=(*example.token_ids[:at], *ids, *example.token_ids[at:]),
        type_ids=types,
        tokens=tokens,
        null_place=moved(example.null_place),
        start=moved(example.start),
        end=moved(example.end),
    )


def collate(examples: Sequence[Window], tokenizer: Any) -> dict[str, Any]:
    """Return int64 tensors: ids, mask and, if the model has them, types [rows, longest]; positions.

    A position that is not known is the length of the batch, which transformers leaves out.
    """
    import torch

    width = max(len(example.token_ids) for example in examples)
    batch = {
        "input_ids": np.full((len(examples), width), tokenizer.pad_token_id or 0, np.int64),
        "attention_mask": np.zeros((len(examples), width), np.int64),
    }
    if examples[0].type_ids:
        batch["token_type_ids"] = np.zeros((len(examples), width), np.int64)
    for row, example in enumerate(examples):
        n_tokens = len(example.token_ids)
        batch["input_ids"][row, :n_tokens] = example.token_ids
        batch["attention_mask"][row, :n_tokens] = 1
        if example.type_ids:
            batch["token_type_ids"][row, :n_tokens] = example.type_ids
    for name, places in (
        ("start_positions", [example.start for example in examples]),
        ("end_positions", [example.end for example in examples]),
    ):
        batch[name] = np.array([width if place < 0 else place for place in places])
    return {name: torch.from_numpy(array) for name, array in batch.items()}


def outputs(
    model: Any, batch: Mapping[str, Any], examples: Sequence[Window], tokenizer: Any
) -> list[answers.Reading]:
    """Return the best answer in each window, with its score and that of no answer."""
    output = model(**{name: batch[name] for name in batch if not name.endswith("_positions")})
    starts, ends = (
        logits.detach().float().cpu().numpy() for logits in (output.start_logits, output.end_logits)
    )
    return [
        answers.read_scores(
            np.stack([start, end]),
            window.tokens,
            window.null_place,
            (window.start, window.end),
            window.limits.max_answer_tokens,
        )
        for start, end, window in zip(starts, ends, examples, strict=True)
    ]


def metrics(outputs: Sequence[answers.Reading], examples: Sequence[Window]) -> dict[str, float]:
    """Return SQuAD's exact match and F1 over questions (0 to 1) and the loss over windows [nats].

    The loss is the mean cross-entropy of start and end among the context's tokens and the place of
    no answer. Rows without answers do not count; at least one has to have them.
    """
    known = [answer for answer in _answers(outputs, examples) if answer[0].references is not None]
    match, f1 = answers.exact_match_and_f1(
        [_text(window, answer) for window, answer in known],
        [window.references or () for window, _ in known],
    )
    losses = [reading.loss for reading in outputs if np.isfinite(reading.loss)]
    return {
        "f1": f1,
        "exact_match": match,
        "loss": float(np.mean(losses)) if losses else float("nan"),
    }


def predictions(
    outputs: Sequence[answers.Reading], examples: Sequence[Window], labels: Sequence[str]
) -> list[dict[str, Any]]:
    """Return `text`, `start` (a character of the context, -1: no answer) and `score` of each row.

    `score` is the answer's probability, from 0 to 1.
    """
    return [
        {"text": _text(window, answer), "start": answer.start, "score": answer.probability}
        for window, answer in _answers(outputs, examples)
    ]


def _answers(
    outputs: Sequence[answers.Reading], examples: Sequence[Window]
) -> list[tuple[Window, answers.Answer]]:
    """Return the answer to each row, with the row's first window."""
    readings: dict[int, list[answers.Reading]] = {}
    first: dict[int, Window] = {}
    for reading, window in zip(outputs, examples, strict=True):
        readings.setdefault(window.row, []).append(reading)
        first.setdefault(window.row, window)
    return [
        (window, answers.chosen(readings[number], window.limits.null_threshold))
        for number, window in first.items()
    ]


def _text(window: Window, answer: answers.Answer) -> str:
    return "" if answer.start < 0 else window.context[answer.start : answer.end]

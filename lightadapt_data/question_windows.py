"""Question windows: a question and its context as tokens, a long context in parts that overlap.

Source: Devlin et al. 2019, https://arxiv.org/abs/1810.04805, its code for SQuAD (windows of a
stride; a window without the answer has none)
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from lightadapt_data import answers
from lightadapt_data.config import Config


class Limits(Config):
    """How long windows and answers may be."""

    max_tokens: int = Field(default=256, ge=16)
    """Question and one window of the context, at most [tokens]."""
    max_question_tokens: int = Field(default=64, ge=1)
    """Longer questions are cut to this length, and to half of a window [tokens]."""
    stride: int = Field(default=64, ge=0)
    """What a window shares with the one before it; at most half of its context [tokens]."""
    max_answer_tokens: int = Field(default=30, ge=1)
    """Longest answer that is given [tokens]."""
    null_threshold: float = 0.0
    """Where training rows had questions without an answer: none is given when the score of "no
    answer" is higher than the best answer's by more than this; larger gives more answers [sum of
    two logits]."""


@dataclass(frozen=True, eq=False)
class Window:
    """A question and a part of its context as numbers."""

    token_ids: tuple[int, ...]
    type_ids: tuple[int, ...]
    """Of each token whether it is of the first or second text; empty when the model has no use."""
    tokens: NDArray[np.int32]
    """Of each token of the context its place, first character, end; int32 [tokens, 3]."""
    null_place: int
    """The place that says that there is no answer."""
    start: int
    """Place of the first token of the answer; `null_place` when it is not in the window, -1 when
    it is not known."""
    end: int
    """Place of its last token."""
    row: int
    """Number of the row; the windows of a row follow each other."""
    context: str
    references: tuple[str, ...] | None
    """All true answers; empty: there is none; None: not known."""
    limits: Limits


@dataclass(frozen=True)
class _Layout:
    """What a tokenizer puts before, between and behind two texts."""

    before: list[int]
    between: list[int]
    behind: list[int]
    types: tuple[int, ...]
    """Of what stands before, the first text, between, the second text, behind; empty: none."""
    null_place: int
    """Negative: counted from the end."""


@dataclass(frozen=True)
class _Context:
    """A context as tokens."""

    ids: list[int]
    tokens: NDArray[np.int32]
    """As in `Window`, with the place in `ids`; tokens that hold only white space are not there."""


def windows(rows: Sequence[Mapping[str, Any]], tokenizer: Any, limits: Limits) -> list[Window]:
    """Return the windows of every row, one or more, in the order of the rows.

    Of several answers, the first one that is whole in a window is its target.

    Args:
        rows: with `question` and `context`, and `answers` where they are known.
        tokenizer: one that tells the characters of a token.
        limits: longest windows; the tokenizer's own limit holds too.
    """
    layout = _layout(tokenizer)
    texts = list(dict.fromkeys(str(row["context"]) for row in rows))  # SQuAD repeats each one
    contexts = dict(zip(texts, _contexts(texts, tokenizer), strict=True))
    questions = tokenizer(
        [str(row["question"]) for row in rows], add_special_tokens=False, verbose=False
    )["input_ids"]
    found: list[Window] = []
    for number, (row, question) in enumerate(zip(rows, questions, strict=True)):
        text = str(row["context"])
        given = answers.checked(row.get("answers"), text)
        whole = Window(
            token_ids=(),
            type_ids=(),
            tokens=contexts[text].tokens,
            null_place=0,
            start=-1,
            end=-1,
            row=number,
            context=text,
            references=None if given is None else tuple(given["text"]),
            limits=limits,
        )
        spans = [] if given is None else _spans(contexts[text].tokens, given)
        longest = min(limits.max_tokens, tokenizer.model_max_length)
        found.extend(_parts(whole, layout, question, contexts[text].ids, spans, longest))
    return found


def _layout(tokenizer: Any) -> _Layout:
    """Return what the tokenizer puts around two texts, found by giving it two."""
    encoded = tokenizer("a", "b")
    ids, of = encoded["input_ids"], encoded.sequence_ids()
    first, second = of.index(0), of.index(1)
    after_first, after_second = (len(of) - of[::-1].index(text) for text in (0, 1))
    before, between, behind = ids[:first], ids[after_first:second], ids[after_second:]
    if not between:
        between = tokenizer("\n", add_special_tokens=False)["input_ids"]
    if not behind and tokenizer.eos_token_id is not None:
        behind = [tokenizer.eos_token_id]
    # Where nothing stands between or behind, the type of the text before.
    types = encoded.get("token_type_ids") or []
    types = [types[place] for place in (0, first, second - 1, second, -1) if types]
    if tokenizer.cls_token_id is not None and tokenizer.cls_token_id in before:
        null_place = before.index(tokenizer.cls_token_id)
    else:
        null_place = -1 if behind else 0
    return _Layout(before, between, behind, tuple(types), null_place)


def _contexts(texts: Sequence[str], tokenizer: Any) -> list[_Context]:
    """Return the texts as tokens, with the characters of each, white space at its ends left out."""
    encoded = tokenizer(
        list(texts), add_special_tokens=False, return_offsets_mapping=True, verbose=False
    )
    found = []
    of_all = zip(texts, encoded["input_ids"], encoded["offset_mapping"], strict=True)
    for text, ids, offsets in of_all:
        tokens = []
        for place, (start, end) in enumerate(offsets):
            word = text[start:end]
            first = start + len(word) - len(word.lstrip())
            if word.strip():
                tokens.append((place, first, first + len(word.strip())))
        found.append(_Context(ids, np.array(tokens, np.int32).reshape(-1, 3)))
    return found


def _spans(
    tokens: NDArray[np.int32], given: Mapping[str, Sequence[Any]]
) -> list[tuple[int, int] | None]:
    """Return the first and last place of each answer in the context; None: no token has it."""
    found: list[tuple[int, int] | None] = []
    for text, start in zip(given["text"], given["answer_start"], strict=True):
        first = int(np.searchsorted(tokens[:, 2], start, side="right"))
        last = int(np.searchsorted(tokens[:, 1], start + len(text), side="left")) - 1
        has_token = first <= last
        found.append((int(tokens[first, 0]), int(tokens[last, 0])) if has_token else None)
    return found


def _parts(
    whole: Window,
    layout: _Layout,
    question: Sequence[int],
    context: Sequence[int],
    spans: Sequence[tuple[int, int] | None],
    longest: int,
) -> Iterator[Window]:
    """Yield the windows of one row."""
    limits = whole.limits
    room = longest - len(layout.before) - len(layout.between) - len(layout.behind)
    question = question[: min(limits.max_question_tokens, room // 2)]
    size = room - len(question)
    step = size - min(limits.stride, size // 2)
    shift = len(layout.before) + len(question) + len(layout.between)
    for begin in range(0, max(1, len(context) - size + step), step):
        part = context[begin : begin + size]
        pieces = (layout.before, question, layout.between, part, layout.behind)
        n_tokens = sum(map(len, pieces))
        null_place = layout.null_place % n_tokens
        places = whole.tokens[:, 0]
        inside = whole.tokens[(places >= begin) & (places < begin + len(part))]
        start, end = _target(whole, spans, begin, begin + len(part), null_place, shift - begin)
        yield replace(
            whole,
            token_ids=tuple(token for piece in pieces for token in piece),
            type_ids=tuple(np.repeat(layout.types, [len(piece) for piece in pieces]).tolist())
            if layout.types
            else (),
            tokens=inside + np.array([shift - begin, 0, 0], np.int32),
            null_place=null_place,
            start=start,
            end=end,
        )


def _target(
    whole: Window,
    spans: Sequence[tuple[int, int] | None],
    begin: int,
    stop: int,
    null_place: int,
    shift: int,
) -> tuple[int, int]:
    """Return the places of the answer's first and last token, as `Window` has them."""
    for span in spans:
        if span is not None and begin <= span[0] and span[1] < stop:
            return span[0] + shift, span[1] + shift
    is_known = whole.references is not None and None not in spans
    return (null_place, null_place) if is_known else (-1, -1)

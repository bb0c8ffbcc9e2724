"""Spans: places in a text by characters, and the tokens of a model that stand for them."""

from __future__ import annotations

import itertools
import re
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from lightadapt_data import base_models
from lightadapt_data.errors import InputError

Span = tuple[int, int]
"""Start, and end behind the last one [characters]."""

_UNSPACED = re.compile(
    "[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff]"
)
"""Signs of scripts that write no spaces: Thai to Khmer, kana, Chinese."""


@dataclass(frozen=True)
class Encoded:
    """A whole text as token ids, never cut."""

    before: tuple[int, ...]
    """Special tokens that the model wants before every text."""
    ids: tuple[int, ...]
    """Tokens of the text."""
    offsets: tuple[Span, ...]
    """The characters of each token, without white space at the edges; start = end: none."""
    words: tuple[int | None, ...]
    """Number of the piece, cut by the tokenizer before its vocabulary, of which the token is."""
    after: tuple[int, ...]

    @property
    def n_special(self) -> int:
        """Tokens that every window of the text has besides its own."""
        return len(self.before) + len(self.after)


@dataclass(frozen=True)
class Word:
    """The tokens and the characters of a word."""

    first: int
    """Place of its first token among the text's."""
    last: int
    span: Span


class HasTokens(Protocol):
    """An example of any task."""

    @property
    def token_ids(self) -> tuple[int, ...]: ...  # noqa: D102


def span_in(value: Any, text: str, what: str) -> Span:
    """Return start and end of a span that a row gives as {start, end} [characters].

    Raises:
        ValueError: it is no such span, it is not inside the text, or there is only white space.
    """
    if not isinstance(value, Mapping):
        raise ValueError(f"{what} is {type(value).__name__}, not an object with start and end")
    start, end = value.get("start"), value.get("end")
    if type(start) is not int or type(end) is not int:  # True is an int, but no place
        raise ValueError(
            f"{what} has start {start!r} and end {end!r}; allowed: whole numbers of characters"
        )
    if not 0 <= start < end <= len(text):
        raise ValueError(
            f"{what} goes from {start} to {end}; allowed: 0 <= start < end <= {len(text)}, the "
            "text's length in characters"
        )
    if not text[start:end].strip():
        raise ValueError(f"{what} goes from {start} to {end}, where there is only white space")
    return start, end


def check_apart(first: Span, second: Span, what: str) -> None:
    """Check that two spans share no character.

    Raises:
        ValueError: they do.
    """
    if first[0] < second[1] and second[0] < first[1]:
        raise ValueError(
            f"{what} overlap: {first[0]} to {first[1]} and {second[0]} to {second[1]}; allowed: "
            "spans that share no character"
        )


def labelled(text: str, given: Any) -> list[dict[str, Any]] | None:
    """Return a row's list of {start, end, label}, sorted; None where there is none.

    Raises:
        ValueError: it is no such list, a span is wrong, or two share a character.
    """
    if given is None:
        return None
    if not isinstance(given, list | tuple):
        raise ValueError(f"spans is {type(given).__name__}, not a list of {{start, end, label}}")
    found: list[tuple[Span, str]] = []
    for number, value in enumerate(given, start=1):
        span = span_in(value, text, f"span {number}")
        label = value.get("label")
        if not isinstance(label, str | int) or isinstance(label, bool) or not str(label).strip():
            raise ValueError(
                f"span {number} ({span[0]} to {span[1]}) has the label {label!r}; allowed: a name"
            )
        found.append((span, str(label)))
    found.sort()
    for one, following in itertools.pairwise(found):
        check_apart(one[0], following[0], "spans")
    return [{"start": start, "end": end, "label": label} for (start, end), label in found]


def trimmed(text: str, span: Span) -> Span:
    """Return the span without white space at its edges; an empty one where nothing else is."""
    start, end = span
    part = text[start:end]
    start += len(part) - len(part.lstrip())
    return start, start + len(part.strip())


def tokenizer_with_offsets(folder: Path) -> Any:
    """Return the model's tokenizer, which can say the characters of each token.

    Raises:
        InputError: there is none in the folder, or it cannot.
    """
    found = base_models.tokenizer(folder)
    if not found.is_fast:
        raise InputError(
            f"base model {folder}: its tokenizer ({type(found).__name__}) cannot say which "
            "characters a token stands for, so spans cannot be found; allowed: a model with a "
            "tokenizer.json; choose another base_model"
        )
    return found


def encoded(texts: Sequence[str], tokenizer: Any) -> list[Encoded]:
    """Return the texts as token ids with their characters; `tokenizer` has to be a fast one."""
    if not texts:
        return []
    batch = tokenizer(list(texts), return_offsets_mapping=True, truncation=False, verbose=False)
    found = []
    for number, text in enumerate(texts):
        ids = batch["input_ids"][number]
        # Special tokens are of no sequence; a text of nothing but strange signs may have no token.
        own = [at for at, of in enumerate(batch.sequence_ids(number)) if of is not None]
        start, end = (own[0], own[-1] + 1) if own else (len(ids), len(ids))
        offsets = batch["offset_mapping"][number][start:end]
        found.append(
            Encoded(
                before=tuple(ids[:start]),
                ids=tuple(ids[start:end]),
                offsets=tuple(trimmed(text, offset) for offset in offsets),
                words=tuple(batch.word_ids(number)[start:end]),
                after=tuple(ids[end:]),
            )
        )
    return found


def words_of(text: str, encoding: Encoded) -> list[Word]:
    """Return the words: the tokenizer's own pieces, cut further where letters and digits end.

    Some tokenizers (SentencePiece) cut at white space only, which leaves the comma in "London,";
    some do not cut at all. A token that holds both is never cut. Tokens without a character of
    their own are in no word.
    """
    words: list[Word] = []
    piece: int | None = None
    for place, (start, end) in enumerate(encoding.offsets):
        if start == end:
            continue
        is_other = encoding.words[place] != piece and not _is_at_mark(text, start)
        # A sign of several bytes may be several tokens with the same characters.
        if not words or (start >= words[-1].span[1] and (is_other or _is_edge(text, start))):
            words.append(Word(place, place, (start, end)))
        else:
            last = words[-1]
            words[-1] = Word(last.first, place, (last.span[0], max(end, last.span[1])))
        piece = encoding.words[place]
    return words


def _is_edge(text: str, at: int) -> bool:
    """Return whether the characters before and at a place are not of one word."""
    return not (_is_in_word(text[at - 1]) and _is_in_word(text[at]))


def _is_at_mark(text: str, at: int) -> bool:
    """Return whether a mark on a letter stands beside a place; GPT-2 cuts there, within a word."""
    return any(unicodedata.category(sign)[0] == "M" for sign in text[at - 1 : at + 1])


def _is_in_word(sign: str) -> bool:
    # M: marks that stand on a letter, such as the vowels of Hindi.
    return unicodedata.category(sign)[0] in "LNM" and not _UNSPACED.match(sign)


def windows(n_tokens: int, room: int, stride: int) -> list[tuple[int, int, int]]:
    """Return windows over a text: where each starts, and from where to where it owns the tokens.

    What two windows share is divided in the middle, so that every token is read with the most
    around it, and by one window only.

    Args:
        n_tokens: of the text.
        room: of a window, >= 1 [tokens].
        stride: what neighbours share; at most half the room is [tokens].
    """
    step = room - min(stride, room // 2)
    starts = [0]
    while starts[-1] + room < n_tokens:
        starts.append(min(starts[-1] + step, n_tokens - room))
    cuts = [(left + room + right) // 2 for left, right in itertools.pairwise(starts)]
    owned = itertools.pairwise([0, *cuts, n_tokens])
    return [(start, first, stop) for start, (first, stop) in zip(starts, owned, strict=True)]


def padded(examples: Sequence[HasTokens], tokenizer: Any) -> dict[str, Any]:
    """Return `input_ids` and `attention_mask`, int64 [rows, longest]."""
    import torch

    width = max(len(example.token_ids) for example in examples)
    ids = np.full((len(examples), width), tokenizer.pad_token_id or 0, np.int64)
    mask = np.zeros_like(ids)
    for row, example in enumerate(examples):
        ids[row, : len(example.token_ids)] = example.token_ids
        mask[row, : len(example.token_ids)] = 1
    return {"input_ids": torch.from_numpy(ids), "attention_mask": torch.from_numpy(mask)}

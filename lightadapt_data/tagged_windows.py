"""Tagged windows: a text as words with tags, in windows that a model can read.

Every word belongs to the one window that shows the most around it, so the windows of a text give
each of its words once, in order.
"""

from __future__ import annotations

import bisect
import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lightadapt_data import entity_tags
from lightadapt_data.entity_tags import Entity
from lightadapt_data.spans import Encoded, Span, Word, windows

IGNORED = -100
"""The tag that torch's cross-entropy leaves out."""


@dataclass(frozen=True)
class Window:
    """A text, or a part of one that is too long, with the words that are read in it."""

    token_ids: tuple[int, ...]
    row: int
    """Number of the row among those that were given."""
    places: tuple[int, ...]
    """Of each word's labelled token."""
    words: tuple[Span, ...]
    """Characters of each word."""
    tags: tuple[int, ...]
    """Of each word, as in entity_tags; IGNORED when the row is unlabelled."""
    entities: tuple[Entity, ...] | None
    """All of the row's, whether words have them or not; None when it is unlabelled."""


def of_row(
    row: int,
    encoding: Encoded,
    words: Sequence[Word],
    entities: tuple[Entity, ...] | None,
    room: int,
    stride: int,
    places: Sequence[int],
) -> list[Window]:
    """Return a row's windows, each with the words that it owns; at least one.

    Args:
        row: its number.
        encoding: the whole text.
        words: of the text.
        entities: in the order of the text; None when the row is unlabelled.
        room: tokens of the text in a window [tokens].
        stride: what neighbours share [tokens].
        places: of each word's labelled token among the text's, rising.
    """
    spanned = [word.span for word in words]
    tags = [IGNORED] * len(words)
    if entities is not None:
        tags = entity_tags.tags_of(spanned, entities)
    found = []
    for start, first, stop in windows(len(encoding.ids), room, stride):
        own = range(bisect.bisect_left(places, first), bisect.bisect_left(places, stop))
        ids = (*encoding.before, *encoding.ids[start : start + room], *encoding.after)
        found.append(
            Window(
                token_ids=ids,
                row=row,
                places=tuple(places[n] - start + len(encoding.before) for n in own),
                words=tuple(spanned[n] for n in own),
                tags=tuple(tags[n] for n in own),
                entities=entities,
            )
        )
    return found


def by_row(
    outputs: Sequence[NDArray[np.float32]], examples: Sequence[Window]
) -> list[tuple[NDArray[np.float32], list[Window]]]:
    """Return the logits of all words of each row, float32 [words, tags], and its windows."""
    found = []
    pairs = zip(outputs, examples, strict=True)
    for _, group in itertools.groupby(pairs, key=lambda pair: pair[1].row):
        logits, parts = zip(*group, strict=True)
        found.append((np.concatenate(logits), list(parts)))
    return found

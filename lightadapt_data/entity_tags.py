"""Entity tags: spans as one tag per word (IOB2), the best sequence of tags, and strict scores.

Tags are numbers: 0 is "outside", 1 + 2k begins an entity of type k, 2 + 2k goes on with it.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from lightadapt_data.spans import Span

Entity = tuple[int, int, int]
"""Start, end behind the last one [characters], and type; -1 is a type that the model has not."""


def names(types: Sequence[str]) -> list[str]:
    """Return the names of all tags, in their order."""
    return ["O", *(f"{tag}-{name}" for name in types for tag in "BI")]


def tags_of(words: Sequence[Span], entities: Sequence[Entity]) -> list[int]:
    """Return the tag of each word; an entity takes all words that it touches and that are free.

    Args:
        words: in the order of the text.
        entities: in the order of the text, without overlap.
    """
    tags = [0] * len(words)
    starts, ends = [word[0] for word in words], [word[1] for word in words]
    for start, end, kind in entities:
        # The words that end behind its start and start before its end.
        first = int(np.searchsorted(ends, start, side="right"))
        stop = int(np.searchsorted(starts, end, side="left"))
        free = [place for place in range(first, stop) if tags[place] == 0 and kind >= 0]
        for number, place in enumerate(free):
            tags[place] = 2 + 2 * kind if number else 1 + 2 * kind
    return tags


def best_path(scores: NDArray[np.floating]) -> NDArray[np.int64]:
    """Return the tags of highest sum in which no entity goes on that has not begun (Viterbi).

    Args:
        scores: of each word and tag, such as logits; float [words, tags].
    """
    greedy: NDArray[np.int64] = scores.argmax(axis=1).astype(np.int64)
    blocked = _blocked(scores.shape[1])
    if not len(greedy) or np.isfinite(blocked[np.append(0, greedy[:-1]), greedy]).all():
        return greedy
    best = scores[0] + blocked[0]
    back = np.zeros(scores.shape, np.int64)
    for word in range(1, len(scores)):
        table = best[:, None] + blocked
        back[word] = table.argmax(axis=0)
        best = table.max(axis=0) + scores[word]
    path = np.zeros(len(scores), np.int64)
    path[-1] = best.argmax()
    for word in range(len(scores) - 1, 0, -1):
        path[word - 1] = back[word, path[word]]
    return path


def entities_of(words: Sequence[Span], tags: Sequence[int]) -> list[Entity]:
    """Return the entities that valid tags mean, from the start of a word to the end of one."""
    found: list[Entity] = []
    for (start, end), tag in zip(words, tags, strict=True):
        if tag == 0:
            continue
        if tag % 2:
            found.append((start, end, (tag - 1) // 2))
        else:
            found[-1] = (found[-1][0], end, found[-1][2])
    return found


def strict_scores(
    truth: Sequence[Sequence[Entity]], found: Sequence[Sequence[Entity]]
) -> dict[str, float]:
    """Return precision, recall and F1 (0 to 1) over all entities; right are only equal spans.

    A part without entities counts 0. Each text may have its own entities, none overlapping another.
    """
    from seqeval.metrics.v1 import precision_recall_fscore_support
    from seqeval.scheme import IOB2

    # seqeval reads tags of common pieces: the pieces between all edges of both sides.
    rows = []
    for sides in zip(truth, found, strict=True):
        edges = sorted({edge for side in sides for start, end, _ in side for edge in (start, end)})
        pieces = list(itertools.pairwise(edges))
        rows.append([_written(pieces, side) for side in sides])
    precision, recall, f1, _ = precision_recall_fscore_support(
        [row[0] for row in rows],
        [row[1] for row in rows],
        average="micro",
        scheme=IOB2,
        zero_division=0,
    )
    return {"precision": float(precision), "recall": float(recall), "f1": float(f1)}


def _written(pieces: Sequence[Span], entities: Sequence[Entity]) -> list[str]:
    """Return the tags of the pieces in seqeval's form; one more, as it wants no empty row."""
    begun = {start: (end, kind) for start, end, kind in entities}
    tags = []
    until, kind = 0, -1
    for start, _ in pieces:
        if start in begun:
            until, kind = begun[start]
            tags.append(f"B-{kind}")
        else:
            tags.append(f"I-{kind}" if start < until else "O")
    return [*tags, "O"]


def _blocked(n_tags: int) -> NDArray[np.float64]:
    """Return what going from a tag (row) to a tag (column) costs: 0, or minus infinity."""
    blocked = np.zeros((n_tags, n_tags))
    going_on = np.arange(2, n_tags, 2)
    blocked[:, going_on] = -np.inf
    blocked[going_on - 1, going_on] = blocked[going_on, going_on] = 0.0
    return blocked

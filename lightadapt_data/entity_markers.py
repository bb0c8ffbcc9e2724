"""Entity markers: signs written around two entities of a text, and their tokens.

Source: Zhou and Chen 2022, https://aclanthology.org/2022.aacl-short.21 section 2.2 (punctuation)
"""

from __future__ import annotations

import bisect
from collections.abc import Sequence

from lightadapt_data.spans import Encoded, Span, trimmed

Markers = tuple[tuple[int, int], tuple[int, int]]
"""Places of the tokens before and behind the head, and before and behind the tail."""


def put(
    text: str, head: Span, tail: Span, head_marker: str, tail_marker: str
) -> tuple[str, tuple[Span, Span]]:
    """Return the text with markers, and the places of their first and last signs [characters].

    White space stands around every marker: a byte-level tokenizer would else make one token of a
    marker and the comma behind it.

    Args:
        text: in which both stand.
        head: without a character that is the tail's.
        tail: as head.
        head_marker: written before and behind the head.
        tail_marker: written before and behind the tail.
    """
    written, at = "", 0
    signs = {}
    for span, marker in sorted([(head, head_marker), (tail, tail_marker)]):
        start, end = trimmed(text, span)
        written += text[at:start]
        written += " " if written and not written[-1].isspace() else ""
        first = len(written)
        written += f"{marker} {text[start:end]} {marker}"
        signs[span] = (first, len(written) - 1)
        written += " " if end < len(text) and not text[end].isspace() else ""
        at = end
    return written + text[at:], (signs[head], signs[tail])


def cut(encoding: Encoded, signs: Sequence[Span], longest: int) -> tuple[tuple[int, ...], Markers]:
    """Return token ids, and the places of the markers among them.

    Of more than `longest` tokens those nearest to the entities are kept: all between the two if
    there is room for them.

    Args:
        encoding: of the text with markers.
        signs: as `put` gives them.
        longest: special tokens are part of it [tokens].

    Raises:
        ValueError: the entities with their markers do not fit.
    """
    ends = [end for _, end in encoding.offsets]
    # The first token that ends behind a marker's sign holds it.
    pairs = [(bisect.bisect(ends, first), bisect.bisect(ends, last)) for first, last in signs]
    first, last = min(pair[0] for pair in pairs), max(pair[1] for pair in pairs)
    room = longest - encoding.n_special
    core = [(first, last)] if last - first < room else pairs
    needed = sum(stop - start + 1 for start, stop in core)
    if needed > room:
        raise ValueError(
            f"head and tail take {needed} tokens with their markers; allowed: at most {room}, by "
            "max_tokens and the base model"
        )

    def distance(place: int) -> int:
        return min(max(start - place, place - stop, 0) for start, stop in core)

    nearest = sorted(range(len(encoding.ids)), key=lambda place: (distance(place), place))
    kept = sorted(nearest[:room])
    now = {place: number + len(encoding.before) for number, place in enumerate(kept)}
    ids = (*encoding.before, *(encoding.ids[place] for place in kept), *encoding.after)
    head, tail = ((now[start], now[stop]) for start, stop in pairs)
    return ids, (head, tail)

"""Pieces of texts for models that predict the text's own tokens; no token of a text is lost."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from lightadapt_data.token_losses import IGNORED


@dataclass(frozen=True)
class Piece:
    """A piece of a text as numbers."""

    token_ids: tuple[int, ...]
    labels: tuple[int, ...]
    """The token that stands at each place, or IGNORED where it is not predicted."""
    row: int
    """Which row the piece is of."""
    n_bytes: int
    """UTF-8 bytes of the row's predicted text, on its first piece; 0 for encoders [bytes]."""


@dataclass(frozen=True)
class Frame:
    """What stands around the text in every piece, and how much of it a piece holds."""

    before: tuple[int, ...]
    behind: tuple[int, ...]
    room: int
    """Tokens of the text in one piece, 2 or more."""

    def around(self, ids: Sequence[int], labels: Sequence[int], row: int, n_bytes: int) -> Piece:
        """Return a piece; what stands around the text is not predicted."""
        return Piece(
            (*self.before, *ids, *self.behind),
            (*(IGNORED,) * len(self.before), *labels, *(IGNORED,) * len(self.behind)),
            row,
            n_bytes,
        )


def pieces(ids: Sequence[int], row: int, n_bytes: int, frame: Frame) -> Iterator[Piece]:
    """Yield a decoder's pieces; one token is shared by neighbours, and predicted in the first."""
    for start in range(0, max(1, len(ids) - 1), frame.room - 1):
        own = ids[start : start + frame.room]
        # With nothing before it the first token cannot be predicted.
        is_predicted = start == 0 and frame.before
        labels = own if is_predicted else (IGNORED, *own[1:])
        yield frame.around(own, labels, row, n_bytes if start == 0 else 0)


def masked_pieces(
    ids: Sequence[int],
    row: int,
    frame: Frame,
    *,
    mask_id: int,
    share: float,
    n_masks: int,
    seed: tuple[int, int],
) -> Iterator[Piece]:
    """Yield an encoder's pieces, each up to `n_masks` times with other tokens masked each time.

    Args:
        ids: the text's own tokens.
        row: what the text is a row of.
        frame: how pieces are made.
        mask_id: the mask token.
        share: of a piece's tokens that are masked, at least one [ratio].
        n_masks: fewer when all tokens have been masked before.
        seed: with the piece's place it decides which are masked.
    """
    for start in range(0, len(ids), frame.room):
        own = np.array(ids[start : start + frame.room])
        order = np.random.default_rng([*seed, start]).permutation(len(own))
        n_masked = max(1, round(share * len(own)))
        for first in range(0, len(own), n_masked)[:n_masks]:
            is_masked = np.zeros(len(own), bool)
            is_masked[order[first : first + n_masked]] = True
            read, labels = np.where(is_masked, mask_id, own), np.where(is_masked, own, IGNORED)
            yield frame.around(read.tolist(), labels.tolist(), row, 0)


def with_prompt(piece: Piece, ids: Sequence[int], at: int) -> Piece:
    """Return the piece with the ids of a soft prompt at place `at`; they are not predicted."""
    return replace(
        piece,
        token_ids=(*piece.token_ids[:at], *ids, *piece.token_ids[at:]),
        labels=(*piece.labels[:at], *(IGNORED,) * len(ids), *piece.labels[at:]),
    )

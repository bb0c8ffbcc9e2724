"""aeda: punctuation marks at random places between words; no word is lost, moved or changed.

For robustness of classifiers on few rows. Marks stay away from numbers, negations, names,
addresses and code. All candidates of a row have its words, so at most one of them is accepted.

Source: Karimi et al. 2021, "AEDA: An Easier Data Augmentation Technique for Text Classification",
section 2, https://aclanthology.org/2021.findings-emnlp.234
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import Field

from lightadapt_data import word_edits
from lightadapt_data.augmenters import Candidate, Context, generator
from lightadapt_data.word_edits import EditSettings

FEEDS_ON = "train"
SKIPS_GATES = frozenset({"changed", "negation"})
"""The words stay by design; and a mark can cut "neither ... nor" in two for the counting."""


class Settings(EditSettings):
    """Settings of aeda."""

    max_share: float = Field(default=1 / 3, gt=0, le=1)
    """Most marks, as a part of the row's words; how many is drawn from 1 up to it [0-1]."""
    marks: tuple[str, ...] = Field(default=(".", ";", "?", ":", "!", ","), min_length=1)
    """Marks that are put in."""


def augment(
    rows: Sequence[Mapping[str, Any]], settings: Settings, context: Context
) -> list[Candidate]:
    """Return `replicas` candidates per row with marks put in, in row order."""
    candidates = []
    for row in rows:
        row_id, text = str(row["id"]), str(row["text"])
        pieces = word_edits.cut(text, settings.keep)
        for replica in range(settings.replicas):
            own = generator(context.seed, "aeda", row_id, replica)
            found = _marked(pieces, settings, own)
            refused = "" if found != text else "no place between two words for a mark"
            candidates.append(Candidate(row_id, found, row.get("label"), replica, refused=refused))
    return candidates


def _marked(pieces: word_edits.Pieces, settings: Settings, own: random.Random) -> str:
    tokens, editable = list(pieces.tokens), set(pieces.editable)
    gaps = [
        place + 1
        for place in pieces.editable
        if place + 2 in editable and tokens[place + 1].isspace()
    ]
    if not gaps:
        return "".join(tokens)
    n_words = len(pieces.editable) + len(pieces.kept)
    wanted = own.randint(1, max(1, int(settings.max_share * n_words)))
    for gap in own.sample(gaps, min(wanted, len(gaps))):
        tokens[gap] = f" {own.choice(settings.marks)}{tokens[gap]}"
    return "".join(tokens)

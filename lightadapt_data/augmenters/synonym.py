"""synonym: a few words give way to synonyms of the same part of speech and ending.

English only. Only words whose meaning is hardly in doubt are replaced, so many rows have none;
those are refused. Capitalised words, numbers, negations, addresses and code stay.

Source: Zhang et al. 2015, "Character-level Convolutional Networks for Text Classification",
section 2.4, https://arxiv.org/abs/1509.01626; synonyms of WordNet, see `wordnet`
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import Field

from lightadapt_data import synonyms, word_edits, wordnet
from lightadapt_data.augmenters import Candidate, Context, generator
from lightadapt_data.word_edits import EditSettings

FEEDS_ON = "train"
SKIPS_GATES: frozenset[str] = frozenset()


class Settings(EditSettings):
    """Settings of synonym."""

    share_of_words: float = Field(default=0.15, gt=0, le=1)
    """Part of the row's words that are replaced, at least one; fewer if fewer can be [0-1]."""
    wordnet: str = ""
    """Folder with the files of WordNet 3, such as /usr/share/wordnet; empty for the shipped
    table."""


def augment(
    rows: Sequence[Mapping[str, Any]], settings: Settings, context: Context
) -> list[Candidate]:
    """Return `replicas` candidates per row, in row order; refused where no word has a synonym.

    Raises:
        InputError: the folder does not hold WordNet.
    """
    candidates = []
    for row in rows:
        row_id, text = str(row["id"]), str(row["text"])
        pieces = word_edits.cut(text, settings.keep)
        choices = {
            place: found
            for place in word_edits.content(pieces)
            if (found := synonyms.of(pieces, place, settings.wordnet))
        }
        for replica in range(settings.replicas):
            own = generator(context.seed, "synonym", row_id, replica)
            found_text = _replaced(pieces, choices, settings, own)
            refused = "" if found_text != text else "no word with a synonym that is sure to fit"
            candidates.append(
                Candidate(row_id, found_text, row.get("label"), replica, refused=refused)
            )
    return candidates


def reads(settings: Settings) -> dict[str, str]:
    """Return the fingerprint of the synonyms that the output depends on.

    Raises:
        InputError: the folder does not hold WordNet.
    """
    return {"wordnet": wordnet.fingerprint(settings.wordnet)}


def _replaced(
    pieces: word_edits.Pieces,
    choices: Mapping[int, Sequence[str]],
    settings: Settings,
    own: random.Random,
) -> str:
    tokens = list(pieces.tokens)
    n_words = len(pieces.editable) + len(pieces.kept)
    wanted = max(1, round(settings.share_of_words * n_words))
    for place in own.sample(list(choices), min(wanted, len(choices))):
        tokens[place] = own.choice(choices[place])
        word_edits.fix_article(tokens, place)
    return "".join(tokens)

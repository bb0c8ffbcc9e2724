"""eda: one of four small edits: synonyms, an inserted synonym, two words swapped, words deleted.

Unlike the authors' program it keeps case, digits and punctuation, and it never deletes or moves
negations, numbers, capitalised words, addresses or code. Its synonyms are English; the other two
edits suit any language with spaces between words. Pretrained models often gain nothing from it
(Longpre et al. 2020, https://arxiv.org/abs/2010.01764), so measure.

Source: Wei and Zou 2019, "EDA: Easy Data Augmentation Techniques for Boosting Performance on Text
Classification Tasks", section 2, https://aclanthology.org/D19-1670
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

from pydantic import Field

from lightadapt_data import synonyms, word_edits, wordnet
from lightadapt_data.augmenters import Candidate, Context, generator
from lightadapt_data.word_edits import EditSettings, Pieces

FEEDS_ON = "train"
SKIPS_GATES: frozenset[str] = frozenset()

Operation = Literal["replace", "insert", "swap", "delete"]


class Settings(EditSettings):
    """Settings of eda."""

    alpha: float = Field(default=0.1, gt=0, le=1)
    """Part of the row's words that one edit touches, at least one; 0.05 suits small data [0-1]."""
    operations: tuple[Operation, ...] = Field(
        default=("replace", "insert", "swap", "delete"), min_length=1
    )
    """Edits that may be drawn, one per candidate; leave one out to switch it off."""
    wordnet: str = ""
    """Folder with the files of WordNet 3, such as /usr/share/wordnet; empty for the shipped
    table."""


def augment(
    rows: Sequence[Mapping[str, Any]], settings: Settings, context: Context
) -> list[Candidate]:
    """Return `replicas` candidates per row, in row order; refused where no edit is possible.

    Raises:
        InputError: the folder does not hold WordNet.
    """
    candidates = []
    for row in rows:
        row_id, text = str(row["id"]), str(row["text"])
        pieces = word_edits.cut(text, settings.keep)
        for replica in range(settings.replicas):
            own = generator(context.seed, "eda", row_id, replica)
            found = _edited(text, pieces, settings, own)
            refused = "" if found != text else "no word that may be edited"
            candidates.append(Candidate(row_id, found, row.get("label"), replica, refused=refused))
    return candidates


def reads(settings: Settings) -> dict[str, str]:
    """Return the fingerprint of the synonyms that the output depends on, if it does.

    Raises:
        InputError: the folder does not hold WordNet.
    """
    if not {"replace", "insert"} & set(settings.operations):
        return {}
    return {"wordnet": wordnet.fingerprint(settings.wordnet)}


def _edited(text: str, pieces: Pieces, settings: Settings, own: random.Random) -> str:
    """Return the text after the first drawn edit that can change it."""
    wanted = max(1, round(settings.alpha * (len(pieces.editable) + len(pieces.kept))))
    # Sorted, so that the order in a recipe decides nothing.
    operations = sorted(set(settings.operations))
    own.shuffle(operations)
    for operation in operations:
        tokens = list(pieces.tokens)
        _EDITS[operation](tokens, pieces, wanted, settings, own)
        found = "".join(tokens)
        if found != text:
            return found
    return text


def _replace(
    tokens: list[str], pieces: Pieces, wanted: int, settings: Settings, own: random.Random
) -> None:
    for place, others in _with_synonyms(pieces, wanted, settings, own):
        tokens[place] = own.choice(others)
        word_edits.fix_article(tokens, place)


def _insert(
    tokens: list[str], pieces: Pieces, wanted: int, settings: Settings, own: random.Random
) -> None:
    # Not between a number and its unit, or a negation and its verb.
    places = [i for i in pieces.editable if i - 2 not in pieces.kept]
    if not places:
        return
    for _, others in _with_synonyms(pieces, wanted, settings, own):
        place = own.choice(places)
        tokens[place] = f"{own.choice(others)} {tokens[place]}"
        word_edits.fix_article(tokens, place)


def _swap(
    tokens: list[str], pieces: Pieces, wanted: int, settings: Settings, own: random.Random
) -> None:
    if len(pieces.editable) < 2:
        return
    for _ in range(wanted):
        one, other = own.sample(pieces.editable, 2)
        tokens[one], tokens[other] = tokens[other], tokens[one]


def _delete(
    tokens: list[str], pieces: Pieces, wanted: int, settings: Settings, own: random.Random
) -> None:
    """Delete each editable word with the chance alpha, and at least one; never all words."""
    places = [i for i in pieces.editable if i > 0 and _is_blank(tokens[i - 1])]
    chosen = [i for i in places if own.random() < settings.alpha]
    if not chosen and places:
        chosen = [own.choice(places)]
    if chosen and len(chosen) == len(pieces.editable) + len(pieces.kept):
        chosen.pop()
    for place in chosen:
        tokens[place - 1] = tokens[place] = ""


def _is_blank(token: str) -> bool:
    return token.isspace() and "\n" not in token


def _with_synonyms(
    pieces: Pieces, wanted: int, settings: Settings, own: random.Random
) -> list[tuple[int, tuple[str, ...]]]:
    """Return up to `wanted` random places of words with their synonyms."""
    places = word_edits.content(pieces)
    own.shuffle(places)
    found: list[tuple[int, tuple[str, ...]]] = []
    for place in places:
        if len(found) == wanted:
            break
        others = synonyms.of(pieces, place, settings.wordnet)
        if others:
            found.append((place, others))
    return found


_EDITS: dict[str, Callable[[list[str], Pieces, int, Settings, random.Random], None]] = {
    "replace": _replace,
    "insert": _insert,
    "swap": _swap,
    "delete": _delete,
}

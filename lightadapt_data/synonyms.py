"""synonyms: what may stand for an English word in its place, by WordNet and the words around it."""

# ruff: noqa: SIM905 - long lists of words read better as text
from __future__ import annotations

from functools import lru_cache

from lightadapt_data import inflections, word_edits, wordnet

_BEFORE_VERBS = frozenset(
    "to will would can could should may might must shall i you we they who cannot didn't don't"
    " doesn't won't let's".split()
)
_BEFORE_NOUNS = frozenset(
    "the a an this that these those my your his her its our their some any each every no".split()
)
_MOST_REMEMBERED = 65536


def of(pieces: word_edits.Pieces, place: int, folder: str = "") -> tuple[str, ...]:
    """Return synonyms of the word at a place, with its ending; none where its use is in doubt.

    Args:
        pieces: the text; the word is one of its editable ones.
        place: place of the word.
        folder: WordNet's files; empty for the shipped table.

    Raises:
        InputError: the folder does not hold WordNet.
    """
    by_part = _by_part(pieces.tokens[place], folder)
    if not by_part:
        return ()
    if len(by_part) == 1 and by_part[0][1]:
        return by_part[0][2]
    part = _part(pieces, place)
    return next((found for letter, _, found in by_part if letter == part), ())


def _part(pieces: word_edits.Pieces, place: int) -> str:
    """Return the part of speech that the words around tell, or ""."""
    before = word_edits.neighbour(pieces, place, -1).lower()
    after = word_edits.neighbour(pieces, place, 1).lower()
    if before in _BEFORE_VERBS:
        return "v"
    if before in _BEFORE_NOUNS and (not after or after in word_edits.STOP_WORDS):
        return "n"
    return ""


@lru_cache(maxsize=_MOST_REMEMBERED)
def _by_part(word: str, folder: str) -> tuple[tuple[str, bool, tuple[str, ...]], ...]:
    """Return (part of speech, whether it is sure, synonyms with the ending) of a word."""
    table = wordnet.load(folder)
    found = []
    for basic, kind in inflections.basics(word):
        for entry in table.entries.get(basic, ()):
            if not _may_have(entry.part, kind):
                continue
            others = {
                form
                for other in entry.synonyms
                if (not kind or not {other, basic} & table.irregular)
                and other not in table.antonyms.get(basic, ())
                and (form := inflections.inflected(other, kind)) is not None
            }
            found.append((entry.part, entry.is_sure, tuple(sorted(others - {word}))))
    # A word that can be read in two ways is sure in none.
    return tuple(found)


def _may_have(part: str, kind: str) -> bool:
    return kind == "" or part == "v" or (part == "n" and kind == "s")

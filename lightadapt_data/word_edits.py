"""word_edits: cut a text into words that may be edited and parts that must stay.

Numbers, units, negations, addresses, code, capitalised words and the user's own patterns stay to
the byte, and so do words of scripts that put no spaces between words. Linear in the length of the
text, as long as the user's patterns are.
"""

# ruff: noqa: SIM905 - long lists of words read better as text
from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

from pydantic import Field, field_validator

from lightadapt_data import lexicon
from lightadapt_data.config import Config

CODE = r"```.*?```|`[^`\n]+`"
URL = r"(?:https?://|www\.)\S*[\w/]"
EMAIL = r"\b[\w.+-]{1,64}+@[\w-]+(?:\.[\w-]+)+"
NUMBER = r"[$€£]?\d+(?:[.,:/-]\d+)*%?"

_TOKEN = re.compile(
    rf"(?P<kept>{CODE}|{URL}|{EMAIL}|[#@$\\]\w+|\w+(?=\())"
    r"|(?P<word>\w+(?:[-'’./\\:]\w+)*)|(?P<gap>\s+)|(?P<other>[^\w\s])",
    re.DOTALL,
)
"""Tokens that joined give back the text."""

_NO_SPACES = re.compile(
    "[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af\uf900-\ufaff]"
)
_KEPT_WORDS = frozenset(
    {
        *lexicon.NUMBER_WORDS,
        *lexicon.MULTIPLIERS,
        *lexicon.ORDINALS,
        *lexicon.MONTHS,
        *lexicon.UNITS,
    }
)
_LONGEST = 40
"""Longer words are data [characters]."""

STOP_WORDS = frozenset(
    "a about above across after again against all almost along also although always am among an and"
    " another any are around as at away back be became because become been before behind being"
    " below between both but by came can come could did do does doing done down during each either"
    " else enough even ever every few for from further gave get give go goes going gone got had"
    " has have having he her here hers herself him himself his how however i if in indeed instead"
    " into is it its itself just keep kind last least less let like made make many me might mine"
    " more most much must my myself near next now of off often on once only onto or order other"
    " ought our ours out over own per perhaps put quite rather really said same say see seem seen"
    " shall she should since so some soon sort still such take than that the their theirs them then"
    " there these they thing things this those though through thus till to together too toward"
    " under until up upon us use used very via was way we well went were what when where whether"
    " which while who whom whose why will with within would yes yet you your yours"
    " anybody anyone anything everybody everyone everything somebody someone something".split()
)
"""English words of grammar, and a few so common that they have no clear meaning of their own."""


class WordSettings(Config):
    """Settings that all methods have that edit or compare words."""

    keep: tuple[str, ...] = ()
    """Regular expressions; what they match stays to the byte."""

    @field_validator("keep")
    @classmethod
    def _check_keep(cls, patterns: tuple[str, ...]) -> tuple[str, ...]:
        for pattern in patterns:
            try:
                re.compile(pattern)
            except re.error as error:
                raise ValueError(
                    f"{pattern!r} is no regular expression: {error}; escape signs such as ( with \\"
                ) from None
        return patterns


class EditSettings(WordSettings):
    """Settings that all methods have that edit words."""

    replicas: int = Field(default=1, ge=1)
    """Candidates per row; the augment stage keeps at most `accepted_per_row`."""


@dataclass(frozen=True)
class Pieces:
    """A text in pieces."""

    tokens: list[str]
    """Joined they give back the text."""
    editable: list[int]
    """Places of the words that may be edited: lower case, letters only, no number or negation."""
    kept: frozenset[int]
    """Places of the words and spans that must stay."""


def cut(text: str, keep: Sequence[str] = ()) -> Pieces:
    """Return a text in pieces; what the patterns `keep` match is one kept piece each."""
    tokens: list[str] = []
    editable, kept = [], set()
    for part, is_kept in _parts(text, keep):
        if is_kept:
            kept.add(len(tokens))
            tokens.append(part)
            continue
        for match in _TOKEN.finditer(part):
            token, kind = match.group(), match.lastgroup
            if kind == "kept" or (kind == "word" and _is_kept(token)):
                kept.add(len(tokens))
            elif kind == "word":
                editable.append(len(tokens))
            tokens.append(token)
    return Pieces(tokens, editable, frozenset(kept))


def spans(text: str, keep: Sequence[str]) -> list[tuple[int, int]]:
    """Return where the patterns match, in order; overlapping matches are one."""
    found = sorted(
        match.span() for pattern in keep for match in re.finditer(pattern, text) if match.group()
    )
    merged: list[tuple[int, int]] = []
    for start, end in found:
        if merged and start < merged[-1][1]:
            merged[-1] = (merged[-1][0], max(end, merged[-1][1]))
        else:
            merged.append((start, end))
    return merged


def content(pieces: Pieces) -> list[int]:
    """Return the places of editable words that are no stop words."""
    return [i for i in pieces.editable if pieces.tokens[i] not in STOP_WORDS]


def neighbour(pieces: Pieces, place: int, step: int) -> str:
    """Return the word just before (-1) or after (1) a word, or "" where something else stands."""
    at = place + 2 * step
    if not 0 <= at < len(pieces.tokens) or not pieces.tokens[place + step].isspace():
        return ""
    return pieces.tokens[at] if pieces.tokens[at][0].isalnum() else ""


def fix_article(tokens: list[str], place: int) -> None:
    """Turn the "a" or "an" before a word that was replaced into the one that fits, in place."""
    at = place - 2
    if at >= 0 and tokens[at] in ("a", "an", "A", "An") and tokens[place - 1].isspace():
        tokens[at] = tokens[at][0] + ("n" if _has_vowel_sound(tokens[place]) else "")


def _has_vowel_sound(word: str) -> bool:
    if word.startswith(("hour", "honest", "honour", "honor", "heir")):
        return True
    looks_only = ("eu", "uni", "use", "usu", "ute", "one", "once", "ubiq")
    return word[:1] in tuple("aeiou") and not word.startswith(looks_only)


def _parts(text: str, keep: Sequence[str]) -> Iterator[tuple[str, bool]]:
    """Yield the text in parts, with whether a pattern of the user matched the part."""
    end = 0
    for start, stop in spans(text, keep):
        yield text[end:start], False
        yield text[start:stop], True
        end = stop
    yield text[end:], False


@lru_cache(maxsize=65536)
def _is_kept(word: str) -> bool:
    return (
        len(word) > _LONGEST
        or word != word.lower()
        or not all(character.isalpha() or character in "-'’" for character in word)
        or word in _KEPT_WORDS
        or any(part in _KEPT_WORDS for part in word.split("-"))
        or word.startswith("fail")
        or lexicon.NEGATION.search(word) is not None
        or _NO_SPACES.search(word) is not None
    )


def is_function_word(word: str) -> bool:
    """Return whether a lower-case word is grammar, a number, a unit or a negation."""
    return word in STOP_WORDS or _is_kept(word)

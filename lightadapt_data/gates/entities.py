"""entities: refuses a child that lost a name of its parent, or brings a new one.

Names are told by their capitals, in any language that has them: words with a capital inside a
sentence, and words all in capitals. The first word of a sentence is a name only if it has its
capital elsewhere too. Texts with capitals on most words (titles, shouting) tell nothing and pass,
but for their words all in capitals where others are not. German writes all nouns with a capital:
there every noun counts as a name, so leave this gate out.

Source: own; capitals as the surface cue of names: Collins and Singer 1999, section 2,
https://aclanthology.org/W99-0613
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from pydantic import Field

from lightadapt_data import sentences, word_edits
from lightadapt_data.config import Config
from lightadapt_data.gates import Encode, Verdict

_WORD = re.compile(r"[^\W_]+(?:[-'’.][^\W_]+)*")
_OPENER = re.compile(r"[\n:;•|/(\[{\"“‘«„]\s*$|(?:^|\s)['*–—-]\s*$")
"""What stands before a word whose capital may be there for its place only."""
_LOOK_BACK = 8
"""Signs before a word in which an opener is looked for."""
_POSSESSIVE = re.compile(r"['’]s?$")
_NO_NAMES = frozenset({"i", "a", "o", "mr", "mrs", "ms", "dr"})


class Settings(Config):
    """Settings of entities."""

    least_kept: float = Field(default=1.0, ge=0, le=1)
    """Smallest part of the parent's names that must be in the child [0-1]."""
    may_add: bool = False
    """Let pass a child with names that its parent lacks."""
    most_capitals: float = Field(default=0.65, ge=0, le=1)
    """Part of a text's words inside sentences from which capitals tell nothing [0-1]."""


def judge(
    parents: Sequence[str], children: Sequence[str], settings: Settings, encode: Encode
) -> list[Verdict]:
    """Return a verdict per pair; the score is the part of the parent's names in the child."""
    return [
        _verdict(parent, child, settings) for parent, child in zip(parents, children, strict=True)
    ]


def _verdict(parent: str, child: str, settings: Settings) -> Verdict:
    before = _names(parent, settings)
    lost = _missing(before, child)
    n_before = max(len(before), 1)
    score = round(1 - len(lost) / n_before, 4)
    new = [] if settings.may_add else _missing(_names(child, settings), parent)
    is_kept = n_before - len(lost) >= settings.least_kept * n_before - 1e-9
    if is_kept and not new:
        return Verdict(True, score=score)
    if not is_kept and new:
        return Verdict(False, f"entities: {_listed(lost)} became {_listed(new)}", score)
    reason = f"{_listed(new)} added" if is_kept else f"{_listed(lost)} lost"
    return Verdict(False, f"entities: {reason}", score)


def _missing(names: dict[str, str], text: str) -> list[str]:
    """Return the names that a text lacks; capitals do not count there."""
    words = {_plain(word) for word in _WORD.findall(text)}
    parts = {part for word in words for part in re.split(r"[-.]", word)}
    return [name for key, name in names.items() if key not in words and key not in parts]


def _names(text: str, settings: Settings) -> dict[str, str]:
    """Return the names of a text by their plain form, in order."""
    opening, inside = _by_place(text)
    lettered = [word for word in opening + inside if word[0].isalpha()]
    n_shouted = sum(map(_is_shouted, lettered))
    found = []
    if n_shouted <= settings.most_capitals * len(lettered):
        found += [word for word in lettered if _is_shouted(word)]
    capitals = [word for word in inside if word[0].isupper() and not _is_shouted(word)]
    # One name in a text of two words is no title.
    if len(capitals) <= max(settings.most_capitals * len(inside), 1):
        found += [word for word in capitals if word.casefold() not in word_edits.STOP_WORDS]
    # "Lisbon-based" names Lisbon.
    parts = [part for word in found for part in word.split("-") if part[:1].isupper()]
    names = {_plain(part): _POSSESSIVE.sub("", part) for part in parts}
    return {key: name for key, name in names.items() if key not in _NO_NAMES}


def _by_place(text: str) -> tuple[list[str], list[str]]:
    """Return the words that open a sentence or something in it, and those inside."""
    opening: list[str] = []
    inside: list[str] = []
    for sentence, _ in sentences.split(text):
        is_first = True
        for match in _WORD.finditer(sentence):
            back = sentence[max(match.start() - _LOOK_BACK, 0) : match.start()]
            is_open = is_first or _OPENER.search(back) is not None
            (opening if is_open else inside).append(match.group())
            is_first = False
    return opening, inside


def _is_shouted(word: str) -> bool:
    """Return whether a word is all in capitals, such as NATO or COVID-19."""
    return len(word) > 1 and word.isupper()


def _plain(word: str) -> str:
    """Return a word without capitals and possessive; "I'm" and its like become "i"."""
    plain = _POSSESSIVE.sub("", word).casefold()
    return "i" if plain.startswith(("i'", "i’")) else plain


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return ", ".join(f"'{name[:40]}'" for name in names[:3]) + more

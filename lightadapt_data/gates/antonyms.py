"""antonyms: refuses a child with the opposite of a word that its parent has in its place.

"increased" that became "decreased" is refused. An opposite with a negation more or fewer is not:
"not safe" may become "unsafe". English only; it knows opposites, so a plain wrong word
("suppressed" that became "supplied") passes.

Source: WordNet's antonyms (Fellbaum 1998; see `wordnet`) and an own list; encoders find opposites
alike: Mrkšić et al. 2016, https://aclanthology.org/N16-1018
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from functools import lru_cache

from lightadapt_data import inflections, lexicon, wordnet
from lightadapt_data.config import Config
from lightadapt_data.gates import Encode, Verdict

_WORD = re.compile(r"[^\W\d_]+")

_PAIRS = (
    "increase decrease, increase reduce, rise fall, rose fell, grow shrink, gain lose, win lose,"
    " won lost, enable disable, allow forbid, allow prevent, allow deny, accept reject, accept"
    " refuse, approve reject, improve worsen, pass fail, buy sell, bought sold, borrow lend, start"
    " stop, begin end, open close, create destroy, include exclude, encourage discourage, support"
    " oppose, love hate, like dislike, agree disagree, remember forget, succeed fail, activate"
    " deactivate, activate inhibit, promote inhibit, strengthen weaken, attack defend, arrive"
    " leave, ascend descend, add remove, add subtract, insert delete, import export, encrypt"
    " decrypt, compress decompress, upload download, before after, above below, over under, inside"
    " outside, always never, all none, everyone nobody, everything nothing, more less, more fewer,"
    " most least, most fewest, many few, higher lower, highest lowest, larger smaller, largest"
    " smallest, bigger smaller, biggest smallest, better worse, best worst, older younger, older"
    " newer, faster slower, fastest slowest, longer shorter, longest shortest, stronger weaker,"
    " early late, earlier later, first last, maximum minimum, upper lower, huge tiny, big small,"
    " large small, great terrible, good bad, good terrible, good awful, excellent poor, excellent"
    " terrible, brilliant dull, beautiful ugly, happy sad, funny boring, interesting boring, hot"
    " cold, warm cool, safe dangerous, easy difficult, easy hard, cheap expensive, rich poor, full"
    " empty, strong weak, true false, right wrong, correct incorrect, valid invalid, positive"
    " negative, effective ineffective, efficient inefficient, legal illegal, guilty innocent,"
    " active passive, active inactive, alive dead, male female, man woman, men women, boy girl,"
    " mother father, son daughter, brother sister, success failure, victory defeat, profit loss,"
    " benefit harm, advantage disadvantage, winner loser, ally enemy, friend enemy, presence"
    " absence, majority minority, left right, north south, east west, up down, on off"
)
"""Opposites that WordNet lacks or that matter most; basic forms, and irregular ones."""


class Settings(Config):
    """Settings of antonyms."""

    pairs: tuple[tuple[str, str], ...] = ()
    """Further opposites, lower case, in their basic forms."""
    wordnet: str = ""
    """Folder with the files of WordNet 3, such as /usr/share/wordnet; empty for the shipped
    table."""


def judge(
    parents: Sequence[str], children: Sequence[str], settings: Settings, encode: Encode
) -> list[Verdict]:
    """Return a verdict per pair; the score is the number of words that became their opposites.

    Raises:
        InputError: the folder does not hold WordNet.
    """
    extra: dict[str, set[str]] = {}
    for one, other in settings.pairs:
        extra.setdefault(one, set()).add(other)
        extra.setdefault(other, set()).add(one)
    return [
        _verdict(parent, child, extra, settings.wordnet)
        for parent, child in zip(parents, children, strict=True)
    ]


def _verdict(parent: str, child: str, extra: dict[str, set[str]], folder: str) -> Verdict:
    before, after = _words(parent), _words(child)
    gone, new = before - after, after - before
    swaps = []
    for word in gone:
        opposites = _opposites(word, folder) | _extra_opposites(word, extra)
        other = next((found for found in sorted(new) if found in opposites), None)
        if other is not None:
            swaps.append((word, other))
            new -= Counter([other])
    score = float(len(swaps))
    changed = {word for swap in swaps for word in swap}
    negations = abs(_n_negations(parent, changed) - _n_negations(child, changed))
    if len(swaps) <= negations or not swaps:
        return Verdict(True, score=score)
    said = ", ".join(f"'{word}' became '{other}'" for word, other in swaps[:3])
    return Verdict(False, f"antonyms: {said}", score)


def _words(text: str) -> Counter[str]:
    return Counter(_WORD.findall(text.casefold()))


def _n_negations(text: str, without: set[str]) -> int:
    """Return the number of negations besides the words `without`, which can negate themselves."""
    return sum(
        not match.groupdict().get("idle") and match.group().casefold() not in without
        for match in lexicon.NEGATION.finditer(text)
    )


@lru_cache(maxsize=65536)
def _opposites(word: str, folder: str) -> frozenset[str]:
    """Return the opposites of a word with all their endings."""
    own, known = _own_pairs(), wordnet.load(folder).antonyms
    found = set()
    for basic, _ in inflections.basics(word):
        for other in (*own.get(basic, ()), *known.get(basic, ())):
            found |= {other, *inflections.regular(other)}
    return frozenset(found - {word})


def _extra_opposites(word: str, extra: dict[str, set[str]]) -> set[str]:
    found = {other for basic, _ in inflections.basics(word) for other in extra.get(basic, ())}
    return found.union(*(inflections.regular(other) for other in found))


@lru_cache(maxsize=1)
def _own_pairs() -> dict[str, frozenset[str]]:
    found: dict[str, set[str]] = {}
    for pair in _PAIRS.split(","):
        one, other = pair.split()
        found.setdefault(one, set()).add(other)
        found.setdefault(other, set()).add(one)
    return {word: frozenset(others) for word, others in found.items()}

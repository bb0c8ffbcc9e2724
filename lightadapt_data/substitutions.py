"""Substitutions: words of one text that another has others for.

Two copies of a text differ by what one of them lacks, or by spelling. Two rows of one template
differ by what stands in its slots: a name, a number, a language. They share most n-grams too, and
each says something that the other does not.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from difflib import SequenceMatcher

Words = tuple[str, ...]

WORD = re.compile(r"[\u3040-\u30ff\u3400-\u9fff]|[^\W\u3040-\u30ff\u3400-\u9fff]+")
"""A run of letters, digits and underscores, or one Chinese or Japanese sign."""
MOST_ALIGNED = 1000
"""Words between a common beginning and a common end that are aligned; more are taken as one run."""
THOUSANDS = re.compile("(?<=\\d)[,'\u00a0\u202f\u2019](?=\\d{3}(?!\\d))")
"""Signs that group the digits of a number: 150,000 is 150000."""
MOST_SPELT = 50
"""Words of a run that are looked through for other spellings; a longer run is no spelling."""
LEAST_SPELT = 4
"""Letters from which two words that differ in one place are taken for two spellings."""


@dataclass(frozen=True)
class Substitutions:
    """How much of the shorter text stands in the place of other words of the longer one."""

    n_words: int
    """Words that each of the texts has instead of the other's; spellings do not count."""
    share: float
    """Of the words of the shorter text, from 0 to 1."""
    has_number: bool
    """Whether a number stands in the place of another."""


def between(left: str, right: str) -> Substitutions:
    """Return what two texts have in each other's place; the order of the texts does not matter."""
    texts = sorted([left.casefold(), right.casefold()])
    n_words, has_number = 0, False
    for blocks in _replaced(*_middles(*(_words(part) for part in _unlike(*texts)))):
        counts = [Counter(block) for block in blocks]
        only = [counts[0] - counts[1], counts[1] - counts[0]]
        has_number |= all(any(_is_number(word) for word in side) for side in only)
        n_words += _n_without_spellings(*only)
    if not n_words:
        return Substitutions(0, 0.0, has_number)
    return Substitutions(n_words, n_words / min(len(_words(text)) for text in texts), has_number)


def _unlike(left: str, right: str) -> tuple[str, str]:
    """Return both texts without a common beginning and end of whole words.

    Most of two close texts is equal, and comparing it as it stands is far faster than its words.
    """
    start = _n_common(left, right)
    while start and not left[start - 1].isspace():
        start -= 1
    left, right = left[start:], right[start:]
    end = _n_common(left[::-1], right[::-1])
    while end and not left[-end].isspace():
        end -= 1
    return left[: len(left) - end], right[: len(right) - end]


def _n_common(left: str, right: str) -> int:
    """Return the length of the common beginning, by bisection."""
    low, high = 0, min(len(left), len(right))
    while low < high:
        middle = (low + high + 1) // 2
        if left[low:middle] == right[low:middle]:
            low = middle
        else:
            high = middle - 1
    return low


def _middles(left: Words, right: Words) -> tuple[Words, Words]:
    """Return the words between a common beginning and a common end."""
    shorter = min(len(left), len(right))
    start = end = 0
    while start < shorter and left[start] == right[start]:
        start += 1
    while end < shorter - start and left[-1 - end] == right[-1 - end]:
        end += 1
    return left[start : len(left) - end], right[start : len(right) - end]


def _replaced(left: Words, right: Words) -> Iterator[tuple[Words, Words]]:
    """Yield the runs of words that stand between the same neighbours in both texts and differ."""
    counts = Counter(left), Counter(right)
    lacking = _lacking(*counts), _lacking(*counts[::-1])
    if not lacking[0] or not lacking[1]:
        return  # one text only lacks words
    if _neighbours(left, lacking[0]).isdisjoint(_neighbours(right, lacking[1])):
        return  # what each lacks stands in places of its own
    if max(len(left), len(right)) > MOST_ALIGNED:
        yield left, right
        return
    for kind, a, b, c, d in SequenceMatcher(None, left, right, autojunk=False).get_opcodes():
        if kind == "replace":
            yield left[a:b], right[c:d]


def _lacking(left: Counter[str], right: Counter[str]) -> set[str]:
    """Return the words that `left` holds more often; quicker than the difference of counters."""
    return {word for word, n in left.items() if n > right.get(word, 0)}


def _neighbours(words: Words, lacking: set[str]) -> set[tuple[str, str]]:
    """Return what stands before and behind the runs of lacking words; ends of the text count."""
    found = set()
    for place, word in enumerate(words):
        if word in lacking:
            before = words[place - 1] if place else ""
            behind = words[place + 1] if place + 1 < len(words) else ""
            if before not in lacking:
                found.add(("before", before))
            if behind not in lacking:
                found.add(("behind", behind))
    return found


def _n_without_spellings(left: Counter[str], right: Counter[str]) -> int:
    """Return how many words of the shorter side have another one in their place."""
    right = right.copy()
    n_spellings = 0
    if min(left.total(), right.total()) > MOST_SPELT:
        return min(left.total(), right.total())
    for word in sorted(left.elements()):
        twin = next((other for other in sorted(right) if _is_spelling(word, other)), None)
        if twin is not None:
            n_spellings += 1
            right -= Counter([twin])
    return min(left.total() - n_spellings, right.total())


def _words(text: str) -> Words:
    return tuple(WORD.findall(THOUSANDS.sub("", text)))


def _is_number(word: str) -> bool:
    return any(letter.isdigit() for letter in word)


def _is_spelling(left: str, right: str) -> bool:
    """Return whether two words without digits differ by one letter more, less, other or swapped."""
    if min(len(left), len(right)) < LEAST_SPELT or abs(len(left) - len(right)) > 1:
        return False
    if _is_number(left) or _is_number(right):
        return False
    start = 0
    while start < min(len(left), len(right)) and left[start] == right[start]:
        start += 1
    left, right = left[start:], right[start:]
    is_swapped = left[:2] == right[:2][::-1] and left[2:] == right[2:]
    return is_swapped or left[1:] == right[1:] or left[1:] == right or left == right[1:]

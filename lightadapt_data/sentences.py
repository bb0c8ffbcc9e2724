"""sentences: cut a text into sentences and lose nothing, and compare texts by their words.

The cutter follows rules and knows English abbreviations; it is linear in the length of the text,
however odd the text is.
"""

# ruff: noqa: SIM905 - long lists of words read better as text
from __future__ import annotations

import re
import unicodedata

_BREAK = re.compile(r"\s+|(?<=[。！？])(?=[^\s。！？」』”’）)])")
"""Where a sentence may end: white space, or the place after a full stop that needs none."""

_ENDS = ".!?…。！？؟۔"
_CLOSERS = "\"'”’»)]}*"
_OPENERS = "\"'“‘«([{*"

_ABBREVIATIONS = frozenset(
    "e.g i.e etc vs cf al ed eds dr mr mrs ms prof st jr sr inc ltd co corp approx dept resp viz"
    " a.m p.m u.s u.k jan feb mar apr jun jul aug sep sept oct nov dec".split()
)
"""Lower-case words that a full stop follows inside a sentence."""

_BEFORE_NUMBERS = frozenset("fig figs eq eqs sec no nos vol pp p ch min max ref refs tab".split())
"""The same, when a number follows: "no. 5", but "She said no."."""

_LIST_MARK = re.compile(r"(?:[-*•+]|\d{1,3}[.)])\s")

_NOT_WORD = re.compile(r"[\W_]+")


def split(text: str) -> list[tuple[str, str]]:
    """Return (sentence, white space after it); joined in order they give back the text.

    A sentence neither starts nor ends with white space. White space before the first sentence
    comes as ("", white space). A single line break inside a running sentence does not end it.
    """
    pieces: list[tuple[str, str]] = []
    start = word_start = 0
    for gap in _BREAK.finditer(text):
        if gap.end() == len(text) or _is_end(text, word_start, gap):
            pieces.append((text[start : gap.start()], gap.group()))
            start = gap.end()
        word_start = gap.end()
    if start < len(text):
        pieces.append((text[start:], ""))
    return pieces


def normalised(text: str) -> str:
    """Return the words of a text without case, punctuation and spacing, or "" if it has none."""
    return _NOT_WORD.sub(" ", unicodedata.normalize("NFKC", text).casefold()).strip()


def _is_end(text: str, word_start: int, gap: re.Match[str]) -> bool:
    """Return whether a sentence ends before `gap`; text goes on after it."""
    if gap.start() == 0 or gap.group().count("\n") > 1 or not gap.group():
        return True
    word = text[word_start : gap.start()].rstrip(_CLOSERS)
    following = text[gap.end() : gap.end() + 8].lstrip(_OPENERS) or "A"
    if word.endswith(tuple(_ENDS)):
        stem = word.rstrip(".").lstrip(_OPENERS).casefold()
        is_short = text[gap.start() - 1] == "." and (
            stem in _ABBREVIATIONS
            or (stem in _BEFORE_NUMBERS and following[0].isdigit())
            or len(stem) == 1
        )
        return not is_short and not following[0].islower()
    if "\n" not in gap.group():
        return False
    return not following[0].islower() or bool(_LIST_MARK.match(text, gap.end()))

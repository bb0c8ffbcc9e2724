"""char_noise: typing or scanning errors in a few words, so that a model gets used to them.

For robustness only: at most a tenth of the training rows should be noise. Spacing, numbers,
negations and addresses stay as they are.

Source: Ma 2019, nlpaug's KeyboardAug and OcrAug, https://github.com/makcedward/nlpaug; keyboard
noise as in Belinkov and Bisk 2018, https://arxiv.org/abs/1711.02173
"""

from __future__ import annotations

import random
import re
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import lru_cache
from typing import Any, Literal

import numpy as np
from pydantic import Field

from lightadapt_data import lexicon
from lightadapt_data.augmenters import Candidate, Context, generator
from lightadapt_data.config import Config

VERSION = 2
FEEDS_ON = "train"
SKIPS_GATES = frozenset({"numbers", "similarity"})
"""Encoders find noisy text unlike its parent, although it means the same. Scanners read "l" as "1",
which is no number; the real ones are left alone here."""

_TOKEN = re.compile(r"https?://\S+|www\.\S+|[^\s@]{1,64}@\S+|`[^`]*`|\s+|\w+(?:['’]\w+)?|[^\w\s]")
"""Cuts a text into tokens that joined give it back."""

_KEPT_WORDS = frozenset(
    {
        *lexicon.NUMBER_WORDS,
        *lexicon.MULTIPLIERS,
        *lexicon.ORDINALS,
        *lexicon.MONTHS,
        *lexicon.UNITS,
    }
)

_lock = threading.Lock()
"""nlpaug draws from the generators of the whole process."""


class Settings(Config):
    """Settings of char_noise."""

    kind: Literal["keyboard", "ocr"] = "keyboard"
    """Slips of the finger, or characters that a scanner takes for others."""
    share_of_rows: float = Field(default=0.1, gt=0, le=1)
    """Part of the rows that get noise, chosen by their ids [0-1]."""
    share_of_words: float = Field(default=0.15, gt=0, le=1)
    """Part of the words that get noise, at least one [0-1]."""
    share_of_characters: float = Field(default=0.1, gt=0, le=1)
    """Part of a chosen word's characters that change, at least one [0-1]."""
    min_characters: int = Field(default=4, ge=2)
    """Shorter words stay as they are [characters]."""
    replicas: int = Field(default=1, ge=1)
    """Candidates per chosen row; the augment stage keeps at most `accepted_per_row`."""


def augment(
    rows: Sequence[Mapping[str, Any]], settings: Settings, context: Context
) -> list[Candidate]:
    """Return `replicas` noisy candidates for each row chosen by its id, in row order."""
    candidates = []
    for row in rows:
        row_id, text = str(row["id"]), str(row["text"])
        chance = generator(context.seed, "char_noise", row_id, -1).random()
        if chance >= settings.share_of_rows:
            continue
        for replica in range(settings.replicas):
            own = generator(context.seed, "char_noise", row_id, replica)
            noisy = _noisy(text, settings, own)
            refused = "" if noisy != text else "no word that may be changed"
            candidates.append(Candidate(row_id, noisy, row.get("label"), replica, refused=refused))
    return candidates


def _noisy(text: str, settings: Settings, own: random.Random) -> str:
    """Return the text with noise; everything around its words is kept to the byte."""
    body = text.strip()
    tokens = _TOKEN.findall(body)
    kept = frozenset(token for token in tokens if _is_kept(token))
    n_words = sum(token not in kept for token in tokens)
    if not n_words:
        return text
    engine = _engine(settings.kind, settings.share_of_characters, settings.min_characters)
    with _lock, _seeded(own):
        engine.stopwords = kept
        # nlpaug takes the share of all tokens, spaces among them.
        engine.aug_word_p = settings.share_of_words * n_words / len(tokens)
        found = engine.augment(body, n=1)
    is_text = len(found) == 1 and isinstance(found[0], str)
    if not is_text or _kept_words(found[0]) != _kept_words(body):  # as when "mine" becomes "nine"
        return text
    start = text.index(body)
    return text[:start] + str(found[0]) + text[start + len(body) :]


@lru_cache(maxsize=4)
def _engine(kind: str, share_of_characters: float, min_characters: int) -> Any:
    import nlpaug.augmenter.char as nac

    options = {
        "aug_char_p": share_of_characters,
        "aug_char_min": 1,
        "aug_word_max": None,
        "min_char": min_characters,
        "tokenizer": _TOKEN.findall,
        "reverse_tokenizer": "".join,
    }
    if kind == "ocr":
        return nac.OcrAug(**options)
    letters_only = dict.fromkeys(
        ("include_special_char", "include_numeric", "include_upper_case"), False
    )
    return nac.KeyboardAug(**options, **letters_only)


@contextmanager
def _seeded(own: random.Random) -> Iterator[None]:
    """Seed the generators of the process from `own`, and put them back afterwards."""
    state, numpy_state = random.getstate(), np.random.get_state()  # noqa: NPY002 - nlpaug uses it
    try:
        random.seed(own.getrandbits(64))
        np.random.seed(own.getrandbits(32))  # noqa: NPY002 - nlpaug uses it
        yield
    finally:
        random.setstate(state)
        np.random.set_state(numpy_state)  # noqa: NPY002 - nlpaug uses it


def _kept_words(text: str) -> list[str]:
    return [word for token in _TOKEN.findall(text) if (word := token.casefold()) in _KEPT_WORDS]


def _is_kept(token: str) -> bool:
    """Return whether a token must stay: no word, a number, a negation, an address, code."""
    word = token.casefold()
    return (
        not token[0].isalpha()
        or any(mark in token for mark in "/@.`_")
        or any(character.isdigit() for character in token)
        or word in _KEPT_WORDS
        or word.startswith("fail")
        or lexicon.NEGATION.search(token) is not None
    )

"""Word n-grams of many texts as 64-bit codes: fast, and the same on every machine.

Words are runs of letters, digits and underscores in lower case (NFKC), so case, punctuation and
spacing make no difference. A pictograph, and a character of a script that puts no spaces between
words, counts as one word. Two different n-grams get the same code by an accident of 1 in 2**64.
"""

from __future__ import annotations

import itertools
import re
import unicodedata
from collections.abc import Iterator, Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

Codes = NDArray[np.uint64]
Places = NDArray[np.int64]

BLOCK_CHARACTERS = 1 << 19
"""Texts are read in blocks, so that little memory is held beside the codes."""
LONG_WORD = 64
STEP = 0xD6E8FEB86659FD93
# A lone surrogate is no valid text, but a corpus may hold one.
UTF8 = ("utf-8", "surrogatepass")
MASKS = np.array([(1 << 8 * n) - 1 for n in range(9)], np.uint64)
IS_WORD = bytes(code >= 0x80 or code == 0x5F or chr(code).isalnum() for code in range(256))
LOWER = bytes(code + 32 if 0x41 <= code <= 0x5A else code for code in range(256))
# Thai, Lao, Myanmar, Khmer, kana and Chinese characters: scripts without spaces between words.
UNSPACED = re.compile(
    "[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff"
    "\U00020000-\U0003ffff]+"
)
PAST_ASCII = re.compile(r"[^\x00-\x7f]+")
NO_WORD = re.compile(r"[^\x00-\x7f\w]")


def ngram_codes(texts: Sequence[str], n: int) -> tuple[Codes, Places]:
    """Return the n-grams of all texts, with repeats, and where each text's start.

    Codes of text i are `codes[bounds[i]:bounds[i + 1]]`, in their order and at least one: a text
    of fewer than n words is one n-gram, and so is one without words, of its characters. uint64
    [n-grams], int64 [texts + 1].
    """
    parts, counts = [np.zeros(0, np.uint64)], [np.zeros(0, np.int64)]
    for block in _blocks(texts):
        words, n_words = _word_codes(block)
        part, count = _joined(words, n_words, n)
        wordless = np.flatnonzero(n_words == 0)
        if len(wordless):
            own = [_code(block[index].strip().encode(*UTF8)) for index in wordless]
            before = np.cumsum(count) - count
            part = np.insert(part, before[wordless], np.array(own, np.uint64))
            count[wordless] = 1
        parts.append(part)
        counts.append(count)
    bounds = np.concatenate([[0], np.cumsum(np.concatenate(counts))])
    return np.concatenate(parts), bounds.astype(np.int64)


def _blocks(texts: Sequence[str]) -> Iterator[list[str]]:
    """Yield texts whose words are runs of letters, digits and characters past ASCII."""
    lengths = np.cumsum([len(text) for text in texts])
    cuts = np.flatnonzero(np.diff(lengths // BLOCK_CHARACTERS)) + 1
    for start, end in itertools.pairwise([0, *cuts.tolist(), len(texts)]):
        yield [text if text.isascii() else _spelled(text) for text in texts[start:end]]


def _spelled(text: str) -> str:
    return PAST_ASCII.sub(lambda run: _respelled(run[0]), unicodedata.normalize("NFKC", text))


@lru_cache(maxsize=4096)
def _respelled(run: str) -> str:
    """Return characters past ASCII in lower case, with spaces where words end."""
    apart = UNSPACED.sub(lambda unspaced: f" {' '.join(unspaced[0])} ", run.casefold())
    return NO_WORD.sub(_apart, apart)


def _apart(match: re.Match[str]) -> str:
    """Return a pictograph as a word of its own, a mark as it is, and all else as a space."""
    category = unicodedata.category(match[0])
    if category == "So":
        return f" {match[0]} "
    # A mark belongs to the letter before it.
    return match[0] if category[0] == "M" else " "


def _code(data: bytes) -> int:
    import xxhash

    return xxhash.xxh3_64_intdigest(data)


def _mixed(values: Codes) -> Codes:
    """Return the codes with every bit spread over all others."""
    values = (values ^ (values >> np.uint64(32))) * np.uint64(0x9E3779B97F4A7C15)
    return values ^ (values >> np.uint64(29))


def _word_codes(texts: Sequence[str]) -> tuple[Codes, Places]:
    """Return the codes of all words in their order, and the number of words of each text."""
    data = "\0".join(["", *texts, ""]).encode(*UTF8)
    if data.count(0) != len(texts) + 1:
        data = "\0".join(["", *(text.replace("\0", " ") for text in texts), ""]).encode(*UTF8)
    is_word = np.frombuffer(data.translate(IS_WORD), np.bool_)
    edges = np.flatnonzero(is_word[1:] != is_word[:-1]) + 1
    starts, lengths = edges[::2], edges[1::2] - edges[::2]
    ends = np.flatnonzero(np.frombuffer(data, np.uint8) == 0)
    n_words = np.diff(np.searchsorted(starts, ends))
    return _hashed(data.translate(LOWER), starts, lengths), n_words


def _hashed(data: bytes, starts: Places, lengths: Places) -> Codes:
    """Return one code for each slice of the data, read eight bytes at a time."""
    # Eight bytes from every place on: they overlap, nothing is copied.
    windows = np.ndarray(len(data) + 1, "<u8", data + bytes(8), strides=(1,))
    codes = _mixed((windows[starts] & MASKS.take(lengths, mode="clip")) + lengths.view(np.uint64))
    for offset in range(8, LONG_WORD, 8):
        rest = np.flatnonzero(lengths > offset)
        if not len(rest):
            return codes
        more = windows[starts[rest] + offset] & MASKS.take(lengths[rest] - offset, mode="clip")
        codes[rest] = _mixed(codes[rest] * np.uint64(STEP) + more)
    for index in np.flatnonzero(lengths > LONG_WORD).tolist():
        codes[index] = _code(data[starts[index] : starts[index] + lengths[index]])
    return codes


def _joined(words: Codes, n_words: Places, n: int) -> tuple[Codes, Places]:
    """Return the codes of n-grams of words, and the number of n-grams of each text."""
    ends = np.cumsum(n_words)
    is_whole = np.ones(len(words), bool)
    total = words.copy()
    short = np.flatnonzero((n_words > 0) & (n_words < n))
    firsts = (ends - n_words)[short]
    own = words[firsts]
    factor = 1
    for offset in range(1, min(n, int(n_words.max(initial=0)))):
        factor = factor * STEP % (1 << 64)
        total[:-offset] += words[offset:] * np.uint64(factor)
        has_more = n_words[short] > offset
        own[has_more] += words[firsts[has_more] + offset] * np.uint64(factor)
        # The n-gram that starts here would reach into the next text.
        is_whole[(ends - offset)[n_words >= offset]] = False
    total[firsts] = own
    is_whole[firsts] = True
    return _mixed(total[is_whole]), np.where(n_words > 0, np.maximum(n_words - n + 1, 1), 0)

r"""Word n-grams as hashes and bucket counts, whole blocks of texts at a time, no loop over words.

A word is a run of letters, digits and underscores, or a run of other signs, in lower case: the
tokens of the pattern `\w+|[^\w\s]+`. Its hash is a polynomial in its characters modulo 2^64,
taken from running sums over the block; an n-gram's hash mixes that of its first words with that of
its last. No hash depends on the block, the process or the machine.

With `compatible`, an n-gram's bucket is that of the package `data-selection`: SHA-256 of its words,
joined by a space, modulo the number of buckets. It is computed once per distinct n-gram.

Source: Karp and Rabin 1987, https://doi.org/10.1147/rd.312.0249 (polynomial hash); Steele et al.
2014, https://doi.org/10.1145/2660193.2660195 (mixing); Xie et al. 2023, arXiv 2302.03169 (hashed
n-gram features, KL reduction)
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

Hashes = NDArray[np.uint64]
Integers = NDArray[np.int64]
Codes = NDArray[np.uint8] | NDArray[np.uint32]

BLOCK_CHARS = 1 << 19
"""Characters from which texts are hashed as one block; memory grows with it, results do not."""
WINDOW_BITS = 15
WINDOW = 1 << WINDOW_BITS
"""Characters of one step of the running sums, so that they stay in the processor's cache."""
N_CODES = 0x40000
"""Characters with a table entry; all above are neither letters nor spaces."""
CACHED_NGRAMS = 1 << 19
"""Distinct n-grams whose SHA-256 bucket is remembered, about 70 MB at most."""
TINY = 1e-8
"""What DSIR adds to a probability before the logarithm."""

SPACE, WORD, SIGN = 0, 1, 2
BASE = 0x9E3779B97F4A7C15
"""The polynomial's variable: odd, so that it has an inverse modulo 2^64."""
INVERSE = pow(BASE, -1, 1 << 64)


@dataclass(frozen=True)
class Features:
    """Which n-grams are counted, and in which buckets."""

    n: int = 2
    """Longest n-gram; all shorter ones are counted too [words]."""
    buckets: int = 10_000
    """Buckets that all n-grams share; under 2^32."""
    compatible: bool = False
    """Buckets of the package `data-selection`; slower."""


@dataclass(frozen=True)
class Words:
    """The words of a block of texts."""

    first: int
    """Index of the block's first text among all that were given."""
    n_rows: int
    """Texts in the block."""
    hashes: Hashes
    """uint64 [words]."""
    rows: Integers
    """int64 [words]: text of each word, counted from 0 within the block; ascending."""
    text: str
    """The block in lower case, texts divided by line ends."""
    starts: Integers
    """int64 [words]: offset of each word in `text` [characters]."""
    stops: Integers
    """int64 [words]: offset behind each word [characters]."""


@dataclass(frozen=True)
class Ngrams:
    """All n-grams of one length in a block; entry i begins at word i."""

    order: int
    """Words in each n-gram."""
    hashes: Hashes
    """uint64 [words - order + 1]."""
    is_whole: NDArray[np.bool_]
    """bool [words - order + 1]: False where the words belong to two texts; not an n-gram."""


def words(texts: Iterable[str]) -> Iterator[Words]:
    """Yield the words of all texts, block by block, in their order.

    Memory is that of a block of BLOCK_CHARS characters, or of the longest text if that is longer.
    """
    block: list[str] = []
    first = n_chars = 0
    for text in texts:
        block.append(text.lower())
        n_chars += len(block[-1])
        if n_chars >= BLOCK_CHARS:
            yield _words(first, block)
            first, n_chars, block = first + len(block), 0, []
    if block:
        yield _words(first, block)


def ngrams(block: Words, n: int) -> list[Ngrams]:
    """Return the n-grams of the lengths 1 to `n`."""
    found = [Ngrams(1, block.hashes, np.ones(len(block.hashes), np.bool_))]
    for order in range(2, n + 1):
        last = block.hashes[order - 1 :]
        hashes = joined(found[-1].hashes[: len(last)], last)
        found.append(Ngrams(order, hashes, block.rows[order - 1 :] == block.rows[: len(last)]))
    return found


def joined(left: Hashes, right: Hashes) -> Hashes:
    """Return hashes of pairs: `mixed(left * odd number + right)`, so order counts. Shape kept."""
    return mixed(left * np.uint64(0xD1342543DE82EF95) + right)


def mixed(values: Hashes) -> Hashes:
    """Return the SplitMix64 finaliser of the values: one to one, every bit of it depends on all."""
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))


def bucketed(block: Words, grams: Ngrams, features: Features) -> Integers:
    """Return each n-gram's bucket, int64 [words - order + 1]; that of crossing ones means nothing.

    The text of the block is read in compatible mode only.
    """
    if features.compatible:
        return _sha_buckets(block, grams, features.buckets)
    # The high half, scaled: as even as a remainder, without the slow division.
    scaled = (grams.hashes >> np.uint64(32)) * np.uint64(features.buckets)
    return (scaled >> np.uint64(32)).astype(np.int64)


def count(texts: Iterable[str], features: Features) -> Integers:
    """Return how many n-grams of all texts fall into each bucket, int64 [buckets].

    Memory does not grow with the number of texts.
    """
    totals = np.zeros(features.buckets, np.int64)
    for block in words(texts):
        for grams in ngrams(block, features.n):
            buckets = bucketed(block, grams, features)[grams.is_whole]
            totals += np.bincount(buckets, minlength=features.buckets)
    return totals


def kl_reduction(
    target_counts: NDArray[np.generic],
    corpus_counts: NDArray[np.generic],
    selected_counts: NDArray[np.generic],
) -> float:
    """Return KL(target || corpus) - KL(target || selected) of bucket counts [nats].

    Positive where the selected rows are more like the target than the corpus is. DSIR's smoothing:
    1e-8 is added to every probability. Counts that are all zero stand for probabilities of zero.

    Raises:
        ValueError: the three do not have the same number of buckets.
    """
    if not target_counts.shape == corpus_counts.shape == selected_counts.shape:
        raise ValueError(
            f"kl_reduction: counts of {target_counts.shape}, {corpus_counts.shape} and "
            f"{selected_counts.shape} buckets; allowed: three of one shape; count them with the "
            "same Features"
        )
    target, corpus, selected = (
        shares(counts) for counts in (target_counts, corpus_counts, selected_counts)
    )
    return float(np.sum(target * (np.log(selected + TINY) - np.log(corpus + TINY))))


def shares(counts: NDArray[np.generic]) -> NDArray[np.float64]:
    """Return the counts over their sum, float64 of the same shape; zeros where the sum is 0."""
    values = counts.astype(np.float64)
    return np.asarray(values / (float(values.sum()) or 1.0))


def _words(first: int, texts: list[str]) -> Words:
    """Return the words of texts in lower case."""
    text = "\n".join(texts)
    edges, sums, kinds = _runs(_codes(text))
    places = np.flatnonzero(kinds != SPACE)
    starts, stops = edges[places], edges[places + 1]
    # A run's terms are BASE^(place in the block); taken back, its place no longer matters.
    inverse = _powers(INVERSE, WINDOW)[starts & (WINDOW - 1)]
    inverse *= _powers(pow(INVERSE, WINDOW, 1 << 64), len(text) // WINDOW + 1)[
        starts >> WINDOW_BITS
    ]
    hashes = mixed((sums[places + 1] - sums[places]) * inverse)
    ends = np.cumsum(np.fromiter((len(part) + 1 for part in texts), np.int64, len(texts)))
    n_words = np.diff(np.searchsorted(starts, ends), prepend=0)
    rows = np.repeat(np.arange(len(texts)), n_words)
    return Words(first, len(texts), hashes, rows, text, starts, stops)


def _codes(text: str) -> Codes:
    """Return the characters as numbers: one byte each where that is enough."""
    if text.isascii():
        return np.frombuffer(text.encode("ascii"), np.uint8)
    return np.frombuffer(text.encode("utf-32-le", "surrogatepass"), np.uint32)


def _runs(codes: Codes) -> tuple[Integers, Hashes, NDArray[np.uint8]]:
    """Return the runs of characters of one kind: edges, sums before each edge, kinds.

    Shapes: int64 [runs + 1], uint64 [runs + 1], uint8 [runs]. The sum before place p is that of
    value * BASE^place over all places below p, modulo 2^64.
    """
    n_windows = -(-len(codes) // WINDOW)
    low = _powers(BASE, WINDOW)
    high = _powers(pow(BASE, WINDOW, 1 << 64), n_windows)
    before = np.zeros(1, np.uint64)
    last = np.full(1, 255, np.uint8)
    running = np.zeros(WINDOW + 1, np.uint64)
    edges, sums, kinds = [], [], []
    for number in range(n_windows):
        start = number * WINDOW
        window = codes[start : start + WINDOW]
        kind = _kinds(window)
        places = np.flatnonzero(kind != np.concatenate([last, kind[:-1]]))
        np.cumsum(_values(window) * low[: len(window)], out=running[1 : len(window) + 1])
        edges.append(places + start)
        kinds.append(kind[places])
        sums.append(running[places] * high[number] + before)
        before = before + running[len(window), None] * high[number]
        last = kind[-1:]
    edges.append(np.array([len(codes)]))
    sums.append(before)
    kinds.append(np.zeros(0, np.uint8))
    return np.concatenate(edges), np.concatenate(sums), np.concatenate(kinds)


@lru_cache(maxsize=8)
def _powers(factor: int, n: int) -> Hashes:
    """Return factor^0, factor^1, … modulo 2^64, uint64 [n]; for reading only."""
    factors = np.full(max(n, 1), factor, np.uint64)
    factors[0] = 1
    return np.multiply.accumulate(factors)[:n]


@lru_cache(maxsize=1)
def _kind_table() -> NDArray[np.uint8]:
    signs = map(chr, range(N_CODES))
    kinds = (SPACE if c.isspace() else WORD if c.isalnum() or c == "_" else SIGN for c in signs)
    return np.fromiter(kinds, np.uint8, N_CODES)


@lru_cache(maxsize=1)
def _value_table() -> Hashes:
    return mixed(np.arange(1, N_CODES + 1, dtype=np.uint64))


def _kinds(codes: Codes) -> NDArray[np.uint8]:
    """Return each character's kind: SPACE, WORD or SIGN."""
    table = _kind_table()
    if codes.dtype == np.uint8:
        return np.frombuffer(codes.tobytes().translate(table[:256].tobytes()), np.uint8)
    return np.asarray(table[np.minimum(codes, np.uint32(N_CODES - 1))])


def _values(codes: Codes) -> Hashes:
    """Return a pseudo-random number per character, the same for the same character."""
    if codes.dtype == np.uint8 or codes.max() < N_CODES:
        return np.take(_value_table(), codes, mode="clip")
    return mixed(codes.astype(np.uint64) + np.uint64(1))


def _sha_buckets(block: Words, grams: Ngrams, n_buckets: int) -> Integers:
    """Return SHA-256 of each n-gram modulo the number of buckets, int64 [words - order + 1]."""
    known = _known_buckets(n_buckets)
    distinct, places, inverse = np.unique(grams.hashes, return_index=True, return_inverse=True)
    keys = distinct.tolist()
    buckets = np.array([known.get(key, -1) for key in keys], np.int64)
    new = np.flatnonzero(buckets < 0)
    if len(new):
        buckets[new] = _remainders(_texts_of(block, places[new], grams.order), n_buckets)
        if len(known) + len(new) > CACHED_NGRAMS:
            known.clear()
        fresh = zip(new.tolist(), buckets[new].tolist(), strict=True)
        known.update((keys[index], bucket) for index, bucket in fresh)
    return np.asarray(buckets[inverse])


@lru_cache(maxsize=1)
def _known_buckets(n_buckets: int) -> dict[int, int]:
    """Return this process' memory of SHA-256 buckets, from an n-gram's hash to its bucket."""
    return {}


def _texts_of(block: Words, places: Integers, order: int) -> list[bytes]:
    """Return the n-grams that begin at the given words, their words joined by a space."""
    parts = []
    for offset in range(order):
        starts = block.starts[places + offset].tolist()
        stops = block.stops[places + offset].tolist()
        parts.append([block.text[a:b] for a, b in zip(starts, stops, strict=True)])
    return [" ".join(gram).encode("utf-8", "surrogatepass") for gram in zip(*parts, strict=True)]


def _remainders(grams: list[bytes], n_buckets: int) -> Integers:
    """Return SHA-256 modulo the number of buckets, int64 [len(grams)]."""
    digests = b"".join([hashlib.sha256(gram).digest() for gram in grams])
    parts = np.frombuffer(digests, ">u4").reshape(-1, 8).astype(np.uint64)
    size = np.uint64(n_buckets)
    rest = np.zeros(len(grams), np.uint64)
    # Digit by digit in base 2^32: under 2^64 as long as the buckets are under 2^32.
    for column in parts.T:
        rest = ((rest << np.uint64(32)) | column) % size
    return rest.astype(np.int64)

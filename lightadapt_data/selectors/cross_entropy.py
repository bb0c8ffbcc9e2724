"""cross_entropy: rows that surprise a model of the target less than a model of the corpus.

The score is H_corpus - H_target, in bits per word. Both are cross-entropies of word n-gram models
with interpolated absolute discounting, over one vocabulary: the target's, and that of as many words
drawn from the corpus. For pairs of texts (`sides`) the differences of all sides are added.

A row of the corpus' sample would be scored by a model that knows it by heart. So two samples are
drawn, and a text of the first one is scored by the second.

Source: Moore and Lewis 2010, "Intelligent Selection of Language Model Training Data"; pairs:
Axelrod, He and Gao 2011, "Domain Adaptation via Pseudo In-Domain Data Selection"; smoothing: Ney,
Essen and Kneser 1994, as in Chen and Goodman 1999, section 2.6 (absolute discounting)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import xxhash
from numpy.typing import NDArray
from pydantic import Field

from lightadapt_data.config import Config
from lightadapt_data.errors import InputError, allowed
from lightadapt_data.hashed_ngrams import Hashes, Integers, Ngrams, Words, ngrams, words
from lightadapt_data.selectors import Corpus, Scores, Target
from lightadapt_data.vectors import uniform

Doubles = NDArray[np.float64]

HIGHEST = np.uint64((1 << 64) - 1)


class Settings(Config):
    """Settings of the cross_entropy selector."""

    order: int = Field(default=3, ge=1, le=5)
    """Longest n-gram of the models [words]."""
    sides: tuple[str, ...] = Field(default=("text",), min_length=1)
    """Text columns whose differences are added: ["source", "target"] for pairs."""


def score(corpus: Corpus, target: Target, settings: Settings, seed: int) -> Scores:
    """Return H_corpus - H_target of each row [bits per word], and no nearest row.

    A row without any word on one of its sides gets the lowest score of the corpus.

    Raises:
        InputError: the target has no column of the name of a side.
    """
    scores = np.zeros(corpus.n_rows)
    facts = {}
    for side in settings.sides:
        models = _models(corpus, _texts(target, side), side, settings.order, seed)
        facts[side] = {
            "target_words": models.target.n_words,
            "corpus_words": models.first.n_words,
            "vocabulary": models.target.n_known,
        }
        for start, texts in corpus.texts(side):
            for block in words(texts):
                rows = slice(block.first, block.first + block.n_rows)
                scores[start + rows.start : start + rows.stop] += _differences(
                    models, block, texts[rows]
                )
    is_empty = np.isnan(scores)
    scores[is_empty] = scores[~is_empty].min() if not is_empty.all() else 0.0
    nearest = np.full(corpus.n_rows, -1, np.int32)
    return Scores(scores.astype(np.float32), nearest, {"sides": facts})


def _texts(target: Target, side: str) -> Sequence[str]:
    if side == "text":
        return target.texts
    if side not in target.columns:
        raise InputError(
            f"selector cross_entropy: the target has no text column '{side}'; "
            f"{allowed(side, ['text', *target.columns])}; change select.cross_entropy.sides"
        )
    return target.columns[side]


@dataclass(frozen=True)
class Level:
    """The n-grams of one length that a model has seen; the last entry stands for all others."""

    keys: Hashes
    """uint64 [n-grams + 1]: hashes, ascending, and the highest number."""
    counts: Integers
    """int64 [n-grams + 1]: how often each was seen."""
    n_followers: Integers
    """int64 [n-grams + 1]: words seen behind it."""
    n_kinds: Integers
    """int64 [n-grams + 1]: distinct words seen behind it."""
    starts: Integers
    """int64 [power of two]: first key from each value of a hash's highest bits on."""

    discount: float
    """Taken off every count and given to shorter n-grams [counts, in (0, 1)]."""

    @classmethod
    def of(cls, keys: Hashes, counts: Integers) -> Level:
        """Return the level of distinct n-grams, ascending; nothing was seen behind them yet."""
        bits = max(len(keys).bit_length(), 1)
        lowest = np.arange(1 << bits, dtype=np.uint64) << np.uint64(64 - bits)
        n_followers, n_kinds = np.zeros((2, len(keys) + 1), np.int64)
        starts = np.searchsorted(keys, lowest)
        keys, counts = np.append(keys, HIGHEST), np.append(counts, 0)
        n_once, n_twice = int((counts == 1).sum()), int((counts == 2).sum())
        # One and two are added for the case of none: a discount of 0 would make unseen words
        # impossible.
        discount = (n_once + 1) / (n_once + 2 * n_twice + 2)
        return cls(keys, counts, n_followers, n_kinds, starts, discount)

    def find(self, hashes: Hashes) -> Integers:
        """Return the entry of each n-gram, int64 of the same shape.

        Some five times faster than a binary search: the highest bits lead close to the entry.
        """
        bits = len(self.starts).bit_length() - 1
        places = np.asarray(self.starts[hashes >> np.uint64(64 - bits)])
        behind = np.flatnonzero(self.keys[places] < hashes)
        while len(behind):
            places[behind] += 1
            behind = behind[self.keys[places[behind]] < hashes[behind]]
        places[self.keys[places] != hashes] = len(self.keys) - 1
        return places


@dataclass(frozen=True)
class Model:
    """A word n-gram model."""

    levels: list[Level]
    """By length, from 1."""
    n_words: int
    """Words it was made from."""
    n_known: int
    """Words of the vocabulary, and one for all unknown words."""

    def bits(self, grams: list[Ngrams]) -> Doubles:
        """Return log2 of each word's probability given the words before it, float64 [words].

        p(w | h) = (max(count(h w) - d, 0) + d * kinds(h) * p(w | h without its first word)) /
        followers(h), with one discount d per length; below one word stands the same probability
        for all. Texts begin without context. The discount is taken off each kind, so what a
        context gives away grows with the variety behind it.
        """
        shorter = self.levels[0]
        found = shorter.find(grams[0].hashes)
        chances = np.full(len(found), 1 / self.n_known)
        if self.n_words:
            spread = shorter.discount * (len(shorter.keys) - 1)
            kept = np.maximum(shorter.counts[found] - shorter.discount, 0)
            chances = (kept + spread * chances) / self.n_words
        for level, gram in zip(self.levels[1:], grams[1:], strict=True):
            contexts = found[: len(gram.hashes)]
            places = np.flatnonzero(gram.is_whole & (shorter.n_kinds[contexts] > 0))
            contexts = contexts[places]
            found = np.full(len(gram.hashes), len(level.keys) - 1)
            found[places] = level.find(gram.hashes[places])
            at = places + gram.order - 1
            kept = np.maximum(level.counts[found[places]] - level.discount, 0)
            given_away = level.discount * shorter.n_kinds[contexts]
            chances[at] = (kept + given_away * chances[at]) / shorter.n_followers[contexts]
            shorter = level
        return np.asarray(np.log2(chances))


def trained(texts: Sequence[str], order: int, n_known: int) -> Model:
    """Return the model of the texts; memory grows with their distinct n-grams."""
    hashes: list[list[Hashes]] = [[np.zeros(0, np.uint64)] for _ in range(order)]
    contexts: list[list[Hashes]] = [[np.zeros(0, np.uint64)] for _ in range(order)]
    for block in words(texts):
        grams = ngrams(block, order)
        for place, gram in enumerate(grams):
            before = grams[max(place - 1, 0)].hashes[: len(gram.hashes)]
            hashes[place].append(gram.hashes[gram.is_whole])
            contexts[place].append(before[gram.is_whole])
    levels: list[Level] = []
    for own, context in zip(hashes, contexts, strict=True):
        keys, firsts, counts = np.unique(np.concatenate(own), return_index=True, return_counts=True)
        if levels:
            places = levels[-1].find(np.concatenate(context)[firsts])
            np.add.at(levels[-1].n_followers, places, counts)
            np.add.at(levels[-1].n_kinds, places, 1)
        levels.append(Level.of(keys, counts))
    return Model(levels, sum(len(part) for part in hashes[0]), n_known)


@dataclass(frozen=True)
class _Models:
    """The models of one side."""

    target: Model
    first: Model
    """The corpus' model for all texts but those it was made from."""
    second: Model
    """The corpus' model for those."""
    texts_of_first: frozenset[int]
    """Digests of the texts that `first` was made from."""


def _models(corpus: Corpus, texts: Sequence[str], side: str, order: int, seed: int) -> _Models:
    n_words = [int(size) for block in words(texts) for size in _sizes(block)]
    drawn = general_sample(corpus, side, 2 * sum(n_words), max(n_words, default=0), seed)
    half = sum(row.n_words for row in drawn) / 2
    first: list[Drawn] = []
    total = 0
    while total < half:
        first.append(drawn[len(first)])
        total += first[-1].n_words
    rest = drawn[len(first) :]
    samples = (list(texts), [row.text for row in first], [row.text for row in rest])
    known = [block.hashes for sample in samples for block in words(sample)]
    n_known = len(np.unique(np.concatenate([np.zeros(0, np.uint64), *known]))) + 1
    own, general, other = (trained(sample, order, n_known) for sample in samples)
    return _Models(own, general, other, frozenset(row.digest for row in first))


@dataclass(frozen=True, order=True)
class Drawn:
    """A row of the sample."""

    draw: float
    text: str
    """At most as many words as the longest target row has."""
    n_words: int
    digest: int
    """Hash of the whole text."""


def general_sample(corpus: Corpus, side: str, n_words: int, longest: int, seed: int) -> list[Drawn]:
    """Return distinct random texts of the corpus, at least `n_words` words in all if it has them.

    Of a text of more than `longest` words a window of this length is taken, at a drawn place, so
    that a few long documents do not make up the sample. Which texts are drawn depends on the keys
    of the rows and the seed only; one pass, memory is that of the sample and a block.
    """
    draws, places = uniform(corpus.keys, seed), uniform(corpus.keys, seed + 1)
    kept: list[Drawn] = []
    bound = np.inf if n_words else -np.inf
    for start, texts in corpus.texts(side):
        near = np.flatnonzero(draws[start : start + len(texts)] <= bound).tolist()
        candidates = [texts[index] for index in near]
        sizes = [int(size) for block in words(candidates) for size in _sizes(block)]
        for index, text, size in zip(near, candidates, sizes, strict=True):
            cut = text if size <= longest else _window(text, longest, places[start + index])
            digest = _digest(text)
            kept.append(Drawn(float(draws[start + index]), cut, min(size, longest), digest))
        kept = _cut(kept, n_words)
        if sum(row.n_words for row in kept) >= n_words:
            bound = kept[-1].draw if kept else -np.inf
    return kept


def _cut(rows: list[Drawn], n_words: int) -> list[Drawn]:
    """Return the first distinct rows by draw that have `n_words` words together."""
    kept: dict[int, Drawn] = {}
    total = 0
    for row in sorted(rows):
        if total < n_words and row.n_words and row.digest not in kept:
            kept[row.digest] = row
            total += row.n_words
    return list(kept.values())


def _window(text: str, n_words: int, draw: float) -> str:
    """Return `n_words` words of a longer text; `draw` in [0, 1) says where they begin."""
    (block,) = words([text])
    first = int(draw * (len(block.hashes) - n_words + 1))
    return block.text[block.starts[first] : block.stops[first + n_words - 1]]


def _differences(models: _Models, block: Words, texts: Sequence[str]) -> Doubles:
    """Return H_corpus - H_target of each text, float64 [rows]; NaN for one without any word."""
    grams = ngrams(block, len(models.target.levels))
    own = models.target.bits(grams)
    means = _row_means(block, own - models.first.bits(grams))
    is_sampled = np.array([_digest(text) in models.texts_of_first for text in texts], np.bool_)
    if is_sampled.any():
        fair = _row_means(block, own - models.second.bits(grams))
        means[is_sampled] = fair[is_sampled]
    return means


def _row_means(block: Words, values: Doubles) -> Doubles:
    with np.errstate(invalid="ignore"):
        return np.asarray(np.bincount(block.rows, values, block.n_rows) / _sizes(block))


def _sizes(block: Words) -> Integers:
    """Return the words of each text, int64 [rows]."""
    return np.bincount(block.rows, minlength=block.n_rows)


def _digest(text: str) -> int:
    return xxhash.xxh3_64_intdigest(text.encode("utf-8", "surrogatepass"))

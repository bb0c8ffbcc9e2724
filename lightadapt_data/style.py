"""Style: how a text is written, whatever it is about.

A row's style is the share of each of the corpus' most frequent words and characters in it, and its
length. Function words, punctuation, capitals and digits are among them in every language, and they
tell registers apart (an encyclopedia from a newspaper) where sentence vectors only see the topic.

Source: Burrows 2002, "'Delta': a measure of stylistic difference", section 2 (z-scores of the most
frequent words); Stamatatos 2009, "A survey of modern authorship attribution methods", 2.1 and 2.2
(characters, lengths)
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lightadapt_data.hashed_ngrams import Hashes, words

Floats = NDArray[np.float32]

N_LENGTHS = 2
MOST_CHARS = 4000
"""Characters of a text that are looked at; a style shows in its beginning."""
CLIP = 4.0
"""Largest z-score; a word that one row repeats must not decide alone [standard deviations]."""


@dataclass(frozen=True)
class Style:
    """What is counted, and how it spreads over the corpus."""

    words: Hashes
    """uint64 [words], sorted: hashes of the frequent words."""
    characters: NDArray[np.uint32]
    """uint32 [characters], sorted: the frequent characters."""
    mean: Floats
    """float32 [features]."""
    spread: Floats
    """float32 [features]: standard deviation, never zero."""

    def of(self, texts: Iterable[str]) -> Iterator[tuple[int, Floats]]:
        """Yield (index of the first text, float32 [texts of the block, features]).

        Z-scores, clipped, over the root of the number of features: rows have a length of about 1.
        """
        for first, raw in _blocks(texts, self.words, self.characters):
            scores = np.clip((raw - self.mean) / self.spread, -CLIP, CLIP)
            yield first, np.asarray(scores / np.sqrt(scores.shape[1]), np.float32)


def fit(texts: Sequence[str], n_words: int, n_characters: int) -> Style:
    """Return the style of a corpus, learnt from some of its texts; their order does not matter."""
    cut = [text[:MOST_CHARS] for text in texts]
    frequent_words = _most_frequent(_words_of_rows(cut), n_words)
    frequent_characters = _most_frequent(
        (np.unique(_characters(text)) for text in cut), n_characters
    ).astype(np.uint32)
    raw = [block for _, block in _blocks(cut, frequent_words, frequent_characters)]
    n_features = len(frequent_words) + len(frequent_characters) + N_LENGTHS
    table = np.concatenate(raw) if raw else np.zeros((1, n_features), np.float32)
    # Sorted, so that no order of texts changes the rounding of a sum.
    table = np.sort(table.astype(np.float64), axis=0)
    mean, spread = table.mean(axis=0), table.std(axis=0)
    return Style(
        frequent_words,
        frequent_characters,
        mean.astype(np.float32),
        np.maximum(spread, 1e-3).astype(np.float32),
    )


def _most_frequent(rows: Iterable[NDArray[np.generic]], most: int) -> NDArray[np.uint64]:
    """Return the values that the most rows hold, sorted; ties go to the smaller value."""
    found = [row.astype(np.uint64) for row in rows]
    values, counts = np.unique(
        np.concatenate(found) if found else np.zeros(0, np.uint64), return_counts=True
    )
    best = np.lexsort((values, -counts))[:most]
    return np.sort(values[best])


def _words_of_rows(texts: Sequence[str]) -> Iterator[Hashes]:
    """Yield each row's distinct words, all rows of a block at once."""
    for block in words(texts):
        order = np.lexsort((block.hashes, block.rows))
        rows, hashes = block.rows[order], block.hashes[order]
        is_new = np.ones(len(order), bool)
        is_new[1:] = (rows[1:] != rows[:-1]) | (hashes[1:] != hashes[:-1])
        yield hashes[is_new]


def _blocks(
    texts: Iterable[str], frequent: Hashes, characters: NDArray[np.uint32]
) -> Iterator[tuple[int, Floats]]:
    """Yield raw features: root of the share of each word and character, and two lengths."""
    texts = [text[:MOST_CHARS] for text in texts]
    for block in words(texts):
        members = texts[block.first : block.first + block.n_rows]
        n_words = np.bincount(block.rows, minlength=block.n_rows)
        word_counts = _counts(block.hashes, block.rows, frequent, block.n_rows)
        codes = [_characters(text) for text in members]
        n_chars = np.array([len(code) for code in codes])
        rows = np.repeat(np.arange(block.n_rows), n_chars)
        character_counts = _counts(np.concatenate(codes), rows, characters, block.n_rows)
        # The root makes rare and common words spread alike (variance of a Poisson count).
        yield (
            block.first,
            np.concatenate(
                [
                    np.sqrt(word_counts / np.maximum(n_words, 1)[:, None]),
                    np.sqrt(character_counts / np.maximum(n_chars, 1)[:, None]),
                    np.log1p(n_words)[:, None],
                    (n_chars / np.maximum(n_words, 1))[:, None],
                ],
                axis=1,
            ).astype(np.float32),
        )


def _counts(
    values: NDArray[np.generic],
    rows: NDArray[np.int64],
    frequent: NDArray[np.generic],
    n_rows: int,
) -> NDArray[np.int64]:
    """Return how often each row holds each frequent value, int64 [rows, frequent]."""
    if not len(frequent):
        return np.zeros((n_rows, 0), np.int64)
    places = np.minimum(np.searchsorted(frequent, values), len(frequent) - 1)
    is_known = frequent[places] == values
    cells = rows[is_known] * len(frequent) + places[is_known]
    counts = np.bincount(cells, minlength=n_rows * len(frequent))
    return counts.reshape(n_rows, len(frequent))


def _characters(text: str) -> NDArray[np.uint32]:
    return np.frombuffer(text.encode("utf-32-le", "surrogatepass"), np.uint32)

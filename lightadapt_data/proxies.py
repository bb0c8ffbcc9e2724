"""Proxies: what can be said of a selection without training anything on it.

Two numbers that look from two sides: how much more the selected words are like those of the target
(KL reduction on hashed n-grams), and how near each target row has a selected row (coverage
radius). Neither is a proof: a selector that compares n-grams works toward the first one, a
selector that compares vectors toward the second.

Memory: one block of vectors and its product with the target, or one block of texts.

Source: Xie et al. 2023, arXiv 2302.03169, section 5 (KL reduction goes with accuracy after
training, r = 0.82 over eight methods); Sener and Savarese 2018, arXiv 1708.00489, section 4.1
(coverage of a set by another)
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from lightadapt_data import hashed_ngrams
from lightadapt_data.vectors import Floats

VERSION = 1
FEATURES = hashed_ngrams.Features()
"""The n-grams of DSIR: words and pairs of words in 10,000 buckets."""
BLOCK_TARGETS = 2048
"""Target rows of one matrix product; more would only take memory."""
RESIDUE = 1e-6
"""A vector closer to the mean than this, relative to their lengths, has no direction of its own."""


def ngram_counts(texts: Iterable[str]) -> NDArray[np.int64]:
    """Return how many n-grams of all texts fall into each bucket, int64 [buckets]."""
    return hashed_ngrams.count(texts, FEATURES)


def kl_reduction(
    target: NDArray[np.int64], corpus: NDArray[np.int64], selected: NDArray[np.int64]
) -> float:
    """Return by how much the selected rows are more like the target than the corpus is [nats].

    KL(target || corpus) - KL(target || selected) of n-gram counts, int64 [buckets] each; higher is
    better, 0 for the whole corpus.
    """
    return hashed_ngrams.kl_reduction(target, corpus, selected)


def coverage_radius(target: Floats, selected: Iterable[Floats], mean: Floats) -> float:
    """Return the mean distance from a target row to the nearest selected row, 0 to 2.

    The distance is 1 - cosine of the vectors less `mean`; lower is better. A row that is the mean
    has the cosine 0 with all others.

    Args:
        target: float32 [target rows, dim].
        selected: blocks of float32 [rows, dim], in any order; a block may be empty.
        mean: float32 [dim], that of the corpus.

    Raises:
        ValueError: there is no target row or no selected row.
    """
    queries = _directions(target, mean)
    nearest = np.full(len(queries), -np.inf, np.float32)
    for block in selected:
        if not len(block):
            continue
        rows = _directions(block, mean)
        for start in range(0, len(queries), BLOCK_TARGETS):
            span = slice(start, start + BLOCK_TARGETS)
            cosines = (queries[span] @ rows.T).max(axis=1)
            nearest[span] = np.maximum(nearest[span], cosines)
    if not len(queries) or not np.isfinite(nearest).all():
        raise ValueError("coverage_radius: needs at least one target row and one selected row")
    return float(np.mean(1 - np.clip(nearest.astype(np.float64), -1, 1)))


def _directions(vectors: Floats, mean: Floats) -> Floats:
    """Return the vectors less `mean` at length 1; what rounding leaves of the mean becomes zero."""
    centred = vectors - mean
    lengths = np.linalg.norm(centred, axis=1, keepdims=True)
    sizes = np.linalg.norm(vectors, axis=1, keepdims=True) + np.linalg.norm(mean)
    is_real = lengths > RESIDUE * np.maximum(sizes, 1e-12)
    return np.where(is_real, centred / np.where(is_real, lengths, 1), 0).astype(np.float32)

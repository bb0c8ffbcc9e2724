"""dsir: rows whose words and word pairs are more likely in the target than in the corpus.

log w(x) = sum over the n-grams of x of log(p + 1e-8) - log(q + 1e-8): q is the share of the
n-gram's bucket in the corpus, p that in the target. All of the corpus is counted, no row is too
short. The sum grows with length, so by default it is divided by the number of n-grams.

Most buckets of a small target are empty or hold one n-gram, and raw shares would make every other
n-gram a penalty of log(q / 1e-8). So p / q is the smoothed ratio of what the target has to what it
would have if it were like the corpus, (count + smoothing) / (expected + smoothing): the mean of a
Gamma posterior, which trusts a rare n-gram seen once no more than it should. The smoothing is
chosen on the target rows alone: what predicts each tenth of them best from the rest.

Source: Xie et al. 2023, arXiv 2302.03169, and its code, https://github.com/p-lambda/dsir;
smoothing: Clayton and Kaldor 1987, "Empirical Bayes Estimates of Age-Standardized Relative Risks
for Use in Disease Mapping", Biometrics 43, 671-681 (the Gamma model); chosen by cross-validation
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from lightadapt_data.config import Config
from lightadapt_data.hashed_ngrams import (
    TINY,
    Features,
    Integers,
    Words,
    bucketed,
    count,
    ngrams,
    shares,
    words,
)
from lightadapt_data.selectors import Corpus, Scores, Target

Doubles = NDArray[np.float64]

FOLDS = 10
TRIED = np.geomspace(1e-2, 1e2, 41)
"""Values of the smoothing among which the target rows choose [n-grams]."""


class Settings(Config):
    """Settings of the dsir selector."""

    n: int = Field(default=2, ge=1, le=3)
    """Longest n-gram; all shorter ones are counted too [words]."""
    buckets: int = Field(default=10_000, ge=2, le=1_000_000)
    """Buckets that n-grams are hashed into."""
    mode: Literal["sum", "per_token", "chunked"] = "per_token"
    """sum: log w, which favours length; per_token: its mean over the row's n-grams; chunked: the
    mean of the best windows of the row, for long rows that are partly about the target."""
    chunk_words: int = Field(default=128, ge=1)
    """Length of a window of mode chunked; a row is cut into equal windows near it [words]."""
    best_chunks: int = Field(default=3, ge=1)
    """Windows whose means are averaged in mode chunked; all of a row that has fewer."""
    smoothing: float | None = Field(default=None, ge=0)
    """Imagined n-grams in each bucket, spread as in the corpus; none: chosen on the target rows."""
    compatible: bool = False
    """Give the log weights of the package `data-selection`: its buckets, mode sum, smoothing 0."""

    @model_validator(mode="before")
    @classmethod
    def _compatible(cls, values: Any) -> Any:
        if not isinstance(values, dict) or not values.get("compatible"):
            return values
        fixed = {"mode": "sum", "smoothing": 0}
        for name, value in fixed.items():
            if values.get(name, value) != value:
                raise ValueError(
                    f"compatible = true, {name} = {values[name]!r}; allowed with it: {value!r}; "
                    f"leave {name} out, or set compatible = false"
                )
        return {**values, **fixed}


def score(corpus: Corpus, target: Target, settings: Settings, seed: int) -> Scores:
    """Return log w of each row by the chosen mode [nats], and no nearest row.

    A text without any word gets the lowest score of the corpus.
    """
    features = Features(settings.n, settings.buckets, settings.compatible)
    every = (text for _, block in corpus.texts() for text in block)
    in_corpus = shares(count(every, features))
    in_target = count(target.texts, features)
    smoothing = settings.smoothing
    if smoothing is None:
        smoothing = chosen_smoothing(target.texts, in_corpus, features)
    ratios = np.log(smoothed(in_target, in_corpus, smoothing) + TINY) - np.log(in_corpus + TINY)
    scores = np.full(corpus.n_rows, np.nan)
    for start, texts in corpus.texts():
        for block in words(texts):
            first = start + block.first
            scores[first : first + block.n_rows] = _scored(block, ratios, features, settings)
    is_empty = np.isnan(scores)
    scores[is_empty] = scores[~is_empty].min() if not is_empty.all() else 0.0
    facts = {
        "target_ngrams": int(in_target.sum()),
        "smoothing": float(smoothing),
        "corpus_share_unseen_in_target": float(in_corpus[in_target == 0].sum()),
    }
    nearest = np.full(corpus.n_rows, -1, np.int32)
    return Scores(scores.astype(np.float32), nearest, facts)


def smoothed(counts: Integers, in_corpus: Doubles, smoothing: float) -> Doubles:
    """Return the target's probability of each bucket, float64 [buckets].

    Without smoothing that is its share; with it, buckets that the corpus lacks get nothing, as no
    row has them.
    """
    if smoothing == 0:
        return shares(counts)
    expected = float(counts.sum()) * in_corpus
    return shares(in_corpus * (counts + smoothing) / (expected + smoothing))


def chosen_smoothing(texts: Sequence[str], in_corpus: Doubles, features: Features) -> float:
    """Return the smoothing under which target rows that are held out are likeliest [n-grams].

    The rows are put in ten folds by their texts in order, so the order of rows is of no account.
    With one row nothing can be held out: the smoothing is 1.
    """
    ordered = sorted(texts)
    n_folds = min(FOLDS, len(ordered))
    if n_folds < 2:
        return 1.0
    folds = np.array([count(ordered[fold::n_folds], features) for fold in range(n_folds)])
    total = folds.sum(axis=0)
    best, highest = 1.0, -np.inf
    for smoothing in TRIED.tolist():
        likelihood = 0.0
        for held_out in folds:
            seen = (held_out > 0) & (in_corpus > 0)
            chances = smoothed(total - held_out, in_corpus, smoothing)
            likelihood += float(held_out[seen] @ np.log(chances[seen]))
        if likelihood > highest:
            best, highest = smoothing, likelihood
    return best


def _scored(block: Words, ratios: Doubles, features: Features, settings: Settings) -> Doubles:
    """Return the score of each row of a block, float64 [rows]; NaN for one without any word."""
    sums, sizes = np.zeros(len(block.hashes)), np.zeros(len(block.hashes))
    for grams in ngrams(block, features.n):
        gained = np.where(grams.is_whole, ratios[bucketed(block, grams, features)], 0.0)
        sums[: len(gained)] += gained
        sizes[: len(gained)] += grams.is_whole
    if settings.mode == "chunked":
        return _best_windows(block, sums, sizes, settings)
    row_sums = np.bincount(block.rows, sums, block.n_rows)
    row_sizes = np.bincount(block.rows, sizes, block.n_rows)
    divisor = row_sizes if settings.mode == "per_token" else np.sign(row_sizes)
    with np.errstate(invalid="ignore"):
        return np.asarray(row_sums / divisor)


def _best_windows(block: Words, sums: Doubles, sizes: Doubles, settings: Settings) -> Doubles:
    """Return the mean over the best windows of each row; an n-gram counts where it begins."""
    n_words = np.bincount(block.rows, minlength=block.n_rows)
    # Equal windows: a rest of three words would often be the best or the worst by chance.
    n_windows = np.maximum(np.rint(n_words / settings.chunk_words).astype(np.int64), 1)
    firsts = np.cumsum(n_windows) - n_windows
    places = np.arange(len(sums)) - (np.cumsum(n_words) - n_words)[block.rows]
    windows = firsts[block.rows] + places * n_windows[block.rows] // n_words[block.rows]
    n_all = int(n_windows.sum())
    window_sizes = np.bincount(windows, sizes, n_all)
    means = np.bincount(windows, sums, n_all) / np.maximum(window_sizes, 1)
    rows = np.repeat(np.arange(block.n_rows), n_windows)
    order = np.lexsort((-means, rows))
    is_best = np.arange(n_all) - firsts[rows] < settings.best_chunks
    taken = order[is_best]
    totals = np.bincount(rows[taken], means[taken], block.n_rows)
    scores = totals / np.minimum(n_windows, settings.best_chunks)
    return np.where(n_words > 0, scores, np.nan)

"""classifier: learns from the target what belongs to it, by topic and by style, and trains itself.

A linear classifier separates the target rows from corpus rows. Its features are the centred
sentence vector (what a row is about) and the row's style (how it is written): where one of the two
cannot tell a domain, the other often can. It trains itself in rounds, each time with a few more of
the corpus rows that it is surest of. Each row's score then moves towards those of its neighbours
by topic and style, so that a single row cannot stand out by accident.

The scores are mapped to [0, 1]: an estimate of how likely a row is to be of the target's kind, by
the scores that target rows get from a classifier that has not seen them. It holds as far as the
corpus rows of that kind look like the target rows.

Training holds at most `fit_rows` rows in memory, smoothing at most `smooth_rows`.

Source: Yarowsky 1995 (self-training); Burrows 2002 (style, see style.py); Zhou et al. 2004,
"Learning with Local and Global Consistency" (smoothing); Elkan and Noto 2008, "Learning
classifiers from only positive and unlabeled data" (estimate of the share of relevant rows)
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from lightadapt_data import neighbours
from lightadapt_data import style as styles
from lightadapt_data.config import Config
from lightadapt_data.selectors import Corpus, Floats, Scores, Target, nearest
from lightadapt_data.vectors import uniform, unit

STYLE_ROWS = 20_000
"""Rows from which the frequent words and characters are learnt, at most [rows]."""
FOLDS = 5
"""Parts of the target; each is scored by a classifier that has seen the others."""


class Settings(Config):
    """Settings of the classifier selector."""

    rounds: int = Field(default=6, ge=1)
    """Rounds of training."""
    grow: float = Field(default=0.005, gt=0, le=0.2)
    """Share of the rows that each round adds to what counts as the target's kind [ratio]."""
    negatives: int = Field(default=5000, ge=1)
    """Corpus rows that stand for what is not of the target's kind [rows]."""
    ridge: float = Field(default=0.005, gt=0)
    """Weight of the squared coefficients against the squared error, rows of length about 1."""
    style: float = Field(default=1.0, ge=0)
    """Weight of the style against the vector; 0 leaves it out [ratio]."""
    style_words: int = Field(default=400, ge=0)
    """Most frequent words that make the style [words]."""
    style_characters: int = Field(default=100, ge=0)
    """Most frequent characters that make the style [characters]."""
    neighbours: int = Field(default=15, ge=0)
    """Rows that each row listens to; 0 leaves smoothing out [rows]."""
    alpha: float = Field(default=0.8, ge=0, lt=1)
    """How much of a score comes from the neighbours in one round of smoothing [ratio]."""
    smoothing_rounds: int = Field(default=20, ge=1)
    """Rounds of smoothing."""
    fit_rows: int = Field(default=50_000, ge=1)
    """Rows trained on: half drawn, half closest to the target; all of a smaller corpus [rows]."""
    smooth_rows: int = Field(default=200_000, ge=1)
    """Rows smoothed, the best ones; the others stay below them, unsmoothed [rows]."""


def score(corpus: Corpus, target: Target, settings: Settings, seed: int) -> Scores:
    """Return the likelihood of each row to be of the target's kind, and its nearest target row."""
    first = nearest.score(corpus, target, nearest.Settings(), seed)
    features = _features(corpus, settings, seed)
    queries = features.of(target.vectors, list(target.texts))
    pool = _pool(features, corpus, first.score, settings, seed)
    weights, positives = _self_trained(pool, queries, settings)
    margins = _margins(features, corpus, pool, weights)
    judged = _Judged(margins, margins, _held_out(pool, queries, positives, settings))
    if settings.neighbours and settings.alpha and corpus.n_rows > 1:
        judged = _smoothed(features, corpus, pool, margins, queries, settings)
    share = min(1.0, 2 * float((judged.heard > np.median(judged.target)).mean()))
    facts = {"relevant_rows": round(share * corpus.n_rows), "separation": _separation(judged)}
    return Scores(_likelihoods(judged, share), first.nearest, facts)


@dataclass(frozen=True)
class _Judged:
    """What the classifier makes of rows, and of target rows that it has not been trained on."""

    margins: Floats
    """float32 [rows]: higher is more like the target."""
    heard: Floats
    """float32 [rows]: what compares with `target`; without a row's own part if it has neighbours,
    as the own part of a row that was a negative in training is lower than it should be."""
    target: Floats
    """float32 [target rows]."""


@dataclass(frozen=True)
class _Features:
    """What a row is described by: its centred vector, then its style."""

    mean: Floats
    style: styles.Style | None
    weight: float

    def of(self, vectors: Floats, texts: list[str]) -> Floats:
        """Return float32 [rows, dim + features of the style]."""
        topic = unit(vectors - self.mean)
        if self.style is None or not texts:
            return topic
        written = np.concatenate([block for _, block in self.style.of(texts)])
        return np.concatenate([topic, self.weight * written], axis=1, dtype=np.float32)


def _features(corpus: Corpus, settings: Settings, seed: int) -> _Features:
    """Return the features, their style learnt from rows drawn by key."""
    if not settings.style:
        return _Features(corpus.mean(), None, 0.0)
    is_drawn = np.zeros(corpus.n_rows, bool)
    is_drawn[_drawn(corpus, min(settings.fit_rows, STYLE_ROWS), seed)] = True
    texts = [
        block[place]
        for start, block in corpus.texts()
        for place in np.flatnonzero(is_drawn[start : start + len(block)])
    ]
    style = styles.fit(texts, settings.style_words, settings.style_characters)
    return _Features(corpus.mean(), style, settings.style)


def _drawn(corpus: Corpus, n_rows: int, seed: int) -> NDArray[np.int64]:
    """Return rows drawn by their keys, in an order that no order of the corpus changes."""
    return np.lexsort((corpus.keys, uniform(corpus.keys, seed)))[:n_rows]


@dataclass(frozen=True)
class _Pool:
    """The rows to train on, in the order of their keys."""

    places: NDArray[np.int64]
    """int64 [rows]: where they stand in the corpus."""
    rows: Floats
    """float32 [rows, features]."""
    drawn: NDArray[np.int64]
    """Those that were drawn, and so stand for the whole corpus; at most `negatives`."""


def _pool(
    features: _Features, corpus: Corpus, closeness: Floats, settings: Settings, seed: int
) -> _Pool:
    """Return all rows of a small corpus; else a draw, and the rows closest to the target."""
    drawn = _drawn(corpus, settings.fit_rows // 2 + 1, seed)
    places = np.arange(corpus.n_rows)
    if corpus.n_rows > settings.fit_rows:
        closest = np.lexsort((corpus.keys, -closeness))[: settings.fit_rows // 2]
        places = np.union1d(drawn, closest)
    places = places[np.argsort(corpus.keys[places])]
    is_drawn = np.isin(places, drawn[: settings.negatives])
    return _Pool(places, _rows_at(features, corpus, places), np.flatnonzero(is_drawn))


def _margins(features: _Features, corpus: Corpus, pool: _Pool, weights: Floats) -> Floats:
    """Return the margin of every row, float32 [rows]."""
    margins = np.empty(corpus.n_rows, np.float32)
    if len(pool.places) == corpus.n_rows:
        margins[pool.places] = pool.rows @ weights
        return margins
    for start, block in _blocks(features, corpus):
        margins[start : start + len(block)] = block @ weights
    return margins


def _blocks(features: _Features, corpus: Corpus) -> Iterator[tuple[int, Floats]]:
    """Yield (index of the first row, features), vectors and texts of the same rows."""
    texts: list[str] = []
    more = corpus.texts()
    for start, vectors in corpus.blocks():
        while len(texts) < len(vectors):
            texts += next(more)[1]
        yield start, features.of(vectors, texts[: len(vectors)])
        texts = texts[len(vectors) :]


def _rows_at(features: _Features, corpus: Corpus, places: NDArray[np.int64]) -> Floats:
    """Return the features of some rows, in the order of `places`."""
    found: Floats | None = None
    for start, block in _blocks(features, corpus):
        if found is None:
            found = np.empty((len(places), block.shape[1]), np.float32)
        inside = np.flatnonzero((places >= start) & (places < start + len(block)))
        found[inside] = block[places[inside] - start]
    return np.zeros((0, 0), np.float32) if found is None else found


def _self_trained(
    pool: _Pool, queries: Floats, settings: Settings
) -> tuple[Floats, NDArray[np.int64]]:
    """Return the weights of the last round, and the pool rows that it took for the target's."""
    positives = np.zeros(0, np.int64)
    weights = _fitted(pool.rows, queries, positives, pool.drawn, settings)
    for number in range(1, settings.rounds):
        n_positive = int(settings.grow * len(pool.rows) * number)
        # Rows come in the order of their keys, so a stable sort breaks ties by key.
        positives = np.argsort(-(pool.rows @ weights), kind="stable")[:n_positive]
        weights = _fitted(pool.rows, queries, positives, pool.drawn, settings)
    return weights, positives


def _fitted(
    rows: Floats,
    queries: Floats,
    positives: NDArray[np.int64],
    others: NDArray[np.int64],
    settings: Settings,
) -> Floats:
    """Return the weights of the least-squares separation of queries and positives from others.

    Both sides have the same weight in all; with one side only, every weight is zero.
    """
    negatives = np.setdiff1d(others, positives)
    sides = [np.concatenate([queries, rows[positives]]), rows[negatives]]
    means = [side.mean(axis=0, dtype=np.float64) for side in sides if len(side)]
    middle = (means[0] + means[-1]) / 2
    scatter = settings.ridge * np.eye(rows.shape[1])
    for side in sides:
        if len(side):
            centred = (side - middle).astype(np.float32)
            scatter += (centred.T @ centred).astype(np.float64) / (2 * len(side))
    # The right side of the normal equations: half the difference of the class means.
    weights = np.linalg.solve(scatter, (means[0] - means[-1]) / 2)
    return weights.astype(np.float32)


def _held_out(
    pool: _Pool, queries: Floats, positives: NDArray[np.int64], settings: Settings
) -> Floats:
    """Return the margin of each target row from a classifier that has not seen it."""
    margins = np.empty(len(queries), np.float32)
    folds = np.arange(len(queries)) % FOLDS
    for fold in range(min(FOLDS, len(queries))):
        is_out = folds == fold
        others = queries[~is_out] if len(queries) > 1 else queries
        weights = _fitted(pool.rows, others, positives, pool.drawn, settings)
        margins[is_out] = queries[is_out] @ weights
    return margins


def _smoothed(
    features: _Features,
    corpus: Corpus,
    pool: _Pool,
    margins: Floats,
    queries: Floats,
    settings: Settings,
) -> _Judged:
    """Return the margins moved towards those of the neighbours.

    Target rows listen to corpus rows and are not heard. Rows beyond `smooth_rows` stay last.
    """
    order = np.lexsort((corpus.keys, -margins))[: settings.smooth_rows]
    chosen = order[np.argsort(corpus.keys[order])]
    is_known = np.array_equal(chosen, pool.places)
    vectors = unit(pool.rows if is_known else _rows_at(features, corpus, chosen))
    graph, guests = neighbours.find(vectors, settings.neighbours, guests=unit(queries))
    best = neighbours.smoothed(margins[chosen], graph, settings.alpha, settings.smoothing_rounds)
    smooth, others = margins.copy(), np.ones(len(margins), bool)
    smooth[chosen], others[chosen] = best, False
    if others.any():
        smooth[others] -= max(0.0, float(margins[others].max() - best.min())) + 1e-3
    heard = smooth.copy()
    heard[chosen] = neighbours.heard(best, graph)
    return _Judged(smooth, heard, neighbours.heard(best, guests))


def _likelihoods(judged: _Judged, share: float) -> Floats:
    """Return the margins on a logistic curve, float32 [rows] from 0 to 1.

    Its slope is that of the odds of two normal distributions of one variance; its middle is where
    the likelihoods add up to the share of relevant rows.
    """
    gap = max(float(np.mean(judged.target)) - float(np.mean(judged.heard)), 1e-6)
    variance = max((float(np.var(judged.heard)) + float(np.var(judged.target))) / 2, 1e-9)
    margins = judged.margins.astype(np.float64)
    low, high = margins.min() - 30 * variance / gap, margins.max() + 30 * variance / gap
    likelihoods = np.zeros(len(margins))
    for _ in range(60):
        middle = (low + high) / 2
        powers = np.clip((margins - middle) * (gap / variance), -30, 30)
        likelihoods = 1 / (1 + np.exp(-powers))
        if float(np.sort(likelihoods).mean()) > share:
            low = middle
        else:
            high = middle
    return likelihoods.astype(np.float32)


def _separation(judged: _Judged) -> float:
    """Return how often an unseen target row beats a corpus row, 0.5 to 1 (area under the curve)."""
    ordered = np.sort(judged.heard)
    return round(float(np.searchsorted(ordered, judged.target).mean() / len(ordered)), 4)

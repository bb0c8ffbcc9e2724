"""What a selection came to, in numbers for its summary: budget, targets, and two free proxies."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lightadapt_data import proxies
from lightadapt_data.budget import Budget
from lightadapt_data.choosing import ALIKE, CAPPED, Choice
from lightadapt_data.corpus import Corpus
from lightadapt_data.score_table import ScoreTable
from lightadapt_data.selectors import Floats, Target
from lightadapt_data.shards import read_parquet

SAMPLE_ROWS = 20_000
"""Rows of the selection, and random ones, whose n-grams are counted, at most [rows]."""
SAMPLE_PARTS = 64
"""Parts of the corpus that the random rows come from, at most."""


def summary(
    keep: str, corpus: Corpus, target: Target | None, table: ScoreTable, choice: Choice
) -> dict[str, Any]:
    """Return the facts of a selection as JSON values.

    Keys: kept, corpus, tokens, keep, short (rows or tokens that the budget did not find), cut (the
    lowest kept score), capped, alike, by_target, facts (of the selector, by target), and, with a
    target, coverage_radius [0 to 2] and kl_reduction [nats], both on samples (see proxies.py). The
    latter compares with as many random rows, as fewer rows leave more n-grams out, and is left out
    where the selection has fewer n-grams than there are buckets.
    """
    kept = choice.order[: choice.n_kept]
    scores = table.of(choice.target)[0]
    budget = Budget.parse(keep)
    wanted = budget.amount * corpus.n_rows if budget.unit == "fraction" else budget.amount
    n_tokens = int(corpus.tokens[kept].sum())
    spent = n_tokens if budget.unit == "tokens" else choice.n_kept
    found = {
        "cut": float(scores[kept].min()),
        "kept": choice.n_kept,
        "corpus": corpus.n_rows,
        "keep": keep,
        "tokens": n_tokens,
        "short": max(0, int(wanted + 1e-9) - spent) if choice.is_all else 0,
        "capped": int((choice.fate == CAPPED).sum()),
        "alike": int((choice.fate == ALIKE).sum()),
        "by_target": {
            name: int((choice.target[kept] == number).sum())
            for number, name in enumerate(table.scores)
        },
        "facts": table.facts,
    }
    return found | (_proxies(corpus, target, kept) if target is not None else {})


def _proxies(corpus: Corpus, target: Target, kept: NDArray[np.int64]) -> dict[str, float]:
    kept = np.sort(kept[np.argsort(corpus.keys[kept])][:SAMPLE_ROWS])
    target_counts, corpus_counts, kept_counts = (
        proxies.ngram_counts(texts)
        for texts in (target.texts, _sample(corpus, len(kept)), _texts_at(corpus, kept))
    )
    blocks: list[Floats] = [corpus.vectors_at(kept)]
    radius = proxies.coverage_radius(target.vectors, blocks, corpus.mean())
    found = {"coverage_radius": round(radius, 4)}
    if kept_counts.sum() >= len(kept_counts):
        reduction = proxies.kl_reduction(target_counts, corpus_counts, kept_counts)
        found["kl_reduction"] = round(reduction, 4)
    return found


def _sample(corpus: Corpus, n_rows: int) -> Iterator[str]:
    """Yield the texts of about `n_rows` rows, drawn by their keys from parts drawn by content."""
    parts = sorted(corpus.parts, key=lambda part: part.digest)[:SAMPLE_PARTS]
    share = -(-n_rows // max(len(parts), 1))
    for part in parts:
        drawn = np.argsort(np.load(part.keys))[:share]
        yield from read_parquet(part.rows, ["text"])["text"].take(drawn).to_pylist()


def _texts_at(corpus: Corpus, places: NDArray[np.int64]) -> Iterator[str]:
    """Yield the texts at sorted places; parts without any are not read."""
    start = 0
    for part in corpus.parts:
        stop = start + part.n_rows()
        inside = places[np.searchsorted(places, start) : np.searchsorted(places, stop)]
        if len(inside):
            texts = read_parquet(part.rows, ["text"])["text"]
            yield from texts.take(inside - start).to_pylist()
        start = stop

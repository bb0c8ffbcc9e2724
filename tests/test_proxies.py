import itertools
import math
import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lightadapt_data import proxies
from lightadapt_data.vectors import unit


def vectors(seed, n_rows, dim=5):
    return unit(np.random.default_rng(seed).normal(size=(n_rows, dim)).astype(np.float32))


def brute_radius(target, selected, mean):
    distances = []
    for row in target:
        cosines = []
        for other in selected:
            one, two = row - mean, other - mean
            cosines.append(float(one @ two) / (np.linalg.norm(one) * np.linalg.norm(two)))
        distances.append(1 - max(cosines))
    return sum(distances) / len(distances)


def brute_kl_reduction(target, corpus, selected):
    def shares(texts):
        counts = {}
        for text in texts:
            words = re.findall(r"\w+|[^\w\s]+", text.lower())
            for gram in [*words, *itertools.pairwise(words)]:
                counts[gram] = counts.get(gram, 0) + 1
        total = sum(counts.values())
        return {gram: n / total for gram, n in counts.items()}

    def divergence(p, q):
        return sum(v * (math.log(v + 1e-8) - math.log(q.get(g, 0) + 1e-8)) for g, v in p.items())

    p, q, s = shares(target), shares(corpus), shares(selected)
    return divergence(p, q) - divergence(p, s)


@given(st.integers(0, 10_000), st.integers(1, 6), st.integers(1, 12), st.integers(1, 5))
def test_the_radius_is_that_of_the_loops_whatever_the_blocks(seed, n_target, n_selected, n_block):
    target, selected = vectors(seed, n_target), vectors(seed + 1, n_selected)
    mean = vectors(seed + 2, 7).mean(axis=0)
    blocks = [selected[i : i + n_block] for i in range(0, n_selected, n_block)]
    found = proxies.coverage_radius(target, iter(blocks), mean)
    assert found == pytest.approx(brute_radius(target, selected, mean), abs=1e-5)


def test_many_target_rows_are_multiplied_in_parts(monkeypatch):
    target, selected, mean = vectors(1, 9), vectors(2, 4), np.zeros(5, np.float32)
    whole = proxies.coverage_radius(target, [selected], mean)
    monkeypatch.setattr(proxies, "BLOCK_TARGETS", 2)
    assert proxies.coverage_radius(target, [selected], mean) == pytest.approx(whole, abs=1e-6)


@given(st.integers(0, 1000))
def test_one_row_more_never_makes_the_radius_larger(seed):
    target, selected = vectors(seed, 4), vectors(seed + 1, 6)
    mean = np.zeros(5, np.float32)
    radii = [proxies.coverage_radius(target, [selected[:n]], mean) for n in range(1, 7)]
    assert all(after <= before for before, after in itertools.pairwise(radii))


def test_a_target_that_was_selected_whole_has_the_radius_zero():
    target = vectors(3, 5)
    found = proxies.coverage_radius(target, [target], vectors(4, 9).mean(axis=0))
    assert found == pytest.approx(0, abs=1e-6)


def test_a_row_that_is_the_mean_is_at_the_distance_of_one():
    mean = np.array([1, 0], np.float32)
    others = np.array([[0, 1], [1, 0]], np.float32)
    assert proxies.coverage_radius(mean[None], [others], mean) == 1
    assert proxies.coverage_radius(others[:1], [mean[None]], mean) == 1


@pytest.mark.parametrize("sizes", [(0, 3), (3, 0)])
def test_no_target_row_or_no_selected_row_is_an_error(sizes):
    target, selected = (vectors(1, size) for size in sizes)
    with pytest.raises(ValueError, match="at least one target row and one selected row"):
        proxies.coverage_radius(target, [selected], np.zeros(5, np.float32))


@given(
    *(
        st.lists(st.sampled_from(["a b", "b c a", "c c", "d", "a, b!"]), min_size=1, max_size=6)
        for _ in range(3)
    )
)
def test_the_kl_reduction_is_that_of_the_loops(target, corpus, selected):
    counts = (proxies.ngram_counts(texts) for texts in (target, corpus, selected))
    found = proxies.kl_reduction(*counts)
    # So few n-grams do not share buckets.
    assert found == pytest.approx(brute_kl_reduction(target, corpus, selected), abs=1e-6)


def test_the_whole_corpus_reduces_nothing_and_the_target_most():
    target, corpus = (
        proxies.ngram_counts(texts) for texts in (["the mean"], ["the mean", "a file", "a plot"])
    )
    assert proxies.kl_reduction(target, corpus, corpus) == 0
    assert proxies.kl_reduction(target, corpus, target) > 0.1

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from toys import ToyCorpus, target_of

from lightadapt_data.selectors.centroid import Settings, score, target_centres


def cosine(left, right):
    lengths = np.linalg.norm(left) * np.linalg.norm(right)
    return float(left @ right / lengths) if lengths > 1e-9 else 0.0


@given(st.integers(1, 30), st.integers(1, 6), st.booleans(), st.integers(0, 99))
def test_scores_equal_a_plain_loop(n_rows, n_targets, centred, seed):
    rng = np.random.default_rng(seed)
    corpus = ToyCorpus(rng.normal(size=(n_rows, 5)), rows_per_block=7)
    target = rng.normal(size=(n_targets, 5)).astype(np.float32)
    scores = score(corpus, target_of(target), Settings(centred=centred), 0)
    mean = corpus.mean() if centred else np.zeros(5)
    moved = [row - mean for row in target]
    centre = sum(row / np.linalg.norm(row) for row in moved)
    for row, vector in enumerate(corpus.vectors):
        cosines = [cosine(vector - mean, query) for query in moved]
        assert abs(scores.score[row] - cosine(vector - mean, centre)) < 1e-4
        assert cosines[scores.nearest[row]] >= max(cosines) - 1e-5


def kinds(n_kinds=3, per_kind=30, dim=16):
    rng = np.random.default_rng(0)
    middles = np.eye(dim)[:n_kinds]
    rows = np.concatenate([m + 0.1 * rng.normal(size=(per_kind, dim)) for m in middles])
    rows = rows.astype(np.float32)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True), middles


def test_several_centres_find_the_kinds_of_the_target():
    rows, middles = kinds()
    centres = target_centres(rows, 3, seed=0)
    assert np.allclose(np.linalg.norm(centres, axis=1), 1, atol=1e-5)
    assert (middles @ centres.T).max(axis=1).min() > 0.95
    rng = np.random.default_rng(1)
    corpus = ToyCorpus(np.concatenate([rows, rng.normal(size=(300, 16))]), rows_per_block=100)
    one, three = (
        score(corpus, target_of(rows), Settings(centres=n), 0).score.argsort()[::-1][:90]
        for n in (1, 3)
    )
    assert (three < 90).mean() > 0.97 > (one < 90).mean()


def test_each_centre_is_where_a_step_of_k_means_leaves_it():
    rows, _ = kinds()
    centres = target_centres(rows, 3, seed=5)
    members = (rows @ centres.T).argmax(axis=1)
    for number, centre in enumerate(centres):
        total = rows[members == number].sum(axis=0)
        assert np.allclose(centre, total / np.linalg.norm(total), atol=1e-4)


@given(st.integers(1, 4), st.integers(0, 4))
def test_the_order_of_target_rows_changes_no_centre(n_centres, seed):
    rng = np.random.default_rng(seed)
    rows = rng.normal(size=(12, 4)).astype(np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    first = target_centres(rows, n_centres, seed)
    assert np.array_equal(first, target_centres(rows[rng.permutation(12)], n_centres, seed))


def test_there_are_at_most_as_many_centres_as_different_target_rows():
    corpus = ToyCorpus(np.random.default_rng(0).normal(size=(20, 4)))
    target = np.tile(np.float32([[1, 0, 0, 0], [0, 1, 0, 0]]), (5, 1))
    found = score(corpus, target_of(target), Settings(centres=9), 0)
    assert found.facts["centres"] == 2
    assert np.isfinite(found.score).all()


@pytest.mark.parametrize("n_rows", [1, 5])
def test_identical_rows_zero_vectors_and_opposite_targets_get_zero(n_rows):
    same = np.tile(np.float32([0.6, 0.8]), (n_rows, 1))
    for vectors in (same, 0 * same):
        found = score(ToyCorpus(vectors), target_of([[0, 1], [1, 0]]), Settings(), 0)
        assert np.array_equal(found.score, np.zeros(n_rows, np.float32))
    opposite = target_of([[1, 0], [-1, 0]])
    found = score(ToyCorpus(same), opposite, Settings(centred=False), 0)
    assert np.array_equal(found.score, np.zeros(n_rows, np.float32))


def test_row_order_and_blocks_change_nothing():
    rng = np.random.default_rng(3)
    vectors, target = rng.normal(size=(700, 12)), rng.normal(size=(9, 12))
    order = rng.permutation(700)
    first = score(ToyCorpus(vectors, rows_per_block=700), target_of(target), Settings(centres=3), 7)
    turned = ToyCorpus(vectors[order], rows_per_block=31)
    again = score(turned, target_of(target), Settings(centres=3), 7)
    assert np.array_equal(first.score[order], again.score)
    assert np.array_equal(first.nearest[order], again.nearest)

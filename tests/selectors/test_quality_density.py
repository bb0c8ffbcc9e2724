import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from toys import ToyCorpus, target_of

from lightadapt_data.selectors import quality_density
from lightadapt_data.selectors.quality_density import Settings, copies, score
from lightadapt_data.vectors import unit

NO_TARGET = target_of(np.zeros((0, 2)), [])


def scored(corpus, seed=0, **options):
    return score(corpus, NO_TARGET, Settings(**options), seed)


@given(st.integers(1, 25), st.sampled_from([0.5, 0.8, 0.95]), st.integers(0, 50))
def test_copies_equal_a_plain_loop_over_kept_rows(n_rows, threshold, seed):
    vectors = unit(np.random.default_rng(seed).normal(size=(n_rows, 3)).astype(np.float32))
    kept, expected = [], []
    for row in range(n_rows):
        is_copy = any(float(vectors[row] @ vectors[other]) >= threshold for other in kept)
        expected.append(is_copy)
        if not is_copy:
            kept.append(row)
    assert copies(vectors, threshold).tolist() == expected


@given(st.integers(2, 40), st.integers(0, 50))
@settings(max_examples=15)
def test_one_cell_orders_rows_by_the_cosine_with_its_centre_and_copies_last(n_rows, seed):
    rng = np.random.default_rng(seed)
    corpus = ToyCorpus(rng.normal(size=(n_rows, 4)), rows_per_block=7)
    found = scored(corpus, cells=1, threshold=0.9)
    vectors = unit(corpus.vectors - corpus.mean())
    # With one cell the turn is the rank, and what follows the comma is the distance to the centre.
    cosines = 1 - 4 * (np.ceil(found.score) - found.score)
    cosines = np.where(np.ceil(found.score) - found.score > 0.5, 1, cosines)
    order = np.argsort(-found.score)
    is_copy = copies(vectors[np.argsort(-cosines, kind="stable")], 0.9)
    n_kept = n_rows - int(is_copy.sum())
    assert found.facts == {"cells": 1, "near_duplicates": n_rows - n_kept}
    assert (np.diff(cosines[order[:n_kept]]) <= 1e-4).all()
    assert np.array_equal(np.ceil(found.score[order[:n_kept]]), -np.arange(n_kept))


def test_cells_take_turns_so_a_crowded_region_gets_no_more_than_a_sparse_one():
    rng = np.random.default_rng(0)
    sizes = (300, 30, 30)
    rows = [np.eye(8)[i] + 0.1 * rng.normal(size=(n, 8)) for i, n in enumerate(sizes)]
    corpus = ToyCorpus(np.concatenate(rows), rows_per_block=90)
    found = scored(corpus, cells=3, threshold=1)
    regions = np.repeat([0, 1, 2], sizes)
    assert np.bincount(regions[np.argsort(-found.score)[:45]]).tolist() == [15, 15, 15]
    assert (found.nearest == -1).all()


def test_of_near_duplicates_one_stays_and_the_others_come_last():
    rng = np.random.default_rng(1)
    rows = rng.normal(size=(100, 16))
    corpus = ToyCorpus(np.concatenate([rows, np.repeat(rows[:1], 10, axis=0)]))
    found = scored(corpus)
    assert found.facts["near_duplicates"] == 10
    last = set(np.argsort(-found.score)[-10:].tolist())
    assert len(last & {0, *range(100, 110)}) == 10


def test_odd_rows_come_late():
    rng = np.random.default_rng(2)
    typical = np.eye(16)[0] + 0.15 * rng.normal(size=(150, 16))
    other = np.eye(16)[1] + 0.15 * rng.normal(size=(150, 16))
    odd = rng.normal(size=(10, 16))
    corpus = ToyCorpus(np.concatenate([typical, other, odd]), rows_per_block=90)
    order = np.argsort(-scored(corpus, cells=2).score)
    assert order[:150].max() < 300


@pytest.mark.parametrize("cells", [0, 7])
def test_row_order_blocks_and_groups_change_nothing(cells, monkeypatch):
    rng = np.random.default_rng(3)
    vectors, keys = rng.normal(size=(500, 8)), rng.permutation(500).astype(np.uint64)
    order = rng.permutation(500)
    first = scored(ToyCorpus(vectors, keys=keys, rows_per_block=500), cells=cells, threshold=0.8)
    assert first.facts["near_duplicates"] > 10
    monkeypatch.setattr(quality_density, "GATHERED_ROWS", 60)
    turned = ToyCorpus(vectors[order], keys=keys[order], rows_per_block=90)
    again = scored(turned, cells=cells, threshold=0.8)
    assert np.allclose(first.score[order], again.score, atol=1e-6)
    assert first.facts == again.facts


def test_large_cells_are_compared_in_runs(monkeypatch):
    rng = np.random.default_rng(4)
    rows = np.repeat(rng.normal(size=(40, 8)), 3, axis=0)
    whole = scored(ToyCorpus(rows, rows_per_block=60), cells=1)
    monkeypatch.setattr(quality_density, "COMPARED_ROWS", 30)
    in_runs = scored(ToyCorpus(rows, rows_per_block=60), cells=1)
    assert whole.facts["near_duplicates"] >= 80
    assert in_runs.facts["near_duplicates"] >= 76


def test_another_seed_gives_other_cells():
    corpus = ToyCorpus(np.random.default_rng(5).normal(size=(400, 8)), rows_per_block=400)
    first, second = (scored(corpus, seed).score for seed in (1, 2))
    assert not np.array_equal(first, second)


@pytest.mark.parametrize("n_rows", [1, 6])
def test_of_identical_rows_and_of_zero_vectors_the_first_key_stays(n_rows):
    same = np.tile(np.float32([0.6, 0.8]), (n_rows, 1))
    keys = np.random.default_rng(0).permutation(n_rows).astype(np.uint64)
    for vectors in (same, 0 * same):
        found = scored(ToyCorpus(vectors, keys=keys))
        assert np.isfinite(found.score).all()
        assert found.facts["near_duplicates"] == n_rows - 1
        assert keys[found.score.argmax()] == 0


def test_more_cells_than_rows_are_as_many_as_rows():
    corpus = ToyCorpus(np.random.default_rng(6).normal(size=(5, 4)))
    assert scored(corpus, cells=50).facts["cells"] == 5

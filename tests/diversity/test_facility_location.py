import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from lightadapt_data.diversity import facility_location
from lightadapt_data.diversity.facility_location import Settings, cover, neighbours, order
from lightadapt_data.diversity.leader import on_grid

rows_of_few_values = st.integers(1, 12).flatmap(
    lambda n_rows: arrays(np.float32, (n_rows, 3), elements=st.sampled_from([-1, 0, 0.5, 1, 2]))
)


def descending(n_rows):
    return np.linspace(1, 0, n_rows, dtype=np.float32)


def dense(places, similarity):
    table = np.zeros((len(places), len(places)), np.int64)
    for row in range(len(places)):
        table[row, places[row]] = similarity[row]
    return table


def value(table, weights, picks):
    return int((weights * table[:, list(picks)].max(axis=1)).sum()) if len(picks) else 0


def greedy_loop(table, weights, n_wanted):
    picked = []
    while len(picked) < n_wanted:
        rest = [row for row in range(len(table)) if row not in picked]
        picked.append(max(rest, key=lambda row: (value(table, weights, [*picked, row]), -row)))
    return picked


def exact_similarity(vectors, scale):
    grid = on_grid(vectors).astype(np.float64)
    squares = ((grid[:, None] - grid) ** 2).sum(axis=2)
    return np.rint(np.clip(1 - squares / 2 / scale, 0, 1) * 2**20).astype(np.int64)


@given(rows_of_few_values, st.integers(1, 12), st.sampled_from([0, 0.5, 1]))
def test_with_all_neighbours_the_picks_are_those_of_a_dense_greedy_loop(vectors, n_wanted, share):
    settings = Settings(relevance=share, centred=False)
    n_wanted = min(n_wanted, len(vectors))
    scores = descending(len(vectors))
    scaled = (scores - scores.min()) / ((scores.max() - scores.min()) or 1)
    weights = np.rint(((1 - share) + share * scaled.astype(np.float64)) * 2**10).astype(np.int64)
    found = order(vectors, scores, n_wanted, settings).places[:n_wanted]
    table = exact_similarity(vectors, 1)
    assert found.tolist() == greedy_loop(table, weights, n_wanted)


@given(rows_of_few_values, st.integers(1, 5), st.integers(1, 12))
def test_with_few_neighbours_the_picks_are_those_of_a_greedy_loop_on_the_graph(
    vectors, k, n_wanted
):
    n_wanted = min(n_wanted, len(vectors))
    places, similarity = neighbours(on_grid(vectors), Settings(neighbours=k))
    weights = np.arange(len(vectors), 0, -1)
    found = cover(places, similarity, weights, n_wanted)
    assert found.tolist() == greedy_loop(dense(places, similarity), weights, n_wanted)


@given(rows_of_few_values, st.integers(1, 12))
def test_neighbours_are_the_nearest_rows_and_the_earlier_of_equal_ones(vectors, k):
    places, similarity = neighbours(on_grid(vectors), Settings(neighbours=k, centred=False))
    grid = on_grid(vectors).astype(np.float64)
    for row in range(len(grid)):
        squares = ((grid - grid[row]) ** 2).sum(axis=1)
        nearest = np.argsort(squares, kind="stable")[: min(k, len(grid))]
        assert places[row].tolist() == nearest.tolist()
        steps = np.rint(np.clip(1 - squares[nearest] / 2, 0, 1) * 2**20)
        assert similarity[row].tolist() == steps.tolist()


def test_neighbours_do_not_depend_on_the_size_of_a_block(monkeypatch):
    grid = on_grid(np.random.default_rng(0).normal(size=(50, 8)).astype(np.float32))
    whole = neighbours(grid, Settings(neighbours=7))
    monkeypatch.setattr(facility_location, "ROWS", 3)
    for left, right in zip(whole, neighbours(grid, Settings(neighbours=7)), strict=True):
        assert np.array_equal(left, right)


def test_the_picks_reach_the_share_of_the_best_sum_that_the_theorem_promises():
    rng = np.random.default_rng(2)
    for _ in range(5):
        vectors = rng.normal(size=(9, 3)).astype(np.float32)
        table = exact_similarity(vectors, 1)
        ones = np.ones(9, np.int64)
        settings = Settings(relevance=0, centred=False)
        picks = order(vectors, descending(9), 3, settings).places[:3]
        best = max(value(table, ones, c) for c in itertools.combinations(range(9), 3))
        assert value(table, ones, picks) >= (1 - 1 / np.e) * best


def test_an_odd_row_is_picked_after_one_row_of_each_cluster():
    rng = np.random.default_rng(0)
    centres = rng.normal(size=(10, 32))
    rows = np.tile(centres, (8, 1)) + 0.1 * rng.normal(size=(80, 32))
    vectors = np.concatenate([rng.normal(size=(1, 32)), rows]).astype(np.float32)
    found = order(vectors, descending(81), 10, Settings(relevance=0))
    assert sorted(((found.places[:10] - 1) % 10).tolist()) == list(range(10))
    assert 0 not in found.places[:10]
    assert found.close_to[0] in found.places[:10]


def test_relevance_moves_the_picks_to_better_rows():
    vectors = np.random.default_rng(1).normal(size=(300, 16)).astype(np.float32)
    ranks = [
        order(vectors, descending(300), 30, Settings(relevance=share)).places[:30].mean()
        for share in (0, 1)
    ]
    assert ranks[1] < 0.8 * ranks[0]


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_probed_cells_find_nearly_all_neighbours():
    rng = np.random.default_rng(0)
    centres = rng.normal(size=(40, 32))
    rows = np.repeat(centres, 50, axis=0) + 0.5 * rng.normal(size=(2000, 32))
    grid = on_grid(rows.astype(np.float32))
    exact, _ = neighbours(grid, Settings(neighbours=10))
    probed, similarity = neighbours(grid, Settings(neighbours=10, exact_rows=0))
    shared = [len(set(a) & set(b)) for a, b in zip(exact.tolist(), probed.tolist(), strict=True)]
    assert np.mean(shared) > 9.5
    assert similarity.min() >= 0


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("n_rows", [1, 2, 40, 100])
def test_cells_work_for_few_rows_and_missing_neighbours_are_worth_nothing(n_rows):
    vectors = np.random.default_rng(0).normal(size=(n_rows, 8)).astype(np.float32)
    settings = Settings(exact_rows=0, neighbours=100)
    found = order(vectors, descending(n_rows), n_rows, settings)
    assert sorted(found.places.tolist()) == list(range(n_rows))
    places, similarity = neighbours(on_grid(vectors), settings)
    assert ((places >= 0) & (similarity >= 0)).all()


def test_rows_without_any_gain_left_come_in_their_given_order():
    vectors = np.repeat(np.eye(2, dtype=np.float32), 3, axis=0)
    found = order(vectors, descending(6), 6, Settings(relevance=0))
    assert found.places.tolist() == [0, 3, 1, 2, 4, 5]

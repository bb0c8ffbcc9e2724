import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from lightadapt_data import methods
from lightadapt_data.diversity import leader
from lightadapt_data.diversity.leader import (
    Settings,
    half_squares,
    most_similar,
    on_grid,
    order,
    similarities,
    visit,
)
from lightadapt_data.errors import RecipeError

# Few values, so that equal rows, opposite rows, zero rows and ties are common.
rows_of_few_values = st.integers(0, 14).flatmap(
    lambda n_rows: arrays(np.float32, (n_rows, 3), elements=st.sampled_from([-1, 0, 0.5, 1, 2]))
)
thresholds = st.sampled_from([-0.5, 0.3, 0.5, 0.8, 0.95, 0.999, 1.0])


def double_loop(grid, threshold, n_wanted):
    kept, close_to = [], [-1] * len(grid)
    for row, vector in enumerate(grid.astype(np.float64)):
        if len(kept) == n_wanted:
            break
        similar = [1 - ((vector - grid[other]) ** 2).sum() / 2 for other in kept]
        if similar and max(similar) > threshold:
            close_to[row] = kept[int(np.argmax(similar))]
        else:
            kept.append(row)
    return kept, close_to


def descending(n_rows):
    return np.linspace(1, 0, n_rows, dtype=np.float32)


def clusters(n_clusters, size, noise=0.1, dim=32, seed=0):
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(n_clusters, dim))
    rows = np.repeat(centres, size, axis=0) + noise * rng.normal(size=(n_clusters * size, dim))
    return rows.astype(np.float32)


@given(rows_of_few_values, thresholds, st.integers(0, 16))
def test_visiting_equals_the_double_loop(vectors, threshold, n_wanted):
    grid = on_grid(vectors)
    n_wanted = min(n_wanted, len(grid))
    kept, close_to = visit(grid, threshold, n_wanted)
    assert (kept.tolist(), close_to.tolist()) == double_loop(grid, threshold, n_wanted)


@pytest.mark.parametrize("size", [1, 3, 7, 64])
@pytest.mark.parametrize("threshold", [0.2, 0.5, 0.9])
def test_visiting_in_blocks_equals_the_double_loop(monkeypatch, size, threshold):
    monkeypatch.setattr(leader, "ROWS", size)
    monkeypatch.setattr(leader, "COLUMNS", 2 * size + 1)
    rng = np.random.default_rng(size)
    grid = on_grid(clusters(20, 8, noise=0.5)[rng.permutation(160)])
    for n_wanted in (10, 160):
        kept, close_to = visit(grid, threshold, n_wanted)
        assert (kept.tolist(), close_to.tolist()) == double_loop(grid, threshold, n_wanted)


def test_rows_too_close_stand_behind_all_others_and_name_the_kept_row():
    vectors = np.array([[1, 0], [1, 0.1], [0, 1], [0.1, 1], [-1, 0]], np.float32)
    found = order(vectors, descending(5), 5, Settings(threshold=0.9))
    assert found.places.tolist() == [0, 2, 4, 1, 3]
    assert found.close_to.tolist() == [-1, 0, -1, 2, -1]


def test_rows_that_were_not_visited_stand_before_rows_too_close():
    vectors = np.array([[1, 0], [1, 0], [0, 1], [0, 1], [-1, 0]], np.float32)
    found = order(vectors, descending(5), 2, Settings())
    assert found.places.tolist() == [0, 2, 3, 4, 1]
    assert found.close_to.tolist() == [-1, 0, -1, -1, -1]


def test_a_chain_of_small_steps_is_not_deleted():
    angles = np.deg2rad(20 * np.arange(9))
    vectors = np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)
    found = order(vectors, descending(9), 9, Settings(threshold=0.9))
    assert found.places[:5].tolist() == [0, 2, 4, 6, 8]


def test_finding_the_threshold_spreads_the_picks_over_the_clusters():
    vectors = clusters(20, 6)[np.random.default_rng(3).permutation(120)]
    found = order(vectors, descending(120), 20, Settings(threshold=0))
    picks = on_grid(vectors)[found.places[:20]]
    assert np.sort(similarities(picks, picks), axis=1)[:, -2].max() < 0.7
    assert (most_similar(on_grid(vectors), picks)[0] > 0.8).all()


@given(rows_of_few_values, st.integers(0, 16))
def test_finding_the_threshold_gives_as_many_rows_as_can_lie_apart(vectors, n_wanted):
    found = order(vectors, descending(len(vectors)), n_wanted, Settings(threshold=0))
    n_wanted = min(n_wanted, len(vectors))
    assert sorted(found.places.tolist()) == list(range(len(vectors)))
    if n_wanted < len(vectors):
        n_apart = len(visit(on_grid(vectors), leader.CLOSEST, n_wanted)[0])
        assert (found.close_to[found.places[:n_apart]] == -1).all()


def test_finding_the_threshold_with_too_few_different_rows_puts_copies_last():
    vectors = np.repeat(np.eye(3, dtype=np.float32), 3, axis=0)
    found = order(vectors, descending(9), 5, Settings(threshold=0))
    assert found.places[:3].tolist() == [0, 3, 6]
    assert (found.close_to[found.places[3:]] >= 0).all()


def test_rows_of_zeros_are_copies_of_one_another():
    found = order(np.zeros((3, 4), np.float32), descending(3), 3, Settings())
    assert found.close_to.tolist() == [-1, 0, 0]


def test_subtracting_a_common_vector_from_all_rows_changes_no_distance():
    grid = on_grid(clusters(5, 4)).astype(np.float64)
    moved = grid - grid.mean(axis=0)
    squares = ((moved[:, None] - moved) ** 2).sum(axis=2)
    assert np.allclose(
        similarities(grid.astype(np.float32), grid.astype(np.float32)), 1 - squares / 2
    )


@pytest.mark.parametrize("dim", [3, 384, 1024])
def test_float32_products_of_rows_on_the_grid_are_exact_in_any_order(dim):
    rng = np.random.default_rng(dim)
    vectors = rng.normal(size=(70, dim)) + 0.5
    vectors[0], vectors[1] = 1, -1
    grid = on_grid(vectors.astype(np.float32))
    doubles = grid.astype(np.float64)
    assert np.array_equal(grid @ grid.T, doubles @ doubles.T)
    assert np.array_equal(grid[:, ::-1] @ grid[:, ::-1].T, grid @ grid.T)
    assert np.array_equal(half_squares(grid), (doubles**2).sum(axis=1) / 2)
    squares = ((doubles[:, None] - doubles) ** 2).sum(axis=2)
    assert np.array_equal(similarities(grid, grid), (1 - squares / 2).astype(np.float32))


def test_the_grid_hardly_moves_cosines():
    vectors = np.random.default_rng(0).normal(size=(100, 384)).astype(np.float32)
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    grid = on_grid(vectors)
    moved = np.abs(similarities(grid, grid) - unit @ unit.T)
    assert moved.max() < 1.5e-3
    assert moved.mean() < 3e-4


@given(rows_of_few_values, rows_of_few_values)
def test_the_most_similar_row_is_that_of_a_loop_and_the_first_of_equal_ones(rows, others):
    rows, others = on_grid(rows), on_grid(others)
    best, places = most_similar(rows, others)
    for row, vector in enumerate(rows):
        squares = ((others.astype(np.float64) - vector) ** 2).sum(axis=1)
        assert places[row] == (squares.argmin() if len(others) else -1)
        assert best[row] == (1 - squares.min() / 2 if len(others) else -np.inf)


def test_a_threshold_above_one_is_refused():
    with pytest.raises(RecipeError, match=r"\[leader\] threshold = 1.5"):
        methods.settings("diversity", "leader", {"threshold": 1.5})

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from lightadapt_data.diversity import mmr
from lightadapt_data.diversity.leader import on_grid, similarities
from lightadapt_data.diversity.mmr import Settings, farthest, order, scaled, spread

rows_of_few_values = st.integers(0, 14).flatmap(
    lambda n_rows: arrays(np.float32, (n_rows, 3), elements=st.sampled_from([-1, 0, 0.5, 1, 2]))
)


def greedy_loop(grid, base, weight, n_wanted):
    grid = grid.astype(np.float64)
    picked = [0] if len(grid) and n_wanted else []
    while len(picked) < min(n_wanted, len(grid)):
        values = {
            row: base[row] + weight * min(((grid[row] - grid[p]) ** 2).sum() / 2 for p in picked)
            for row in range(len(grid))
            if row not in picked
        }
        picked.append(max(values, key=lambda row: (values[row], -row)))
    return picked


def paper_loop(grid, scores, relevance, scale, n_wanted):
    """The formula as the paper has it: similarities, not gaps."""
    similar = 1 - (1 - similarities(grid, grid).astype(np.float64)) / scale
    picked = [0]
    while len(picked) < n_wanted:
        value = relevance * scaled(scores) - (1 - relevance) * similar[:, picked].max(axis=1)
        value[picked] = -np.inf
        picked.append(int(value.argmax()))
    return picked


def descending(n_rows):
    return np.linspace(1, 0, n_rows, dtype=np.float32)


@given(rows_of_few_values, st.sampled_from([0, 0.25, 3.0]), st.integers(0, 16), st.booleans())
def test_picks_equal_those_of_a_loop(vectors, weight, n_wanted, is_flat):
    grid = on_grid(vectors)
    base = np.zeros(len(grid)) if is_flat else np.linspace(1, 0, len(grid))
    found = farthest(grid, base, weight, n_wanted)
    assert found.tolist() == greedy_loop(grid, base, weight, n_wanted)


@pytest.mark.parametrize("front", [1, 2, 9])
@pytest.mark.parametrize("weight", [0.1, 1.0, 10.0])
def test_picks_do_not_depend_on_the_size_of_the_front(monkeypatch, front, weight):
    rng = np.random.default_rng(front)
    vectors = rng.normal(size=(60, 4))
    vectors[20:40] = vectors[:20]
    grid, base = on_grid(vectors.astype(np.float32)), np.linspace(1, 0, 60)
    monkeypatch.setattr(mmr, "FRONT", front)
    monkeypatch.setattr(mmr, "ROWS", 7)
    assert farthest(grid, base, weight, 60).tolist() == greedy_loop(grid, base, weight, 60)


@pytest.mark.parametrize("relevance", [0.0, 0.3, 0.7])
@pytest.mark.parametrize("is_centred", [True, False])
def test_the_order_is_that_of_the_formula_of_the_paper(relevance, is_centred):
    rng = np.random.default_rng(1)
    vectors = (rng.normal(size=(50, 16)) + 0.7).astype(np.float32)
    scores = np.sort(rng.normal(size=50).astype(np.float32))[::-1]
    grid = on_grid(vectors)
    settings = Settings(relevance=relevance, centred=is_centred)
    scale = spread(grid) if is_centred else 1
    found = order(vectors, scores, 30, settings).places[:30]
    assert found.tolist() == paper_loop(grid, scores, relevance, scale, 30)


def test_relevance_one_keeps_the_given_order():
    vectors = np.random.default_rng(0).normal(size=(20, 4)).astype(np.float32)
    found = order(vectors, descending(20), 20, Settings(relevance=1))
    assert found.places.tolist() == list(range(20))
    assert (found.close_to == -1).all()


def test_a_copy_stands_back_and_names_the_pick_it_copies():
    vectors = np.array([[1, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1]], np.float32)
    found = order(vectors, descending(4), 2, Settings(relevance=0.5))
    assert found.places.tolist() == [0, 2, 1, 3]
    assert found.close_to.tolist() == [-1, 0, -1, -1]


def test_a_direction_that_all_rows_share_does_not_change_centred_picks():
    rng = np.random.default_rng(5)
    rows = rng.normal(size=(80, 32))
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    plain = np.concatenate([rows, np.zeros((80, 1))], axis=1)
    # The same rows in a narrow cone: all distances shrink to three tenths.
    narrow = np.concatenate([0.3 * rows, np.full((80, 1), np.sqrt(1 - 0.09))], axis=1)
    settings = Settings(relevance=0.6)
    orders = [
        order(vectors.astype(np.float32), descending(80), 10, settings).places[:10]
        for vectors in (plain, narrow)
    ]
    assert np.array_equal(*orders)


def test_rows_beyond_the_most_follow_as_they_came():
    vectors = np.repeat(np.eye(4, dtype=np.float32), 3, axis=0)
    found = order(vectors, descending(12), 8, Settings(relevance=0, most_rows=5))
    assert found.places.tolist() == [0, 3, 1, 2, 4, 5, 6, 7, 8, 9, 10, 11]


@given(rows_of_few_values)
def test_spread_is_half_the_mean_squared_distance_of_different_rows(vectors):
    grid = on_grid(vectors).astype(np.float64)
    n_rows = len(grid)
    squares = ((grid[:, None] - grid) ** 2).sum(axis=2)
    mean = squares.sum() / (n_rows * (n_rows - 1)) if n_rows > 1 else 0
    assert spread(on_grid(vectors)) == pytest.approx(mean / 2 if mean > 1e-6 else 1)


def test_scores_are_scaled_to_zero_and_one_and_equal_ones_to_zero():
    assert scaled(np.array([3, 2, 1], np.float32)).tolist() == [1, 0.5, 0]
    assert scaled(np.array([2, 2], np.float32)).tolist() == [0, 0]
    assert scaled(np.zeros(0, np.float32)).tolist() == []

import itertools

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from lightadapt_data.diversity.k_center import Settings, order
from lightadapt_data.diversity.leader import on_grid

rows_of_few_values = st.integers(1, 9).flatmap(
    lambda n_rows: arrays(np.float32, (n_rows, 3), elements=st.sampled_from([-1, 0, 0.5, 1, 2]))
)


def descending(n_rows):
    return np.linspace(1, 0, n_rows, dtype=np.float32)


def radius(grid, picks):
    distances = np.linalg.norm(grid[:, None].astype(np.float64) - grid[list(picks)], axis=2)
    return distances.min(axis=1).max()


@given(rows_of_few_values, st.integers(1, 12))
def test_every_pick_is_the_first_of_the_rows_farthest_from_the_earlier_picks(vectors, n_wanted):
    grid = on_grid(vectors).astype(np.float64)
    places = order(vectors, descending(len(vectors)), n_wanted, Settings()).places
    assert places[0] == 0
    for step in range(1, min(n_wanted, len(vectors))):
        picked = places[:step]
        squares = ((grid[:, None] - grid[picked]) ** 2).sum(axis=2).min(axis=1)
        squares[picked] = -1
        assert places[step] == squares.argmax()


@given(rows_of_few_values, st.integers(1, 4))
def test_no_row_is_farther_from_a_pick_than_twice_what_the_best_choice_leaves(vectors, n_wanted):
    n_wanted = min(n_wanted, len(vectors))
    grid = on_grid(vectors)
    places = order(vectors, descending(len(vectors)), n_wanted, Settings()).places
    choices = itertools.combinations(range(len(vectors)), n_wanted)
    assert radius(grid, places[:n_wanted]) <= 2 * min(radius(grid, c) for c in choices) + 1e-9


def test_one_row_of_each_cluster_is_picked_before_a_second():
    rng = np.random.default_rng(0)
    centres = rng.normal(size=(15, 32))
    vectors = (np.tile(centres, (10, 1)) + 0.1 * rng.normal(size=(150, 32))).astype(np.float32)
    found = order(vectors, descending(150), 15, Settings())
    assert sorted((found.places[:15] % 15).tolist()) == list(range(15))


def test_a_row_that_is_passed_over_names_the_pick_next_to_it():
    vectors = np.array([[1, 0], [1, 0.1], [0, 1], [-1, 0]], np.float32)
    found = order(vectors, descending(4), 2, Settings())
    assert found.places.tolist() == [0, 3, 1, 2]
    assert found.close_to.tolist() == [-1, 0, -1, -1]


def test_equal_rows_come_in_their_given_order():
    found = order(np.ones((6, 3), np.float32), descending(6), 4, Settings())
    assert found.places.tolist() == [0, 1, 2, 3, 4, 5]

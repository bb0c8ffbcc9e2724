import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lightadapt_data.neighbours import Graph, find, heard, smoothed
from lightadapt_data.vectors import unit


def random_vectors(n_rows, seed, dim=8):
    return unit(np.random.default_rng(seed).normal(size=(n_rows, dim)).astype(np.float32))


@given(st.integers(2, 30), st.integers(1, 40), st.integers(0, 99))
def test_neighbours_equal_those_of_a_loop_and_weights_add_up_to_one(n_rows, k, seed):
    vectors = random_vectors(n_rows, seed)
    graph, _ = find(vectors, k)
    k = min(k, n_rows - 1)
    assert graph.places.shape == (n_rows, k)
    assert np.allclose(graph.weights.sum(axis=1), 1, atol=1e-5)
    for row in range(n_rows):
        cosines = vectors @ vectors[row]
        cosines[row] = -np.inf
        nearest = [other for other in np.argsort(-cosines)[:k] if cosines[other] > 0]
        heard = graph.places[row][graph.places[row] != row]
        assert set(heard.tolist()) == set(nearest)


@pytest.mark.parametrize("vectors", [np.zeros((4, 3), np.float32), np.ones((4, 3), np.float32)])
def test_identical_and_empty_rows_give_finite_weights(vectors):
    graph, _ = find(unit(vectors), 2)
    assert np.isfinite(graph.weights).all()
    assert np.allclose(graph.weights.sum(axis=1), 1)


def test_cells_find_almost_what_exact_search_finds():
    centres = random_vectors(20, 0, 16)
    rng = np.random.default_rng(1)
    rows = unit(np.repeat(centres, 50, axis=0) + 0.1 * rng.normal(size=(1000, 16)).astype("f4"))
    (exact, _), (probed, _) = find(rows, 5), find(rows, 5, exact_rows=0)
    shared = [len(set(a) & set(b)) for a, b in zip(exact.places, probed.places, strict=True)]
    assert np.mean(shared) > 4.5


def test_smoothing_equals_the_closed_form():
    """The fixed point of F = alpha W F + (1 - alpha) Y is (1 - alpha) (I - alpha W)^-1 Y."""
    vectors = random_vectors(12, 3)
    graph, _ = find(vectors, 3)
    dense = np.zeros((12, 12))
    for row in range(12):
        for place, weight in zip(graph.places[row], graph.weights[row], strict=True):
            dense[row, place] += weight
    scores = np.random.default_rng(0).normal(size=12).astype(np.float32)
    fixed = 0.4 * np.linalg.solve(np.eye(12) - 0.6 * dense, scores)
    assert np.allclose(smoothed(scores, graph, 0.6, 200), fixed, atol=1e-5)


def test_smoothing_leaves_the_given_scores_alone():
    scores = np.array([1, 0], np.float32)
    graph = Graph(np.array([[1], [0]]), np.ones((2, 1), np.float32))
    smoothed(scores, graph, 0.5, 3)
    assert scores.tolist() == [1, 0]


def test_guests_listen_and_are_not_heard():
    rows, guests = random_vectors(10, 0), random_vectors(3, 1)
    graph, of_guests = find(rows, 2, guests=guests)
    alone, none = find(rows, 2)
    assert np.array_equal(graph.places, alone.places)
    assert none.places.shape == (0, 2)
    cosines = guests @ rows.T
    for guest in range(3):
        assert set(of_guests.places[guest]) == set(np.argsort(-cosines[guest])[:2])
    scores = np.arange(10, dtype=np.float32)
    expected = (of_guests.weights * scores[of_guests.places]).sum(axis=1)
    assert np.allclose(heard(scores, of_guests), expected)

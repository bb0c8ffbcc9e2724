import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from lightadapt_data import methods
from lightadapt_data.diversity import kde
from lightadapt_data.diversity.kde import Settings, density, order
from lightadapt_data.diversity.leader import on_grid
from lightadapt_data.errors import RecipeError

rows_of_few_values = st.integers(0, 14).flatmap(
    lambda n_rows: arrays(np.float32, (n_rows, 3), elements=st.sampled_from([-1, 0, 0.5, 1, 2]))
)
counts = st.sampled_from(["better", "all"])


def descending(n_rows):
    return np.linspace(1, 0, n_rows, dtype=np.float32)


def density_loop(vectors, sigma, k, counted):
    grid = on_grid(vectors).astype(np.float64)
    found = []
    for row in range(len(grid)):
        others = range(row) if counted == "better" else [o for o in range(len(grid)) if o != row]
        squares = sorted(((grid[row] - grid[other]) ** 2).sum() for other in others)
        found.append(1 + sum(max(0, 1 - square / sigma**2) for square in squares[: k - 1]))
    return found


@given(rows_of_few_values, st.sampled_from([0.3, 0.75, 1.5]), st.integers(1, 14), counts)
def test_density_is_that_of_a_loop(vectors, sigma, k, counted):
    settings = Settings(sigma=sigma, neighbours=k, counted=counted)
    found = density(on_grid(vectors), settings)
    assert found == pytest.approx(density_loop(vectors, sigma, k, counted), abs=1e-5)


@pytest.mark.parametrize("counted", ["better", "all"])
def test_density_does_not_depend_on_the_size_of_a_block(monkeypatch, counted):
    vectors = np.random.default_rng(0).normal(size=(50, 4)).astype(np.float32)
    settings = Settings(counted=counted, neighbours=6)
    whole = density(on_grid(vectors), settings)
    monkeypatch.setattr(kde, "ROWS", 3)
    assert np.array_equal(density(on_grid(vectors), settings), whole)


@pytest.mark.parametrize("counted", ["better", "all"])
@pytest.mark.parametrize("k", [8, 1000])
def test_probed_cells_give_nearly_the_same_density(counted, k):
    rng = np.random.default_rng(0)
    rows = np.repeat(rng.normal(size=(40, 32)), 25, axis=0) + 0.2 * rng.normal(size=(1000, 32))
    grid = on_grid(rows.astype(np.float32))
    exact = density(grid, Settings(counted=counted, neighbours=k))
    probed = density(grid, Settings(counted=counted, neighbours=k, exact_rows=0))
    assert np.abs(exact - probed).max() < 0.05 * exact.max()


@given(rows_of_few_values, counts)
def test_the_order_is_that_of_standardised_scores_less_the_logarithm_of_density(vectors, counted):
    scores = descending(len(vectors)) ** 2
    settings = Settings(weight=0.7, counted=counted)
    places = order(vectors, scores, 5, settings).places
    values = scores
    if len(scores) > 1:
        values = (scores - scores.mean()) / scores.std()
    values = values - 0.7 * np.log(density(on_grid(vectors), settings))
    assert (np.diff(values[places]) <= 1e-6).all()


def cluster_and_others():
    """Eight copies of the best row, then eight rows of their own, a little worse."""
    vectors = np.concatenate([np.tile(np.eye(9)[:1], (8, 1)), np.eye(9)[1:]]).astype(np.float32)
    return vectors, np.linspace(1, 0.5, 16, dtype=np.float32)


def test_copies_share_one_slot_and_name_the_copy_that_has_it():
    found = order(*cluster_and_others(), 6, Settings(weight=5))
    assert found.places[:6].tolist() == [0, 8, 9, 10, 11, 12]
    assert found.close_to[1:6].tolist() == [0] * 5
    assert (found.close_to[6:] == -1).all()


def test_counting_all_rows_as_in_the_paper_pushes_every_copy_back():
    found = order(*cluster_and_others(), 6, Settings(weight=5, counted="all"))
    assert found.places[:6].tolist() == [8, 9, 10, 11, 12, 13]
    assert (found.close_to == -1).all()


def test_equal_rows_lose_the_logarithm_of_their_number():
    found = density(on_grid(np.ones((5, 3), np.float32)), Settings())
    assert found.tolist() == [1, 2, 3, 4, 5]


@pytest.mark.parametrize("options", [{"sigma": 0}, {"weight": 0}])
def test_without_reach_or_weight_the_order_stays(options):
    vectors = np.ones((6, 3), np.float32)
    found = order(vectors, descending(6), 3, Settings(**options))
    assert found.places.tolist() == list(range(6))


def test_an_unknown_way_of_counting_is_refused():
    with pytest.raises(RecipeError, match=r"\[kde\] counted = 'some'.*'better' or 'all'"):
        methods.settings("diversity", "kde", {"counted": "some"})

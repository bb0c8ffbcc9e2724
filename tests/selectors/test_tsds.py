import heapq

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from toys import ToyCorpus, target_of

from lightadapt_data.selectors.tsds import Settings, near_duplicates, score, transport


def masses_by_heap(distances, densities, alpha, scale):
    """Return each target row's masses, worked out event by event as the paper tells it."""
    n_targets, n_rows = distances.shape
    heap = [(1 / densities[j][0], 0, j) for j in range(n_targets)]
    heapq.heapify(heap)
    filled = [distances[j][0] / densities[j][0] for j in range(n_targets)]
    costs = [0.0] * n_targets
    inverse_share = 1.0
    while heap and n_rows > 1:
        inverse_share, last, j = heapq.heappop(heap)
        costs[j] = distances[j][last + 1] * inverse_share - filled[j]
        if alpha * sum(costs) >= (1 - alpha) * n_targets * scale:
            break
        if last + 2 < n_rows:
            count = inverse_share + 1 / densities[j][last + 1]
            filled[j] += distances[j][last + 1] / densities[j][last + 1]
            heapq.heappush(heap, (count, last + 1, j))
    masses = np.zeros((n_targets, n_rows))
    for j in range(n_targets):
        left = 1.0
        for i in range(n_rows):
            masses[j, i] = (
                left if i == n_rows - 1 else min(left, 1 / densities[j][i] / inverse_share)
            )
            left -= masses[j, i]
    return masses / n_targets


def random_unit(rng, shape):
    vectors = rng.normal(size=shape)
    return (vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)).astype(np.float32)


@given(
    st.integers(1, 5),
    st.integers(1, 12),
    st.sampled_from([0.0, 0.2, 0.5, 0.9, 1.0]),
    st.floats(0.1, 5),
    st.booleans(),
    st.integers(0, 99),
)
def test_masses_equal_those_of_the_events_one_by_one(
    n_targets, n_rows, alpha, scale, is_dense, seed
):
    rng = np.random.default_rng(seed)
    distances = np.sort(rng.uniform(0, 2, size=(n_targets, n_rows)), axis=1)
    densities = rng.uniform(1, 4, size=(n_targets, n_rows)) if is_dense else np.ones_like(distances)
    found = transport(distances, densities, alpha, scale)
    assert np.allclose(found, masses_by_heap(distances, densities, alpha, scale), atol=1e-8)
    assert np.allclose(found.sum(axis=1), 1 / n_targets)
    assert (found >= 0).all()


def scores_by_loop(vectors, target, settings):
    """Return log masses; -inf where there is none."""
    cosines = target @ vectors.T
    distances = np.sqrt(np.clip(2 - 2 * cosines, 0, 4))
    order = np.argsort(distances, axis=1)[:, : settings.prefetch]
    fetched = sorted(set(order.ravel().tolist()))
    density = {}
    for row in fetched:
        squares = [float(((vectors[row] - vectors[other]) ** 2).sum()) for other in fetched]
        density[row] = sum(max(0.0, 1 - square / settings.sigma**2) for square in squares)
    ordered = np.take_along_axis(distances, order, axis=1)
    densities = np.array([[density[row] for row in rows] for rows in order.tolist()])
    scale = settings.scale or float(np.median(ordered))
    masses = masses_by_heap(ordered, densities, settings.alpha, scale)
    total = np.zeros(len(vectors))
    np.add.at(total, order, masses)
    with np.errstate(divide="ignore"):
        return np.log(total)


@given(
    st.integers(2, 25),
    st.integers(1, 4),
    st.integers(1, 10),
    st.sampled_from([0.0, 0.7]),
    st.integers(0, 40),
)
def test_scores_equal_a_plain_loop(n_rows, n_targets, prefetch, scale, seed):
    rng = np.random.default_rng(seed)
    vectors, target = random_unit(rng, (n_rows, 4)), random_unit(rng, (n_targets, 4))
    settings = Settings(prefetch=prefetch, scale=scale, centred=False)
    found = score(ToyCorpus(vectors), target_of(target), settings, 0).score
    expected = scores_by_loop(vectors.astype(float), target.astype(float), settings)
    # A mass of nothing but rounding is a mass to one side and none to the other.
    has_mass = expected > -15
    assert np.allclose(found[has_mass], expected[has_mass], atol=1e-3)
    outside = np.isneginf(expected)
    assert (found[outside][:, None] < found[has_mass][None]).all()
    closest = (target @ vectors.T).max(axis=0)[outside]
    assert (np.diff(found[outside][np.argsort(closest)]) >= -1e-5).all()


def test_transport_costs_no_less_than_the_optimum_and_no_more_than_an_even_spread(monkeypatch):
    for backend in ("PYTORCH", "JAX", "CUPY", "TENSORFLOW"):
        monkeypatch.setenv(f"POT_BACKEND_DISABLE_{backend}", "1")  # imported for nothing otherwise
    ot = pytest.importorskip("ot")
    rng = np.random.default_rng(0)
    distances = rng.uniform(0, 2, size=(4, 15))
    order = np.argsort(distances, axis=1)
    masses = np.zeros_like(distances)
    ordered = np.take_along_axis(distances, order, axis=1)
    shares = transport(ordered, np.ones_like(ordered), 0.5, 1.0)
    np.put_along_axis(masses, order, shares, axis=1)
    cost = float((masses * distances).sum())
    # The cheapest way to bring the same masses from the target rows to the same corpus rows.
    weights = np.full(4, 0.25)
    optimum = float(ot.emd2(weights, masses.sum(axis=0), distances))
    assert optimum - 1e-9 <= cost <= float(distances.mean())


def test_closeness_alone_keeps_the_closest_row_and_spread_alone_keeps_all():
    rng = np.random.default_rng(1)
    corpus, target = ToyCorpus(random_unit(rng, (40, 6))), target_of(random_unit(rng, (3, 6)))
    close, wide = (
        score(corpus, target, Settings(alpha=alpha, sigma=0, prefetch=10, centred=False), 0)
        for alpha in (1.0, 0.0)
    )
    closest = set((target.vectors @ corpus.vectors.T).argmax(axis=1).tolist())
    assert close.facts["rows_with_mass"] == len(closest)
    assert set(np.argsort(-close.score)[: len(closest)].tolist()) == closest
    fetched = np.argsort(-(target.vectors @ corpus.vectors.T), axis=1)[:, :10]
    assert wide.facts["rows_with_mass"] >= len(np.unique(fetched)) - 3


def test_ten_near_duplicates_share_one_slot_unless_sigma_is_zero():
    rng = np.random.default_rng(2)
    target = np.eye(24)[0]
    rows = target + 0.25 * rng.normal(size=(30, 24))
    copies = rows[0] + 0.003 * rng.normal(size=(10, 24))
    corpus = ToyCorpus(np.concatenate([rows[1:], copies]))
    shared, single = (
        np.exp(
            score(corpus, target_of([target]), Settings(sigma=s, alpha=0.1, centred=False), 0).score
        )
        for s in (0.3, 0.0)
    )
    assert single[29:].sum() > 8 * single[:29].max()
    assert 0.8 < shared[29:].sum() / shared[:29].max() < 1.2


@given(st.integers(1, 30), st.sampled_from([0.3, 0.75, 1.5]), st.integers(0, 20))
def test_densities_equal_a_plain_loop(n_rows, sigma, seed):
    vectors = random_unit(np.random.default_rng(seed), (n_rows, 3))
    found = near_duplicates(vectors, Settings(sigma=sigma))
    for row, vector in enumerate(vectors):
        expected = sum(max(0, 1 - ((vector - other) ** 2).sum() / sigma**2) for other in vectors)
        assert abs(found[row] - expected) < 1e-4


def test_probing_cells_changes_densities_little():
    rng = np.random.default_rng(3)
    groups = np.repeat(random_unit(rng, (300, 16)), 4, axis=0)
    vectors = groups + 0.02 * rng.normal(size=groups.shape).astype(np.float32)
    exact, probed = (near_duplicates(vectors, Settings(exact_rows=rows)) for rows in (5000, 0))
    assert (np.abs(exact - probed) / exact).mean() < 0.02


def test_drawing_with_a_temperature_of_one_hardly_takes_a_row_without_mass():
    rng = np.random.default_rng(4)
    corpus = ToyCorpus(random_unit(rng, (5000, 8)), rows_per_block=5000)
    found = score(corpus, target_of(random_unit(rng, (2, 8))), Settings(prefetch=20), 0)
    inside = found.score > np.sort(found.score)[-found.facts["rows_with_mass"] - 1]
    assert inside.sum() == found.facts["rows_with_mass"] < 41
    assert np.exp(found.score[~inside]).sum() < 1e-4 * np.exp(found.score[inside]).min()
    assert abs(np.exp(found.score[inside]).sum() - 1) < 1e-4


@pytest.mark.parametrize("sigma", [0.0, 0.75])
@pytest.mark.parametrize("n_rows", [1, 6])
def test_identical_rows_and_zero_vectors_share_the_mass(sigma, n_rows):
    same = np.tile(np.float32([0.6, 0.8]), (n_rows, 1))
    for vectors in (same, 0 * same):
        for target in ([[0.6, 0.8]], [[0, 1], [0.6, 0.8]]):
            found = score(ToyCorpus(vectors), target_of(target), Settings(sigma=sigma), 0)
            assert np.isfinite(found.score).all()
            assert (found.score <= 0).all()


def test_row_order_and_blocks_change_nothing():
    rng = np.random.default_rng(6)
    vectors, keys = random_unit(rng, (900, 12)), rng.permutation(900).astype(np.uint64)
    target = target_of(random_unit(rng, (5, 12)))
    order = rng.permutation(900)
    first = score(ToyCorpus(vectors, keys=keys, rows_per_block=900), target, Settings(), 0)
    turned = ToyCorpus(vectors[order], keys=keys[order], rows_per_block=70)
    assert np.allclose(first.score[order], score(turned, target, Settings(), 0).score, atol=1e-6)

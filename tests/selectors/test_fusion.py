import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from toys import ToyCorpus, target_of

from lightadapt_data import methods, recipe
from lightadapt_data.errors import RecipeError
from lightadapt_data.selectors import centroid, nearest, quality_density, rds
from lightadapt_data.selectors.fusion import Settings, score
from lightadapt_data.stages import select


def random_case(n_rows, n_targets, seed):
    rng = np.random.default_rng(seed)
    keys = rng.permutation(n_rows).astype(np.uint64)
    corpus = ToyCorpus(rng.normal(size=(n_rows, 6)), keys=keys)
    return corpus, target_of(rng.normal(size=(n_targets, 6)))


@given(st.integers(1, 20), st.integers(1, 4), st.integers(0, 100), st.integers(0, 50))
def test_scores_equal_a_plain_loop(n_rows, n_targets, k, seed):
    corpus, target = random_case(n_rows, n_targets, seed)
    options = {"nearest": {"k": 2}}
    found = score(corpus, target, Settings(k=k, options=options), seed)
    votes = [0.0] * n_rows
    for scores in (
        nearest.score(corpus, target, nearest.Settings(k=2), seed),
        centroid.score(corpus, target, centroid.Settings(), seed),
    ):
        order = sorted(range(n_rows), key=lambda row: (-scores.score[row], corpus.keys[row]))
        for rank, row in enumerate(order, start=1):
            votes[row] += 1 / (k + rank)
    assert np.allclose(found.score, votes, rtol=1e-6)


def test_the_first_method_that_has_a_nearest_row_gives_it():
    corpus, target = random_case(30, 3, 0)
    found = score(corpus, target, Settings(methods=("quality_density", "rds", "nearest")), 0)
    assert np.array_equal(found.nearest, rds.score(corpus, target, rds.Settings(), 0).nearest)
    only = score(corpus, target, Settings(methods=("quality_density",)), 0)
    assert (only.nearest == -1).all()
    expected = quality_density.score(corpus, target, quality_density.Settings(), 0)
    assert only.facts == {"quality_density": dict(expected.facts)}
    assert np.array_equal(np.argsort(-only.score), np.lexsort((corpus.keys, -expected.score)))


@pytest.mark.parametrize("n_rows", [1, 6])
def test_identical_rows_and_zero_vectors_come_in_the_order_of_their_keys(n_rows):
    same = np.tile(np.float32([0.6, 0.8]), (n_rows, 1))
    keys = np.random.default_rng(0).permutation(n_rows).astype(np.uint64)
    for vectors in (same, 0 * same):
        found = score(ToyCorpus(vectors, keys=keys), target_of([[0, 1]]), Settings(), 0)
        assert np.array_equal(np.argsort(-found.score), np.argsort(keys))


def test_row_order_and_blocks_change_nothing():
    rng = np.random.default_rng(3)
    vectors, keys = rng.normal(size=(600, 8)), rng.permutation(600).astype(np.uint64)
    target, order = target_of(rng.normal(size=(4, 8))), rng.permutation(600)
    first = score(ToyCorpus(vectors, keys=keys, rows_per_block=600), target, Settings(), 0)
    turned = ToyCorpus(vectors[order], keys=keys[order], rows_per_block=50)
    assert np.array_equal(first.score[order], score(turned, target, Settings(), 0).score)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"methods": ("nearest", "random")}, r"'random' cannot vote; allowed: .*centroid"),
        ({"methods": ("balanced_random",)}, "'balanced_random' cannot vote"),
        ({"methods": ("fusion",)}, "'fusion' cannot vote"),
        ({"methods": ("neerest",)}, "did you mean 'nearest'"),
        ({"methods": ("nearest", "nearest")}, "'nearest' is named twice"),
        ({"options": {"nearest": {"kk": 1}}}, r"\[nearest\] unknown key 'kk'"),
        ({"options": {"rds": {}}}, r"'rds' does not vote; allowed: centroid, nearest.*or add it"),
    ],
)
def test_a_voter_that_cannot_vote_is_refused_before_any_work(settings, message):
    with pytest.raises(RecipeError, match=message):
        Settings(**settings)
    with pytest.raises(RecipeError, match=message):
        methods.settings("selectors", "fusion", settings)


def test_no_method_is_refused():
    with pytest.raises(RecipeError, match="methods"):
        methods.settings("selectors", "fusion", {"methods": ()})


def test_the_key_changes_with_a_voters_version_and_settings(monkeypatch):
    first = Settings().key_fields()
    assert Settings(options={"nearest": {"k": 5}}).key_fields() == first
    assert Settings(options={"nearest": {"k": 6}}).key_fields() != first
    assert Settings(methods=("centroid", "nearest")).key_fields() != first
    stage = select.Settings(method="fusion")
    resolved = recipe.resolved(select, stage)
    monkeypatch.setattr(centroid, "VERSION", 99, raising=False)
    assert Settings().key_fields() != first
    assert recipe.resolved(select, stage) != resolved

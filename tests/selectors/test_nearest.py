import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from toys import ToyCorpus, target_of

from lightadapt_data.selectors import nearest
from lightadapt_data.selectors.nearest import Settings, closest_rows, score

AGGREGATES = ("mean_top_k", "max", "csls")


def cosine(left, right):
    lengths = np.linalg.norm(left) * np.linalg.norm(right)
    return float(left @ right / lengths) if lengths > 1e-9 else 0.0


def cosines_of(corpus, target, centred=True):
    mean = corpus.mean() if centred else np.zeros(corpus.dim)
    return np.array(
        [[cosine(row - mean, query - mean) for query in target] for row in corpus.vectors]
    )


def highest(values, k):
    return float(np.mean(sorted(values, reverse=True)[:k]))


def random_case(n_rows, n_targets, dim, seed, rows_per_block=3):
    rng = np.random.default_rng(seed)
    vectors = rng.normal(size=(n_rows, dim)).astype(np.float32)
    target = rng.normal(size=(n_targets, dim)).astype(np.float32)
    return ToyCorpus(vectors, rows_per_block=rows_per_block), target


@given(st.integers(1, 12), st.integers(1, 6), st.integers(1, 8), st.booleans(), st.integers(0, 99))
def test_scores_equal_a_plain_loop(n_rows, n_targets, k, centred, seed):
    corpus, target = random_case(n_rows, n_targets, 5, seed)
    scores = score(corpus, target_of(target), Settings(k=k, centred=centred), seed=0)
    highest_one = score(
        corpus, target_of(target), Settings(k=k, centred=centred, aggregate="max"), seed=0
    )
    for row, cosines in enumerate(cosines_of(corpus, target, centred)):
        assert abs(scores.score[row] - highest(cosines, k)) < 1e-4
        assert abs(highest_one.score[row] - max(cosines)) < 1e-4
        assert cosines[scores.nearest[row]] >= max(cosines) - 1e-4


@given(st.integers(1, 12), st.integers(1, 6), st.integers(1, 8), st.booleans(), st.integers(0, 99))
def test_csls_equals_a_plain_loop(n_rows, n_targets, k, centred, seed):
    corpus, target = random_case(n_rows, n_targets, 5, seed)
    scores = score(
        corpus, target_of(target), Settings(k=k, centred=centred, aggregate="csls"), seed=0
    )
    cosines = cosines_of(corpus, target, centred)
    for row in range(n_rows):
        pairs = [
            2 * cosines[row, query] - highest(cosines[row], k) - highest(cosines[:, query], k)
            for query in range(n_targets)
        ]
        assert abs(scores.score[row] - max(pairs)) < 1e-4
        assert pairs[scores.nearest[row]] >= max(pairs) - 1e-4


@pytest.mark.parametrize("n_targets", [1, 2, 7, 200])
@pytest.mark.parametrize("aggregate", AGGREGATES)
def test_scores_are_the_same_to_the_bit_in_any_blocks_and_any_order(
    aggregate, n_targets, monkeypatch
):
    monkeypatch.setattr(nearest, "PRODUCT_ROWS", 1024)
    corpus, target = random_case(2500, n_targets, 48, 1, rows_per_block=2500)
    settings = Settings(aggregate=aggregate)
    expected = score(corpus, target_of(target), settings, 0)
    order = np.random.default_rng(0).permutation(2500)
    for rows_per_block in (7, 310, 1024, 1500):
        turned = ToyCorpus(corpus.vectors[order], rows_per_block=rows_per_block)
        found = score(turned, target_of(target), settings, 0)
        assert np.array_equal(found.score, expected.score[order])
        assert np.array_equal(found.nearest, expected.nearest[order])


@pytest.mark.parametrize("aggregate", AGGREGATES)
def test_the_order_of_target_rows_changes_no_score_noticeably(aggregate):
    corpus, target = random_case(100, 150, 16, 2)
    settings = Settings(aggregate=aggregate)
    first = score(corpus, target_of(target), settings, 0).score
    assert np.allclose(first, score(corpus, target_of(target[::-1]), settings, 0).score, atol=1e-6)


def test_blocks_are_cut_and_joined_to_one_height():
    corpus, _ = random_case(100, 1, 3, 0, rows_per_block=100)
    for rows_per_block in (1, 7, 30, 64, 100):
        parts = ToyCorpus(corpus.vectors, rows_per_block=rows_per_block)
        found = []
        for start, n_rows, block in nearest._even_blocks(parts, 30):
            assert start == sum(len(rows) for rows in found)
            assert block.shape == (30, 3)
            assert not block[n_rows:].any()
            found.append(block[:n_rows].copy())
        assert [len(rows) for rows in found] == [30, 30, 30, 10]
        assert np.array_equal(np.concatenate(found), corpus.vectors)


def test_very_many_target_rows_are_no_other_method(monkeypatch):
    corpus, target = random_case(300, 20, 16, 3, rows_per_block=100)
    expected = score(corpus, target_of(target), Settings(), 0)
    monkeypatch.setattr(nearest, "MANY_QUERIES", 10)
    found = score(corpus, target_of(target), Settings(), 0)
    assert np.allclose(found.score, expected.score, atol=1e-6)
    assert np.array_equal(found.nearest, expected.nearest)


@given(st.sampled_from([1e-1, 1e-2, 1e-3]), st.integers(0, 20))
def test_rows_crowded_around_the_mean_keep_their_digits(spread, seed):
    rng = np.random.default_rng(seed)
    corpus = ToyCorpus(np.ones(8) + spread * rng.normal(size=(20, 8)))
    target = (np.ones((4, 8)) + spread * rng.normal(size=(4, 8))).astype(np.float32)
    scores = score(corpus, target_of(target), Settings(k=2), 0)
    expected = [highest(row, 2) for row in cosines_of(corpus, target)]
    assert np.allclose(scores.score, expected, atol=1e-6 / spread + 1e-5)


@pytest.mark.parametrize("aggregate", AGGREGATES)
@pytest.mark.parametrize("n_rows", [1, 7])
def test_identical_rows_and_zero_vectors_get_a_score_of_zero(aggregate, n_rows):
    same = np.tile(np.float32([0.6, 0.48, 0.64]), (n_rows, 1))
    target = np.float32([[0.6, 0.48, 0.64], [0, 1, 0]])
    settings = Settings(aggregate=aggregate)
    for vectors in (same, 0 * same):
        scores = score(ToyCorpus(vectors), target_of(target), settings, 0).score
        assert np.array_equal(scores, np.zeros(n_rows, np.float32))
    zeros = score(ToyCorpus(0 * same), target_of(0 * target), Settings(centred=False), 0).score
    assert np.array_equal(zeros, np.zeros(n_rows, np.float32))


def test_csls_holds_back_a_target_row_that_is_close_to_everything():
    rng = np.random.default_rng(4)
    hub = np.eye(16)[0]
    far = np.eye(16)[1]
    common = rng.normal(size=(200, 16)) * 0.1 + 2 * hub
    rare = rng.normal(size=(3, 16)) * 0.1 + far + 0.6 * hub
    corpus = ToyCorpus(np.concatenate([common, rare]))
    target = target_of([hub, far + 0.3 * hub])
    plain = score(corpus, target, Settings(aggregate="max", centred=False), 0).score
    csls = score(corpus, target, Settings(k=20, aggregate="csls", centred=False), 0).score
    assert np.argsort(-plain)[:3].max() < 200
    assert set(np.argsort(-csls)[:3]) == {200, 201, 202}


def test_centring_takes_out_what_all_rows_share():
    rng = np.random.default_rng(0)
    shared = np.array([10, 0, 0], np.float32)
    corpus = ToyCorpus(rng.normal(size=(50, 3)).astype(np.float32) + shared)
    target = corpus.vectors[:1]
    plain = score(corpus, target_of(target), Settings(k=1, centred=False), 0).score
    centred = score(corpus, target_of(target), Settings(k=1), 0).score
    assert plain[1:].min() > 0.9
    assert centred[1:].std() > 10 * plain[1:].std()


@given(
    st.integers(1, 30),
    st.integers(1, 4),
    st.integers(1, 9),
    st.integers(1, 5),
    st.integers(0, 50),
)
def test_closest_rows_equal_a_full_sort_with_ties_by_key(n_rows, n_targets, depth, dim, seed):
    rng = np.random.default_rng(seed)
    # Few different vectors, so that there are many ties.
    vectors = rng.integers(-1, 2, size=(n_rows, dim)).astype(np.float32)
    keys = rng.permutation(n_rows).astype(np.uint64)
    corpus = ToyCorpus(vectors, keys=keys, rows_per_block=4)
    target = rng.integers(-1, 2, size=(n_targets, dim)).astype(np.float32)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(nearest, "MERGE_AT", 7)
        found = closest_rows(corpus, target_of(target), depth, centred=False)
    one_by_one = closest_rows(corpus, target_of(target), n_rows, centred=False)
    assert found.rows.shape == found.cosines.shape == (n_targets, min(depth, n_rows))
    expected = cosines_of(corpus, target, centred=False)
    assert np.allclose(found.best, expected.max(axis=1), atol=1e-6)
    for query in range(n_targets):
        cosines = np.empty(n_rows, np.float32)
        cosines[one_by_one.rows[query]] = one_by_one.cosines[query]
        assert np.allclose(cosines, expected[:, query], atol=1e-6)
        order = sorted(range(n_rows), key=lambda row: (-cosines[row], keys[row]))
        assert found.rows[query].tolist() == order[:depth]


def test_an_unknown_aggregate_is_refused():
    with pytest.raises(ValueError, match="'mean_top_k', 'max' or 'csls'"):
        Settings(aggregate="mean")

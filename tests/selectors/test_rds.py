import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from toys import ToyCorpus, target_of

from lightadapt_data.selectors import nearest
from lightadapt_data.selectors.rds import Settings, score


def random_case(n_rows, n_targets, seed, dim=4, rows_per_block=5):
    rng = np.random.default_rng(seed)
    keys = rng.permutation(n_rows).astype(np.uint64)
    corpus = ToyCorpus(rng.normal(size=(n_rows, dim)), keys=keys, rows_per_block=rows_per_block)
    return corpus, rng.normal(size=(n_targets, dim)).astype(np.float32)


def lists_of(corpus, target):
    """Return every target row's full list of corpus rows, closest first, ties by key."""
    found = nearest.closest_rows(corpus, target_of(target), corpus.n_rows, centred=True)
    assert (np.diff(found.cosines, axis=1) <= 0).all()
    return found.rows.tolist()


def taken_by_loop(lists, depth, lose_turn):
    taken = []
    lists = [rows[:depth] for rows in lists]
    for _ in range(depth):
        for rows in lists:
            if not lose_turn:
                while rows and rows[0] in taken:
                    rows.pop(0)
            if rows:
                row = rows.pop(0)
                if row not in taken:
                    taken.append(row)
    return taken


@given(st.integers(1, 25), st.integers(1, 5), st.integers(1, 12), st.booleans(), st.integers(0, 99))
def test_the_order_of_scores_is_the_order_of_taking(n_rows, n_targets, depth, lose_turn, seed):
    corpus, target = random_case(n_rows, n_targets, seed)
    settings = Settings(depth=depth, lose_turn=lose_turn)
    found = score(corpus, target_of(target), settings, 0)
    taken = taken_by_loop(lists_of(corpus, target), depth, lose_turn)
    order = np.lexsort((corpus.keys, -found.score)).tolist()
    assert order[: len(taken)] == taken
    assert found.facts["taken_in_turn"] == len(taken)
    assert (found.score[taken] > 1).all()
    best = score(corpus, target_of(target), Settings(mode="best_of"), 0).score
    rest = order[len(taken) :]
    assert np.array_equal(found.score[rest], best[rest])


@given(st.integers(1, 20), st.integers(1, 5), st.integers(0, 99))
def test_best_of_is_nearest_by_the_highest_cosine(n_rows, n_targets, seed):
    corpus, target = random_case(n_rows, n_targets, seed)
    found = score(corpus, target_of(target), Settings(mode="best_of"), 0)
    expected = nearest.score(corpus, target_of(target), nearest.Settings(aggregate="max"), 0)
    assert np.array_equal(found.score, np.clip(expected.score, -1, 1))
    assert np.array_equal(found.nearest, expected.nearest)


def test_a_narrow_group_of_target_rows_gets_its_share_only_in_turns():
    rng = np.random.default_rng(0)
    narrow = np.eye(8)[0] + 0.05 * rng.normal(size=(100, 8))
    wide = np.eye(8)[1] + 0.4 * rng.normal(size=(100, 8))
    corpus = ToyCorpus(np.concatenate([narrow, wide]))
    target = target_of([np.eye(8)[0], np.eye(8)[1]])
    by_turns, by_best = (
        np.argsort(-score(corpus, target, Settings(mode=mode, centred=False), 0).score)[:60]
        for mode in ("round_robin", "best_of")
    )
    assert (by_turns < 100).sum() == 30
    assert (by_best < 100).sum() > 55


def test_a_lost_turn_lets_the_other_target_row_get_ahead():
    # Both target rows want row 0 first; the second one then wants row 1, the first row 2.
    corpus = ToyCorpus([[1, 1, 0], [0.2, 1, 0.1], [1, 0.2, 0.3], [0, 0.3, 1]])
    target = target_of([[1, 0.9, 0], [0.9, 1, 0]])
    keep, lose = (
        score(corpus, target, Settings(lose_turn=lose_turn, centred=False), 0).score
        for lose_turn in (False, True)
    )
    assert np.argsort(-keep).tolist() == [0, 1, 2, 3]
    assert np.argsort(-lose).tolist() == [0, 2, 1, 3]


def test_the_number_of_places_stays_within_what_float32_tells_apart(monkeypatch):
    corpus, target = random_case(60, 4, 1)
    monkeypatch.setattr("lightadapt_data.selectors.rds.MOST_PLACES", 20)
    found = score(corpus, target_of(target), Settings(), 0)
    assert found.facts["depth"] == 5
    places = 1 << 23
    scores = (2 - np.arange(places) / places).astype(np.float32)
    assert (np.diff(scores) < 0).all()
    assert scores[-1] > 1


@pytest.mark.parametrize("mode", ["round_robin", "best_of"])
@pytest.mark.parametrize("n_rows", [1, 6])
def test_identical_rows_and_zero_vectors_are_taken_by_key(mode, n_rows):
    same = np.tile(np.float32([0.6, 0.8]), (n_rows, 1))
    keys = np.random.default_rng(0).permutation(n_rows).astype(np.uint64)
    for vectors in (same, 0 * same):
        found = score(
            ToyCorpus(vectors, keys=keys), target_of([[0, 1], [1, 0]]), Settings(mode=mode), 0
        )
        assert np.isfinite(found.score).all()
        assert np.array_equal(np.lexsort((keys, -found.score)), np.argsort(keys))


def test_row_order_and_blocks_change_nothing():
    corpus, target = random_case(800, 6, 5, dim=16, rows_per_block=800)
    order = np.random.default_rng(0).permutation(800)
    turned = ToyCorpus(corpus.vectors[order], keys=corpus.keys[order], rows_per_block=37)
    first, again = (score(c, target_of(target), Settings(depth=50), 0) for c in (corpus, turned))
    assert np.array_equal(first.score[order], again.score)

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lightadapt_data.budget import Budget, Cap, gumbel, ranking, within_caps
from lightadapt_data.choosing import ALIKE, BELOW, CAPPED, CHOSEN, Rules, choose
from lightadapt_data.diversity import Order

seeds = st.integers(0, 999)


def toy(n_rows, seed, n_targets=1):
    rng = np.random.default_rng(seed)
    scores = {f"t{n}": rng.normal(size=n_rows).astype(np.float32) for n in range(n_targets)}
    keys = rng.permutation(n_rows).astype(np.uint64)
    return scores, keys, rng.integers(1, 20, n_rows).astype(np.int32)


def alone(scores):
    return dict.fromkeys(scores, 1 / len(scores))


@given(st.integers(1, 40), st.integers(1, 50), seeds)
def test_without_rules_the_best_rows_are_chosen(n_rows, amount, seed):
    scores, keys, tokens = toy(n_rows, seed)
    choice = choose(scores, {"t0": 1.0}, keys, tokens, Rules(Budget(amount, "rows")))
    assert choice.n_kept == min(amount, n_rows)
    assert choice.is_all == (amount >= n_rows)
    assert np.array_equal(choice.order, ranking(scores["t0"], keys))
    assert sorted(choice.rank) == list(range(1, n_rows + 1))
    assert ((choice.fate == CHOSEN) == (choice.rank <= choice.n_kept)).all()


@given(st.integers(1, 40), st.integers(1, 30), st.integers(0, 6), seeds)
def test_caps_equal_a_loop_that_closes_a_kind_when_it_is_full(n_rows, amount, most, seed):
    scores, keys, tokens = toy(n_rows, seed)
    codes = np.random.default_rng(seed).integers(0, 3, n_rows).astype(np.int32)
    limit = np.array([most, np.inf, 2 * most])
    for unit in ("rows", "tokens"):
        budget = Budget(amount, unit)
        rules = Rules(budget, caps=[Cap(codes, limit)])
        choice = choose(scores, {"t0": 1.0}, keys, tokens, rules)
        spent, total, chosen = np.zeros(3), 0, []
        for row in ranking(scores["t0"], keys):
            size = tokens[row] if unit == "tokens" else 1
            spent[codes[row]] += size
            if spent[codes[row]] > limit[codes[row]]:
                continue
            if total + size > amount:
                break
            total += size
            chosen.append(row)
        assert choice.order[: choice.n_kept].tolist() == chosen
        capped = np.flatnonzero(choice.fate == CAPPED)
        if chosen:
            assert all(choice.rank[row] > choice.n_kept for row in capped)


def test_a_second_column_counts_what_the_first_has_left():
    order, tokens = np.arange(6), np.ones(6, np.int32)
    first = Cap(np.array([0, 0, 0, 1, 1, 1], np.int32), np.array([1.0, np.inf]))
    second = Cap(np.zeros(6, np.int32), np.array([3.0]))
    free = within_caps(order, tokens, Budget(6, "rows"), [first, second])
    assert free.tolist() == [True, False, False, True, True, False]


@given(st.integers(2, 60), st.integers(1, 60), st.integers(2, 4), seeds)
def test_shares_are_kept_and_no_order_of_targets_or_rows_matters(n_rows, amount, n_targets, seed):
    scores, keys, tokens = toy(n_rows, seed, n_targets)
    shares = alone(scores)
    rules = Rules(Budget(amount, "rows"))
    choice = choose(scores, shares, keys, tokens, rules)
    kept = choice.order[: choice.n_kept]
    assert len(set(kept.tolist())) == choice.n_kept <= amount
    each = int(amount / n_targets + 1e-9)
    counts = np.bincount(choice.target[kept], minlength=n_targets)
    assert (counts <= each).all()
    if each * n_targets <= n_rows:
        assert (counts == each).all()
    turn = np.random.default_rng(seed).permutation(n_rows)
    turned = {name: values[turn] for name, values in scores.items()}
    again = choose(turned, shares, keys[turn], tokens[turn], rules)
    assert set(turn[again.order[: again.n_kept]].tolist()) == set(kept.tolist())


def test_each_target_takes_the_rows_that_it_ranks_best():
    scores = {
        "a": np.array([9, 8, 1, 0], np.float32),
        "b": np.array([0, 1, 8, 9], np.float32),
    }
    keys = np.arange(4, dtype=np.uint64)
    rules = Rules(Budget(4, "rows"))
    choice = choose(scores, {"a": 0.5, "b": 0.5}, keys, np.ones(4, np.int32), rules)
    assert choice.target.tolist() == [0, 0, 1, 1]
    half = choose(scores, {"a": 0.75, "b": 0.25}, keys, np.ones(4, np.int32), rules)
    assert half.target.tolist() == [0, 0, 0, 1]


def test_a_temperature_samples_and_the_best_are_likelier():
    scores = {"t": np.array([2.0] * 50 + [0.0] * 50, np.float32)}
    keys = np.arange(100, dtype=np.uint64) * np.uint64(7919)
    tokens = np.ones(100, np.int32)
    chosen = []
    for seed in range(40):
        rules = Rules(Budget(20, "rows"), seed, temperature=1.0)
        choice = choose(scores, {"t": 1.0}, keys, tokens, rules)
        chosen += choice.order[:20].tolist()
    share = np.mean(np.array(chosen) < 50)
    assert 0.75 < share < 0.95  # e^2 / (1 + e^2) = 0.88 for the first draw
    again = choose(scores, {"t": 1.0}, keys, tokens, Rules(Budget(20, "rows"), 39, 1.0))
    assert again.order[:20].tolist() == chosen[-20:]


def test_gumbel_draws_are_finite_and_have_the_mean_of_the_distribution():
    draws = gumbel(np.arange(200_000, dtype=np.uint64), 0)
    assert np.isfinite(draws).all()
    assert draws.mean() == pytest.approx(0.5772, abs=0.02)


def halves(places, scores, n_wanted):
    """Put every second candidate back, as too much like the one before it."""
    index = np.arange(len(places))
    odd = index % 2 == 1
    return Order(
        np.concatenate([index[~odd], index[odd]]), np.where(odd, index - 1, -1).astype(np.int64)
    )


def test_diversity_reorders_the_best_rows_and_says_what_stands_back():
    scores = {"t": np.arange(10, 0, -1).astype(np.float32)}
    keys, tokens = np.arange(10, dtype=np.uint64), np.ones(10, np.int32)
    rules = Rules(Budget(3, "rows"), diversity=halves, pool=2.0)
    choice = choose(scores, {"t": 1.0}, keys, tokens, rules)
    assert choice.order[:3].tolist() == [0, 2, 4]
    assert choice.order[3:].tolist() == [1, 3, 5, 6, 7, 8, 9]
    assert choice.fate.tolist() == [CHOSEN, ALIKE] * 3 + [BELOW] * 4
    assert choice.like.tolist() == [-1, 0, -1, 2, -1, 4, -1, -1, -1, -1]


def test_a_threshold_keeps_every_row_from_the_score_on():
    scores = {"t": np.array([0.1, 0.5, 0.3], np.float32)}
    keys, tokens = np.arange(3, dtype=np.uint64), np.ones(3, np.int32)
    choice = choose(scores, {"t": 1.0}, keys, tokens, Rules(Budget(0.3, "threshold")))
    assert choice.order[: choice.n_kept].tolist() == [1, 2]

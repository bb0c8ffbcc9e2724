import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lightadapt_data import paired
from lightadapt_data.paired import Interval

TABLE = {1: 12.706, 2: 4.303, 3: 3.182, 4: 2.776, 9: 2.262, 29: 2.045}
"""Quantiles of a textbook."""


def brute(differences):
    n = len(differences)
    mean = sum(differences) / n
    variance = sum((value - mean) ** 2 for value in differences) / (n - 1)
    half = TABLE[n - 1] * math.sqrt(variance / n)
    return mean - half, mean + half


@pytest.mark.parametrize(("freedom", "expected"), TABLE.items())
def test_quantiles_are_those_of_the_table(freedom, expected):
    assert paired.quantile(freedom) == pytest.approx(expected, abs=5e-4)


@given(st.sampled_from([3, 5, 10]), st.integers(0, 10_000))
def test_an_interval_is_that_of_the_textbook(n, seed):
    differences = [math.sin(seed + 37 * i) for i in range(n)]
    found = paired.interval(differences)
    assert (found.low, found.high) == pytest.approx(brute(differences), rel=1e-3, abs=1e-3)
    assert found.low < found.mean < found.high
    assert not found.is_tied


def test_equal_differences_say_nothing_of_their_spread():
    found = paired.interval([0.1, 0.1, 0.1 + 1e-12])
    assert found.is_tied
    assert found.low == found.high == found.mean == pytest.approx(0.1)


def test_one_draw_has_no_interval():
    with pytest.raises(ValueError, match="1 draws; allowed: 2 or more"):
        paired.interval([0.1])


@given(st.floats(-2, 2), st.floats(-1, 1), st.floats(0.01, 0.5))
def test_a_trend_is_the_slope_per_tenfold_pile(slope, start, noise):
    sizes = [10, 100, 10_000]
    leads = [
        [start + slope * math.log10(size) + noise * draw for draw in (-1, 0, 1)] for size in sizes
    ]
    assert paired.trend(leads, sizes).mean == pytest.approx(slope, abs=1e-8)


def lead(mean, half, n=3):
    return Interval(mean, mean - half, mean + half, n, half == 0)


def test_a_training_pays_where_the_interval_is_above_zero():
    said = paired.trained_verdict("nearest", {"random": lead(0.031, 0.021)}, "accuracy")
    assert said == (
        "nearest: pays: +0.031 [0.010, 0.052] over random on validation accuracy, 3 draws."
    )


@pytest.mark.parametrize(
    ("found", "words"),
    [
        (lead(0.01, 0.02), "no gain: +0.010 [-0.010, 0.030] over random, the interval holds zero,"),
        (lead(0.01, 0.02), "and is wide for want of draws"),
        (lead(-0.05, 0.02), "does harm: -0.050 [-0.070, -0.030] against random"),
        (lead(0.05, 0), "no verdict: every draw gives +0.050 over random, so that the spread is"),
        (lead(0.0, 0), "no gain: every draw gives the same as random"),
    ],
)
def test_other_trainings_are_told_plainly(found, words):
    against = {"balanced_random": lead(1, 0.1), "random": found}
    assert words in paired.trained_verdict("x", against, "accuracy")


def test_many_draws_are_not_called_few():
    said = paired.trained_verdict("x", {"random": lead(0.01, 0.02, 8)}, "accuracy")
    assert "for want of draws" not in said


@pytest.mark.parametrize(
    ("kl", "radius", "words"),
    [
        (lead(0.2, 0.1), lead(0.1, 0), "both speak for it, which is no proof"),
        (lead(-0.2, 0.1), lead(-0.1, 0), "both speak against it"),
        (lead(0.2, 0.1), lead(0.1, 0.3), "they do not agree"),
        (lead(0.2, 0.3), lead(0, 0), "neither tells it from random rows in 3 draws"),
    ],
)
def test_without_a_task_the_proxies_say_what_they_can(kl, radius, words):
    means = {"KL": {"x": 0.4, "random": 0.2}, "radius": {"x": 0.3, "random": 0.4}}
    said = paired.proxy_verdict("x", means, {"KL": {"random": kl}, "radius": {"random": radius}})
    assert said.startswith("x: without a task only the proxies can say: KL 0.400 against 0.200")
    assert said.endswith(f"{words}.")


@pytest.mark.parametrize(
    ("slope", "last", "words"),
    [
        (lead(0.02, 0.01), lead(0.3, 0.1), ("improves as the pile grows", "ahead of random")),
        (lead(-0.02, 0.01), lead(-0.3, 0.1), ("falls behind as the pile grows", "behind random")),
        (lead(0.02, 0.1), lead(0.1, 0.2), ("no trend that 3 draws can show", "not to be told")),
    ],
)
def test_a_growing_pile_is_told_in_words(slope, last, words):
    said = paired.growth_verdict("x", "random", "accuracy", [lead(0, 1), last], slope, "x1, x5")
    assert "piles x1, x5: +0.000," in said
    assert all(word in said for word in words)

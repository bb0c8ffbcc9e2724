import pytest

from lightadapt_data.comparison import headline

VALUES = {"seed": [0.5, 0.6], "adapted": [0.8, 0.8], "balanced_random": [0.7, 0.9]}


def test_a_gain_is_one_only_beyond_the_spread():
    text = headline(VALUES, "macro_f1", 1200)
    assert "macro f1 0.800 on 1,200 test rows (mean of 2 seeds)" in text
    assert "Against the seed rows alone (0.550): a gain of 0.250 (spread 0.071)" in text
    assert "Against as many tokens of random rows (0.800): no gain" in text


def test_a_loss_is_called_one():
    assert "a loss of 0.300" in headline({"seed": [0.8, 0.8], "adapted": [0.5, 0.5]}, "accuracy", 9)


def test_where_lower_is_better_a_fall_is_a_gain():
    text = headline({"seed": [9.0, 9.0], "adapted": [5.0, 5.0]}, "perplexity", 9, 1.0, "min")
    assert "a gain of 4.000" in text


@pytest.mark.parametrize(("share", "words"), [(1.0, "as many"), (0.5, "only 50% as many")])
def test_random_rows_that_fall_short_are_said(share, words):
    assert f"Against {words} tokens of random rows" in headline(VALUES, "accuracy", 9, share)


def test_one_seed_has_no_spread_and_one_arm_nothing_to_compare():
    assert "its spread is not known" in headline({"seed": [0.5], "adapted": [0.6]}, "accuracy", 9)
    assert "no other arm" in headline({"seed": [0.5]}, "accuracy", 9)

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lightadapt_data.substitutions import between

BASE = "the quick brown fox jumps over the lazy dog in 1990"


@pytest.mark.parametrize(
    ("other", "n_words", "has_number"),
    [
        (BASE, 0, False),
        (BASE.upper() + "!", 0, False),
        (BASE.replace("quick ", ""), 0, False),
        ("well " + BASE.replace("dog ", ""), 0, False),
        (BASE.replace("fox", "wolf"), 1, False),
        (BASE.replace("brown fox", "red wolf"), 2, False),
        (BASE.replace("quick", "quikc"), 0, False),
        (BASE.replace("brown", "browns"), 0, False),
        (BASE.replace("fox", "box"), 1, False),  # too short for a spelling
        (BASE.replace("1990", "1991"), 1, True),
        (BASE.replace("in 1990", ""), 0, False),
        ("", 0, False),
    ],
)
def test_only_what_stands_in_the_place_of_other_words_counts(other, n_words, has_number):
    found = between(BASE, other)
    assert (found.n_words, found.has_number) == (n_words, has_number)
    assert found == between(other, BASE)


@pytest.mark.parametrize("sign", [",", "'", "\u00a0", "\u202f", "\u2019"])
def test_grouped_digits_are_one_number(sign):
    assert between(f"they paid 150{sign}000 pounds", "they paid 150000 pounds").n_words == 0


def test_a_long_run_of_other_words_is_counted_without_aligning_it():
    left = " ".join(f"a{i}" for i in range(3000))
    right = " ".join(f"b{i}" for i in range(3000))
    assert between(left, right).share == 1


@given(st.text(), st.text())
def test_any_text_gives_a_share_and_the_order_does_not_matter(left, right):
    found = between(left, right)
    assert 0 <= found.share <= 1
    assert found == between(right, left)

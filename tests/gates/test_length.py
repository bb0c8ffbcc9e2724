import pytest

from lightadapt_data.gates import length


def verdict(parent, child, **options):
    return length.judge([parent], [child], length.Settings(**options), None)[0]


@pytest.mark.parametrize(
    ("n_before", "n_after", "passed"),
    [(10, 5, True), (10, 4, False), (10, 20, True), (10, 21, False)],
)
def test_words_may_halve_or_double(n_before, n_after, passed):
    assert verdict("word " * n_before, "word " * n_after).passed is passed


def test_reason_holds_the_figures():
    found = verdict("one two three", "one")
    assert found.reason == "length: 3 words became 1; allowed: 0.5 to 2.0 times"
    assert found.score == 0.3333


def test_characters_count_where_words_are_not_spaced():
    found = verdict("字" * 10, "字" * 26)
    assert found.reason == "length: 10 characters became 26; allowed: 0.4 to 2.5 times"


def test_limits_are_settings():
    assert verdict("a b", "a b c d e f", max_words=3, max_characters=9).passed


def test_empty_parent_allows_an_empty_child_only():
    assert verdict("", "").passed
    assert not verdict("", "a").passed

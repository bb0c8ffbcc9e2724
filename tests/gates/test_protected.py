import pytest
from hypothesis import given
from hypothesis import strategies as st

from lightadapt_data import methods
from lightadapt_data.errors import RecipeError
from lightadapt_data.gates import protected

TEXT = (
    "Call `run(1)` or write to a.b@c.org, see https://d.e/f?g=1. It costs $1,000.50 at 10:30, 5%."
)


def verdict(parent, child, **options):
    return protected.judge([parent], [child], protected.Settings(**options), None)[0]


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        ("`run(1)`", "`run(2)`", "'`run(1)`' became '`run(2)`'"),
        ("a.b@c.org", "a.b @c.org", "'a.b@c.org' lost"),
        ("https://d.e/f?g=1", "https://d.e/f?g=2", "'https://d.e/f?g=1' became 'https://d.e/f?g=2'"),
        ("$1,000.50", "$1000.50", "'$1,000.50' became '$1000.50'"),
        ("10:30", "10.30", "'10:30' became '10.30'"),
        ("5%", "5 %", "'5%' became '5'"),
        ("It costs", "It 7 costs", "'7' added"),
        ("Call", "Call `run(1)`", "'`run(1)`' added"),
    ],
)  # fmt: skip
def test_every_byte_and_the_count_matter(old, new, reason):
    found = verdict(TEXT, TEXT.replace(old, new))
    assert (found.passed, found.reason) == (False, f"protected: {reason}")


def test_words_around_and_order_are_free():
    child = "At 10:30 it is $1,000.50 and 5% (https://d.e/f?g=1); a.b@c.org knows `run(1)`!"
    assert verdict(TEXT, child).passed
    assert verdict(TEXT, child).score == 1


def test_kinds_can_be_left_out():
    assert verdict("1,000 and `a`", "1000 and `a`", kinds=["code"]).passed
    assert not verdict("1,000 and `a`", "1000 and `b`", kinds=["code"]).passed
    assert verdict(TEXT, "gone", kinds=[]).passed


def test_user_patterns_are_spans_too():
    found = verdict("see RFC 2119 now", "see RFC 2120 now", keep=[r"RFC \d+"])
    assert found.reason == "protected: 'RFC 2119' became 'RFC 2120'"
    assert verdict("see <b>x</b>", "x, see", keep=[r"</?b>"]).reason == (
        "protected: '</b>', '<b>' lost"
    )


def test_long_lists_are_cut():
    found = verdict("1 and 2 and 3 and 4 and 5", "none")
    assert found.reason == "protected: '1', '2', '3' and 2 more lost"
    assert found.score == 0


@given(st.text(max_size=80), st.text(max_size=10))
def test_a_text_passes_beside_itself_and_not_without_its_number(text, tail):
    assert verdict(text, text).passed
    assert not verdict(f"{text} 77 {tail}", f"{text} 78 {tail}", kinds=["numbers"]).passed


def test_a_wrong_option_is_named():
    with pytest.raises(RecipeError, match=r"\[protected\] keep = .* is no regular expression"):
        methods.settings("gates", "protected", {"keep": ["["]})
    with pytest.raises(RecipeError, match=r"\[protected\] kinds.0 = 'x'"):
        methods.settings("gates", "protected", {"kinds": ["x"]})

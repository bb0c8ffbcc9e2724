import pytest
from hypothesis import given
from hypothesis import strategies as st

from lightadapt_data import methods
from lightadapt_data.errors import RecipeError
from lightadapt_data.gates import entities


def verdict(parent, child, **options):
    return entities.judge([parent], [child], entities.Settings(**options), None)[0]


@pytest.mark.parametrize(
    ("parent", "child", "reason"),
    [
        ("In May she met Ana in Lisbon.", "In May she met Ana in Porto.",
         "'Lisbon' became 'Porto'"),
        ("The talks at NATO went on.", "The talks went on.", "'NATO' lost"),
        ("NATO met and talked for days.", "They met and talked for days.", "'NATO' lost"),
        ("Ana is here. We like Ana a lot.", "She is here. We like her a lot.", "'Ana' lost"),
        ("The US army left.", "The army left.", "'US' lost"),
        ("They talked for days.", "They talked for days in Lisbon.", "'Lisbon' added"),
        ("O governo falou com Maria ontem.", "O governo falou com ela ontem.", "'Maria' lost"),
    ],
)  # fmt: skip
def test_a_lost_or_new_name_is_refused(parent, child, reason):
    found = verdict(parent, child)
    assert (found.passed, found.reason) == (False, f"entities: {reason}")


@pytest.mark.parametrize(
    ("parent", "child"),
    [
        ("Users like it. Others do not.", "People like it. The rest do not."),
        ("We met Ana's friend in Lisbon.", "In Lisbon we met a friend of Ana."),
        ("In Lisbon I met him, and I'm glad.", "I met him in Lisbon and am glad."),
        ("He said: \"Come here\" and left.", "He said: \"Go there\" and left."),
        ("A Lisbon-based club won it.", "A club based in Lisbon won it."),
        ("It ended. then The club won.", "It ended, then the club won."),
        ("The internet of Peru is slow.", "The Internet of Peru is slow, they say: Internet!"),
        ("A Study Of Birds And Their Songs", "A Look At Birds And Their Music"),
        ("THIS IS ALL SHOUTED HERE", "all of this is shouted"),
        ("السلام عليكم", "سلام"),
        ("", ""),
    ],
)  # fmt: skip
def test_capitals_that_tell_no_name_are_free(parent, child):
    assert verdict(parent, child).passed


def test_limits_are_settings():
    parent, child = "We met Ana, Eva, Ida and Una there today with a cake.", "We met Ana, Eva, Ida."
    assert verdict(parent, child).score == 0.75
    assert not verdict(parent, child).passed
    assert verdict(parent, child, least_kept=0.75).passed
    assert verdict("they met once", "they met once in Rome", may_add=True).passed
    assert not verdict("we Like To Shout it", "we", most_capitals=1).passed


def test_long_lists_are_cut():
    parent = "there were Ana and Eva and Ida and Una and Kim on the way to the sea and back"
    assert verdict(parent, "none").reason == "entities: 'Ana', 'Eva', 'Ida' and 2 more lost"


@given(st.text(max_size=80))
def test_a_text_passes_beside_itself(text):
    assert verdict(text, text).passed


def test_a_wrong_option_is_named():
    with pytest.raises(RecipeError, match=r"\[entities\] least_kept = 2"):
        methods.settings("gates", "entities", {"least_kept": 2})

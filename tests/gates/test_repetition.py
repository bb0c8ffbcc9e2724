import itertools
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lightadapt_data import methods
from lightadapt_data.errors import RecipeError
from lightadapt_data.gates import repetition


def verdict(parent, child, **options):
    return repetition.judge([parent], [child], repetition.Settings(**options), None)[0]


@pytest.mark.parametrize(
    ("parent", "child", "reason"),
    [
        (
            "the model is good",
            "the model, then the model, and the model, so the model",
            "'the model' stands 4 times, 1 in the parent",
        ),
        ("it is very good", "it is very very very good", "'very' 3 times in a row"),
        ("one text of the sea", "of the of the of the sea", "'of the' 3 times in a row"),
        ("我喜欢学习", "我喜欢喜欢喜欢学习", "'喜 欢' 3 times in a row"),
    ],
)
def test_a_loop_is_refused(parent, child, reason):
    found = verdict(parent, child)
    assert (found.passed, found.reason) == (False, f"repetition: {reason}")


@pytest.mark.parametrize(
    ("parent", "child"),
    [
        ("ha ha ha ha ha ha", "ha ha ha ha ha ha!"),
        ("it was very, very good", "it was very very good"),
        ("the cat and the dog and the cow", "the cow and the cat and the dog"),
        ("the model a. the model b. the model c.", "the model a. the model b. the model c. the "
         "model d. the model e."),
        ("", ""),
    ],
)  # fmt: skip
def test_what_the_parent_repeats_may_be_repeated(parent, child):
    assert verdict(parent, child).passed


def test_limits_are_settings():
    assert not verdict("a b", "a b c a b", ngram=2, most=1, growth=0).passed
    assert verdict("a b", "a b c a b", ngram=2, most=1, growth=1).passed
    assert verdict("very", "very very very", in_a_row=3).passed
    assert verdict("a b c", "a b c a b c a b c", longest_run=2).passed


@given(st.lists(st.sampled_from("ab"), max_size=12))
def test_the_run_is_the_one_that_looking_everywhere_finds(words):
    best = 1
    for size in range(1, 5):
        for start in range(len(words)):
            run, times = words[start : start + size], 1
            while (
                words[start + times * size : start + (times + 1) * size] == run and len(run) == size
            ):
                times += 1
            best = max(best, times)
    assert repetition._in_a_row(words, 4)[0] == best


@given(st.text(max_size=60))
def test_a_text_passes_beside_itself_and_the_score_is_its_commonest_pair(text):
    found = verdict(text, text)
    words = repetition._words(text)
    assert found.passed
    assert found.score == max(Counter(itertools.pairwise(words)).values(), default=0)


def test_a_wrong_option_is_named():
    with pytest.raises(RecipeError, match=r"\[repetition\] ngram = 0"):
        methods.settings("gates", "repetition", {"ngram": 0})

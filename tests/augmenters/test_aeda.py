import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lightadapt_data import judging, methods
from lightadapt_data.augmenters import Context, aeda
from lightadapt_data.errors import RecipeError

TEXT = "the cheap engine did not start after 40 mg and Maria wrote to help@a.org about it today"
MARK = re.compile(r" [.;?:!,](?= )")


def rows(*texts):
    return [{"id": f"r{i}", "text": text, "label": "x"} for i, text in enumerate(texts)]


def marked(text, seed=0, **options):
    (found,) = aeda.augment(rows(text), aeda.Settings(**options), Context(seed, (), None))
    return found.text


def test_taking_the_marks_out_gives_the_text_back_and_they_are_at_most_a_third():
    counts = set()
    for seed in range(60):
        found = marked(TEXT, seed)
        assert MARK.sub("", found) == TEXT
        counts.add(len(MARK.findall(found)))
    assert counts <= set(range(1, len(TEXT.split()) // 3 + 1))
    assert len(counts) > 2


def test_no_mark_touches_a_number_negation_name_or_address():
    for seed in range(60):
        found = marked(TEXT, seed, max_share=1)
        for part in ("did not start", "after 40 mg and", "and Maria wrote", "to help@a.org about"):
            assert part in found


def test_marks_can_be_chosen():
    found = marked("these are some ordinary words", marks=["|"], max_share=1)
    assert "|" in found
    assert not set(found) & set(".;?:!,")


def test_a_text_without_a_place_is_refused():
    for text in ("word", "", "😀 😀", "Anna Karenina", "我喜欢学习"):
        (found,) = aeda.augment(rows(text), aeda.Settings(), Context(0, (), None))
        assert (found.text, found.refused) == (text, "no place between two words for a mark")


def test_the_default_gates_let_it_pass():
    gates = {
        name: methods.settings("gates", name, {})
        for name in ("changed", "length", "numbers", "negation", "repetition", "protected",
                     "entities", "antonyms")
    }  # fmt: skip
    texts = [TEXT, "it is neither cheap nor useful for most people here"]
    found = aeda.augment(rows(*texts), aeda.Settings(), Context(0, (), None))
    parents = {f"r{i}": text for i, text in enumerate(texts)}
    judged = judging.judge("aeda", found, parents, {}, gates, None, 1)
    assert [one.gate for one in judged] == ["", ""]


def test_replicas_differ_and_order_does_not_matter():
    settings = aeda.Settings(replicas=3)
    together = aeda.augment(rows(TEXT, TEXT + " now"), settings, Context(0, (), None))
    turned = aeda.augment(rows(TEXT, TEXT + " now")[::-1], settings, Context(0, (), None))
    assert sorted(together, key=str) == sorted(turned, key=str)
    assert len({one.text for one in together[:3]}) == 3


@given(st.text(max_size=80), st.integers(0, 9))
def test_nothing_of_any_text_is_lost(text, seed):
    found = marked(text, seed, marks=["\ue000"])
    assert found.replace(" \ue000", "") == text.replace(" \ue000", "")


def test_odd_rows_never_crash():
    odd = ["", "word", "a" * 50_000, "a!" * 25_000, "word " * 10_000, "😀😀", "שלום עולם", "f(x)\n"]
    assert len(aeda.augment(rows(*odd), aeda.Settings(), Context(0, (), None))) == len(odd)


@pytest.mark.parametrize(
    ("options", "key"), [({"max_share": 0}, "max_share"), ({"marks": []}, "marks")]
)
def test_a_wrong_option_is_named(options, key):
    with pytest.raises(RecipeError, match=rf"\[aeda\] {key} = "):
        methods.settings("augmenters", "aeda", options)

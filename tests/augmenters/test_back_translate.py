import pytest

from lightadapt_data import methods
from lightadapt_data.augmenters import Context, back_translate
from lightadapt_data.errors import InputError, RecipeError

CONTEXT = Context(0, (), None)


def rows(*texts):
    return [{"id": str(n), "text": text, "label": "x"} for n, text in enumerate(texts)]


class Toy:
    """Translator that marks the way, and has no answer for texts with "untranslatable"."""

    def __init__(self):
        self.seen = []

    def translate(self, texts, source, target, settings, n, seed):
        self.seen.append((list(texts), source, target))
        return [[] if "untranslatable" in t else [f"{t}<{target}>"] for t in texts]


@pytest.fixture
def toy(monkeypatch):
    translator = Toy()
    load = methods.load
    monkeypatch.setattr(
        methods,
        "load",
        lambda family, name: translator if family == "translators" else load(family, name),
    )
    monkeypatch.setattr(back_translate, "_options", lambda settings: None)
    return translator


def test_text_comes_back_in_other_words():
    (found,) = back_translate.augment(
        rows("The compiler warns you about variables that are never used."),
        back_translate.Settings(),
        CONTEXT,
    )
    assert found.text != "The compiler warns you about variables that are never used."
    assert "compiler" in found.text.lower()
    assert "variables" in found.text
    assert (found.parent_id, found.label, found.replica, found.refused) == ("0", "x", 0, "")


def test_one_candidate_per_row_and_pivot_in_row_order(toy):
    found = back_translate.augment(
        rows("One two three four.", "Five six seven eight."),
        back_translate.Settings.model_construct(
            language="en", pivots=("pt", "de"), translator="t", translator_options={}, min_words=4
        ),
        CONTEXT,
    )
    assert [(one.parent_id, one.replica, one.text) for one in found] == [
        ("0", 0, "One two three four.<pt><en>"),
        ("0", 1, "One two three four.<de><en>"),
        ("1", 0, "Five six seven eight.<pt><en>"),
        ("1", 1, "Five six seven eight.<de><en>"),
    ]


def test_sentence_that_cannot_travel_stays_and_spacing_too(toy):
    text = " One two three four.\n\nToo short. An untranslatable sentence is here. "
    (found,) = back_translate.augment(rows(text), back_translate.Settings(), CONTEXT)
    assert found.text == (
        " One two three four.<pt><en>\n\nToo short. An untranslatable sentence is here. "
    )


def test_row_without_any_translation_is_refused(toy):
    (found,) = back_translate.augment(rows("Too short."), back_translate.Settings(), CONTEXT)
    assert found.refused == "no sentence could be translated to 'pt' and back"


def test_equal_sentences_of_all_rows_travel_once(toy):
    back_translate.augment(
        rows("One two three four.", "One two three four."), back_translate.Settings(), CONTEXT
    )
    assert [len(texts) for texts, _, _ in toy.seen] == [1, 1]


def test_row_does_not_depend_on_its_neighbours():
    texts = ["The cable must be replaced if it is cracked.", "The index is rebuilt every night."]
    settings = back_translate.Settings()
    together = back_translate.augment(rows(*texts), settings, CONTEXT)
    backwards = back_translate.augment(rows(*texts)[::-1], settings, CONTEXT)
    assert together == backwards[::-1]


def test_odd_rows_never_crash():
    odd = [
        "",
        "word",
        "a" * 50_000,
        "word " * 10_000,
        "😀😀",
        "مرحبا بالعالم كيف حالك اليوم",
        "for i in x: f(i)\n",
    ]
    found = back_translate.augment(rows(*odd), back_translate.Settings(), CONTEXT)
    assert [one.text for one in found] == odd
    assert all(one.refused for one in found)
    assert back_translate.augment([], back_translate.Settings(), CONTEXT) == []


def test_models_are_named_for_both_ways():
    assert list(back_translate.reads(back_translate.Settings())) == ["en-pt", "pt-en"]


def test_missing_model_is_found_before_any_work():
    with pytest.raises(InputError, match="no model for 'en-de'"):
        back_translate.reads(back_translate.Settings(pivots=("de",)))


def test_options_of_the_translator_are_checked_with_the_recipe():
    with pytest.raises(RecipeError, match="unknown key 'model'; allowed: models"):
        back_translate.Settings(translator_options={"model": {}})
    with pytest.raises(RecipeError, match="no method 'bergamo' in translators"):
        back_translate.Settings(translator="bergamo")


def test_place_of_a_model_does_not_enter_the_key():
    here = back_translate.Settings(translator_options={"models": {"en-de": "/a"}})
    assert here.key_fields() == back_translate.Settings().key_fields()

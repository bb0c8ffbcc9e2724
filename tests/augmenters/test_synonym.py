import pytest
from hypothesis import given
from hypothesis import strategies as st

from lightadapt_data import inflections, word_edits, wordnet
from lightadapt_data.augmenters import Context, synonym
from lightadapt_data.errors import InputError


def rows(*texts):
    return [{"id": f"r{i}", "text": text, "label": "x"} for i, text in enumerate(texts)]


def replaced(text, seed=0, **options):
    (found,) = synonym.augment(rows(text), synonym.Settings(**options), Context(seed, (), None))
    return found.text


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("they were simulating the rain", "they were imitating the rain"),
        ("the playwrights were here", "the dramatists were here"),
        ("it was hindered by rain", "it was impeded by rain"),
        ("a gruesome bag", "a ghastly bag"),
        ("an inexpensive bag", "a cheap bag"),
    ],
)
def test_the_ending_and_the_article_fit(text, expected):
    assert replaced(text) == expected


def test_an_ambiguous_word_is_replaced_only_where_the_words_around_tell_its_part():
    entries = {entry.part: entry for entry in wordnet.load().entries["build"]}
    assert entries["n"].synonyms == ("physique",)
    assert replaced("we build it") == "we construct it"
    assert "physique" not in replaced("they will build")


@pytest.mark.parametrize("text", ["Huge", "HUGE", "`huge`", "www.huge.org", "huge_file", "huge(1)"])
def test_names_and_code_stay(text):
    (found,) = synonym.augment(rows(text), synonym.Settings(), Context(0, (), None))
    assert (found.text, found.refused) == (text, "no word with a synonym that is sure to fit")


def test_numbers_negations_and_user_patterns_stay():
    text = "a huge engine is not cheap and costs 40 dollars in the huge shop"
    for seed in range(20):
        found = replaced(text, seed, keep=["huge shop"], share_of_words=1)
        for part in ("is not", "40 dollars", "huge shop", " engine is", " in the huge"):
            assert part in found


def test_no_synonym_in_the_table_is_an_antonym_or_needs_a_kept_word():
    table = wordnet.load()
    for word, entries in table.entries.items():
        for entry in entries:
            assert not set(entry.synonyms) & table.antonyms.get(word, frozenset())
            for other in (word, *entry.synonyms):
                assert not word_edits.is_function_word(other)


def test_order_seeds_and_replicas():
    texts = ["a huge person will choose a cheap process", "the cheap agency", "no such word"]
    settings = synonym.Settings(replicas=3, share_of_words=0.2)
    together = synonym.augment(rows(*texts), settings, Context(0, (), None))
    turned = synonym.augment(rows(*texts)[::-1], settings, Context(0, (), None))
    assert sorted(together, key=str) == sorted(turned, key=str)
    assert len({replaced(texts[0], seed, share_of_words=0.2) for seed in range(20)}) > 3


@given(st.text(max_size=80))
def test_any_text_keeps_its_pieces(text):
    found = replaced(text)
    assert len(word_edits.cut(found).tokens) == len(word_edits.cut(text).tokens)


def test_odd_rows_never_crash():
    odd = ["", "word", "a" * 50_000, "a!" * 25_000, "huge " * 10_000, "😀😀", "שלום עולם", "f(x)\n"]
    found = synonym.augment(rows(*odd), synonym.Settings(), Context(0, (), None))
    assert len(found) == len(odd)


def test_a_folder_without_wordnet_is_named(tmp_path):
    for act in (synonym.reads, lambda s: synonym.augment(rows("huge"), s, Context(0, (), None))):
        with pytest.raises(InputError, match=r"has no file 'index\.noun'; give the folder"):
            act(synonym.Settings(wordnet=str(tmp_path)))
    assert synonym.reads(synonym.Settings()) == {"wordnet": wordnet.fingerprint()}


@given(st.from_regex("[a-z]{4,9}", fullmatch=True))
def test_an_ending_that_is_put_on_can_be_taken_off(basic):
    for kind in inflections.KINDS:
        form = inflections.inflected(basic, kind)
        if form is not None:
            assert (basic, kind) in set(inflections.basics(form))


@pytest.mark.parametrize(
    ("basic", "forms"),
    [
        ("stop", ("stops", "stopped", "stopping")),
        ("carry", ("carries", "carried", "carrying")),
        ("play", ("plays", "played", "playing")),
        ("use", ("uses", "used", "using")),
        ("see", ("sees", "seed", "seeing")),
        ("watch", ("watches", "watched", "watching")),
        ("die", ("dies", "died", "dying")),
        ("quiz", ("quizes", "quizzed", "quizzing")),
        ("hero", (None, "heroed", "heroing")),
        ("panic", ("panics", None, None)),
    ],
)
def test_endings(basic, forms):
    assert tuple(inflections.inflected(basic, kind) for kind in inflections.KINDS) == forms

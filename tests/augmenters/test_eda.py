import json
import os
import re
import subprocess
import sys
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lightadapt_data import methods, word_edits, wordnet
from lightadapt_data.augmenters import Context, eda
from lightadapt_data.errors import InputError, RecipeError

TEXT = (
    "The cheap engine did not start after 40 minutes, so Maria Silva wrote to help@a.org and "
    "opened https://a.b/c?d=e with `run(x)`; a huge person found the process in Lisbon."
)
KEPT = [
    "The", "not", "40", "minutes", "Maria", "Silva", "help@a.org", "https://a.b/c?d=e",
    "`run(x)`", "Lisbon",
]  # fmt: skip
ODD = [
    "", " \n", "word", "😀😀", "שלום עולם", "for i in range(10): print(i ** 2)", "我喜欢学习",
    "\x00",
    "a" * 50_000, "a!" * 25_000, "word " * 10_000, "```" * 101, "http://" * 7_000, "`a" * 20_001,
]  # fmt: skip
OPERATIONS = ("replace", "insert", "swap", "delete")


def rows(*texts):
    return [{"id": f"r{i}", "text": text, "label": "x"} for i, text in enumerate(texts)]


def edited(text, seed=0, **options):
    (found,) = eda.augment(rows(text), eda.Settings(**options), Context(seed, (), None))
    return found.text


def words(text):
    return Counter(re.findall(r"\w+", text))


@pytest.mark.parametrize("operation", OPERATIONS)
def test_each_edit_alone_keeps_all_that_is_protected_in_its_order(operation):
    for seed in range(40):
        text = edited(TEXT, seed, operations=[operation])
        assert text != TEXT
        pieces = word_edits.cut(text)
        assert [pieces.tokens[i] for i in sorted(pieces.kept)] == KEPT


def test_swap_keeps_the_words_and_delete_only_takes_some():
    for seed in range(20):
        assert words(edited(TEXT, seed, operations=["swap"])) == words(TEXT)
        assert words(edited(TEXT, seed, operations=["delete"])) < words(TEXT)


def test_insert_adds_as_many_words_as_alpha_says():
    text = "cheap houses with a huge garden near the big city centre"
    for seed in range(20):
        found = edited(text, seed, operations=["insert"], alpha=0.3)
        assert words(found).total() - words(text).total() in (1, 2, 3)


def test_replace_takes_a_synonym_and_mends_the_article():
    assert edited("a cheap shop", operations=["replace"]) == "an inexpensive shop"


def test_an_edit_that_is_switched_off_is_never_made():
    for seed in range(40):
        text = edited(TEXT, seed, operations=["replace", "delete"])
        assert len(text.split()) <= len(TEXT.split())


def test_the_order_of_operations_in_a_recipe_decides_nothing():
    for seed in range(10):
        assert edited(TEXT, seed) == edited(TEXT, seed, operations=OPERATIONS[::-1])


def test_the_last_word_is_never_deleted():
    assert edited(" one or word", operations=["delete"], alpha=1).strip()
    assert edited(" word", operations=["delete"], alpha=1).strip()


def test_a_row_that_cannot_be_edited_is_refused():
    (found,) = eda.augment(rows("Paris 2024"), eda.Settings(), Context(0, (), None))
    assert (found.text, found.refused) == ("Paris 2024", "no word that may be edited")


def test_replicas_differ_and_neither_order_nor_neighbours_matter():
    settings = eda.Settings(replicas=4)
    texts = [TEXT, TEXT.replace("cheap", "big"), "some other words stand in this row", "one"]
    together = eda.augment(rows(*texts), settings, Context(0, (), None))
    turned = eda.augment(rows(*texts)[::-1], settings, Context(0, (), None))
    assert sorted(together, key=str) == sorted(turned, key=str)
    assert len({one.text for one in together[:4]}) == 4
    assert [one.replica for one in together[:4]] == [0, 1, 2, 3]
    assert all(one.label == "x" for one in together)
    other_seed = eda.augment(rows(*texts), settings, Context(1, (), None))
    assert [one.text for one in other_seed] != [one.text for one in together]


def test_result_does_not_depend_on_the_hash_seed():
    code = (
        "import json; from lightadapt_data.augmenters import Context, eda, synonym;"
        f"r = [{{'id': str(n), 'text': {TEXT!r}, 'label': 'x'}} for n in range(20)];"
        "print(json.dumps([o.text for m in (eda, synonym)"
        " for o in m.augment(r, m.Settings(), Context(0, (), None))]))"
    )
    outputs = [
        json.loads(
            subprocess.run(
                [sys.executable, "-c", code],
                capture_output=True,
                text=True,
                check=True,
                env={**os.environ, "PYTHONHASHSEED": seed},
            ).stdout
        )
        for seed in ("1", "2")
    ]
    assert outputs[0] == outputs[1]


def test_user_patterns_stay():
    for seed in range(20):
        text = edited("the red cat and the blue dog ran", seed, keep=[r"red \w+", "blue dog"])
        assert "red cat" in text
        assert "blue dog" in text


@given(st.text(max_size=80), st.integers(0, 9))
def test_any_text_keeps_what_is_protected(text, seed):
    found = edited(text, seed)
    before, after = word_edits.cut(text), word_edits.cut(found)
    assert "".join(before.tokens) == text
    joined = "".join(after.tokens)
    for place in before.kept:
        assert before.tokens[place] in joined


def test_odd_rows_never_crash():
    for operation in OPERATIONS:
        settings = eda.Settings(operations=[operation])
        found = eda.augment(rows(*ODD), settings, Context(0, (), None))
        assert len(found) == len(ODD)
        for text, one in zip(ODD, found, strict=True):
            assert bool(one.refused) == (one.text == text)
    assert eda.augment([], eda.Settings(), Context(0, (), None)) == []


def test_reads_names_the_synonyms_only_where_they_matter(tmp_path):
    assert eda.reads(eda.Settings()) == {"wordnet": wordnet.fingerprint()}
    assert eda.reads(eda.Settings(operations=["swap"])) == {}
    with pytest.raises(InputError, match=r"has no file 'index\.noun'"):
        eda.reads(eda.Settings(wordnet=str(tmp_path)))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"alpha": 0}, r"\[eda\] alpha = 0: "),
        ({"operations": []}, r"\[eda\] operations = \[\]: "),
        ({"operations": ["move"]}, r"\[eda\] operations.0 = 'move': .*'replace', 'insert'"),
        ({"keep": ["("]}, r"\[eda\] keep = .*'\(' is no regular expression: .*; escape signs"),
        ({"replicas": 0}, r"\[eda\] replicas = 0: "),
        ({"aplha": 1}, r"unknown key 'aplha'; .*did you mean 'alpha'\?"),
    ],
)
def test_a_wrong_option_is_named(options, message):
    with pytest.raises(RecipeError, match=message):
        methods.settings("augmenters", "eda", options)

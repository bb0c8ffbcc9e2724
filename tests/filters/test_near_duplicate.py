import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lightadapt_data.filters import Text, near_duplicate
from lightadapt_data.filters.near_duplicate import Settings, examine

LONG = "the quick brown fox jumps over the lazy dog while the cat sleeps in the warm sun all day"


def texts(*values, families=None, n_settled=0):
    families = families or [str(i) for i in range(len(values))]
    return [
        Text(str(i), families[i], value, is_settled=i < n_settled) for i, value in enumerate(values)
    ]


def ngrams(text, n):
    words = re.findall(r"\w+", text.casefold()) or [text.strip()]
    return {tuple(words[i : i + n]) for i in range(max(1, len(words) - n + 1))}


def jaccard(left, right):
    return len(left & right) / len(left | right)


def test_an_edited_copy_names_the_kept_row_it_matches():
    found = examine(texts(LONG, "another text altogether", LONG + " long"), Settings(), None)
    assert list(found) == [2]
    assert found[2].kept == 0
    assert 0.9 < found[2].similarity < 1
    assert found[2].reason == "similarity 0.94"


def test_changed_punctuation_and_case_make_an_equal_text():
    found = examine(texts(LONG, LONG.title().replace(" ", ", ")), Settings(), None)
    assert found[1].similarity == 1


def test_a_chain_of_small_changes_deletes_only_rows_close_to_a_kept_one():
    words = [f"w{i}" for i in range(40)]
    chain = [" ".join(words[5 * step : 5 * step + 20]) for step in range(5)]
    found = examine(texts(*chain), Settings(threshold=0.5, substitutions=1), None)
    assert list(found) == [1, 3]
    assert [found[1].kept, found[3].kept] == [0, 2]


def test_a_row_and_its_children_are_no_copies_of_each_other():
    assert examine(texts(LONG, LONG + " x", families=["a", "a"]), Settings(), None) == {}


def test_rows_of_an_earlier_run_stay_and_drop_others():
    rows = texts(LONG, LONG + " x", LONG + " y", n_settled=2)
    assert list(examine(rows, Settings(), None)) == [2]


def test_of_equally_close_rows_the_first_is_named():
    rows = texts(LONG, LONG, LONG + " x", n_settled=2)
    assert examine(rows, Settings(), None)[2].kept == 0


vocabulary = st.lists(st.sampled_from("abc"), max_size=9).map(" ".join)
drawn_rows = st.lists(st.tuples(vocabulary, st.sampled_from("xyzuvw")), max_size=12)


@given(drawn_rows, st.integers(0, 3), st.sampled_from([0.1, 0.3, 0.5, 0.7, 0.8, 1]), st.booleans())
def test_the_result_equals_a_loop_over_all_pairs(rows, n_settled, threshold, is_crowded):
    values, families = [row[0] for row in rows], [row[1] for row in rows]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(near_duplicate, "CROWD", 1 if is_crowded else 16)
        settings = Settings(threshold=threshold, ngram=2, substitutions=1)
        found = examine(texts(*values, families=families, n_settled=n_settled), settings, None)
    grams = [ngrams(value, 2) for value in values]
    kept = []
    for index in range(len(values)):
        others = [other for other in kept if families[other] != families[index]]
        similar = {other: jaccard(grams[index], grams[other]) for other in others}
        highest = max(similar.values(), default=0)
        if highest >= threshold and index >= n_settled:
            assert found[index].similarity == highest
            assert found[index].kept == next(row for row, at in similar.items() if at == highest)
        else:
            assert index not in found
            kept.append(index)


def test_deduplicating_twice_equals_once():
    values = [LONG, LONG + " x", LONG.replace("cat", "dog"), "short text", "short text"]
    once = [v for i, v in enumerate(values) if i not in examine(texts(*values), Settings(), None)]
    assert examine(texts(*once), Settings(), None) == {}


def test_thousands_of_rows_with_one_beginning_are_all_copies_of_the_first():
    begin = " ".join(f"w{i}" for i in range(60))
    found = examine(texts(*(f"{begin} {'x' * (i % 9)}" for i in range(5000))), Settings(), None)
    assert len(found) == 4999
    assert {finding.kept for finding in found.values()} == {0}


def test_thousands_of_rows_that_fill_one_form_differently_are_all_kept():
    begin = " ".join(f"w{i}" for i in range(60))
    rows = texts(*(f"{begin} {' '.join(f'{i}x{k}' for k in range(9))}" for i in range(5000)))
    assert examine(rows, Settings(), None) == {}


def test_a_row_in_a_crowd_is_compared_with_a_limited_number_of_rows(monkeypatch):
    monkeypatch.setattr(near_duplicate, "MOST_COMPARED", 4)
    monkeypatch.setattr(near_duplicate, "CROWD", 2)
    rows = texts(*([LONG] * 30), n_settled=29)
    assert examine(rows, Settings(), None)[29].kept == 0


def test_no_rows_and_empty_texts_are_fine():
    assert examine([], Settings(), None) == {}
    assert list(examine(texts("", ""), Settings(), None)) == [1]
    assert examine(texts("one row"), Settings(), None) == {}


FILLER = " ".join(f"w{number}" for number in range(80))
FORM = "This package holds the {} language files of the office suite, version {}, " + FILLER


def test_rows_of_one_form_that_say_different_things_are_no_copies():
    rows = texts(*(FORM.format(*slots) for slots in (("Danish", 7), ("Spanish", 7), ("Danish", 8))))
    assert examine(rows, Settings(), None) == {}
    assert set(examine(rows, Settings(substitutions=1), None)) == {1, 2}


def test_what_one_text_only_lacks_or_spells_differently_is_still_a_copy():
    text = FORM.format("Danish", "150,000")
    edited = [
        "Update: " + text.replace(" office", ""),
        text.replace("language", "langauge"),
        text.replace("150,000", "150000").upper(),
    ]
    assert set(examine(texts(text, *edited), Settings(), None)) == {1, 2, 3}


def test_a_sibling_of_one_row_may_be_a_copy_of_another():
    rows = [FORM.format("Danish", 7), FORM.format("Thai", 7), FORM.format("Thai", 7) + " end"]
    assert examine(texts(*rows), Settings(), None)[2].kept == 1

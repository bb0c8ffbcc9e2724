import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from lightadapt_data.filters import Text
from lightadapt_data.filters.near_duplicate import Settings, examine, jaccard, ngrams

LONG = "the quick brown fox jumps over the lazy dog while the cat sleeps in the warm sun all day"


def texts(*values, families=None):
    families = families or [str(i) for i in range(len(values))]
    return [Text(str(i), families[i], value) for i, value in enumerate(values)]


def test_an_edited_copy_names_the_kept_row_it_matches():
    found = examine(texts(LONG, "another text altogether", LONG + " long"), Settings(), None)
    assert list(found) == [2]
    assert found[2].kept == 0
    assert 0.8 < found[2].similarity < 1


def test_a_chain_of_small_changes_deletes_only_rows_close_to_a_kept_one():
    words = [f"w{i}" for i in range(40)]
    chain = [" ".join(words[5 * step : 5 * step + 20]) for step in range(5)]
    found = examine(texts(*chain), Settings(threshold=0.5, rows_per_band=2), None)
    grams = [ngrams(text, 3) for text in chain]
    assert found
    for dropped, match in found.items():
        assert match.kept not in found
        assert jaccard(grams[dropped], grams[match.kept]) >= 0.5
    assert len(found) < len(chain) - 1


def test_a_row_and_its_children_are_no_copies_of_each_other():
    assert examine(texts(LONG, LONG + " x", families=["a", "a"]), Settings(), None) == {}


vocabulary = st.lists(st.sampled_from("abcd"), min_size=1, max_size=8).map(" ".join)


@given(st.lists(vocabulary, max_size=12))
def test_the_result_equals_a_loop_over_all_pairs(values):
    settings = Settings(bands=64, rows_per_band=1)
    found = examine(texts(*values), settings, None)
    grams = [ngrams(value, settings.ngram) for value in values]
    kept = []
    for index in range(len(values)):
        similar = [jaccard(grams[index], grams[other]) for other in kept]
        if max(similar, default=0) >= settings.threshold:
            assert found[index].similarity == max(similar)
        else:
            assert index not in found
            kept.append(index)


def test_deduplicating_twice_equals_once():
    values = [LONG, LONG + " x", LONG.replace("cat", "dog"), "short text", "short text"]
    once = [v for i, v in enumerate(values) if i not in examine(texts(*values), Settings(), None)]
    assert examine(texts(*once), Settings(), None) == {}


def test_bands_that_would_miss_pairs_are_refused():
    with pytest.raises(
        ValidationError, match=r"would miss .* use more bands or fewer rows per band"
    ):
        Settings(bands=2, rows_per_band=16)


def test_no_rows_and_empty_texts_are_fine():
    assert examine([], Settings(), None) == {}
    assert list(examine(texts("", ""), Settings(), None)) == [1]

import itertools
import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lightadapt_data import ngrams
from lightadapt_data.ngrams import ngram_codes


def per_text(texts, n):
    codes, bounds = ngram_codes(texts, n)
    assert codes.dtype == np.uint64
    return [codes[start:end].tolist() for start, end in itertools.pairwise(bounds)]


def twin(text, n):
    words = re.findall(r"\w+", text.casefold())
    if not words:
        return [text.strip()]
    return [tuple(words[i : i + n]) for i in range(max(1, len(words) - n + 1))]


some_text = st.text(st.sampled_from("aAbB\u00e9\u00e8\u0416 \n\t.,-'_7\0"), max_size=30)


@given(st.lists(some_text, max_size=8), st.integers(1, 4))
def test_codes_are_equal_where_the_words_are(texts, n):
    found, expected = per_text(texts, n), [twin(text, n) for text in texts]
    assert [len(codes) for codes in found] == [len(grams) for grams in expected]
    code_of = {}
    for codes, grams in zip(found, expected, strict=True):
        for code, gram in zip(codes, grams, strict=True):
            if isinstance(gram, tuple):
                assert code_of.setdefault(gram, code) == code
    assert len(set(code_of.values())) == len(code_of)


@given(st.lists(st.text(max_size=20), max_size=6))
def test_a_text_has_the_same_codes_in_any_company(texts):
    assert per_text(texts, 2) == [per_text([text], 2)[0] for text in texts]


def test_blocks_of_texts_do_not_show(monkeypatch):
    texts = [f"row {i} has {'a few ' * (i % 7)}words" for i in range(50)]
    whole = per_text(texts, 3)
    monkeypatch.setattr(ngrams, "BLOCK_CHARACTERS", 40)
    assert per_text(texts, 3) == whole


@pytest.mark.parametrize("length", [7, 8, 9, 15, 16, 17, 63, 64, 65, 200])
def test_every_letter_of_a_long_word_counts(length):
    word = "abcdefghij" * 20
    changed = [word[:i] + "z" + word[i + 1 : length] for i in range(length)]
    codes = [codes[0] for codes in per_text([word[:length], *changed], 1)]
    assert len(set(codes)) == length + 1


def test_case_punctuation_and_forms_of_unicode_make_no_difference():
    same = ["Caf\u00e9, au lait!", "cafe\u0301 AU  lait", "caf\u00e9 - au (lait)"]
    first, *others = per_text(same, 2)
    assert others == [first, first]


def test_scripts_without_spaces_are_cut_into_characters():
    assert len(per_text(["\u6211\u4eec\u559c\u6b22\u8336"], 1)[0]) == 5
    assert len(per_text(["\u0e09\u0e31\u0e19\u0e0a\u0e2d\u0e1a"], 1)[0]) == 6


def test_marks_stay_with_their_letters_and_pictographs_are_words():
    assert len(per_text(["\u0939\u093f\u0928\u094d\u0926\u0940"], 1)[0]) == 1
    first, second = per_text(["go \U0001f600", "go \U0001f622"], 2)
    assert first != second


def test_texts_without_words_differ_by_their_characters():
    codes = per_text(["", " ", "!!", "??", "\0"], 3)
    assert codes[0] == codes[1]
    assert codes[2] != codes[3]


def test_a_lone_surrogate_and_no_text_are_no_fault():
    assert len(per_text(["a \ud800 b"], 1)[0]) in (2, 3)
    assert per_text([], 3) == []

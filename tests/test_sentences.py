import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lightadapt_data import sentences


@given(
    st.text(alphabet=st.sampled_from("aB .!?\n\t\"'1。)é😀"), max_size=100) | st.text(max_size=50)
)
def test_joined_pieces_give_back_the_text(text):
    pieces = sentences.split(text)
    assert "".join(sentence + gap for sentence, gap in pieces) == text
    assert all(sentence == sentence.strip() for sentence, _ in pieces)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("One. Two! Three?", ["One.", "Two!", "Three?"]),
        ("He met Dr. Smith, i.e. The boss.", ["He met Dr. Smith, i.e. The boss."]),
        ("J. Smith et al. 2019 said so.", ["J. Smith et al. 2019 said so."]),
        ("It costs 3.50 euros. Cheap.", ["It costs 3.50 euros.", "Cheap."]),
        ('He said "no." Then he left.', ['He said "no."', "Then he left."]),
        ("He said no. Then he left.", ["He said no.", "Then he left."]),
        ("See no. 5 of it.", ["See no. 5 of it."]),
        ("A line that\nruns on.", ["A line that\nruns on."]),
        ("Title\n\nbody text", ["Title", "body text"]),
        ("items:\n- one\n- two", ["items:", "- one", "- two"]),
        ("これは文です。次の文です。", ["これは文です。", "次の文です。"]),
        ("مرحبا؟ أهلا", ["مرحبا؟", "أهلا"]),
        ("  lead", ["", "lead"]),
        ("", []),
    ],
)
def test_sentences_end_where_a_reader_would_end_them(text, expected):
    assert [sentence for sentence, _ in sentences.split(text)] == expected


@pytest.mark.parametrize(
    "text", ["a" * 50_000, " " * 50_000, ". " * 25_000, "\n" * 50_000, "!" * 50_000]
)
def test_odd_long_texts_take_no_time(text):
    started = time.perf_counter()
    sentences.split(text)
    sentences.normalised(text)
    assert time.perf_counter() - started < 2


def test_texts_are_compared_without_case_punctuation_and_spacing():
    assert sentences.normalised(" “It’s”  FINE… ") == sentences.normalised("it's fine")
    assert sentences.normalised("a b") != sentences.normalised("ab")
    assert sentences.normalised("😀") == ""

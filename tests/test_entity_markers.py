import pytest
from hypothesis import given
from hypothesis import strategies as st

from lightadapt_data import entity_markers
from lightadapt_data.spans import Encoded

TEXT = "The author, of a book."


def encoding(text):
    """One token per sign that is no white space; special tokens 100 and 101."""
    places = [place for place, sign in enumerate(text) if not sign.isspace()]
    return Encoded(
        before=(100,),
        ids=tuple(ord(text[place]) for place in places),
        offsets=tuple((place, place + 1) for place in places),
        words=(None,) * len(places),
        after=(101,),
    )


def put(text, head, tail):
    return entity_markers.put(text, head, tail, "@", "#")


@pytest.mark.parametrize(
    ("head", "tail", "expected"),
    [
        ((4, 10), (17, 21), "The @ author @ , of a # book # ."),
        ((17, 21), (4, 10), "The # author # , of a @ book @ ."),
        ((0, 4), (10, 22), "@ The @ author # , of a book. #"),  # white space stays outside
        ((4, 7), (7, 10), "The @ aut @ # hor # , of a book."),
    ],
)
def test_markers_stand_around_the_entities_with_white_space(head, tail, expected):
    text, signs = put(TEXT, head, tail)
    assert " ".join(text.split()) == expected
    assert [text[place] for pair in signs for place in pair] == ["@", "@", "#", "#"]
    assert text[slice(*signs[0])].strip("@ ") == TEXT[slice(*head)].strip()
    assert text[slice(*signs[1])].strip("# ") == TEXT[slice(*tail)].strip()


def test_markers_of_several_signs_are_found_by_the_first_and_the_last():
    text, signs = entity_markers.put("a b", (0, 1), (2, 3), "[E1]", "[E2]")
    assert text == "[E1] a [E1] [E2] b [E2]"
    assert signs == ((0, 10), (12, 22))


def test_a_short_text_is_whole_and_markers_are_found_in_it():
    text, signs = put(TEXT, (17, 21), (4, 10))
    ids, (head, tail) = entity_markers.cut(encoding(text), signs, 128)
    assert ids == (100, *(ord(sign) for sign in text if not sign.isspace()), 101)
    assert [chr(ids[place]) for place in (*head, *tail)] == ["@", "@", "#", "#"]
    assert tail[0] < tail[1] < head[0] < head[1]


def test_a_text_is_cut_where_it_is_far_from_the_entities():
    text, signs = put("abcdefgh 1 ij 2 klmnopqr", (9, 10), (14, 15))
    ids, _ = entity_markers.cut(encoding(text), signs, 2 + 12)
    assert "".join(map(chr, ids[1:-1])) == "gh@1@ij#2#kl"


def test_what_lies_between_distant_entities_is_cut_in_its_middle():
    text, signs = put("ab 1 cdefghijklmn 2 op", (3, 4), (18, 19))
    ids, _ = entity_markers.cut(encoding(text), signs, 2 + 14)
    assert "".join(map(chr, ids[1:-1])) == "ab@1@cdmn#2#op"


@given(st.integers(0, 30), st.integers(0, 30), st.integers(8, 80), st.booleans())
def test_no_marker_is_ever_lost(gap, outside, longest, is_turned):
    text = "a" * outside + " 1 " + "b" * gap + " 2 " + "c" * outside
    head, tail = (outside + 1, outside + 2), (outside + gap + 4, outside + gap + 5)
    if is_turned:
        head, tail = tail, head
    marked, signs = put(text, head, tail)
    whole = encoding(marked)
    ids, found = entity_markers.cut(whole, signs, longest)
    assert len(ids) == min(longest, len(whole.ids) + 2)
    assert (ids[0], ids[-1]) == (100, 101)
    assert [chr(ids[place]) for pair in found for place in pair] == ["@", "@", "#", "#"]
    for first, last in found:
        assert last == first + 2


def test_entities_that_do_not_fit_are_refused():
    text, signs = put("abcdefgh xyz", (0, 8), (9, 12))
    with pytest.raises(
        ValueError, match="head and tail take 15 tokens with their markers; allowed: at most 10"
    ):
        entity_markers.cut(encoding(text), signs, 12)

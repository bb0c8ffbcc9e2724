import re

import pytest
import transformers
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers
from tokenizers.processors import BertProcessing, ByteLevel

from lightadapt_data import spans
from lightadapt_data.errors import InputError

SPECIAL = ["[PAD]", "[CLS]", "[SEP]", "[UNK]"]


def wrapped(core):
    core.add_special_tokens([AddedToken(sign, special=True) for sign in SPECIAL])
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=core, pad_token="[PAD]", cls_token="[CLS]", sep_token="[SEP]"
    )


def wordpiece():
    pieces = [*SPECIAL, "lon", "##don", "saw", ",", ".", "u", "s", "\u4e2d", "\u56fd"]
    core = Tokenizer(models.WordPiece({p: i for i, p in enumerate(pieces)}, unk_token="[UNK]"))
    core.normalizer = normalizers.BertNormalizer()
    core.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    core.post_processor = BertProcessing(("[SEP]", 2), ("[CLS]", 1))
    return wrapped(core)


def bytes_of(merges, has_pieces=True):
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    pieces = [*SPECIAL, *alphabet, *("".join(merge) for merge in merges)]
    core = Tokenizer(models.BPE({p: i for i, p in enumerate(pieces)}, merges))
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=has_pieces)
    core.post_processor = ByteLevel(trim_offsets=False)
    core.decoder = decoders.ByteLevel()
    return wrapped(core)


def sentencepiece(has_pieces=True):
    pieces = ["\u2581London", "\u2581saw", "\u2581", "London", ",", ".", "U", "S", "a", "w"]
    found = [*((p, 0.0) for p in SPECIAL), *((p, -1.0) for p in [*pieces, "\u4e2d", "\u56fd"])]
    core = Tokenizer(models.Unigram(found, unk_id=3))
    if has_pieces:
        core.pre_tokenizer = pre_tokenizers.Metaspace()
    else:  # as Llama 2 has it: no pieces, only white space made visible
        core.normalizer = normalizers.Replace(" ", "\u2581")
    return wrapped(core)


TOKENIZERS = {
    "wordpiece": wordpiece,
    "bytes": lambda: bytes_of([("\u0120", "L"), ("o", "n")]),
    "sentencepiece": sentencepiece,
    "no pieces": lambda: sentencepiece(has_pieces=False),
}


@pytest.fixture(params=sorted(TOKENIZERS))
def tokenizer(request):
    return TOKENIZERS[request.param]()


def words(text, tokenizer):
    encoding = spans.encoded([text], tokenizer)[0]
    return [text[slice(*word.span)] for word in spans.words_of(text, encoding)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("London saw", ["London", "saw"]),
        ("saw London, London.", ["saw", "London", ",", "London", "."]),
        ("  saw   London ", ["saw", "London"]),
        ("U.S. saw", ["U", ".", "S", ".", "saw"]),
        ("\u4e2d\u56fd saw", ["\u4e2d", "\u56fd", "saw"]),
    ],
)
def test_words_are_the_same_whatever_the_tokenizer_cuts_at(text, expected, tokenizer):
    assert words(text, tokenizer) == expected


def test_a_token_that_holds_more_than_a_word_is_not_cut():
    assert words("saw,saw", bytes_of([(",", "s")], has_pieces=False)) == ["saw", ",saw"]


def test_a_sign_of_several_bytes_is_one_word():
    assert words("saw\U0001f600\u00e9t\u00e9", bytes_of([])) == [
        "saw",
        "\U0001f600",
        "\u00e9t\u00e9",
    ]


def test_vowel_signs_belong_to_their_word():
    assert words("\u0939\u093f\u0928\u094d\u0926\u0940 saw", bytes_of([])) == [
        "\u0939\u093f\u0928\u094d\u0926\u0940",
        "saw",
    ]


def test_text_and_special_tokens_are_kept_apart():
    found = spans.encoded(["London saw", "\u200b"], wordpiece())
    assert found[0].before == (1,)
    assert found[0].after == (2,)
    assert found[0].offsets == ((0, 3), (3, 6), (7, 10))
    assert found[0].n_special == 2
    assert (found[1].before, found[1].ids, found[1].after) == ((1, 2), (), ())
    assert spans.words_of("\u200b", found[1]) == []
    assert spans.encoded([], wordpiece()) == []


@given(st.text(alphabet="Lon, .\u4e2d\u00e9\U0001f600", max_size=30))
def test_words_are_parts_of_the_text_in_order(text):
    for make in (wordpiece, sentencepiece, lambda: bytes_of([("o", "n")])):
        encoding = spans.encoded([text], make())[0]
        end, token = 0, -1
        for word in spans.words_of(text, encoding):
            start = word.span[0]
            assert end <= start < word.span[1] <= len(text)
            assert token < word.first <= word.last
            assert text[slice(*word.span)].strip() == text[slice(*word.span)] != ""
            end, token = word.span[1], word.last


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ([0, 2], "head is list, not an object with start and end"),
        ({"start": 0}, "head has start 0 and end None; allowed: whole numbers of characters"),
        ({"start": True, "end": 2}, "head has start True and end 2; allowed: whole numbers"),
        ({"start": "0", "end": 2}, "head has start '0' and end 2; allowed: whole numbers"),
        ({"start": 2, "end": 2}, "head goes from 2 to 2; allowed: 0 <= start < end <= 5, the"),
        ({"start": -1, "end": 2}, "head goes from -1 to 2; allowed"),
        ({"start": 0, "end": 6}, "head goes from 0 to 6; allowed"),
        ({"start": 2, "end": 3}, "head goes from 2 to 3, where there is only white space"),
    ],
)
def test_a_wrong_span_is_refused_with_the_reason(value, reason):
    with pytest.raises(ValueError, match=f"^{re.escape(reason)}"):
        spans.span_in(value, "ab cd", "head")


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ("0-2", "spans is str, not a list of {start, end, label}"),
        ([{"start": 0, "end": 9, "label": "A"}], "span 1 goes from 0 to 9"),
        ([{"start": 0, "end": 2}], "span 1 (0 to 2) has the label None; allowed: a name"),
        ([{"start": 0, "end": 2, "label": " "}], "span 1 (0 to 2) has the label ' '"),
        (
            [{"start": 1, "end": 4, "label": "A"}, {"start": 0, "end": 2, "label": "B"}],
            "spans overlap: 0 to 2 and 1 to 4; allowed: spans that share no character",
        ),
    ],
)
def test_a_wrong_list_of_spans_is_refused_with_the_reason(value, reason):
    with pytest.raises(ValueError, match=f"^{re.escape(reason)}"):
        spans.labelled("ab cd", value)


def test_a_list_of_spans_is_sorted_and_an_empty_one_is_not_none():
    late, early = {"start": 3, "end": 5, "label": 7}, {"start": 0, "end": 2, "label": "A", "x": 1}
    assert spans.labelled("ab cd", [late, early]) == [
        {"start": 0, "end": 2, "label": "A"},
        {"start": 3, "end": 5, "label": "7"},
    ]
    assert spans.labelled("ab cd", []) == []
    assert spans.labelled("ab cd", None) is None


@given(st.tuples(*[st.integers(0, 9)] * 4))
def test_spans_overlap_when_they_share_a_character(edges):
    first, second = sorted(edges[:2]), sorted(edges[2:])
    first[1] += 1
    second[1] += 1
    if set(range(*first)) & set(range(*second)):
        with pytest.raises(ValueError, match="overlap"):
            spans.check_apart(tuple(first), tuple(second), "spans")
    else:
        spans.check_apart(tuple(first), tuple(second), "spans")


@given(st.integers(0, 60), st.integers(1, 12), st.integers(0, 20))
def test_every_token_is_in_the_window_that_shows_the_most_around_it(n_tokens, room, stride):
    found = spans.windows(n_tokens, room, stride)
    owner = {place: start for start, first, stop in found for place in range(first, stop)}
    assert sorted(owner) == list(range(n_tokens))
    assert sum(stop - first for _, first, stop in found) == n_tokens
    starts = [start for start, _, _ in found]
    assert len(found) == 1 or max(starts) + room == n_tokens

    def shown(start, place):
        """Tokens on the side where fewer are seen; the ends of the text cut nothing off."""
        left = place - start if start else n_tokens
        right = start + room - 1 - place if start + room < n_tokens else n_tokens
        return min(left, right)

    for place, start in owner.items():
        assert start <= place < start + room
        others = [other for other in starts if other <= place < other + room]
        assert shown(start, place) >= max(shown(other, place) for other in others)


def test_white_space_at_the_edges_of_a_span_falls_away():
    assert spans.trimmed("a  bc d", (1, 6)) == (3, 5)
    start, end = spans.trimmed("a   b", (1, 4))
    assert start == end


def test_a_tokenizer_without_offsets_is_refused(tmp_path, monkeypatch):
    class Slow:
        is_fast = False

    monkeypatch.setattr(spans.base_models, "tokenizer", lambda folder: Slow())
    with pytest.raises(
        InputError, match=r"its tokenizer \(Slow\) cannot say .* allowed: .* tokenizer.json"
    ):
        spans.tokenizer_with_offsets(tmp_path)

import itertools

import numpy as np
import pytest
import transformers
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

from lightadapt_data.question_windows import Limits, windows

WORDS = ["[PAD]", "[CLS]", "[SEP]", "[UNK]", *(f"w{i}" for i in range(20)), "who", "?"]
BYTES = sorted(pre_tokenizers.ByteLevel.alphabet())


def of_words():
    """Return an encoder's tokenizer: [CLS] 0 [SEP] 1 [SEP], with types."""
    core = Tokenizer(models.WordLevel({word: i for i, word in enumerate(WORDS)}, "[UNK]"))
    core.pre_tokenizer = pre_tokenizers.Whitespace()
    core.post_processor = processors.BertProcessing(("[SEP]", 2), ("[CLS]", 1))
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=core,
        pad_token="[PAD]",
        cls_token="[CLS]",
        model_max_length=64,
        model_input_names=["input_ids", "token_type_ids"],
    )


def of_bytes():
    """Return a decoder's tokenizer: one token per byte, nothing around or between texts."""
    core = Tokenizer(models.BPE({byte: i for i, byte in enumerate([*BYTES, "<end>"])}, []))
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.add_special_tokens(["<end>"])
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=core, eos_token="<end>", model_input_names=["input_ids"]
    )


ENCODER, DECODER = of_words(), of_bytes()


def asked(context, question="who ?", answers=None):
    return {"context": context, "question": question, "answers": answers}


def answer(text, start):
    return {"text": [text], "answer_start": [start]}


def ids(tokenizer, text):
    return tokenizer(text, add_special_tokens=False)["input_ids"]


def test_a_short_row_is_one_window_as_the_tokenizer_would_make_it():
    (window,) = windows([asked("w1 w2 w3", answers=answer("w2 w3", 3))], ENCODER, Limits())
    expected = ENCODER("who ?", "w1 w2 w3")
    assert list(window.token_ids) == expected["input_ids"]
    assert list(window.type_ids) == expected["token_type_ids"]
    assert window.tokens.tolist() == [[4, 0, 2], [5, 3, 5], [6, 6, 8]]
    assert (window.null_place, window.start, window.end) == (0, 5, 6)
    assert (window.row, window.references) == (0, ("w2 w3",))


def test_a_decoder_gets_a_line_break_between_and_an_end_token_that_says_no_answer():
    (window,) = windows([asked("ab", "c", answer("b", 1))], DECODER, Limits())
    end = DECODER.eos_token_id
    assert list(window.token_ids) == [*ids(DECODER, "c\nab"), end]
    assert window.type_ids == ()
    assert (window.null_place, window.start, window.end) == (4, 3, 3)


def test_without_any_special_token_the_first_place_says_no_answer():
    tokenizer = of_bytes()
    tokenizer.eos_token = None
    (window,) = windows([asked("ab", "c", [])], tokenizer, Limits())
    assert list(window.token_ids) == ids(DECODER, "c\nab")
    assert window.null_place == window.start == window.end == 0


def test_missing_answers_have_no_target_and_empty_ones_have_that_of_no_answer():
    unknown, none = windows([asked("w1"), asked("w1", answers=[])], ENCODER, Limits())
    assert (unknown.start, unknown.end, unknown.references) == (-1, -1, None)
    assert (none.start, none.end, none.references) == (0, 0, ())
    assert (unknown.row, none.row) == (0, 1)


def test_an_answer_of_part_of_a_token_is_the_token():
    (window,) = windows([asked("w1 w12 w3", answers=answer("2 w", 5))], ENCODER, Limits())
    assert (window.start, window.end) == (5, 6)


def test_white_space_is_no_part_of_an_answer():
    context = " a\n b "
    (window,) = windows([asked(context, "c", answer(" b", 3))], DECODER, Limits())
    assert [context[start:end] for _, start, end in window.tokens] == ["a", "b"]
    assert window.token_ids[window.start] == ids(DECODER, "b")[0]
    assert window.start == window.end


def test_an_answer_that_no_token_has_leaves_the_target_unknown():
    core = Tokenizer(models.WordLevel({word: i for i, word in enumerate(WORDS)}, "[UNK]"))
    core.normalizer = normalizers.Replace("zz", "")
    core.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer = transformers.PreTrainedTokenizerFast(tokenizer_object=core)
    context = "w1 zz w2"
    (window,) = windows([asked(context, answers=answer("zz", 3))], tokenizer, Limits())
    assert (window.start, window.end, window.references) == (-1, -1, ("zz",))


def test_an_empty_context_is_one_window_without_tokens():
    (window,) = windows([asked("", "w1")], ENCODER, Limits())
    assert window.token_ids == (1, WORDS.index("w1"), 2, 2)
    assert window.tokens.shape == (0, 3)


def test_long_questions_are_cut():
    rows = [asked("w1 w2 w3", "who " * 50)]
    (window,) = windows(rows, ENCODER, Limits(max_question_tokens=5))
    assert window.token_ids.count(WORDS.index("who")) == 5
    found = windows(rows, ENCODER, Limits(max_tokens=23, max_question_tokens=40))
    assert all(window.token_ids.count(WORDS.index("who")) == 10 for window in found)


def test_the_tokenizers_limit_holds_too():
    found = windows([asked("w1 " * 200)], ENCODER, Limits(max_tokens=500))
    assert max(len(window.token_ids) for window in found) == 64


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 70), st.integers(16, 40), st.integers(0, 40), st.integers(1, 8), st.data())
def test_windows_overlap_by_the_stride_and_see_every_token(n, longest, stride, n_question, data):
    words = [f"w{i % 20}" for i in range(n)]
    context = " ".join(words)
    first = data.draw(st.integers(0, max(0, n - 1)))
    last = data.draw(st.integers(first, max(0, n - 1)))
    text = " ".join(words[first : last + 1])
    given = [{"text": text, "answer_start": len(" ".join(words[:first])) + (first > 0)}]
    limits = Limits(max_tokens=longest, stride=stride)
    found = windows([asked(context, "who " * n_question, given if n else [])], ENCODER, limits)
    size = longest - 3 - min(n_question, (longest - 3) // 2)
    parts = [window.tokens[:, 1].tolist() for window in found]
    assert all(len(window.token_ids) <= longest for window in found)
    assert sorted({start for part in parts for start in part}) == [
        len(" ".join(words[:i])) + (i > 0) for i in range(n)
    ]
    for one, other in itertools.pairwise(parts):
        assert len(one) == size
        assert len(set(one) & set(other)) == min(stride, size // 2)
    for window, part in zip(found, parts, strict=True):
        of_window = np.array(window.token_ids)[window.tokens[:, 0]]
        assert [WORDS[i] for i in of_window] == [context[s:e] for _, s, e in window.tokens]
        if n and given[0]["answer_start"] in part and last < first + len(part):
            at = part.index(given[0]["answer_start"])
            if at + last - first < len(part):
                places = window.tokens[:, 0]
                assert (window.start, window.end) == (places[at], places[at + last - first])
                continue
        assert window.start == window.end == window.null_place == 0


@settings(max_examples=100, deadline=None)
@given(st.text(max_size=30), st.data())
def test_the_target_is_the_answer_in_any_text(context, data):
    start = data.draw(st.integers(0, len(context)))
    text = context[start : data.draw(st.integers(start, len(context)))]
    if not text.strip():
        return
    row = asked(context, "c", answer(text, start))
    for window in windows([row], DECODER, Limits(max_tokens=512)):
        by_place = {place: span for place, *span in window.tokens.tolist()}
        found = context[by_place[window.start][0] : by_place[window.end][1]]
        assert found == text.strip()


def test_the_first_of_several_answers_that_is_whole_in_a_window_is_its_target():
    context = " ".join(f"w{i}" for i in range(20))
    given = {"text": ["w18", "w1"], "answer_start": [context.index("w18"), 3]}
    found = windows([asked(context, "who", given)], ENCODER, Limits(max_tokens=16, stride=2))
    targets = [WORDS[window.token_ids[window.start]] for window in found]
    assert targets == ["w1", "w18"]
    assert {window.references for window in found} == {("w18", "w1")}


def test_limits_are_checked():
    with pytest.raises(ValueError, match="max_tokens"):
        Limits(max_tokens=4)

import collections
import math
import re
import string

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lightadapt_data.answers import Reading, checked, chosen, exact_match_and_f1, read_scores

CONTEXT = "Six films were made in Rome in 1960."


def test_both_forms_of_answers_give_the_same():
    columns = {"text": ["Rome", "1960"], "answer_start": [23, 31]}
    rows = [{"text": "Rome", "answer_start": 23}, {"text": "1960", "answer_start": 31}]
    assert checked(columns, CONTEXT) == checked(rows, CONTEXT) == columns


@pytest.mark.parametrize("given", [[], {"text": [], "answer_start": []}])
def test_no_answer_is_known_and_missing_answers_are_not(given):
    assert checked(given, CONTEXT) == {"text": [], "answer_start": []}
    assert checked(None, CONTEXT) is None


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        ("Rome", "answers are 'Rome'; allowed: {text"),
        ({"text": "Rome", "answer_start": 23}, "allowed: {text"),
        ({"text": ["Rome"]}, "allowed: {text"),
        (["Rome"], "or a list of {text, answer_start}; no answer: empty lists"),
        ({"text": ["Rome"], "answer_start": []}, "1 text and 0 answer_start; allowed: as many"),
        ({"text": [7], "answer_start": [0]}, r"answers\[0\]: text is 7; allowed: text"),
        ({"text": [""], "answer_start": [-1]}, "text is ''; allowed: text; no answer: empty"),
        ({"text": ["Six"], "answer_start": ["0"]}, "answer_start is '0'; allowed: a whole"),
        ({"text": ["Six"], "answer_start": [False]}, "answer_start is False"),
        ({"text": ["Six"], "answer_start": [-4]}, "answer_start is -4"),
        ([{"text": "Six"}], "answer_start is None"),
        ({"text": ["Rome"], "answer_start": [22]}, "which has ' Rom' there; it is at character 23"),
        ({"text": ["Six", "Paris"], "answer_start": [0, 9]}, r"answers\[1\].*it is nowhere in"),
    ],
)
def test_wrong_answers_are_refused_with_the_reason(given, reason):
    with pytest.raises(ValueError, match=reason):
        checked(given, CONTEXT)


LOGITS = st.floats(-20, 20, width=32)


@st.composite
def windows(draw):
    """Return scores of 1 + n + 2 places, of which n in the middle are tokens of a context."""
    n_tokens = draw(st.integers(0, 8))
    n_places = n_tokens + 3
    scores = draw(st.lists(LOGITS, min_size=2 * n_places, max_size=2 * n_places))
    places = np.arange(1, n_tokens + 1)
    tokens = np.stack([places, 5 * places, 5 * places + 4], 1).astype(np.int32)
    return np.array(scores, np.float32).reshape(2, n_places), tokens


@settings(max_examples=200, deadline=None)
@given(windows(), st.integers(1, 9), st.data())
def test_the_best_answer_equals_trying_all(window, longest, data):
    scores, tokens = window
    known = [0, *range(1, len(tokens) + 1)]
    true = data.draw(st.tuples(st.sampled_from(known), st.sampled_from(known)))
    found = read_scores(scores, tokens, 0, true, longest)
    s, e = scores.astype(float)
    spans = [
        (s[i] + e[j], 5 * i, 5 * j + 4)
        for i in known[1:]
        for j in known[1:]
        if i <= j < i + longest
    ]
    assert found.null_score == s[0] + e[0]
    p = [
        math.exp(values[t]) / sum(math.exp(values[k]) for k in known)
        for values, t in ((s, true[0]), (e, true[1]))
    ]
    assert found.loss == pytest.approx(-(math.log(p[0]) + math.log(p[1])) / 2, abs=1e-6)
    if not spans:
        assert found.score == found.log_sum == -math.inf
        return
    best = max(spans, key=lambda span: (span[0], -span[1], -span[2]))
    assert (found.score, found.start, found.end) == best
    assert found.log_sum == pytest.approx(math.log(sum(math.exp(span[0]) for span in spans)))


def test_unknown_answers_have_no_loss():
    tokens = np.array([[1, 0, 2]], np.int32)
    assert math.isnan(read_scores(np.zeros((2, 2)), tokens, 0, (-1, -1), 3).loss)


def reading(start, score, null_score=-10.0):
    return Reading(start, start + 3, score, null_score, score + 1.0, 0.0)


def test_the_best_of_all_windows_counts_with_its_probability():
    found = chosen([reading(5, 1.0, -1.0), reading(90, 2.0, 3.0)], 0.0)
    assert (found.start, found.end) == (90, 93)
    total = math.exp(2.0) + math.exp(3.0) + math.exp(-1.0)
    assert found.probability == pytest.approx(math.exp(2.0) / total)


def test_there_is_no_answer_only_when_every_window_says_so():
    both = [reading(5, 1.0, 4.0), reading(90, 2.0, 3.0)]
    found = chosen(both, 0.0)
    assert (found.start, found.end) == (-1, -1)
    total = math.exp(2.0) + math.exp(3.0) + math.exp(3.0)
    assert found.probability == pytest.approx(math.exp(3.0) / total)
    assert chosen([both[0], reading(90, 2.0, 1.9)], 0.0).start == 90


def test_the_threshold_is_the_lead_that_no_answer_needs():
    one = [reading(5, 1.0, 3.0)]
    assert chosen(one, 1.9).start == -1
    assert chosen(one, 2.0).start == 5
    assert chosen([reading(5, 1.0, 0.5)], -1.0).start == -1


def test_a_window_without_tokens_has_no_answer():
    empty = Reading(0, 0, -math.inf, -3.0, -math.inf, math.nan)
    found = chosen([empty], 100.0)
    assert (found.start, found.probability) == (-1, 1.0)


def official(text):
    """Return SQuAD's form of an answer, as a list of words."""
    text = "".join(c for c in text.lower() if c not in string.punctuation)
    return re.sub(r"\b(a|an|the)\b", " ", text).split()


def scores_of(predicted, references):
    """Return exact match and F1 of one question, as SQuAD 2's script has them."""
    found = []
    for reference in references or [""]:
        one, other = official(predicted), official(reference)
        common = sum((collections.Counter(one) & collections.Counter(other)).values())
        f1 = 2 * common / (len(one) + len(other)) if one and other else float(one == other)
        found.append((float(one == other), f1))
    return max(m for m, _ in found), max(f for _, f in found)


TEXTS = st.sampled_from(
    ["the Rome", "Rome", "Rome in 1960", "in 1960!", "1960", "a", "", "films, films", "films"]
)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(TEXTS, st.lists(TEXTS, max_size=3)), min_size=1, max_size=6))
def test_exact_match_and_f1_equal_squads_rules(pairs):
    each = [scores_of(predicted, references) for predicted, references in pairs]
    match, f1 = exact_match_and_f1([p for p, _ in pairs], [r for _, r in pairs])
    assert match == pytest.approx(np.mean([m for m, _ in each]), abs=1e-5)
    assert f1 == pytest.approx(np.mean([f for _, f in each]), abs=1e-5)


def test_no_answer_is_right_only_where_there_is_none():
    assert exact_match_and_f1(["", "", "Rome"], [[], ["Rome"], []]) == pytest.approx((1 / 3,) * 2)

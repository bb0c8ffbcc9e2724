import time

import pytest

from lightadapt_data.gates import numbers

SAME = [
    ("It has 1,000 rows.", "It holds 1000 rows."),
    ("about 5 million people", "some 5,000,000 people"),
    ("a thousand rows", "1,000 rows"),
    ("two hundred and five rows", "205 rows"),
    ("twenty-five cats", "25 cats"),
    ("40 mg of aspirin", "40 milligrams of aspirin"),
    ("40mg", "40 mg"),
    ("20% less", "20 percent less"),
    ("20 per cent", "20%"),
    ("$3.50", "3.50 dollars"),
    ("US$ 5", "5 dollars"),
    ("€10m", "10 million euros"),
    ("$2bn", "2 billion dollars"),
    ("5 seconds", "five seconds"),
    ("a 5-second delay", "a delay of 5 s"),
    ("on 3 March 2019", "on March 3, 2019"),
    ("the 1st step", "the first step"),
    ("1 apple", "one apple"),
    ("one of the best", "among the best"),
    ("between two and three hours", "between 2 and 3 hours"),
    ("10k steps", "10,000 steps"),
    ("5x faster", "5 times faster"),
    ("step 3 may fail", "step 3 can fail"),
    ("2 cats and 3 dogs", "3 dogs and 2 cats"),
    ("no figures", "none here"),
    ("٣ كتب", "3 books"),
]

DIFFERENT = [
    ("Take 40 mg.", "Take 400 mg.", "numbers: 40 mg became 400 mg"),
    ("Take 40 mg.", "Take 40 g.", "numbers: 40 mg became 40 g"),
    ("Take 40 mg.", "Take it.", "numbers: 40 mg lost"),
    ("Take it.", "Take it 2 times.", "numbers: 2 times added"),
    ("1,000 rows", "1.000 rows", "numbers: 1000 became 1.000"),
    ("Python 3.10", "Python 3.1", "numbers: 3.10 became 3.1"),
    ("at -5 °C", "at 5 °C", "numbers: -5 °c became 5 °c"),
    ("5 apples", "6 apples and 6 pears", "numbers: 5 became 6, 6"),
    ("on 3 March 2019", "on 3 May 2019", "numbers: month 3 became month 5"),
    ("in int8", "in int4", "numbers: 8 became 4"),
    ("five cats", "nine cats", "numbers: 5 became 9"),
    ("5 million", "5 billion", "numbers: 5000000 became 5000000000"),
    ("1 2 3 4 5 6 7", "", "numbers: 1, 2, 3, 4, 5 and 2 more lost"),
    ("9" * 31, "9" * 30 + "8", f"numbers: {'9' * 31} became {'9' * 30}8"),
]


def verdict(parent, child):
    return numbers.judge([parent], [child], numbers.Settings(), None)[0]


@pytest.mark.parametrize(("parent", "child"), SAME)
def test_same_numbers_pass_in_any_notation(parent, child):
    assert verdict(parent, child).reason == ""
    assert verdict(child, parent).reason == ""


@pytest.mark.parametrize(("parent", "child", "reason"), DIFFERENT)
def test_other_numbers_are_refused_with_the_evidence(parent, child, reason):
    assert verdict(parent, child).reason == reason
    assert not verdict(child, parent).passed


@pytest.mark.parametrize(
    "text",
    [
        " " * 50_000,
        "1" * 50_000,
        "one " * 12_000,
        "1 " * 25_000,
        "1," * 25_000,
        "a " * 25_000,
        "1" + " " * 50_000,
    ],
)
def test_long_texts_take_no_time(text):
    started = time.perf_counter()
    assert verdict(text, text).passed
    assert time.perf_counter() - started < 4


def test_score_is_the_shared_part():
    assert verdict("1 2 3 4", "1 2 3 5").score == 0.75

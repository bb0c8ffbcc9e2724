import pytest
from pydantic import ValidationError

from lightadapt_data.filters import Text
from lightadapt_data.filters.length import Settings, examine


def reasons(*texts, **settings):
    rows = [Text(str(i), str(i), text) for i, text in enumerate(texts)]
    found = examine(rows, Settings(**settings), None)
    return {index: finding.reason for index, finding in found.items()}


def test_by_default_only_blank_and_one_character_rows_go():
    texts = (
        "",
        " \n\t",
        "x",
        "\u65e5",
        "ok",
        "\U0001f600\U0001f600",
        "def f(): ...",
        "a b",
        "x" * 50_000,
    )
    assert reasons(*texts) == {
        0: "length: 0 characters, least 2",
        1: "length: 0 characters, least 2",
        2: "length: 1 character, least 2",
        3: "length: 1 character, least 2",
    }


def test_limits_hold_from_their_own_value_on():
    texts = ("one", "one two", "one two three")
    assert reasons(*texts, least_tokens=2, most_tokens=2) == {
        0: "length: 1 token, least 2",
        2: "length: 3 tokens, most 2",
    }
    assert reasons("abcd", "abcde", " abcd ", most_characters=4) == {
        1: "length: 5 characters, most 4"
    }


def test_every_mark_and_every_chinese_sign_is_a_token():
    assert reasons("\u65e5\u672c\u8a9e!", least_tokens=5) == {0: "length: 4 tokens, least 5"}


def test_a_blank_row_has_no_token():
    assert reasons("  ", least_characters=0) == {0: "length: 0 tokens, least 1"}
    assert reasons("  ", least_characters=0, least_tokens=0) == {}


def test_settled_rows_are_left_alone():
    assert examine([Text("a", "a", "", is_settled=True)], Settings(), None) == {}


@pytest.mark.parametrize("unit", ["tokens", "characters"])
def test_limits_that_keep_no_row_are_refused(unit):
    with pytest.raises(ValidationError, match=f"least_{unit} 9 is above most_{unit} 3.*lower"):
        Settings(**{f"least_{unit}": 9, f"most_{unit}": 3})

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lightadapt_data.filters import Text
from lightadapt_data.filters.repair import Settings, examine


def repaired(text, **settings):
    found = examine([Text("a", "a", text)], Settings(**settings), None)
    return (found[0].text, found[0].reason) if found else None


@pytest.mark.parametrize(
    ("damaged", "whole"),
    [
        ("La sÃ©ance commence Ã  huit heures.", "La séance commence à huit heures."),
        ("It doesnâ€™t matter.", "It doesn’t matter."),
        ("GrÃ¼ÃŸe aus KÃ¶ln", "Grüße aus Köln"),
        ("ÐŸÑ€Ð¸Ð²ÐµÑ‚, Ð¼Ð¸Ñ€", "Привет, мир"),
    ],
)
def test_text_that_was_decoded_wrongly_is_decoded_again(damaged, whole):
    assert repaired(damaged) == (whole, "repair: mojibake")


@pytest.mark.parametrize(
    ("damaged", "whole", "what"),
    [
        ("one\x00 two\x08", "one two", "control characters"),
        ("\ufeffheading", "heading", "control characters"),
        ("a \x1b[31mred\x1b[0m word", "a red word", "terminal escapes"),
    ],
)
def test_control_characters_are_removed(damaged, whole, what):
    assert repaired(damaged) == (whole, f"repair: {what}")
    assert repaired(damaged, control_characters=False) is None


CODE = (
    'def f(x):\r\n\t  s = "&amp; &lt;b&gt; \\u00e9 \\x1b[0m"\r\n'
    "    return x @ s  # naïve “quotes” ﬁ\r\n"
)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "word",
        "plain text, nothing wrong with it",
        CODE,
        "  if (a &amp;&amp; b) {\n    x -= 1;\n  }\n",
        "print('caf\u00e9', '\u2603')  # ÄÖÜ",
        "\u05e9\u05dc\u05d5\u05dd \u200f(abc)\u200e \u05e2\u05d5\u05dc\u05dd",
        "\u0645\u0631\u062d\u0628\u0627 \u202babc\u202c \u0628\u0627\u0644\u0639\u0627\u0644\u0645",
        "\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645",
        "\U0001f468\u200d\U0001f469\u200d\U0001f467 \U0001f600\U0001f1e9\U0001f1ea",
        "ｆｕｌｌ　ｗｉｄｔｈ ﾊﾝｶｸ 日本語",
        "e\u0301 stays in two parts",
        "SEÑOR Â 5 ÅNGSTRÖM à la carte",
        "line\u2028separator\fform feed\ttab",
    ],
)
def test_whole_text_comes_through_unharmed(text):
    assert repaired(text) is None


def test_line_ends_and_indents_of_a_damaged_text_stay():
    text, _ = repaired("  def f():\r\n\treturn 'sÃ©ance'\r\n\r\n")
    assert text == "  def f():\r\n\treturn 'séance'\r\n\r\n"


def test_each_line_is_repaired_for_itself():
    assert repaired("déjà vu\nsÃ©ance\x00")[0] == "déjà vu\nséance"


def test_entities_and_forms_are_left_alone_unless_asked_for():
    assert repaired("salt &amp; pepper") is None
    asked = {"html_entities": True}
    assert repaired("salt &amp; pepper", **asked) == ("salt & pepper", "repair: HTML entities")
    assert repaired("<b>\nsalt &amp; pepper", **asked) is None
    assert repaired("cafe\u0301", unicode_form="NFC") == ("caf\u00e9", "repair: Unicode form NFC")


def test_mojibake_can_be_left_alone():
    assert repaired("sÃ©ance", mojibake=False) is None


def test_settled_rows_are_left_alone():
    assert examine([Text("a", "a", "sÃ©ance", is_settled=True)], Settings(), None) == {}


@given(st.text(st.characters(codec="utf-8"), max_size=60))
def test_no_text_breaks_it_and_ascii_without_controls_never_changes(text):
    rows = [Text("a", "a", text), Text("b", "b", text.encode("ascii", "ignore").decode())]
    found = examine(rows, Settings(), None)
    assert all(finding.text is not None and finding.reason for finding in found.values())
    assert 1 not in found or not rows[1].text.isprintable()


def test_a_long_text_is_no_trouble():
    assert repaired("sÃ©ance " * 7000)[0] == "séance " * 7000

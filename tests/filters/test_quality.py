import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from lightadapt_data.filters import Text
from lightadapt_data.filters.quality import RULES, SETS, Settings, examine

PROSE = (
    "The river had been rising since Monday, and nobody in the village believed that it would stop "
    "before the bridge. Some of the older men carried sacks of sand to the mill, while their wives "
    "moved flour, lamps and blankets upstairs. We have seen worse, said the miller, but he looked "
    "at the water with fear. At night the church bell rang twice. Then the rain ended, as suddenly "
    "as a door that falls shut, and in the morning we could walk along the muddy bank again."
)
NO_STOP_WORDS = (
    "Cheap flights Paris London Madrid, best hotel deals, low price guarantee, free parking. "
    "Book online now, save money today, call our friendly agents anytime. Great discounts, huge "
    "savings, city breaks, beach holidays, ski trips, car rental, travel insurance, airport taxi. "
    "Our offers change every week, so check back often, or subscribe for daily news about prices."
)
WORDS = [f"word{chr(97 + i % 26)}{chr(97 + i // 26)}" for i in range(200)]


def reason_of(text, *rules, **settings):
    rules = {"rules": rules} if rules else {}
    found = examine([Text("a", "a", text)], Settings(**rules, **settings), None)
    return found[0].reason if found else None


BROKEN = {
    "gopher_words": (" ".join(WORDS[:49]), "49, least 50"),
    "gopher_mean_word_length": (" ".join(["internationalisation"] * 60), "20, most 10"),
    "gopher_symbol_ratio": (" ".join(["#tag one two"] * 20), "0.333, most 0.1"),
    "gopher_bullet_lines": ("\n".join(f"- {w} one two three" for w in WORDS[:20]), "1, most 0.9"),
    "gopher_ellipsis_lines": (
        "\n".join(f"{w} one two three{'...' if i % 2 else '.'}" for i, w in enumerate(WORDS[:20])),
        "0.5, most 0.3",
    ),
    "gopher_alphabetic_words": (" ".join(["price 10 20"] * 30), "0.333, least 0.8"),
    "gopher_stop_words": (NO_STOP_WORDS, "0, least 2"),
    "gopher_duplicate_lines": (
        "\n".join([f"{w} one two three four" for w in WORDS[:10]] + ["same line"] * 6),
        "0.312, most 0.3",
    ),
    "gopher_duplicate_paragraphs": (
        "\n\n".join([f"{w} one two three four" for w in WORDS[:10]] + ["same part"] * 6),
        "0.312, most 0.3",
    ),
    "gopher_top_grams": ("buy now " * 30, "1, most 0.2"),
    "gopher_duplicate_grams": (" ".join([*WORDS[:50], *WORDS[:20]]), "0.286, most 0.15"),
    "c4_end_marks": ("No end mark\nnone here either...", "0, least 1"),
    "c4_line_words": ("Home.\nAbout us now.", "3, least 5"),
    "c4_sentences": ("One sentence. And a second!", "2, least 3"),
    "c4_word_length": ("x" * 1001, "1,001, most 1,000"),
    "c4_javascript": ("Please enable JavaScript.", "0, least 1"),
    "c4_policy": ("This site uses cookies.", "0, least 1"),
    "c4_curly_brackets": ("int main() { return 0; }", "1, most 0"),
    "c4_lorem_ipsum": ("Lorem ipsum dolor sit amet", "1, most 0"),
    "fineweb_end_marks": (
        "\n".join(f"{w} one two three" for w in WORDS[:20]),
        "0, above 0.12 stays",
    ),
    "fineweb_duplicate_line_characters": (
        "\n".join(f"{w} one two three four five" for w in [*WORDS[:17], *WORDS[:2]]),
        "0.105, below 0.1 stays",
    ),
    "fineweb_short_lines": (
        "\n".join(f"{w} one two." for w in WORDS[:20]),
        "1, below 0.67 stays",
    ),
}


def test_there_is_an_example_for_every_rule():
    assert BROKEN.keys() == RULES.keys()


@pytest.mark.parametrize("rule", BROKEN)
def test_a_rule_finds_its_fault_and_gives_its_numbers(rule):
    text, numbers = BROKEN[rule]
    assert reason_of(text, rule) == f"{rule}: {numbers}"


@pytest.mark.parametrize("rule", sorted(RULES))
def test_good_prose_breaks_no_rule(rule):
    assert reason_of(PROSE, rule) is None
    assert reason_of(PROSE.replace(". ", ".\n"), rule) is None


THRESHOLDS = {
    "gopher_words": (50, 100_000),
    "gopher_mean_word_length": (3, 10),
    "gopher_symbol_ratio": 0.1,
    "gopher_bullet_lines": 0.9,
    "gopher_ellipsis_lines": 0.3,
    "gopher_alphabetic_words": 0.8,
    "gopher_stop_words": 2,
    "gopher_duplicate_lines": (0.3, 0.2),
    "gopher_duplicate_paragraphs": (0.3, 0.2),
    "gopher_top_grams": (0.2, 0.18, 0.16),
    "gopher_duplicate_grams": (0.15, 0.14, 0.13, 0.12, 0.11, 0.1),
    "c4_line_words": 5,
    "c4_sentences": 3,
    "c4_word_length": 1000,
    "fineweb_end_marks": 0.12,
    "fineweb_duplicate_line_characters": 0.1,
    "fineweb_short_lines": 0.67,
}


def test_thresholds_are_those_of_the_papers():
    settings = Settings()
    assert {rule: getattr(settings, rule) for rule in THRESHOLDS} == THRESHOLDS
    assert set(RULES) <= set(Settings.model_fields)


SHORT_AND_FINE = [
    "",
    "word",
    "Why?",
    "Great movie!",
    "To be continued...",
    "#1 fan",
    "- a single item",
    "2 + 2 = 4",
    "internationalisation",
    "no no no no no",
    "\U0001f600\U0001f600",
    "The dose is given twice a day.",
    "\u05e9\u05dc\u05d5\u05dd \u05e2\u05d5\u05dc\u05dd",
    "患者は同じ日に薬を飲んだ。" * 20,
    "ผู้ป่วยได้รับยาสองครั้ง" * 20,
    "def f(x):\n    # comment\n    return {'a': x}\n",
]


@pytest.mark.parametrize("text", SHORT_AND_FINE)
def test_by_default_short_rows_code_and_any_script_stay(text):
    assert reason_of(text) is None


CODE = """
static int parse(struct state *s, const char *text) {
    for (int i = 0; i < s->n_items; i++) {
        if (s->items[i].kind == KIND_OPEN) {
            if (s->depth > MOST_DEPTH) {
                return -1;
            }
            s->depth += 1;
        } else if (s->items[i].kind == KIND_CLOSE) {
            if (s->depth == 0) {
                return -1;
            }
            s->depth -= 1;
        }
    }
    return s->depth == 0 ? 0 : -1;
}
"""


def test_by_default_code_stays_and_the_rules_on_prose_would_take_it():
    assert reason_of(CODE) is None
    assert reason_of(CODE, "c4_curly_brackets") == "c4_curly_brackets: 6, most 0"
    assert reason_of(CODE, "gopher_alphabetic_words").startswith("gopher_alphabetic_words: 0.")


def test_by_default_plain_junk_goes():
    assert reason_of("buy now " * 30) == "gopher_top_grams: 1, most 0.2"
    assert reason_of("lorem ipsum") == "c4_lorem_ipsum: 1, most 0"


def test_sets_hold_the_rules_of_their_paper_and_mix_with_single_rules():
    assert set(SETS["gopher"]) | set(SETS["c4"]) | set(SETS["fineweb"]) == set(RULES)
    assert set(SETS["safe"]) < set(RULES)
    assert reason_of("One sentence.", "gopher") == "gopher_words: 2, least 50"
    assert reason_of("One sentence.", "fineweb", "c4_sentences") == "c4_sentences: 1, least 3"
    assert reason_of("One sentence.", "c4") == "c4_line_words: 2, least 5"


def test_rules_on_shares_wait_for_enough_words_and_lines():
    text = "- one\n- two"
    assert reason_of(text, "gopher_bullet_lines", judged_words=4) is None
    assert reason_of(text, "gopher_bullet_lines", judged_lines=2) is None
    found = reason_of(text, "gopher_bullet_lines", judged_words=4, judged_lines=2)
    assert found == "gopher_bullet_lines: 1, most 0.9"


def test_a_share_of_exactly_the_limit_stays_with_gopher_and_goes_with_fineweb():
    lines = [f"{WORDS[i]} aa bb cc dd ee" for i in range(7)]
    text = "\n".join([*lines, *lines[:3]])
    assert reason_of(text, "gopher_duplicate_lines", gopher_duplicate_lines=(0.3, 0.3)) is None
    line = "aaaaa bbbbb ccccc ddddd eeeee"
    tenth = "\n".join([*(f"{i:05d}{line[5:]}" for i in range(9)), f"00000{line[5:]}"])
    limit = "fineweb_duplicate_line_characters"
    assert reason_of(tenth, limit, judged_words=10) == f"{limit}: 0.1, below 0.1 stays"


def test_characters_in_repeated_parts_have_their_own_limit():
    line = " ".join(WORDS[:30])
    assert reason_of(f"{line}\nx\ny\nz\n{line}", "gopher_duplicate_lines").endswith("most 0.2")
    text = f"{line}\n\nx\n\ny\n\nz\n\n{line}"
    assert reason_of(text, "gopher_duplicate_paragraphs").endswith("most 0.2")


def test_thresholds_can_be_moved():
    assert reason_of("One. Two.", "c4_sentences", c4_sentences=2) is None
    assert reason_of("one two", "gopher_words", gopher_words=(1, 2)) is None


def test_stop_words_are_asked_of_english_only():
    german = "Der Patient nahm das Mittel zweimal am Tag und fuhr danach wieder nach Hause. " * 5
    assert reason_of(german, "gopher_stop_words") is None


def test_words_are_not_asked_of_text_without_spaces():
    text = "患者は同じ日に薬を飲んだ。" * 40
    for rule in ("gopher_words", "gopher_mean_word_length", "c4_line_words", "c4_word_length"):
        assert reason_of(text, rule) is None
    assert reason_of(text, "c4_sentences", c4_sentences=3) is None


def test_settled_rows_are_left_alone():
    rows = [Text("a", "a", "lorem ipsum", is_settled=True)]
    assert examine(rows, Settings(), None) == {}


@given(st.text(st.characters(codec="utf-8"), max_size=80))
def test_no_text_breaks_any_rule_even_without_a_least_length(text):
    rows = [Text("a", "a", text), Text("b", "b", text * 20)]
    found = examine(rows, Settings(rules=tuple(RULES), judged_words=0, judged_lines=0), None)
    assert all(finding.reason for finding in found.values())


@pytest.mark.parametrize("text", ["x" * 50_000, "a " * 25_000, "#" * 50_000, "\n." * 25_000])
def test_long_rows_are_no_trouble(text):
    for rule in RULES:
        reason_of(text, rule)


def test_an_unknown_rule_is_refused_with_the_nearest():
    with pytest.raises(ValidationError, match=r"no rule 'gopher_word'; allowed: .*'gopher_words'"):
        Settings(rules=("gopher_word",))

import pytest
from pydantic import ValidationError

from lightadapt_data.filters import Text
from lightadapt_data.filters.language import (
    LANGUAGES,
    NO_LANGUAGE,
    Settings,
    _identifier,
    examine,
    identify,
)

SENTENCES = {
    "en": "The patient was given two doses of the drug in the evening of the same day.",
    "de": "Der Patient erhielt am Abend desselben Tages zwei Dosen des Medikaments.",
    "fr": "Le patient a reçu deux doses du médicament dans la soirée du même jour.",
    "es": "El paciente recibió dos dosis del medicamento en la tarde del mismo día.",
    "ru": "Пациент получил две дозы лекарства вечером того же дня.",
    "ar": "تلقى المريض جرعتين من الدواء في المساء",
    "ja": "患者は同じ日の夕方にその薬を二回服用したとのことです。",
}


def found_in(texts, **settings):
    rows = [Text(str(i), str(i), text) for i, text in enumerate(texts)]
    return examine(rows, Settings(**settings), None)


@pytest.mark.parametrize("code", SENTENCES)
def test_sentences_in_the_allowed_language_stay_and_all_others_go(code):
    found = found_in(SENTENCES.values(), languages=(code,))
    assert [c for i, c in enumerate(SENTENCES) if i not in found] == [code]
    assert all(finding.kept is None and finding.text is None for finding in found.values())


def test_the_reason_names_language_probability_and_what_is_allowed():
    reason = found_in([SENTENCES["de"]], languages=("en", "fr"))[0].reason
    assert reason == "language: de (0.93), allowed: en, fr"


def test_by_default_no_row_goes():
    assert found_in(SENTENCES.values()) == {}


@pytest.mark.parametrize(
    "text",
    [
        "",
        "word",
        "Ja, genau.",
        "\U0001f600" * 30,
        "12345 67890 3.14 2024-01-01 1,000,000 42",
        "for i in range(10):\n    print(i, end='')\n    total += i ** 2",
        '#include <stdio.h>\nint main(void) { printf("%d\\n", 42); return 0; }',
        "https://example.org/a/b?c=d#e",
    ],
)
def test_short_texts_code_and_texts_without_words_stay(text):
    assert found_in([text], languages=("en",)) == {}


def test_the_settings_move_the_limits():
    assert found_in(["Ja, genau so ist es."], languages=("en",), least_characters=5)
    unsure = "Det er en norsk setning."
    assert not found_in([unsure], languages=("en",), least_characters=5)
    assert found_in([unsure], languages=("en",), least_characters=5, least_probability=0.5)


def test_settled_rows_are_left_alone():
    rows = [Text("a", "a", SENTENCES["de"], is_settled=True)]
    assert examine(rows, Settings(languages=("en",)), None) == {}


def test_long_and_odd_texts_are_no_trouble():
    texts = ["wörter " * 7000, "\u200b" * 40, "\x00\x01 \ufffd" * 20, "ﷺ" * 30, "a\u0301" * 40]
    for text in texts:
        code, probability = identify(text)
        assert code
        assert 0 <= probability <= 1
    found_in(texts, languages=("en",))


def test_the_codes_are_those_of_the_identifier():
    assert {*_identifier().labels} == LANGUAGES | {NO_LANGUAGE}


def test_an_unknown_code_is_refused_with_the_nearest():
    with pytest.raises(ValidationError, match=r"no language 'eng'; allowed: .*did you mean 'en'\?"):
        Settings(languages=("eng",))

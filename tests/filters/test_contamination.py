from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from toys import write_jsonl

from lightadapt_data import evaluation_files
from lightadapt_data.errors import InputError
from lightadapt_data.filters import Text, contamination
from lightadapt_data.filters.contamination import Settings, examine, reads, words_of

QUESTION = (
    "A 54-year-old man comes to the physician because of two days of chest pain that is worse at "
    "night; which drug is best?"
)
SHORT = "Which of these drugs lowers the pressure fastest?"


@pytest.fixture
def exam(tmp_path):
    rows = [{"question": "Is it?", "answer": "yes"}, {"question": QUESTION, "answer": "aspirin"}]
    return str(write_jsonl(tmp_path / "exam.jsonl", [*rows, {"question": SHORT}]))


def texts(*values, **changes):
    return [Text(str(i), str(i), value, **changes) for i, value in enumerate(values)]


def reasons(rows, *files, **options):
    found = examine(rows, Settings(files=files, **options), None)
    return {index: finding.reason for index, finding in found.items()}


def test_a_row_that_holds_thirteen_words_of_a_question_names_file_row_and_column(exam):
    rows = texts("nothing of that kind", f"Here is one: {QUESTION} I forgot.")
    assert reasons(rows, exam) == {
        1: "contamination: shares 13-gram 'a 54 year old man comes to the physician because of two"
        " days' with exam.jsonl row 2 (question)"
    }


def test_a_long_gram_is_shown_in_part(tmp_path):
    words = " ".join(f"internationalisation{i}" for i in range(13))
    path = write_jsonl(tmp_path / "a.jsonl", [{"text": words}])
    reason = reasons(texts(words), str(path))[0]
    assert f"'{words[:60]}...'" in reason


def test_case_punctuation_and_unicode_forms_do_not_hide_it(exam):
    hidden = (
        QUESTION.upper().replace(" ", "\n  ").replace("-", " \u2013 ").replace("54", "\uff15\uff14")
    )
    assert list(reasons(texts(hidden), exam)) == [0]


def test_twelve_words_and_parts_of_words_are_not_enough(exam):
    words = words_of(QUESTION)
    assert reasons(texts(" ".join(words[:12])), exam) == {}
    assert list(reasons(texts(" ".join(words[3:16])), exam)) == [0]
    assert reasons(texts(" ".join(["x" + words[0], *words[1:13]])), exam) == {}
    assert reasons(texts(" ".join([*words[:6], "not", *words[6:12]])), exam) == {}


def test_a_short_question_is_found_inside_a_row_and_a_shorter_one_only_alone(exam):
    assert reasons(texts(f"Tell me: {SHORT} Please."), exam) == {
        0: "contamination: shares 8-gram 'which of these drugs lowers the pressure fastest' with"
        " exam.jsonl row 3 (question)"
    }
    assert reasons(texts("IS IT", "is it so"), exam) == {
        0: "contamination: equals exam.jsonl row 1 (question)"
    }


def test_a_short_answer_alone_accuses_nobody(exam):
    assert reasons(texts("Yes.", "aspirin"), exam) == {}


def test_an_ngram_of_many_different_rows_is_ignored(tmp_path):
    licence = (
        "redistribution and use in source and binary forms with or without change are permitted"
    )
    path = str(write_jsonl(tmp_path / "e.jsonl", [{"text": licence}, {"text": QUESTION}]))
    rows = texts(*(f"{licence} by number {i}" for i in range(11)), f"so: {QUESTION}")
    assert list(reasons(rows, path)) == [11]
    assert list(reasons(rows[1:], path)) == list(range(11))
    assert list(reasons(rows, path, common_rows=11)) == list(range(12))
    assert list(reasons(rows, path, common_rows=10)) == [11]


def test_copies_and_families_count_once_for_what_is_common(exam):
    assert len(reasons(texts(*[QUESTION] * 30), exam)) == 30
    family = [Text(str(i), "one", f"{QUESTION} number {i}") for i in range(30)]
    assert len(reasons(family, exam)) == 30
    apart = [Text(str(i), str(i), f"{QUESTION} number {i}") for i in range(30)]
    assert reasons(apart, exam) == {}


def test_in_a_large_corpus_a_thousandth_of_the_rows_is_common(exam):
    rows = texts(*(f"{QUESTION} {i}" for i in range(12)), *(f"row {i}" for i in range(12_000)))
    assert list(reasons(rows, exam)) == list(range(12))
    assert reasons(rows[:2000], exam) == {}


def test_settled_rows_are_left_alone(exam):
    assert reasons(texts(QUESTION, is_settled=True), exam) == {}


def test_without_files_nothing_is_found():
    assert reasons(texts(QUESTION)) == {}
    assert reads(Settings()) == {}


def test_chinese_and_indian_texts_have_words(tmp_path):
    chinese, hindi = (
        "患者は同じ日の夕方にその薬を二回服用した",
        "रोगी को एक ही दिन में दवा की दो खुराक दी गई थी",
    )
    path = str(write_jsonl(tmp_path / "e.jsonl", [{"text": chinese}, {"text": hindi}]))
    assert len(words_of(hindi)) == 13
    assert list(reasons(texts(f"昨日、{chinese}。", f"({hindi})", chinese[:12]), path)) == [0, 1]


def test_the_digest_of_a_file_decides_and_not_its_folder(exam, tmp_path):
    digests = reads(Settings(files=(exam, exam)))
    assert list(digests) == ["0 exam.jsonl", "1 exam.jsonl"]
    assert len(set(digests.values())) == 1
    assert "files" not in Settings(files=(exam,)).key_fields()
    write_jsonl(tmp_path / "exam.jsonl", [{"text": "other"}])
    assert reads(Settings(files=(exam, exam))) != digests


def test_a_missing_file_is_named_before_and_while_rows_are_examined(tmp_path):
    missing = Settings(files=(str(tmp_path / "no.jsonl"),))
    for ask in (lambda: reads(missing), lambda: examine(texts("x"), missing, None)):
        with pytest.raises(InputError, match=r"no.jsonl: no such evaluation file"):
            ask()


class Encoder:
    """Vectors of letters' counts."""

    seed = 0

    def encode(self, values):
        counts = np.array([[v.lower().count(c) for c in "abcdefghijklmnop"] for v in values], float)
        return (counts / np.linalg.norm(counts, axis=1, keepdims=True)).astype(np.float32)

    def vectors(self, rows):
        return self.encode([row.text for row in rows])


@pytest.mark.parametrize("cells", [1, 5, 1 << 24])
def test_close_rows_are_reported_and_stay(exam, monkeypatch, cells):
    monkeypatch.setattr(contamination, "BLOCK_CELLS", cells)
    near = (
        QUESTION.replace("man comes to the physician", "man who comes to a physician")
        .replace("that is worse", "worse")
        .replace("because of two days of", "because of")
    )
    rows = texts(near, "bbb", QUESTION)
    found = examine(rows, Settings(files=(exam,), review_cosine=0.95), Encoder())
    assert list(found) == [0, 2]
    assert found[0].text == near
    assert found[0].kept is None
    assert 0.95 <= found[0].similarity <= 1
    cosine = f"{found[0].similarity:.2f}"
    assert found[0].reason == f"contamination: review, cosine {cosine} with exam.jsonl row 2"
    assert found[2].text is None


def by_hand(rows, evaluation, options):
    """Return the indices of the rows that examine should drop, by loops over everything."""
    grams, wholes = set(), set()
    for text in evaluation:
        words = text.split()
        n = min(options.ngram, len(words))
        if n == options.ngram or n >= options.least_words:
            grams |= {tuple(words[i : i + n]) for i in range(len(words) - n + 1)}
        elif words:
            wholes.add(tuple(words))
    holds = {
        gram: [
            at
            for at, row in enumerate(rows)
            if any(tuple(row.split()[i : i + len(gram)]) == gram for i in range(len(row.split())))
        ]
        for gram in grams
    }
    most = options.common_rows or max(10, len(rows) // 1000)
    rare = [g for g, found in holds.items() if len({rows[at] for at in found}) <= most]
    dropped = {at for gram in rare for at in holds[gram]}
    return sorted(dropped | {at for at, row in enumerate(rows) if tuple(row.split()) in wholes})


lines = st.lists(st.sampled_from("abcde"), max_size=9).map(" ".join)


@settings(max_examples=150, deadline=None)
@given(
    st.lists(lines, min_size=1, max_size=14),
    st.lists(lines.filter(bool), min_size=1, max_size=5),
    st.integers(2, 5),
    st.integers(1, 4),
    st.integers(0, 3),
    st.integers(1, 5),
)
def test_the_result_equals_a_loop_over_all_ngrams(rows, exam, n, least, common, batch):
    options = Settings(files=("x",), ngram=n, least_words=least, common_rows=common)
    passages = [evaluation_files.Passage("x", i, "text", text) for i, text in enumerate(exam, 1)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(contamination, "BATCH_ROWS", batch)
        patch.setattr(evaluation_files, "passages", lambda given, columns: passages)
        found = examine(texts(*rows), options, None)
    assert list(found) == by_hand(rows, exam, options)
    for at, finding in found.items():
        row = int(finding.reason.split(" row ")[1].split()[0])
        shared = finding.reason.split("'")[1] if "'" in finding.reason else rows[at]
        assert f" {shared} " in f" {exam[row - 1]} "
        assert f" {shared} " in f" {rows[at]} "


def test_ngrams_with_one_hash_are_told_apart(exam, monkeypatch):
    monkeypatch.setattr(contamination, "_BASE", np.uint64(0))  # only the last word counts
    words = words_of(QUESTION)
    assert reasons(texts(" ".join([words[5], *words[1:13]])), exam) == {}
    monkeypatch.undo()
    assert list(reasons(texts(" ".join(words[:13])), exam)) == [0]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "word",
        "\U0001f600" * 40,
        "\u05e9\u05dc\u05d5\u05dd " * 20,
        "x " * 25_000,
        "x" * 50_000,
        "def f(x):\n    return x\n",
        "a\u0301\u200b\ufffd\x00 \u2028",
    ],
)
def test_odd_texts_are_no_trouble(exam, text):
    assert reasons(texts(text), exam) == {}
    path = exam.replace("exam", "odd")
    write_jsonl(Path(path), [{"text": text or " "}, {"text": QUESTION}])
    assert len(reasons(texts(text, QUESTION), path, ngram=2)) >= 1

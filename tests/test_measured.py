import json

import pytest
from toys import text, write_jsonl

WORDS = ["river", "bridge", "castle", "market", "garden", "winter", "letter", "doctor", "window"]


@pytest.fixture
def pile(tmp_path):
    rows = []
    for i in range(80):
        words = [WORDS[(i * step + step) % len(WORDS)] for step in (1, 2, 3, 4, 5, 7, 8)]
        rows.append({"id": str(i), "text": " ".join([*words, text(i), f"number{i * 37 % 101}"])})
    return write_jsonl(tmp_path / "pile.jsonl", rows)


def words(pile, out, *more):
    return [
        *("calibrate", "--corpus", pile, "--set", "embed.method=hashing"),
        *("--set", "embed.hashing.dim=512", "--pairs", "0", "--workers", "1", "--out", out, *more),
    ]


def test_calibrate_prints_precision_and_recall_of_every_threshold(cli, pile, tmp_path):
    result = cli(*words(pile, tmp_path / "out"))
    assert result.code == 0, result.err
    lines = result.out.splitlines()
    assert lines[0].startswith("threshold  precision  recall  ")
    assert len(lines) > 20
    found = cli(*words(pile, tmp_path / "out", "--json")).json()
    assert 0.5 <= found["threshold"] < 1
    assert found["sentence"] in result.out
    assert json.dumps(found["table"][0]["recall_of"])
    recalls = [level["recall"] for level in found["table"]]
    assert recalls == sorted(recalls, reverse=True)


def test_a_corpus_without_texts_of_four_words_cannot_be_measured(cli, tmp_path):
    few = write_jsonl(tmp_path / "few.jsonl", [{"text": "one two"}, {"text": "three"}])
    result = cli(*words(few, tmp_path / "out"))
    assert result.code == 3
    assert "corpus: calibrate: fewer than two texts of four words; give more texts" in result.err


def test_a_negative_number_of_pairs_is_refused(cli, pile, tmp_path):
    result = cli(*words(pile, tmp_path / "out", "--pairs", "-1"))
    assert result.code == 2
    assert "--pairs -1: allowed: a whole number from 0" in result.err


def test_translated_rows_are_a_further_kind_of_copy(cli, pile, tmp_path):
    result = cli(*words(pile, tmp_path / "out", "--pairs", "3", "--json"))
    assert result.code == 0, result.err
    assert "given pairs" in result.json()["table"][0]["recall_of"]

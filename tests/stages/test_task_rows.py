"""Rows of every task on their way from a file to the curated data set."""

import json

import pyarrow.parquet as pq
import pytest

from lightadapt_data import cli

TEXT = "Ada Lovelace lived in London."
GOOD = {
    "token_classification": {
        "text": TEXT,
        "spans": [
            {"start": 0, "end": 12, "label": "PER"},
            {"start": 22, "end": 28, "label": "LOC"},
        ],
    },
    "relation_extraction": {
        "text": TEXT,
        "head": {"start": 0, "end": 12},
        "tail": {"start": 22, "end": 28},
        "label": "lived-in",
    },
    "question_answering": {
        "context": TEXT,
        "question": "Where did she live?",
        "answers": {"text": ["London"], "answer_start": [22]},
    },
    "translation": {"source": TEXT, "target": "Ada Lovelace lebte in London."},
    "language_modeling": {"text": TEXT},
}
BAD = {
    "token_classification": {"text": TEXT, "spans": [{"start": 22, "end": 99, "label": "LOC"}]},
    "relation_extraction": {**GOOD["relation_extraction"], "tail": {"start": 5, "end": 14}},
    "question_answering": {
        **GOOD["question_answering"],
        "answers": {"text": ["London"], "answer_start": [3]},
    },
    "translation": {"source": " ", "target": "nichts"},
    "language_modeling": {"text": ""},
}


def run(tmp_path, task, rows, *more):
    (tmp_path / "train.jsonl").write_text("\n".join(json.dumps(row) for row in rows))
    path = tmp_path / "r.toml"
    path.write_text(
        f'task = "{task}"\n[ingest]\ntask = ["train.jsonl"]\n'
        '[curate]\nfilters = ["exact_duplicate", "repair"]\n'
    )
    return cli.main(["run", str(path), "--out", str(tmp_path / "out"), "-q", *more])


def curated(tmp_path):
    (path,) = (tmp_path / "out" / "data").glob("train-*.parquet")
    return pq.read_table(path).to_pylist()


@pytest.mark.parametrize("task", sorted(GOOD))
def test_the_fields_of_a_task_reach_the_curated_rows_unchanged(tmp_path, task):
    good = GOOD[task]
    assert run(tmp_path, task, [good, good]) == 0
    (row,) = curated(tmp_path)  # the copy is gone
    for name, value in good.items():
        if name != "source":
            assert row[name] == value
    assert row["source"] == "train.jsonl"
    assert row["origin"] == "seed"
    assert row["text"]


@pytest.mark.parametrize("task", sorted(BAD))
def test_a_row_that_is_wrong_goes_to_quarantine_with_the_reason(tmp_path, task):
    assert run(tmp_path, task, [GOOD[task], BAD[task]]) == 0
    assert len(curated(tmp_path)) == 1
    (path,) = (tmp_path / "out").glob("work/ingest/*/quarantine.parquet")
    (bad,) = pq.read_table(path).to_pylist()
    assert bad["where"] == "2"
    assert len(bad["reason"]) > 10


def test_a_text_under_spans_is_not_repaired_only_reported(tmp_path):
    text = "Caf\u00c3\u00a9 Ada"
    row = {"text": text, "spans": [{"start": 6, "end": 9, "label": "PER"}]}
    assert run(tmp_path, "token_classification", [row]) == 0
    (found,) = curated(tmp_path)
    assert found["text"] == text
    assert found["spans"] == row["spans"]


def test_missing_columns_and_unknown_tasks_are_said(tmp_path, capsys):
    assert run(tmp_path, "question_answering", [{"text": "x"}]) == 3
    said = capsys.readouterr().err
    assert "no column 'context'" in said
    assert "rows of question_answering need the columns context, question" in said
    assert run(tmp_path, "token_clasification", [{"text": "x"}]) == 2
    assert "did you mean 'token_classification'" in capsys.readouterr().err


def test_the_task_can_be_given_on_the_command_line(tmp_path):
    rows = [GOOD["token_classification"]]
    assert run(tmp_path, "text_classification", rows, "--set", "task=token_classification") == 0
    assert curated(tmp_path)[0]["spans"] == rows[0]["spans"]


def test_two_questions_of_one_context_are_no_copies(tmp_path):
    long = " ".join(f"word{n}" for n in range(60)) + " London."
    rows = [
        {
            "context": long,
            "question": question,
            "answers": {"text": ["London"], "answer_start": [long.index("London")]},
        }
        for question in ("Where?", "Which town?")
    ]
    (tmp_path / "train.jsonl").write_text("\n".join(json.dumps(row) for row in rows))
    path = tmp_path / "r.toml"
    path.write_text(
        'task = "question_answering"\n[ingest]\ntask = ["train.jsonl"]\n'
        '[curate]\nfilters = ["near_duplicate"]\n'
    )
    assert cli.main(["run", str(path), "--out", str(tmp_path / "out"), "-q"]) == 0
    assert {row["question"] for row in curated(tmp_path)} == {"Where?", "Which town?"}

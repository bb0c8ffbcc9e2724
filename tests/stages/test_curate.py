import json

import pyarrow.parquet as pq
import pytest
from toys import text, write_jsonl

from lightadapt_data.stages.curate import _balance

LONG = "the sample mean converges to the expected value as more draws are made from the same law "


@pytest.fixture
def task_words(corpus, target, tmp_path):
    rows = [{"id": f"r{i}", "text": LONG + text(7 * i), "label": "ab"[i % 2]} for i in range(12)]
    write_jsonl(tmp_path / "task" / "train.jsonl", rows[:6])
    write_jsonl(tmp_path / "task" / "validation.jsonl", rows[6:9])
    write_jsonl(tmp_path / "task" / "test.jsonl", rows[9:])
    return [
        *("curate", "--corpus", corpus, "--target", target, "--keep", "20"),
        *("--task", tmp_path / "task", "--set", "embed.method=hashing", "--workers", "1"),
        *("--set", "curate.filters=['exact_duplicate']", "--out", tmp_path / "out"),
    ]


def read(folder):
    return [
        row for path in sorted(folder.glob("*.parquet")) for row in pq.read_table(path).to_pylist()
    ]


def test_a_copy_of_a_test_row_never_reaches_training(cli, task_words, corpus, tmp_path):
    test_row = json.loads((tmp_path / "task" / "test.jsonl").read_text().splitlines()[0])
    with (corpus / "part-0.jsonl").open("a") as file:
        file.write(json.dumps({"id": "leak", "text": test_row["text"].upper()}) + "\n")
    task_words[task_words.index("20")] = "121"
    assert cli(*task_words).code == 0
    rows = {row["id"]: row for row in read(tmp_path / "out" / "data")}
    assert "leak" not in rows
    assert rows[test_row["id"]]["split"] == "test"
    story = cli("explain", "leak", "--out", tmp_path / "out", "--json").json()
    assert (story["stage"], story["decision"]) == ("curate", "dropped")
    assert story["duplicate_of"].startswith(test_row["id"])


def test_splits_follow_the_files_names_and_the_ledger_holds_every_row(cli, task_words, tmp_path):
    assert cli(*task_words).code == 0
    out = tmp_path / "out"
    splits = [path.name.split("-")[0] for path in sorted((out / "data").iterdir())]
    assert splits == ["test", "train", "validation"]
    assert len(read(out / "ledger")) == 120 + 12
    by_split = {row["id"]: row["split"] for row in read(out / "data") if row["origin"] == "seed"}
    assert {by_split[f"r{i}"] for i in range(6)} == {"train"}
    assert {by_split[f"r{i}"] for i in range(9, 12)} == {"test"}


def test_datasets_opens_the_shards_as_they_are(cli, task_words, tmp_path):
    from datasets import load_dataset

    assert cli(*task_words).code == 0
    loaded = load_dataset(str(tmp_path / "out" / "data"), cache_dir=str(tmp_path / "cache"))
    assert {name: len(split) for name, split in loaded.items()} == {
        "train": 26,
        "validation": 3,
        "test": 3,
    }


def test_no_label_of_corpus_rows_is_far_more_frequent_than_the_rarest():
    members = [
        {"id": str(i), "origin": "selected", "label": "a" if i < 30 else "b"} for i in range(35)
    ]
    members.append({"id": "own", "origin": "seed", "label": "a"})
    kept, drops = _balance(members, 2.0)
    assert [row["id"] for row in kept] == [*map(str, range(10)), *map(str, range(30, 35)), "own"]
    assert {drop.reason for drop in drops} == {
        "label_ratio: 10 rows of 'a' with better scores are kept"
    }
    assert _balance([{"id": "x", "origin": "selected", "label": None}], 2.0)[1] == []

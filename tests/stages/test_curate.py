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


def curate_words(corpus, out, *settings):
    words = ["curate", "--corpus", corpus, "--workers", "1", "--out", out]
    return [*words, *(part for setting in settings for part in ("--set", setting))]


def test_without_a_selection_the_whole_pile_is_curated(cli, corpus, tmp_path):
    write_jsonl(corpus / "more.jsonl", [{"id": "again", "text": text(5) + "!"}] * 1)
    write_jsonl(corpus / "twin.jsonl", [{"id": "twin", "text": text(5).upper()}])
    filters = "curate.filters=['exact_duplicate']"
    assert cli(*curate_words(corpus, tmp_path / "out", filters)).code == 0
    rows, lines = read(tmp_path / "out" / "data"), read(tmp_path / "out" / "ledger")
    assert len(rows) == 121
    assert len(lines) == 122
    (dropped,) = [line for line in lines if line["decision"] == "dropped"]
    assert {dropped["id"], dropped["duplicate_of"]} == {"twin", "0-5"}


def test_rows_of_an_earlier_run_are_not_delivered_again(cli, corpus, tmp_path):
    filters = "curate.filters=['exact_duplicate']"
    assert cli(*curate_words(corpus, tmp_path / "first", filters)).code == 0
    write_jsonl(corpus / "new.jsonl", [{"id": "n1", "text": "a new row"}])
    against = f"curate.against=['{tmp_path / 'first'}']"
    assert cli(*curate_words(corpus, tmp_path / "second", filters, against)).code == 0
    assert [row["id"] for row in read(tmp_path / "second" / "data")] == ["n1"]
    lines = {line["id"]: line for line in read(tmp_path / "second" / "ledger")}
    assert "with a kept earlier row" in lines["0-5"]["reason"]


def test_an_earlier_run_without_rows_is_named(cli, corpus, tmp_path):
    result = cli(*curate_words(corpus, tmp_path / "out", f"curate.against=['{tmp_path / 'no'}']"))
    assert result.code == 3
    assert "holds no delivered rows (data/*.parquet)" in result.err


def test_a_source_that_loses_most_of_its_rows_raises_an_alarm(cli, corpus, tmp_path):
    rows = [{"id": f"s{i}", "text": "the same text", "source": "spam"} for i in range(30)]
    write_jsonl(corpus / "spam.jsonl", rows)
    result = cli(*curate_words(corpus, tmp_path / "out"))
    assert result.code == 0
    assert "source spam loses 29 of 30 rows" in result.err


def test_a_filter_on_vectors_needs_an_encoder(cli, corpus, tmp_path):
    words = curate_words(corpus, tmp_path / "out", "curate.filters=['semantic_duplicate']")
    result = cli(*words)
    assert result.code == 2
    assert "'semantic_duplicate' works on vectors; add an [embed] table" in result.err
    assert cli(*words, "--set", "embed.method=hashing").code == 0


def test_a_changed_row_is_delivered_changed_and_explained(cli, corpus, tmp_path):
    write_jsonl(corpus / "mail.jsonl", [{"id": "m", "text": "write to ann.lee@corp.org today"}])
    words = curate_words(corpus, tmp_path / "out", "curate.filters=['personal_data']")
    assert cli(*words).code == 0
    (row,) = [row for row in read(tmp_path / "out" / "data") if row["id"] == "m"]
    assert row["text"] == "write to <EMAIL> today"
    story = cli("explain", "m", "--out", tmp_path / "out", "--json").json()
    assert story["decision"] == "kept"
    assert "personal_data" in story["reason"]
    assert "ann.lee" not in story["reason"]


def test_labelled_rows_of_the_user_are_reported_and_not_dropped_for_what_they_are(
    cli, task_words, tmp_path
):
    words = [
        *task_words,
        "--set",
        "curate.filters=['length']",
        "--set",
        "curate.length.least_tokens=99",
    ]
    assert cli(*words).code == 0
    rows = read(tmp_path / "out" / "data")
    assert {row["origin"] for row in rows} == {"seed"}
    story = cli("explain", "r1", "--out", tmp_path / "out", "--json").json()
    assert "(reported only)" in story["reason"]

import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lightadapt_data import shards


def test_a_shard_is_put_in_place_whole(tmp_path):
    def make(out):
        (out / "a.txt").write_text("a")
        return {"rows_in": 1}

    folder = tmp_path / "stage" / "key"
    assert shards.put_in_place(folder, make) == {"rows_in": 1}
    counts, digest = shards.read_done(folder)
    assert counts == {"rows_in": 1}
    assert digest
    assert [path.name for path in folder.parent.iterdir()] == ["key"]


def test_a_failed_shard_leaves_nothing(tmp_path):
    def make(out):
        (out / "a.txt").write_text("half")
        raise RuntimeError("broken")

    with pytest.raises(RuntimeError):
        shards.put_in_place(tmp_path / "stage" / "key", make)
    assert list((tmp_path / "stage").iterdir()) == []


def test_the_second_of_two_writers_keeps_the_first_ones_shard(tmp_path):
    folder = tmp_path / "key"

    def slow(out):
        shards.put_in_place(folder.with_name("other"), lambda inner: {})
        (tmp_path / "other").rename(folder)
        return {}

    shards.put_in_place(folder, slow)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["key"]


def test_leftovers_of_a_killed_run_are_removed(tmp_path):
    (tmp_path / ".key.123").mkdir()
    (tmp_path / ".manifest.json.9").write_text("half")
    (tmp_path / "whole").mkdir()
    shards.remove_leftovers(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["whole"]


def test_the_same_content_gives_the_same_digest_and_another_one_does_not():
    assert shards.digest_of({"a": 1, "b": 2}) == shards.digest_of({"b": 2, "a": 1})
    assert shards.digest_of({"a": 1}) != shards.digest_of({"a": 2})


def test_a_file_is_hashed_again_only_when_it_changes(tmp_path, monkeypatch):
    (tmp_path / "work").mkdir()
    path = tmp_path / "a.txt"
    path.write_text("one")
    digests = shards.StatDigests(tmp_path)
    first = digests.digest(path)
    digests.save()
    monkeypatch.setattr(shards, "file_digest", lambda path: pytest.fail("hashed again"))
    assert shards.StatDigests(tmp_path).digest(path) == first
    monkeypatch.undo()
    path.write_text("three")
    assert shards.StatDigests(tmp_path).digest(path) != first


names = st.lists(st.text("abcdef", min_size=1, max_size=6), unique=True, max_size=60)


@given(names, st.integers(1, 500))
def test_cut_keeps_every_item_once_and_in_order(names, most):
    items = [(name, len(name) * 10) for name in names]
    runs = list(shards.cut(items, most))
    assert [index for run in runs for index in run] == list(range(len(items)))
    assert all(len(run) == 1 or sum(items[i][1] for i in run) <= most for run in runs)


def test_a_new_item_changes_only_its_own_run():
    items = [(f"file-{number:03d}", 1) for number in range(200)]
    before = [[items[i][0] for i in run] for run in shards.cut(items, 10**9)]
    more = sorted([*items, ("file-100b", 1)])
    after = [[more[i][0] for i in run] for run in shards.cut(more, 10**9)]
    assert len([run for run in after if run not in before]) <= 2


def test_delivered_folders_hold_exactly_the_given_files(tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).write_text(name)
    shards.deliver({"data": [tmp_path / "a"]}, tmp_path / "run")
    shards.deliver({"data": [tmp_path / "b"]}, tmp_path / "run")
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["data"]
    assert [path.name for path in (tmp_path / "run" / "data").iterdir()] == ["b"]


@given(st.lists(st.lists(st.text(), max_size=5), max_size=4))
def test_parquet_round_trip_keeps_every_row(tmp_path_factory, batches):
    path = tmp_path_factory.mktemp("parquet") / "rows.parquet"
    schema = pa.schema([("text", pa.string())])
    tables = [pa.table({"text": pa.array(batch, pa.string())}) for batch in batches]
    assert shards.write_parquet(path, tables, schema) == sum(map(len, batches))
    assert pq.read_table(path)["text"].to_pylist() == [text for batch in batches for text in batch]


def test_done_files_hold_nothing_that_changes_between_runs(tmp_path):
    for run in ("one", "two"):
        shards.put_in_place(tmp_path / run, lambda out: (out / "a").write_text("a") and {"n": 1})
    first, second = ((tmp_path / run / "done.json").read_bytes() for run in ("one", "two"))
    assert first == second
    assert set(json.loads(first)) == {"counts", "files"}

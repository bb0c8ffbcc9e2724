"""What differs between two runs: against loops over dictionaries, and on tiny runs."""

import json
import shutil

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from toys import text, write_jsonl

from lightadapt_data import ledger, run
from lightadapt_data import recipe as recipes
from lightadapt_data.encoders import hashing
from lightadapt_data.errors import InputError
from lightadapt_data.reporting import causes, difference, ledger_index


def line(row_id, rank, is_kept, origin="selected"):
    return {
        "id": row_id,
        "source": "s",
        "origin": origin,
        "stage": "select",
        "decision": "kept" if is_kept else "dropped",
        "reason": "r",
        "score": None if rank is None else rank / 2,
        "rank": rank,
        "nearest_id": None,
        "parent_id": None,
        "duplicate_of": None,
    }


def write_ledger(folder, lines, rows_per_file=3):
    shutil.rmtree(folder, ignore_errors=True)
    (folder / "ledger").mkdir(parents=True)
    for number, start in enumerate(range(0, len(lines), rows_per_file)):
        table = pa.Table.from_pylist(lines[start : start + rows_per_file], ledger.schema())
        path = folder / "ledger" / f"ledger-{number:05d}.parquet"
        pq.write_table(table, path, row_group_size=2)
    return folder


@st.composite
def ledgers(draw):
    """Lines of two runs over ids that they share in part; ranks are no repeats."""
    found = []
    for _ in range(2):
        ids = draw(st.lists(st.integers(0, 9), min_size=1, unique=True))
        ranks = draw(st.permutations(range(1, len(ids) + 1)))
        kept = draw(st.lists(st.booleans(), min_size=len(ids), max_size=len(ids)))
        found.append([line(f"r{i}", r, k) for i, r, k in zip(ids, ranks, kept, strict=True)])
    return found


def brute(lines_a, lines_b):
    a, b = ({entry["id"]: entry for entry in lines} for lines in (lines_a, lines_b))

    def kept(run, row_id):
        return row_id in run and run[row_id]["decision"] == "kept"

    common = a.keys() & b.keys()
    both = [i for i in common if kept(a, i) and kept(b, i)]
    order_a = sorted(both, key=lambda i: a[i]["rank"])
    order_b = sorted(both, key=lambda i: b[i]["rank"])
    moved = {i for i in both if a[i]["rank"] != b[i]["rank"]}
    counts = {
        "in": sum(kept(b, i) and not kept(a, i) for i in b),
        "out": sum(kept(a, i) and not kept(b, i) for i in a),
        "dropped_to_kept": sum(kept(b, i) and not kept(a, i) for i in common),
        "kept_to_dropped": sum(kept(a, i) and not kept(b, i) for i in common),
        "only_in_b": len(b.keys() - a.keys()),
        "only_in_a": len(a.keys() - b.keys()),
        "reranked": len(moved),
        "reordered": sum(order_a.index(i) != order_b.index(i) for i in both),
        "kept_only_in_a": sum(kept(a, i) for i in a.keys() - b.keys()),
        "kept_only_in_b": sum(kept(b, i) for i in b.keys() - a.keys()),
        "kept_in_both": len(both),
        "rows_a": len(a),
        "rows_b": len(b),
    }
    spearman = None
    if len(both) > 1:
        gaps = [order_a.index(i) - order_b.index(i) for i in both]
        n = len(both)
        spearman = 1 - 6 * sum(gap**2 for gap in gaps) / (n * (n**2 - 1))
    return counts, spearman, moved


@given(ledgers())
def test_counts_are_those_of_the_loops(tmp_path_factory, pair):
    folder = tmp_path_factory.mktemp("pair")
    runs = [write_ledger(folder / name, lines) for name, lines in zip("ab", pair, strict=True)]
    found = difference.between(*runs, 3)
    counts, spearman, moved = brute(*pair)
    assert found["counts"] == counts
    assert found["spearman"] == (None if spearman is None else pytest.approx(spearman))
    assert {row["id"] for row in found["rows"]["reranked"]} <= moved
    for kind, rows in found["rows"].items():
        assert len(rows) == min(3, counts[kind])
        lines = [{entry["id"]: entry for entry in lines} for lines in pair]
        for row in rows:
            for name, known in zip(("a", "b"), lines, strict=True):
                expected = known.get(row["id"])
                assert row[name] == (expected and {key: expected[key] for key in row[name]})
    forth, back = (json.dumps(difference.between(*order, 3)) for order in (runs, runs[::-1]))
    assert json.loads(forth)["counts"]["in"] == json.loads(back)["counts"]["out"]


def test_the_correlation_is_spearmans():
    from scipy.stats import spearmanr

    generator = np.random.default_rng(0)
    a, b = generator.permutation(50) + 1, generator.permutation(50) + 1
    assert difference.spearman(a, b) == pytest.approx(spearmanr(a, b).statistic)
    assert difference.spearman(a, a) == 1
    assert difference.spearman(a[:1], b[:1]) is None


def test_a_seed_row_and_a_corpus_row_of_one_id_are_two_rows(tmp_path):
    lines = [line("x", 1, True), line("x", None, True, "seed")]
    a = write_ledger(tmp_path / "a", lines)
    b = write_ledger(tmp_path / "b", [line("x", 1, False), lines[1]])
    found = difference.between(a, b)
    assert (found["counts"]["out"], found["counts"]["kept_in_both"]) == (1, 1)
    assert found["rows"]["kept_to_dropped"][0]["origin"] == "selected"


def test_the_largest_moves_and_the_best_ranks_are_shown_first(tmp_path):
    ids = range(1, 9)
    a = write_ledger(tmp_path / "a", [line(f"r{i}", i, i < 6) for i in ids])
    order = [5, 2, 3, 4, 1, 8, 6, 7]
    ranks = {row: place for place, row in enumerate(order, start=1)}
    b = write_ledger(tmp_path / "b", [line(f"r{i}", ranks[i], True) for i in ids])
    rows = difference.between(a, b, 2)["rows"]
    assert [(row["id"], row["move"]) for row in rows["reranked"]] == [("r5", 4), ("r1", -4)]
    assert [row["id"] for row in rows["dropped_to_kept"]] == ["r8", "r6"]


def test_only_the_blocks_of_shown_rows_are_read_again(tmp_path, monkeypatch):
    folder = write_ledger(tmp_path / "a", [line(f"r{i}", i + 1, True) for i in range(9)])
    index = ledger_index.read(folder)
    read = []
    original = pq.ParquetFile.read_row_group

    def counting(self, number):
        read.append(number)
        return original(self, number)

    monkeypatch.setattr(pq.ParquetFile, "read_row_group", counting)
    places = np.flatnonzero(index.ranks == 5)
    assert [found["id"] for found in ledger_index.lines_at(index, places)] == ["r4"]
    assert len(read) == 1
    assert ledger_index.lines_at(index, np.array([-1])) == [None]


def overrides(inputs, *more):
    return [
        ("ingest.corpus", [str(inputs / "corpus")]),
        ("ingest.target", [str(inputs / "target.txt")]),
        ("embed.method", "hashing"),
        ("select.method", "nearest"),
        ("select.keep", "10"),
        *more,
    ]


@pytest.fixture(scope="module")
def first(tmp_path_factory):
    """The inputs of a run and the run itself; to be read only."""
    folder = tmp_path_factory.mktemp("first")
    for number in range(3):
        rows = [{"id": f"{number}-{i}", "text": text(100 * number + i)} for i in range(40)]
        write_jsonl(folder / "inputs" / "corpus" / f"part-{number}.jsonl", rows)
    (folder / "inputs" / "target.txt").write_text("the mean and variance\nthe sample variance\n")
    run.run_stages(recipes.load(None, overrides(folder / "inputs"), ["select"]), folder / "a")
    return folder


@pytest.fixture
def inputs(first, tmp_path):
    """A copy of the inputs, for the second run."""
    return shutil.copytree(first / "inputs", tmp_path / "inputs")


@pytest.fixture
def compared(first, inputs, tmp_path):
    """Do a second run with other settings, and return what differs from the first."""

    def made(*more):
        what = recipes.load(None, overrides(inputs, *more), ["select"])
        run.run_stages(what, tmp_path / "b")
        return difference.between(first / "a", tmp_path / "b")

    return made


def said(found):
    return [cause["text"] for cause in found["causes"]]


def test_two_equal_runs_differ_in_nothing(compared):
    found = compared()
    assert found["sentence"] == "nothing differs: the same 10 rows are kept, in the same order"
    assert found["causes"] == []
    assert not any(found["rows"].values())


def test_another_method_is_the_cause(compared):
    found = compared(("select.method", "random"))
    counts = found["counts"]
    assert counts["in"] == counts["out"] > 5
    assert found["sentence"] == (
        f"{counts['in']} rows in, {counts['out']} out, {counts['reranked']} re-ranked; "
        "cause: select.method nearest -> random"
    )
    row = found["rows"]["dropped_to_kept"][0]
    assert row["text"]
    assert row["a"]["decision"] == "dropped"
    assert row["b"]["reason"] == "within the budget 10"
    assert row["b"]["rank"] <= 10 < row["a"]["rank"]


def test_an_option_of_a_method_is_named_as_in_a_recipe(compared):
    assert said(compared(("select.nearest.k", 1))) == ["select.nearest.k 5 -> 1"]


def test_a_larger_budget_only_lets_rows_in(compared):
    found = compared(("select.keep", "25"))
    assert found["sentence"] == "15 rows in, 0 out, 0 re-ranked; cause: select.keep 10 -> 25"
    assert found["spearman"] == 1


def test_a_setting_that_moves_no_row_is_no_cause(compared):
    assert compared(("select.baseline", "random"))["causes"] == []


def test_a_setting_that_happens_to_change_nothing_is_told(compared):
    found = compared(("select.keep", "10rows"))
    assert found["sentence"].endswith("in the same order, although: select.keep 10 -> 10rows")


def test_another_seed_is_named(compared):
    assert said(compared(("seed", 5))) == ["seed 0 -> 5"]


def test_an_added_file_is_named_with_its_rows(compared, inputs):
    rows = [{"id": f"n{i}", "text": text(3 * i)} for i in range(9)]
    write_jsonl(inputs / "corpus" / "new.jsonl", rows)
    found = compared()
    assert said(found) == ["corpus files added: new.jsonl"]
    assert found["counts"]["only_in_b"] == 9
    assert {row["id"] for row in found["rows"]["only_in_b"]} == {f"n{i}" for i in range(9)}
    assert all(row["text"] and row["a"] is None for row in found["rows"]["only_in_b"])


def test_a_removed_file_is_named_and_its_rows_are_shown_from_the_first_run(compared, inputs):
    (inputs / "corpus" / "part-1.jsonl").unlink()
    found = compared()
    assert said(found) == ["corpus files removed: part-1.jsonl"]
    assert found["counts"]["only_in_a"] == 40
    assert all(row["text"] for row in found["rows"]["only_in_a"])


def shorten(path):
    path.write_text("\n".join(path.read_text().splitlines()[:20]))


def test_a_changed_file_is_told_from_its_neighbours(compared, inputs):
    shorten(inputs / "corpus" / "part-1.jsonl")
    assert said(compared()) == ["corpus files changed: part-1.jsonl"]


def test_without_remembered_digests_the_neighbours_are_in_doubt(compared, first, inputs, tmp_path):
    shorten(inputs / "corpus" / "part-1.jsonl")
    compared()
    forgetful = shutil.copytree(first / "a", tmp_path / "forgetful")
    (forgetful / "work" / "digests.json").unlink()
    (shard, *_) = [
        done.args["files"]
        for done in difference.open_run(forgetful).shards("ingest")
        if any(entry[0].endswith("part-1.jsonl") for entry in done.args["files"])
    ]
    (text,) = said(difference.between(forgetful, tmp_path / "b"))
    assert text.startswith("corpus files changed")
    assert text.endswith(", ".join(sorted(entry[0] for entry in shard)))
    assert ("at least one of" in text) == (len(shard) > 1)


def test_another_target_is_named(compared, inputs):
    (inputs / "target.txt").write_text("a socket in a thread\n")
    assert said(compared()) == ["target files changed: target.txt"]


def test_a_setting_of_ingest_is_told_without_blaming_the_files(compared, tmp_path):
    assert said(compared(("ingest.sample", 0.5))) == ["ingest.sample 1.0 -> 0.5"]


def test_another_model_of_the_same_name_is_the_cause(compared, monkeypatch):
    monkeypatch.setattr(hashing, "fingerprint", lambda settings: {"model": "other"})
    assert said(compared()) == ["embed: the files of the model have changed"]


def test_other_outside_files_of_a_stage_are_the_cause(cli, tmp_path, full_run):
    for name in "ab":
        shutil.copytree(full_run.folder, tmp_path / name)
    path = tmp_path / "b" / "work" / "curate" / "manifest.json"
    manifest = json.loads(path.read_text())
    path.write_text(json.dumps({**manifest, "inputs": "other"}))
    found = difference.between(tmp_path / "a", tmp_path / "b")
    assert said(found) == [
        "curate: models or files that it reads from outside the run have changed"
    ]


def test_versions_and_stages_of_one_run_only_are_told(tmp_path, full_run):
    for name in "ab":
        shutil.copytree(full_run.folder, tmp_path / name)
    for stage, changes in (
        ("select", {"version": 99, "settings": {"method": "nearest", "new": 1}}),
        ("ingest", {"package_version": "0.0.1"}),
    ):
        path = tmp_path / "b" / "work" / stage / "manifest.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))
    shutil.rmtree(tmp_path / "b" / "work" / "augment")
    found = said(difference.between(tmp_path / "a", tmp_path / "b"))
    assert found[0].startswith("select: version ")
    assert found[0].endswith(" -> 99")
    assert found[1] == "augment: only in A"
    assert found[-1].startswith("lightadapt-data 0.0.1, ") or " -> 0.0.1, " in found[-1]
    assert not [text for text in found if "select.keep" in text or "select.new" in text]


def test_many_causes_are_counted_and_called_possible():
    found = [causes.Cause("setting", "x", f"x{i}") for i in range(6)]
    assert causes.in_words(found) == "possible causes: x0; x1; x2; x3; and 2 more"
    assert causes.in_words([]) == "cause: none that the runs have written down"


def test_curated_runs_show_seed_and_augmented_rows_too(full_run, tmp_path):
    folder = shutil.copytree(full_run.folder, tmp_path / "b")
    path = folder / "ledger" / "ledger-rows.parquet"
    lines = pq.read_table(path).to_pylist()
    for entry in lines:
        if entry["decision"] == "kept":
            entry.update(decision="dropped", reason="for the test")
    pq.write_table(pa.Table.from_pylist(lines, ledger.schema()), path)
    found = difference.between(full_run.folder, folder, 500)
    rows = found["rows"]["kept_to_dropped"]
    assert {row["origin"] for row in rows} == {"seed", "augmented"}
    assert all(row["text"] for row in rows)
    assert found["sentence"].endswith("cause: none that the runs have written down")


def test_a_run_whose_work_is_gone_has_no_texts_but_its_counts(tmp_path):
    a = write_ledger(tmp_path / "a", [line("x", 1, True)])
    b = write_ledger(tmp_path / "b", [line("x", 2, False), line("y", 1, True)])
    found = difference.between(a, b)
    assert (found["counts"]["in"], found["counts"]["out"]) == (1, 1)
    assert found["rows"]["kept_to_dropped"][0]["text"] is None


def test_a_folder_without_a_selection_is_refused(cli, inputs, tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="holds no finished selection"):
        difference.between(tmp_path / "empty", tmp_path / "empty")
    cli("ingest", "--corpus", inputs / "corpus", "--out", tmp_path / "read")
    result = cli("diff", tmp_path / "read", tmp_path / "read")
    assert result.code == 3
    assert "read: holds no finished selection (ledger/*.parquet); name the folder" in result.err


def test_the_command_prints_the_sentence_first_and_then_rows(cli, compared, first, tmp_path):
    found = compared(("select.nearest.k", 1), ("select.keep", "60"))
    folders = first / "a", tmp_path / "b"
    result = cli("diff", *folders, "--rows", 1)
    assert result.code == 0, result.err
    assert result.err == ""
    sentence, *rest = result.out.splitlines()
    assert sentence == found["sentence"]
    assert f"dropped in A, kept in B: {found['counts']['in']}, 1 shown" in rest
    assert any(line.startswith("    A: dropped by select: below the cut") for line in rest)
    assert "Spearman of the ranks" in result.out
    assert "differs: select.nearest.k 5 -> 1" in rest
    assert "shown" not in cli("diff", *folders, "--rows", 0).out
    value = cli("diff", *folders, "--json", "--rows", 1).json()
    assert value["sentence"] == sentence
    assert [len(rows) <= 1 for rows in value["rows"].values()] == [True] * 5
    result = cli("diff", *folders, "--rows", -1)
    assert result.code == 2
    assert "--rows -1: allowed: a whole number from 0" in result.err


def test_long_texts_are_cut_on_the_terminal():
    assert difference._short("a " * 300).endswith("…")
    assert len(difference._short("a " * 300)) == difference.TEXT_CHARS

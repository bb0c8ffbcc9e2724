"""Every mistake a user can make has its message, its exit code, no traceback and no leftovers."""

import gzip
import json
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from toys import write_jsonl

from lightadapt_data import stages
from lightadapt_data.cli import FLAGS, main
from lightadapt_data.recipe import Recipe

ROOT = Path(__file__).parents[1]


def replaced(words, flag, value):
    words = list(words)
    words[words.index(flag) + 1] = str(value)
    return words


def is_clean(folder):
    """Return whether nothing half-written was left."""
    names = [path.name for path in folder.rglob("*")] if folder.exists() else []
    return not any(
        name.startswith(".") or name in ("data", "ledger", "report.html") for name in names
    )


def refuse(result, folder, code, *parts):
    assert result.code == code, result.err
    assert "Traceback" not in result.err
    assert result.out == ""
    message = [line for line in result.err.splitlines() if line.startswith("error: ")]
    assert len(message) == 1, result.err
    for part in parts:
        assert part in message[0]
    assert is_clean(folder)


def test_select_leaves_data_ledger_and_report(cli, select_words, tmp_path):
    result = cli(*select_words)
    assert result.code == 0, result.err
    out = tmp_path / "out"
    selected = pq.read_table(out / "data")
    assert len(selected) == 10
    expected = {"id", "text", "topic", "source", "n_tokens", "score", "origin", "method", "split"}
    assert expected <= set(selected.column_names)
    ledger = pq.read_table(out / "ledger").to_pylist()
    assert len(ledger) == 120
    kept = {line["id"] for line in ledger if line["decision"] == "kept"}
    assert kept == set(selected["id"].to_pylist())
    assert all(line["reason"] and line["nearest_id"] for line in ledger)
    assert (out / "report.html").stat().st_size > 1000
    assert result.out == ""


@pytest.mark.parametrize(("keep", "n_rows"), [("7", 7), ("10%", 12), ("1000", 120)])
def test_budgets_in_rows_and_shares(cli, select_words, keep, n_rows):
    result = cli(*replaced(select_words, "--keep", keep), "--json")
    assert result.json()["stages"][2]["rows_out"] == n_rows


def test_a_budget_in_tokens_is_never_exceeded(cli, select_words, tmp_path):
    cli(*replaced(select_words, "--keep", "33tok"))
    tokens = pq.read_table(tmp_path / "out" / "data")["n_tokens"].to_pylist()
    assert 28 < sum(tokens) <= 33


def test_json_is_one_value_on_stdout(cli, select_words):
    summary = json.loads(cli(*select_words, "--json").out)
    assert [entry["stage"] for entry in summary["stages"]] == [
        "ingest",
        "embed",
        "select",
        "report",
    ]
    assert set(summary["files"]) == {"data", "ledger", "report.html"}


def test_a_bad_row_is_quarantined_with_its_reason_and_counted(cli, select_words, corpus, tmp_path):
    with (corpus / "part-0.jsonl").open("ab") as file:
        file.write(b'{broken\n{"id": "x", "text": ""}\n{"id": "y", "text": 5}\n{"text": "\xff"}\n')
    result = cli(*select_words, "--json")
    assert result.code == 0, result.err
    assert result.json()["stages"][0]["counts"]["quarantined"] == 4
    assert "4 rows quarantined" in result.err
    (path,) = (tmp_path / "out").rglob("quarantine.parquet")
    reasons = pq.read_table(path)["reason"].to_pylist()
    assert reasons[0].startswith("not JSON")
    assert reasons[1] == "column 'text' is empty, not text"
    assert reasons[2] == "column 'text' is int, not text"
    assert reasons[3].startswith("not UTF-8: byte 0xff")


def test_wrong_recipe_key(cli, tmp_path):
    (tmp_path / "r.toml").write_text("[select]\nkeeep = 5\n")
    result = cli("check", tmp_path / "r.toml")
    refuse(result, tmp_path, 2, "r.toml: [select] unknown key 'keeep'", "did you mean 'keep'?")


def test_unknown_table(cli, tmp_path):
    (tmp_path / "r.toml").write_text("[selekt]\n")
    refuse(
        cli("check", tmp_path / "r.toml"), tmp_path, 2, "unknown table or key 'selekt'", "select"
    )


def test_wrong_option_of_a_method(cli, tmp_path):
    (tmp_path / "r.toml").write_text('[select.nearest]\nk = "five"\n')
    refuse(cli("check", tmp_path / "r.toml"), tmp_path, 2, "[nearest] k = 'five'")


def test_recipe_that_is_no_toml_or_not_there(cli, tmp_path):
    (tmp_path / "r.toml").write_text("[select\n")
    refuse(cli("check", tmp_path / "r.toml"), tmp_path, 2, "not valid TOML")
    refuse(cli("check", tmp_path / "none.toml"), tmp_path, 2, "no such recipe")


def test_unknown_method(cli, select_words, tmp_path):
    result = cli(*select_words, "--method", "nearset")
    refuse(result, tmp_path / "out", 2, "no method 'nearset' in selectors", "mean 'nearest'?")


@pytest.mark.parametrize("text", ["many", "0", "150%"])
def test_wrong_budget(cli, select_words, tmp_path, text):
    result = cli(*replaced(select_words, "--keep", text))
    refuse(result, tmp_path / "out", 2, f"keep = '{text}'", "allowed: rows (5000, 20k)")


def test_wrong_override(cli, select_words, tmp_path):
    refuse(cli(*select_words, "--set", "select.keep"), tmp_path / "out", 2, "TABLE.KEY=VALUE")
    refuse(cli(*select_words, "--workers", "0"), tmp_path / "out", 2, "--workers 0")


def test_missing_column(cli, select_words, tmp_path):
    result = cli(*select_words, "--text-column", "txt")
    refuse(result, tmp_path / "out", 3, "no column 'txt'", "mean 'text'?", "--text-column")


def test_empty_corpus(cli, select_words, tmp_path):
    (tmp_path / "empty.jsonl").write_text("")
    result = cli(*replaced(select_words, "--corpus", tmp_path / "empty.jsonl"))
    refuse(result, tmp_path / "out", 3, "corpus", "empty.jsonl: holds no usable row")
    (tmp_path / "folder").mkdir()
    result = cli(*replaced(select_words, "--corpus", tmp_path / "folder"))
    refuse(result, tmp_path / "out", 3, "no such file, or a folder or glob without .parquet")


def test_empty_or_missing_target(cli, select_words, tmp_path):
    (tmp_path / "empty.txt").write_text("\n\n")
    result = cli(*replaced(select_words, "--target", tmp_path / "empty.txt"))
    refuse(result, tmp_path / "out", 3, "target", "holds no usable row")
    words = [w for w in select_words if w != "--target" and not w.endswith("target.txt")]
    refuse(cli(*words), tmp_path / "out", 3, "no target", "--target")


def test_missing_corpus(cli, tmp_path):
    refuse(cli("select", "--out", tmp_path / "out"), tmp_path / "out", 3, "no corpus", "--corpus")


def test_missing_folder(cli, corpus):
    result = cli("ingest", "--corpus", corpus)
    assert result.code == 2
    assert "--out DIR" in result.err


def test_unreadable_file(cli, select_words, tmp_path):
    (tmp_path / "a.parquet").write_bytes(b"PAR1 no")
    result = cli(*replaced(select_words, "--corpus", tmp_path / "a.parquet"))
    refuse(result, tmp_path / "out", 3, "a.parquet: breaks off or is not what its name says")


def test_truncated_gzip(cli, select_words, tmp_path):
    whole = gzip.compress(b"".join(b'{"text": "row %d"}\n' % (i * 7919) for i in range(5000)))
    (tmp_path / "a.jsonl.gz").write_bytes(whole[:-1000])
    result = cli(*replaced(select_words, "--corpus", tmp_path / "a.jsonl.gz"))
    refuse(result, tmp_path / "out", 3, "a.jsonl.gz: breaks off", "end-of-stream", "again")


def test_a_file_that_is_not_utf8(cli, select_words, tmp_path):
    (tmp_path / "a.txt").write_bytes("\u00fcber\n\u00e4hnlich\n\u00f6fter\n".encode("latin-1"))
    result = cli(*replaced(select_words, "--corpus", tmp_path / "a.txt"))
    refuse(
        result, tmp_path / "out", 3, "3 of 3 rows are unusable", "not UTF-8: byte 0xfc at byte 0"
    )


def test_a_model_that_is_nowhere_while_offline(cli, select_words, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    words = replaced(select_words, "--set", "embed.method=sentence_transformer")
    result = cli(*words, "--encoder", "no/such-model")
    refuse(result, tmp_path / "out", 3, "'no/such-model' is neither a folder", "local folder")


def test_ids_that_stand_twice(cli, select_words, corpus, tmp_path):
    write_jsonl(corpus / "part-9.jsonl", [{"id": "0-1", "text": "twice"}])
    refuse(
        cli(*select_words), tmp_path / "out", 3, "ids stand more than once", "'0-1' in", "content"
    )
    assert cli(*select_words, "--set", "ingest.ids=content").code == 0


def test_a_folder_that_cannot_be_one(cli, select_words, tmp_path):
    (tmp_path / "file").write_text("x")
    result = cli(*replaced(select_words, "--out", tmp_path / "file"))
    assert result.code == 3
    assert "file: cannot be the run's folder (Not a directory); name another" in result.err
    assert "Traceback" not in result.err


def test_nothing_selected(cli, select_words, tmp_path):
    result = cli(*replaced(select_words, "--keep", "1tok"))
    refuse(result, tmp_path / "out", 4, "keeps none of 120 rows", "raise the budget")


def test_search_and_explain_without_a_run(cli, tmp_path):
    refuse(cli("search", "mean", "--out", tmp_path), tmp_path, 3, "holds no run")
    refuse(cli("explain", "x", "--out", tmp_path), tmp_path, 3, "holds no run")


def test_explain_tells_the_story_of_a_kept_and_a_dropped_row(cli, select_words, tmp_path):
    cli(*select_words)
    ledger = pq.read_table(tmp_path / "out" / "ledger").to_pylist()
    for decision in ("kept", "dropped"):
        line = next(line for line in ledger if line["decision"] == decision)
        story = cli("explain", line["id"], "--out", tmp_path / "out", "--json").json()
        assert story["decision"] == decision
        assert "sample" in json.dumps(story)
    result = cli("explain", "nobody", "--out", tmp_path / "out")
    assert result.code == 3
    assert "nobody" in result.err


def test_search_finds_the_nearest_rows(cli, corpus, tmp_path):
    words = ("--corpus", corpus, "--set", "embed.method=hashing", "--out", tmp_path / "out")
    assert cli("index", *words).code == 0
    found = cli("search", "mean variance", "--k", 3, "--out", tmp_path / "out", "--json").json()
    assert len(found) == 3
    assert [row["score"] for row in found] == sorted((r["score"] for r in found), reverse=True)
    assert {"id", "text", "source", "score"} == set(found[0])
    assert cli("search", "mean", "--k", 500, "--out", tmp_path / "out", "--json").code == 0
    assert cli("search", "mean", "--k", 0, "--out", tmp_path / "out").code == 2


def test_plan_tells_what_is_done_and_what_is_left(cli, select_words, corpus, target, tmp_path):
    recipe = tmp_path / "r.toml"
    recipe.write_text(
        f'[ingest]\ncorpus = ["{corpus}"]\ntarget = ["{target}"]\n'
        '[embed]\nmethod = "hashing"\n[select]\nkeep = "5"\n'
    )
    out = tmp_path / "planned"
    before = cli("plan", recipe, "--out", out, "--json").json()
    assert before[0]["todo"] > 0
    assert before[1]["note"] == "known once ingest is done"
    assert not out.exists()
    assert cli("run", recipe, "--out", out, "--workers", 1).code == 0
    after = cli("plan", recipe, "--out", out, "--json").json()
    assert sum(entry["todo"] for entry in after) == 0


def test_a_stage_verb_continues_the_run_in_its_folder(cli, select_words, tmp_path):
    cli(*select_words)
    result = cli("index", "--out", tmp_path / "out", "--json")
    assert result.code == 0, result.err
    assert result.json()["stages"][0]["reused"] > 0


def test_every_stage_has_a_verb_with_a_line_of_help(cli):
    result = cli("--help")
    assert result.code == 0
    for name in (*stages.STAGES, "run", "check", "plan", "search", "explain"):
        assert f"\n    {name} " in result.out
    for name in stages.STAGES:
        assert len(stages.summary(name)) > 20


def test_every_flag_names_a_key_that_exists():
    for key, _ in FLAGS.values():
        stage, *rest = key.split(".")
        if len(rest) == 1:
            assert rest[0] in stages.load(stage).Settings.model_fields


HEAVY = ("torch", "faiss", "datasets", "prefect", "transformers", "pyarrow", "sklearn")


@pytest.mark.parametrize(
    "words", [["--help"], ["check", "RECIPE"], ["plan", "RECIPE", "--out", "OUT"]]
)
def test_quick_verbs_import_nothing_heavy(tmp_path, words):
    names = {"RECIPE": str(ROOT / "pipelines" / "quickstart.toml"), "OUT": str(tmp_path / "out")}
    code = (
        "import sys\nfrom lightadapt_data.cli import main\n"
        "try:\n    main(sys.argv[1:])\nexcept SystemExit:\n    pass\n"
        f"print([name for name in {HEAVY} if name in sys.modules], file=sys.stderr)"
    )
    words = [names.get(word, word) for word in words]
    done = subprocess.run(
        [sys.executable, "-c", code, *words], capture_output=True, text=True, check=True
    )
    assert done.stderr.splitlines()[-1] == "[]"


def test_a_recipe_survives_being_saved(corpus, tmp_path):
    from lightadapt_data import recipe

    first = recipe.load(ROOT / "pipelines" / "quickstart.toml")
    path = tmp_path / "recipe.json"
    path.write_text(recipe.saved_text(first))
    second = recipe.load(path)
    assert second == Recipe("recipe", first.seed, first.settings)


@pytest.mark.parametrize("path", sorted((ROOT / "pipelines").glob("*.toml")), ids=lambda p: p.stem)
def test_every_shipped_recipe_is_right(path):
    assert main(["check", str(path)]) == 0


@pytest.mark.parametrize("verb", ["compare", "diff"])
def test_the_verbs_on_several_runs_have_a_line_of_help(cli, verb):
    assert f"\n    {verb} " in cli("--help").out
    assert cli(verb, "--help").code == 0


@pytest.mark.parametrize(
    ("words", "part"),
    [
        (["compare"], "RECIPE"),
        (["compare", "RECIPE", "--draws", "many"], "--draws: invalid int value: 'many'"),
        (["diff", "one"], "RUN_B"),
        (["diff", "a", "b", "--rows", "x"], "--rows: invalid int value: 'x'"),
    ],
)
def test_wrong_words_of_these_verbs_are_exit_2(cli, words, part):
    result = cli(*words)
    assert result.code == 2
    assert part in result.err
    assert "Traceback" not in result.err


def test_comparing_by_no_recipe_and_runs_that_are_not_there(cli, tmp_path):
    result = cli("compare", tmp_path / "none.toml", "--out", tmp_path / "out")
    refuse(result, tmp_path / "out", 2, "no such recipe")
    result = cli("diff", tmp_path / "none", tmp_path / "none")
    refuse(result, tmp_path / "none", 3, "holds no finished selection")

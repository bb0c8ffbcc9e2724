"""Completion, resume and the folder's lock, on the tiny corpus with the hashing encoder."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from toys import text, write_jsonl

from lightadapt_data import run
from lightadapt_data.errors import HeldError
from lightadapt_data.stages import embed


def tree(folder: Path) -> dict[str, bytes]:
    """Return every file of a run but its log, lock and times."""
    skipped = {"events.jsonl", "lock", "digests.json", "recipe.json", "report.html"}
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name not in skipped and "/work/report/" not in str(path)
    }


def test_a_second_run_has_nothing_to_do(cli, select_words):
    cli(*select_words)
    stages = cli(*select_words, "--json").json()["stages"]
    assert all(entry["reused"] == entry["shards"] for entry in stages)


def test_another_budget_keeps_the_scores(cli, select_words):
    cli(*select_words)
    select_words[select_words.index("10")] = "20"
    stages = {e["stage"]: e for e in cli(*select_words, "--json").json()["stages"]}
    assert (stages["select"]["shards"], stages["select"]["reused"]) == (2, 1)
    assert stages["embed"]["reused"] == stages["embed"]["shards"]
    assert stages["select"]["rows_out"] == 20


def test_a_new_file_costs_only_its_own_rows(cli, select_words, corpus, monkeypatch):
    cli(*select_words)
    write_jsonl(corpus / "part-3.jsonl", [{"id": f"3-{i}", "text": text(i)} for i in range(5)])
    embedded = []
    original = embed.load

    def counting(settings):
        encoder = original(settings)
        encode = encoder.encode
        encoder.encode = lambda texts: embedded.append(len(texts)) or encode(texts)
        return encoder

    monkeypatch.setattr(embed, "load", counting)
    assert cli(*select_words).code == 0
    # Files share a shard with their neighbours until a border that their names decide.
    assert sum(embedded) <= 45


def test_workers_do_not_change_a_byte(cli, select_words, tmp_path):
    cli(*select_words)
    words = [
        word if word != str(tmp_path / "out") else str(tmp_path / "two") for word in select_words
    ]
    words[words.index("--workers") + 1] = "2"
    assert cli(*words).code == 0
    assert tree(tmp_path / "two") == tree(tmp_path / "out")


KILLED = """
import os, signal, sys
from lightadapt_data import cli
from lightadapt_data.stages import {stage} as stage
original, calls = stage.run_shard, []
def run_shard(settings, workspace, shard, out):
    calls.append(shard)
    counts = original(settings, workspace, shard, out)
    if len(calls) == 2:
        os.kill(os.getpid(), signal.SIGKILL)
    return counts
stage.run_shard = run_shard
sys.exit(cli.main(sys.argv[1:]))
"""


@pytest.mark.parametrize("stage", ["ingest", "embed", "augment"])
def test_after_sigkill_only_unfinished_shards_are_redone_and_the_result_is_equal(
    cli, select_words, corpus, tmp_path, stage
):
    # Files too large to share a shard: three of ingest, and of embed.
    for path in corpus.iterdir():
        rows = path.read_text().splitlines()
        filler = [
            json.dumps({"id": f"{path.stem}-x{i}", "text": text(i) * 400}) for i in range(900)
        ]
        path.write_text("\n".join(rows + filler))
    if stage == "augment":
        rows = [{"id": f"r{i}", "text": text(i), "label": "ab"[i % 2]} for i in range(200)]
        task = write_jsonl(tmp_path / "train.jsonl", rows)
        select_words[0] = "augment"
        select_words += ["--task", str(task), "--set", "augment.methods=['char_noise']"]
    cli(*select_words)
    killed = [
        word.replace(str(tmp_path / "out"), str(tmp_path / "killed")) for word in select_words
    ]
    code = KILLED.format(stage=stage)
    process = subprocess.run(
        [sys.executable, "-c", code, *killed], capture_output=True, check=False
    )
    assert process.returncode == -signal.SIGKILL
    finished = list((tmp_path / "killed" / "work" / stage).glob("[!.]*/done.json"))
    assert len(finished) == 1
    before = {path: path.stat().st_mtime_ns for path in finished}
    result = cli(*killed)
    assert result.code == 0, result.err
    assert {path: path.stat().st_mtime_ns for path in finished} == before
    assert tree(tmp_path / "killed") == tree(tmp_path / "out")
    assert not list((tmp_path / "killed").rglob(".*"))


def test_a_held_folder_stops_the_second_run_with_75(cli, select_words, tmp_path):
    with run.hold(tmp_path / "out"):
        result = cli(*select_words)
    assert result.code == 75
    assert f"another run holds this folder (process {os.getpid()})" in result.err
    assert cli(*select_words).code == 0


def test_hold_raises_the_error_of_the_tree(tmp_path):
    with run.hold(tmp_path), pytest.raises(HeldError), run.hold(tmp_path):
        pass


def test_ctrl_c_says_how_to_resume(cli, select_words, monkeypatch):
    def interrupted(*args):
        raise KeyboardInterrupt

    monkeypatch.setattr(embed, "run_shard", interrupted)
    result = cli(*select_words)
    assert result.code == 130
    assert "Resume with: python -m lightadapt_data select --corpus" in result.err


def test_ctrl_c_stops_workers_at_once_and_leaves_nothing_half_written(
    select_words, corpus, tmp_path
):
    for path in corpus.iterdir():
        filler = [
            json.dumps({"id": f"{path.stem}-x{i}", "text": text(i) * 400}) for i in range(3000)
        ]
        path.write_text("\n".join(filler))
    select_words[select_words.index("--workers") + 1] = "2"
    command = [sys.executable, "-m", "lightadapt_data", *select_words]
    # A shell that starts the tests in the background has Ctrl-C ignored, and children inherit that.
    with subprocess.Popen(
        command,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    ) as run_:
        for line in run_.stderr:
            if "embed: " in line:
                os.killpg(run_.pid, signal.SIGINT)
                break
        rest = run_.stderr.read()
    assert run_.returncode == 130, rest
    assert "Resume with: python -m lightadapt_data select" in rest
    assert "Traceback" not in rest
    assert not list((tmp_path / "out").rglob(".*"))

"""What a run would do, and what it did, as JSON values."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from lightadapt_data import run, shards, stages
from lightadapt_data.shards import Workspace


def plan(workspace: Workspace) -> list[dict[str, Any]]:
    """Return, per stage, how many shards are done and left, and the seconds that they may take."""
    entries: list[dict[str, Any]] = []
    past = past_seconds(workspace.folder)
    waits_for = ""
    for name in workspace.settings:
        entry: dict[str, Any] = {"stage": name, "done": 0, "todo": 0, "seconds": None, "note": ""}
        entries.append(entry)
        if waits_for:
            entry["note"] = f"known once {waits_for} is done"
            continue
        module = stages.load(name)
        n_finished = _finished(workspace, name)
        if n_finished:
            entry["done"] = n_finished
            continue
        made = run.prepare(workspace, name)
        entry["todo"] = len(made.todo)
        entry["done"] = len(made.shards) - len(made.todo)
        if hasattr(module, "run"):
            key = run.result_key(workspace, name, made.shards)
            is_done = shards.read_done(workspace.folder / "work" / name / key) is not None
            entry["done" if is_done else "todo"] += 1
        if entry["todo"]:
            waits_for = name
            if name in past:
                seconds, n_shards = past[name]
                entry["seconds"] = seconds / n_shards * entry["todo"]
    return entries


def summary(workspace: Workspace, reports: list[run.StageReport]) -> dict[str, Any]:
    """Return what a run did as JSON values: stages, headline, files."""
    files = {}
    for name in ("data", "ledger", "report.html", "publish"):
        if (workspace.folder / name).exists():
            files[name] = str(workspace.folder / name)
    ran = [report.stage for report in reports]
    told = [name for name in ("report", "publish") if name in ran]
    headline = [line for name in told for line in stages.load(name).headline(workspace)]
    return {
        "folder": str(workspace.folder),
        "stages": [
            {
                "stage": report.stage,
                "rows_in": report.rows_in,
                "rows_out": report.rows_out,
                "seconds": round(report.seconds, 2),
                "shards": report.n_shards,
                "reused": report.n_reused,
                "counts": dict(report.counts),
            }
            for report in reports
        ],
        "headline": headline,
        "files": files,
    }


def past_seconds(folder: Path) -> dict[str, tuple[float, int]]:
    """Return (seconds, shards) spent per stage in past runs of this folder, for estimates."""
    spent: dict[str, tuple[float, int]] = {}
    path = folder / "work" / "events.jsonl"
    if path.exists():
        for line in path.read_text("utf-8").splitlines():
            event: dict[str, Any] = json.loads(line)
            seconds, n_shards = spent.get(event["stage"], (0.0, 0))
            spent[event["stage"]] = (seconds + event["seconds"], n_shards + 1)
    return spent


def _finished(workspace: Workspace, name: str) -> int:
    """Return the shards of a stage whose inputs have not changed since it was finished, or 0.

    Cheaper than asking the stage, which may have to read rows; the first stage reads outside files
    and is always asked.
    """
    manifest = workspace.manifest(name)
    if not stages.load(name).READS or manifest is None:
        return 0
    has_run = hasattr(stages.load(name), "run")
    if manifest["inputs"] != run.inputs_key(workspace, name) or (
        has_run and not manifest["result"]
    ):
        return 0
    return len(manifest["shards"]) + bool(manifest["result"])

"""The rows that curate starts from: task, augmented, selected and earlier rows, in one form."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from lightadapt_data import methods, rows
from lightadapt_data.errors import InputError
from lightadapt_data.shards import Workspace

COLUMNS = (
    ("id", "string"),
    ("text", "string"),
    ("label", "string"),
    *((name, "float" if name == "score" else "string") for name in rows.PROVENANCE),
    ("source", "string"),
    ("n_tokens", "int32"),
)


def delivered_by(folder: str) -> list[Path]:
    """Return the files that an earlier run delivered.

    Raises:
        InputError: there are none.
    """
    paths = sorted(Path(folder, "data").glob("*.parquet"))
    if not paths:
        raise InputError(
            f"curate.against: {folder} holds no delivered rows (data/*.parquet); name the folder "
            "of a finished run"
        )
    return paths


def earlier_rows(folder: str) -> Iterator[dict[str, Any]]:
    """Yield the rows of an earlier run as rows that are settled."""
    for path in delivered_by(folder):
        for row in rows.read_rows([path]):
            yield {**row, "origin": "earlier", "parent_id": None}


def columns(workspace: Workspace) -> list[tuple[str, Any]]:
    """Return the names and Arrow types of the columns of curated rows, the task's own last."""
    import pyarrow as pa

    known = [(name, pa.type_for_alias(kind)) for name, kind in COLUMNS]
    ingest: Any = workspace.settings["ingest"]
    return known + list(methods.load("tasks", ingest.kind).columns())


def all_rows(workspace: Workspace) -> Iterator[dict[str, Any]]:
    """Yield task rows, augmented rows, and selected rows (with the labels that augment gave)."""
    names = [name for name, _ in columns(workspace)]

    def as_curated(row: dict[str, Any], **changes: Any) -> dict[str, Any]:
        merged = {**row, **changes}
        return {name: merged.get(name) for name in names}

    for row in rows.read_role(workspace, "task"):
        yield as_curated(row, origin="seed", method="", parent_id=None, score=None)
    is_labelled = False
    for done in workspace.shards("augment") if workspace.has("augment") else []:
        is_labelled |= done.args["origin"] == "selected"
        for row in rows.read_rows([done.file("accepted.parquet")]):
            yield as_curated(row)
    result = workspace.result("select") if workspace.has("select") else None
    if result is not None and not is_labelled:
        for row in rows.read_rows(sorted(result.folder.glob("selected-*.parquet"))):
            yield as_curated(row)
    if not workspace.has("select") and not rows.parts(workspace, "task"):
        for part in rows.parts(workspace, "corpus"):
            for row in rows.read_rows([part.rows]):
                yield as_curated(row, origin="selected", method="", split="train")


def priority(row: dict[str, Any]) -> tuple[Any, ...]:
    """Return who is kept of two copies: held-out rows, seed rows, then the better score."""
    split = {"test": 0, "validation": 1}.get(row["split"], 2)
    origin = {"seed": 0, "selected": 1, "augmented": 2}.get(row["origin"], 3)
    return (split, origin, -(row["score"] or 0.0), row["id"])

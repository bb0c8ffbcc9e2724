"""story: what became of one row, and rows looked up by their ids.

Files are read one at a time and only the rows asked for are kept, so a large corpus is no matter.
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Collection
from pathlib import Path
from typing import Any

import numpy as np

from lightadapt_data import corpus, ledger, methods, rows
from lightadapt_data.errors import InputError
from lightadapt_data.shards import Done, Workspace
from lightadapt_data.vectors import unit

NEAR_IDS = 50_000
"""Most ids among which the nearest to an unknown one is looked for [rows]."""


def explain(workspace: Workspace, row_id: str) -> dict[str, Any]:
    """Return the whole story of one row; a value that does not apply is None.

    Keys: id, text, source, origin (selected, seed, augmented), stage, decision, reason, score,
    rank ("12 of 30567"), nearest_id and nearest_text (the nearest target row), nearest (the three
    nearest ones with their cosines), duplicate_of and duplicate_of_text, parent_id and
    parent_text, method, label, verdicts (by gate), split.

    Raises:
        InputError: the run has no ledger yet, or the ledger no such row.
    """
    folder = workspace.folder / "ledger"
    line = ledger.find(folder, row_id)
    if line is None:
        raise InputError(_unknown(workspace, folder, row_id))
    origin, duplicate_of = line["origin"], line["duplicate_of"]
    role = {"seed": "task", "selected": "corpus"}.get(origin)
    given = find_rows(workspace, role, [row_id]).get(row_id, {}) if role else {}
    made = None if origin == "seed" else _augmented(workspace, row_id, origin)
    parent_id = line.get("parent_id") or (made or {}).get("parent_id")
    nearest_id = line["nearest_id"] if origin == "selected" else None
    texts = texts_of(workspace, [other for other in (parent_id, duplicate_of) if other])
    return {
        "id": row_id,
        "text": given.get("text") or (made or {}).get("text"),
        **{name: line[name] for name in ("source", "origin", "stage", "decision", "reason")},
        "score": line["score"],
        "rank": f"{line['rank']} of {_n_ranked(workspace)}" if line["rank"] else None,
        "nearest_id": nearest_id,
        "nearest_text": _text(workspace, "target", nearest_id),
        "nearest": nearest_targets(workspace, row_id) if origin == "selected" else None,
        "duplicate_of": duplicate_of,
        "duplicate_of_text": texts.get(duplicate_of or ""),
        "parent_id": parent_id,
        "parent_text": texts.get(parent_id or ""),
        "method": _method(workspace, origin, made),
        "label": made["label"] if made else given.get("label") if origin == "seed" else None,
        "verdicts": verdicts(workspace, made) if made else None,
        "split": (_delivered(workspace.folder / "data", row_id) or given).get("split"),
    }


def nearest_targets(workspace: Workspace, row_id: str, k: int = 3) -> list[str] | None:
    """Return the k target rows nearest to a corpus row, as "cosine text", best first.

    Vectors are centred on the corpus mean, as selectors compare them. None without vectors.
    """
    pile = corpus.Corpus(workspace)
    places = np.flatnonzero(pile.keys == rows.key_of(row_id))
    target = corpus.read_target(workspace)
    if not pile.dim or not len(places) or not len(target.texts):
        return None
    mean = pile.mean()
    cosines = unit(target.vectors - mean) @ unit(pile.vectors_at(places[:1]) - mean)[0]
    best = np.argsort(-cosines, kind="stable")[:k]
    return [f"{cosines[place]:.3f} {target.texts[place]}" for place in best]


def find_rows(
    workspace: Workspace, role: str, ids: Collection[str], columns: Collection[str] = ()
) -> dict[str, dict[str, Any]]:
    """Return the ingested rows of a role by id, those that there are; all columns if none named."""
    import pyarrow.parquet as pq

    wanted = np.array([rows.key_of(row_id) for row_id in ids], np.uint64)
    found: dict[str, dict[str, Any]] = {}
    for part in rows.parts(workspace, role) if ids else []:
        places = np.flatnonzero(np.isin(np.load(part.keys), wanted))
        if len(places):
            present = pq.read_schema(part.rows).names
            names = [name for name in columns if name in present] or None
            table = pq.read_table(part.rows, columns=names).take(places)
            found |= {row["id"]: row for row in table.to_pylist() if row["id"] in ids}
    return found


def texts_of(workspace: Workspace, ids: Collection[str]) -> dict[str, str]:
    """Return the texts of rows of any origin by id, those that there are."""
    texts: dict[str, str] = {}
    for role in ("task", "corpus"):
        left = [row_id for row_id in ids if row_id not in texts]
        found = find_rows(workspace, role, left, ("id", "text"))
        texts |= {row_id: row["text"] for row_id, row in found.items()}
    for row_id in ids:
        if row_id not in texts and (row := _augmented(workspace, row_id)) is not None:
            texts[row_id] = row["text"]
    return texts


def verdicts(workspace: Workspace, row: dict[str, Any]) -> dict[str, str]:
    """Return what each gate said of an augmented row: "passed", or "refused" with the evidence.

    Gates after the one that refused were not asked and are left out.

    Args:
        workspace: of the run, for the gates in their order.
        row: from accepted.parquet or rejected.parquet.
    """
    settings: Any = workspace.settings["augment"]
    scores = json.loads(row["scores"] or "{}")
    said: dict[str, str] = {}
    skipped = methods.load("augmenters", row["method"]).SKIPS_GATES
    asked = [gate for gate in settings.gates if gate not in skipped]
    if row["gate"] in ("held_out", row["method"]):
        asked = []  # these two come before the gates
    for gate in asked:
        if gate == row["gate"]:
            break
        score = f" ({scores[gate]:.3f})" if gate in scores else ""
        said[gate] = f"passed{score}"
    if row["gate"]:
        said[row["gate"]] = f"refused: {row['reason']}"
    elif row["method"] in scores:
        said[row["method"]] = f"passed ({scores[row['method']]:.3f})"
    return said


def augment_shards(workspace: Workspace) -> list[Done]:
    """Return the finished shards of augment, none if the run does not augment."""
    return workspace.shards("augment") if workspace.has("augment") else []


def _method(workspace: Workspace, origin: str, made: dict[str, Any] | None) -> str | None:
    """Return what chose or made the row; None for one that the user gave."""
    if origin != "selected":
        return str(made["method"]) if made else None
    settings: Any = workspace.settings.get("select")
    names = [] if settings is None else [str(settings.method)]
    return ", label by ".join([*names, *([made["method"]] if made else [])]) or None


def _augmented(
    workspace: Workspace, row_id: str, origin: str | None = None
) -> dict[str, Any] | None:
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    for done in augment_shards(workspace):
        if origin is not None and done.args["origin"] != origin:
            continue
        for name in ("accepted", "rejected"):
            table = pq.read_table(done.file(f"{name}.parquet"), filters=pc.field("id") == row_id)
            if len(table):
                return dict(table.to_pylist()[0])
    return None


def _delivered(folder: Path, row_id: str) -> dict[str, Any] | None:
    """Return a row of the delivered data set, or None."""
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    for path in sorted(folder.glob("*.parquet")):
        found = pq.read_table(path, columns=["id", "split"], filters=pc.field("id") == row_id)
        if len(found):
            return dict(found.to_pylist()[0])
    return None


def _text(workspace: Workspace, role: str, row_id: str | None) -> str | None:
    if not row_id:
        return None
    row = find_rows(workspace, role, [row_id], ("id", "text")).get(row_id)
    return None if row is None else str(row["text"])


def _n_ranked(workspace: Workspace) -> int:
    result = workspace.result("select") if workspace.has("select") else None
    return result.counts["rows_in"] if result else 0


def _unknown(workspace: Workspace, folder: Path, row_id: str) -> str:
    """Return what to say of an id that is not in the ledger."""
    import pyarrow.parquet as pq

    paths = sorted(folder.glob("*.parquet"))
    if not paths:
        return f"{workspace.folder}: no ledger here yet; run select or curate first"
    n_rows = sum(pq.read_metadata(path).num_rows for path in paths)
    near = ""
    if n_rows <= NEAR_IDS:
        ids = [
            row_id
            for path in paths
            for row_id in pq.read_table(path, columns=["id"])["id"].to_pylist()
        ]
        close = difflib.get_close_matches(row_id, ids, n=1, cutoff=0.8)
        near = f"; did you mean '{close[0]}'?" if close else ""
    return (
        f"row '{row_id}' is not in the ledger of {workspace.folder} ({n_rows:,} rows){near}; "
        "ids are in the column `id` of its ledger/*.parquet"
    )

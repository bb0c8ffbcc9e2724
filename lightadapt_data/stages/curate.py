"""curate: all rows -> deduplicated splits in Parquet, and the ledger of every row's fate."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import Field

from lightadapt_data import ledger, methods, rows
from lightadapt_data.config import StageConfig
from lightadapt_data.errors import InputError
from lightadapt_data.filters import Finding, Text
from lightadapt_data.shards import Counts, Workspace, file_digest, read_parquet, write_parquet
from lightadapt_data.shards import deliver as deliver_files

if TYPE_CHECKING:
    import pyarrow as pa

VERSION = 1
READS = ("ingest",)
MAY_READ = ("select", "augment")
FAMILIES = {"filters": "filters"}
COLUMNS = (
    ("id", "string"),
    ("text", "string"),
    ("label", "string"),
    *((name, "float" if name == "score" else "string") for name in rows.PROVENANCE),
    ("source", "string"),
    ("n_tokens", "int32"),
)


class Settings(StageConfig):
    """Settings of the curate stage."""

    filters: tuple[str, ...] = ("exact_duplicate", "near_duplicate")
    """Names of files in lightadapt_data/filters/, in the order in which they work."""
    label_ratio: float = Field(default=2.0, ge=1)
    """Selected rows of one label, at most this many times those of the rarest label [ratio]."""


@dataclass(frozen=True)
class Drop:
    """Why a row was dropped."""

    row: dict[str, Any]
    reason: str
    duplicate_of: str | None


def run(settings: Settings, workspace: Workspace, out: Path) -> Counts:
    """Deduplicate all rows, write one Parquet file per split, the baseline and the ledger."""
    everything = sorted(_all_rows(workspace), key=_priority)
    if not everything:
        raise InputError("curate: there is no row to curate; select more or name a task file")
    baseline = [row for row in everything if row["origin"] == "baseline"]
    kept = [row for row in everything if row["origin"] != "baseline"]
    n_in = len(kept)
    kept, drops = _filter(settings, kept)
    kept, too_many = _balance(kept, settings.label_ratio)
    drops += too_many
    # The baseline has to reach the same tokens, so what its balance leaves out comes last instead.
    balanced, others = _balance(baseline, settings.label_ratio)
    baseline = [*balanced, *(drop.row for drop in others)]
    held_out = {row["text"] for row in kept if row["split"] != "train"}
    baseline = [row for row in baseline if row["text"] not in held_out]
    counts: Counter[str] = Counter(rows_in=n_in, rows_out=len(kept), dropped=len(drops))
    (out / "data").mkdir()
    for split in rows.SPLITS:
        members = [row for row in kept if row["split"] == split]
        counts[split] = len(members)
        if members:
            _write_split(members, out / "data", split)
    counts.update(f"origin.{row['origin']}" for row in kept)
    counts["tokens"] = sum(row["n_tokens"] for row in kept if row["split"] == "train")
    if baseline:
        table = _table(baseline)
        write_parquet(out / "baseline.parquet", [table], table.schema)
    _write_ledger(workspace, out, kept, drops)
    examples = [
        {
            "text": drop.row["text"],
            "id": drop.row["id"],
            "why": drop.reason,
            "of": drop.duplicate_of,
        }
        for drop in drops[:50]
    ]
    (out / "drops.json").write_text(json.dumps(examples, indent=1, ensure_ascii=False), "utf-8")
    return dict(counts)


def deliver(workspace: Workspace) -> None:
    """Put the curated shards and the ledger at the top of the run's folder."""
    result = workspace.result("curate")
    if result is not None:
        files = {
            "data": sorted(result.file("data").glob("*.parquet")),
            "ledger": sorted(result.folder.glob("ledger-*.parquet")),
        }
        deliver_files(files, workspace.folder)


def _all_rows(workspace: Workspace) -> Iterator[dict[str, Any]]:
    """Yield task rows, augmented rows, and selected rows (with the labels that augment gave)."""
    for row in rows.read_role(workspace, "task"):
        yield _row(row, origin="seed", method="", parent_id=None, score=None)
    is_labelled = False
    for done in workspace.shards("augment") if workspace.has("augment") else []:
        is_labelled |= done.args["origin"] == "selected"
        for row in rows.read_rows([done.file("accepted.parquet")]):
            yield _row(row)
    result = workspace.result("select") if workspace.has("select") else None
    if result is not None and not is_labelled:
        for row in rows.read_rows(sorted(result.folder.glob("selected-*.parquet"))):
            yield _row(row)


def _row(row: dict[str, Any], **changes: Any) -> dict[str, Any]:
    merged = {**row, **changes}
    return {name: merged.get(name) for name, _ in COLUMNS}


def _priority(row: dict[str, Any]) -> tuple[Any, ...]:
    """Return who is kept of two copies: held-out rows, seed rows, then the better score."""
    split = {"test": 0, "validation": 1}.get(row["split"], 2)
    origin = {"seed": 0, "selected": 1, "augmented": 2}.get(row["origin"], 3)
    return (split, origin, -(row["score"] or 0.0), row["id"])


def _filter(
    settings: Settings, kept: list[dict[str, Any]]
) -> tuple[list[dict[str, Any]], list[Drop]]:
    """Return the rows that all filters keep, and the others with the reason."""
    drops: list[Drop] = []
    for name in settings.filters:
        module, options = methods.chosen("filters", name, settings.options)
        texts = [Text(row["id"], rows.family(row), row["text"]) for row in kept]
        matches: dict[int, Finding] = module.examine(texts, options, None)
        for index, match in sorted(matches.items()):
            other = kept[match.kept or 0]
            reason = f"{name}: similarity {match.similarity:.2f} with a kept {other['origin']} row"
            drops.append(Drop(kept[index], reason, other["id"]))
        kept = [row for index, row in enumerate(kept) if index not in matches]
        # A child of a dropped row would bring that row back, so it goes with it.
        gone = {drop.row["id"] for drop in drops if drop.row["origin"] == "seed"}
        orphans = [row for row in kept if row["parent_id"] in gone]
        drops += [Drop(row, "its parent was dropped", row["parent_id"]) for row in orphans]
        kept = [row for row in kept if row["parent_id"] not in gone]
    return kept, drops


def _balance(
    members: list[dict[str, Any]], ratio: float
) -> tuple[list[dict[str, Any]], list[Drop]]:
    """Return the rows without those that give one label far more corpus rows than another.

    The first rows of a label stay: `members` come in the order of who is kept first. Labels that
    a teacher gave would otherwise drown the classes that the corpus speaks of less.
    """
    counts = Counter(row["label"] for row in members if _is_labelled_corpus_row(row))
    most = int(ratio * min(counts.values(), default=0))
    kept, drops = [], []
    seen: Counter[str] = Counter()
    for row in members:
        if _is_labelled_corpus_row(row):
            seen[row["label"]] += 1
            if seen[row["label"]] > most:
                reason = f"label_ratio: {most} rows of '{row['label']}' with better scores are kept"
                drops.append(Drop(row, reason, None))
                continue
        kept.append(row)
    return kept, drops


def _is_labelled_corpus_row(row: dict[str, Any]) -> bool:
    return row["origin"] in ("selected", "baseline") and row["label"] is not None


def _table(members: Sequence[dict[str, Any]]) -> pa.Table:
    import pyarrow as pa

    schema = pa.schema([(name, pa.type_for_alias(kind)) for name, kind in COLUMNS])
    return pa.Table.from_pylist(list(members), schema=schema)


def _write_split(members: Sequence[dict[str, Any]], folder: Path, split: str) -> None:
    """Write one split; its content is in the file's name, so an unchanged one keeps it."""
    path = folder / f"{split}.parquet"
    table = _table(members)
    write_parquet(path, [table], table.schema)
    path.rename(folder / f"{split}-{file_digest(path)[:12]}.parquet")


def _write_ledger(
    workspace: Workspace, out: Path, kept: Sequence[dict[str, Any]], drops: Sequence[Drop]
) -> None:
    """Write the corpus ledger with curate's word put over select's, then all other rows."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    fates = {(row["origin"], row["id"]): ("kept", "in the curated set", None) for row in kept}
    fates |= {
        (drop.row["origin"], drop.row["id"]): ("dropped", drop.reason, drop.duplicate_of)
        for drop in drops
    }
    refused = list(_refused(workspace))
    gates = {row["id"]: row["reason"] for row in refused if row["origin"] == "selected"}
    schema = ledger.schema()
    result = workspace.result("select") if workspace.has("select") else None
    for path in sorted(result.folder.glob("ledger-*.parquet")) if result else []:
        entries = read_parquet(path).to_pylist()
        for entry in entries:
            if entry["decision"] == "dropped":
                continue
            fate = fates.get(("selected", entry["id"]))
            if fate is not None:
                entry["stage"] = "curate"
                entry["decision"], entry["reason"], entry["duplicate_of"] = fate
            elif entry["id"] in gates:
                entry.update(stage="augment", decision="dropped", reason=gates[entry["id"]])
        pq.write_table(pa.Table.from_pylist(entries, schema), out / path.name, compression="zstd")
    others = [*kept, *(drop.row for drop in drops)]
    entries = [
        _entry(row, "curate", *fates[row["origin"], row["id"]])
        for row in others
        if row["origin"] != "selected"
    ]
    entries += [
        _entry(row, "augment", "dropped", row["reason"], None)
        for row in refused
        if row["origin"] == "augmented"
    ]
    entries.sort(key=lambda entry: (entry["origin"], entry["id"]))
    table = pa.Table.from_pylist(entries, schema)
    pq.write_table(table, out / "ledger-rows.parquet", compression="zstd")


def _refused(workspace: Workspace) -> Iterator[dict[str, Any]]:
    for done in workspace.shards("augment") if workspace.has("augment") else []:
        yield from rows.read_rows([done.file("rejected.parquet")])


def _entry(
    row: dict[str, Any], stage: str, decision: str, reason: str, duplicate_of: str | None
) -> dict[str, Any]:
    return {
        "id": row["id"],
        "source": row["source"],
        "origin": row["origin"],
        "stage": stage,
        "decision": decision,
        "reason": reason,
        "score": row["score"],
        "rank": None,
        "nearest_id": None,
        "parent_id": row["parent_id"],
        "duplicate_of": duplicate_of,
    }

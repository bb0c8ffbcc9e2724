"""curate: all rows -> deduplicated splits in Parquet, and the ledger of every row's fate."""

from __future__ import annotations

import json
import logging
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import Field

from lightadapt_data import curated_rows, ledger, methods, rows
from lightadapt_data.config import StageConfig
from lightadapt_data.errors import InputError, RecipeError
from lightadapt_data.filtering import Drop, Filtered, RunContext, apply
from lightadapt_data.shards import Counts, Workspace, file_digest, read_parquet, write_parquet
from lightadapt_data.shards import deliver as deliver_files

if TYPE_CHECKING:
    import pyarrow as pa

logger = logging.getLogger(__name__)

Columns = list[tuple[str, Any]]
"""Names and Arrow types."""

VERSION = 2
READS = ("ingest",)
MAY_READ = ("embed", "select", "augment")
FAMILIES = {"filters": "filters"}
PATH_FIELDS = ("against",)
LEAST_ALARM_ROWS = 20
"""Rows that a source must have before its losses can raise an alarm [rows]."""
EXAMPLES = 50
"""Dropped rows of each filter that the report may show."""


class Settings(StageConfig):
    """Settings of the curate stage."""

    filters: tuple[str, ...] = ("exact_duplicate", "near_duplicate")
    """Names of files in lightadapt_data/filters/, in the order in which they work."""
    label_ratio: float = Field(default=2.0, ge=1)
    """Selected rows of one label, at most this many times those of the rarest label [ratio]."""
    most_children: int = Field(default=0, ge=0)
    """Augmented rows kept of one parent, the best scores first; 0 for no limit [rows]."""
    against: tuple[str, ...] = ()
    """Folders of earlier runs: rows that repeat what those delivered are dropped."""
    alarm_share: float = Field(default=0.5, gt=0, le=1)
    """A source that loses more than this share of its rows raises an alarm [fraction]."""


def check(settings: Settings, workspace: Workspace) -> None:
    """Check that earlier runs and the files of filters are there, and that vectors can be had.

    Raises:
        RecipeError: a filter works on vectors and the run has no encoder.
        InputError: a folder or file is missing.
    """
    reads(settings, workspace)
    for name in settings.filters:
        needs_vectors = getattr(methods.load("filters", name), "NEEDS_VECTORS", False)
        if needs_vectors and not workspace.has("embed"):
            raise RecipeError(
                f"curate.filters: '{name}' works on vectors; add an [embed] table, or --encoder"
            )


def reads(settings: Settings, workspace: Workspace) -> dict[str, str]:
    """Return the digests of earlier runs' rows and of the files that filters read."""
    found = {}
    for folder in settings.against:
        for path in curated_rows.delivered_by(folder):
            found[str(path)] = file_digest(path)
    for name in settings.filters:
        module, options = methods.chosen("filters", name, settings.options)
        if hasattr(module, "reads"):
            found |= {f"{name}: {key}": value for key, value in module.reads(options).items()}
    return found


def run(settings: Settings, workspace: Workspace, out: Path) -> Counts:
    """Deduplicate all rows, write one Parquet file per split, the baseline and the ledger."""
    everything = sorted(curated_rows.all_rows(workspace), key=curated_rows.priority)
    if not everything:
        raise InputError("curate: there is no row to curate; select more or name a task file")
    baseline = [row for row in everything if row["origin"] == "baseline"]
    incoming = [row for row in everything if row["origin"] != "baseline"]
    settled = [row for folder in settings.against for row in curated_rows.earlier_rows(folder)]
    context = RunContext(workspace)
    result = apply(settings.filters, settings.options, incoming, settled, context)
    for limit in (
        _cap_families(result.kept, settings.most_children),
        _balance(result.kept, settings.label_ratio),
    ):
        gone = {(drop.row["origin"], drop.row["id"]) for drop in limit[1]}
        result.kept = [row for row in result.kept if (row["origin"], row["id"]) not in gone]
        result.drops += limit[1]
    # The baseline has to reach the same tokens, so what its balance leaves out comes last instead.
    balanced, others = _balance(baseline, settings.label_ratio)
    baseline = [*balanced, *(drop.row for drop in others)]
    held_out = {row["text"] for row in result.kept if row["split"] != "train"}
    baseline = [row for row in baseline if row["text"] not in held_out]
    columns = curated_rows.columns(workspace)
    counts = _write_data(result, columns, out)
    counts["rows_in"] = len(incoming)
    if baseline:
        table = _table(baseline, columns)
        write_parquet(out / "baseline.parquet", [table], table.schema)
    _write_ledger(workspace, out, result)
    _write_summary(settings, incoming, result, out)
    return dict(counts)


def _write_data(result: Filtered, columns: Columns, out: Path) -> Counter[str]:
    """Write one file per split and return the counts of the stage."""
    counts: Counter[str] = Counter(rows_out=len(result.kept), dropped=len(result.drops))
    (out / "data").mkdir()
    for split in rows.SPLITS:
        members = [row for row in result.kept if row["split"] == split]
        counts[split] = len(members)
        if members:
            _write_split(_table(members, columns), out / "data", split)
    counts.update(f"origin.{row['origin']}" for row in result.kept)
    counts["tokens"] = sum(row["n_tokens"] for row in result.kept if row["split"] == "train")
    counts["changed"] = len(result.notes)
    return counts


def _write_summary(
    settings: Settings, incoming: Sequence[dict[str, Any]], result: Filtered, out: Path
) -> None:
    """Write what was dropped, by filter and by source, with examples; warn of heavy losses."""
    examples: dict[str, list[dict[str, Any]]] = {}
    for drop in result.drops:
        shown = examples.setdefault(drop.reason.split(":")[0], [])
        if len(shown) < EXAMPLES:
            row = {"text": drop.row["text"], "id": drop.row["id"]}
            shown.append({**row, "why": drop.reason, "of": drop.duplicate_of})
    drops = [example for shown in examples.values() for example in shown]
    (out / "drops.json").write_text(json.dumps(drops, indent=1, ensure_ascii=False), "utf-8")
    rows_of = Counter(row["source"] for row in incoming)
    lost = Counter(drop.row["source"] for drop in result.drops)
    alarms = [
        {"source": source, "rows": rows_of[source], "lost": n}
        for source, n in sorted(lost.items(), key=lambda item: (-item[1], str(item[0])))
        if rows_of[source] >= LEAST_ALARM_ROWS and n > settings.alarm_share * rows_of[source]
    ]
    for alarm in alarms:
        logger.warning(
            "curate: source %s loses %d of %d rows; look at `drops` in the report, or raise "
            "curate.alarm_share",
            alarm["source"],
            alarm["lost"],
            alarm["rows"],
        )
    summary = {
        "by_filter": Counter(drop.reason.split(":")[0] for drop in result.drops),
        "lost_by_source": dict(sorted(lost.items(), key=lambda item: str(item[0]))),
        "alarms": alarms,
        "changed": len(result.notes),
    }
    (out / "summary.json").write_text(json.dumps(summary, indent=1, ensure_ascii=False), "utf-8")


def deliver(workspace: Workspace) -> None:
    """Put the curated shards and the ledger at the top of the run's folder."""
    result = workspace.result("curate")
    if result is not None:
        files = {
            "data": sorted(result.file("data").glob("*.parquet")),
            "ledger": sorted(result.folder.glob("ledger-*.parquet")),
        }
        deliver_files(files, workspace.folder)


def _cap_families(
    members: list[dict[str, Any]], most: int
) -> tuple[list[dict[str, Any]], list[Drop]]:
    """Return the rows without an augmented row that has `most` better siblings."""
    kept, drops = [], []
    seen: Counter[str] = Counter()
    for row in members:
        if most and row["origin"] == "augmented":
            seen[row["parent_id"]] += 1
            if seen[row["parent_id"]] > most:
                reason = f"most_children: {most} better rows of its parent are kept"
                drops.append(Drop(row, reason, None))
                continue
        kept.append(row)
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


def _table(members: Sequence[dict[str, Any]], columns: Columns) -> pa.Table:
    import pyarrow as pa

    return pa.Table.from_pylist(list(members), schema=pa.schema(columns))


def _write_split(table: pa.Table, folder: Path, split: str) -> None:
    """Write one split; its content is in the file's name, so an unchanged one keeps it."""
    path = folder / f"{split}.parquet"
    write_parquet(path, [table], table.schema)
    path.rename(folder / f"{split}-{file_digest(path)[:12]}.parquet")


def _write_ledger(workspace: Workspace, out: Path, result: Filtered) -> None:
    """Write the corpus ledger with curate's word put over select's, then all other rows."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    fates: dict[tuple[str, str], tuple[str, str, str | None]] = {}
    for row in result.kept:
        key = row["origin"], row["id"]
        fates[key] = "kept", "; ".join(["in the curated set", *result.notes.get(key, [])]), None
    for drop in result.drops:
        key = drop.row["origin"], drop.row["id"]
        fates[key] = "dropped", drop.reason, drop.duplicate_of
    refused = list(_refused(workspace))
    gates = {row["id"]: row["reason"] for row in refused if row["origin"] == "selected"}
    schema = ledger.schema()
    selected = workspace.result("select") if workspace.has("select") else None
    for path in sorted(selected.folder.glob("ledger-*.parquet")) if selected else []:
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
    others = [*result.kept, *(drop.row for drop in result.drops)]
    entries = [
        _entry(row, "curate", *fates[row["origin"], row["id"]])
        for row in others
        if row["origin"] != "selected" or selected is None
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

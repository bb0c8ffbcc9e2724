"""ingest: raw files -> rows with stable ids, token counts and their source, in Parquet parts.

A row that cannot be read goes to `quarantine.parquet` of its shard with the reason; a file that
cannot be read stops the run.
"""

from __future__ import annotations

import json
import logging
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
from pydantic import Field

from lightadapt_data import methods, rows
from lightadapt_data.config import StageConfig
from lightadapt_data.errors import InputError
from lightadapt_data.raw_rows import as_table, fault, finished
from lightadapt_data.readers import BadRow, Source
from lightadapt_data.shards import (
    Counts,
    Shard,
    StatDigests,
    Workspace,
    cut,
    digest_of,
    read_parquet,
    write_parquet,
)
from lightadapt_data.vectors import uniform

logger = logging.getLogger(__name__)

VERSION = 1
READS: tuple[str, ...] = ()
FAMILIES = {"reader": "readers"}
PATH_FIELDS = ("corpus", "target", "unlike", "task")
SHARD_BYTES = 16 << 20
SAMPLE_SEED = 7
"""Of its own, so that a sample of the pile is no sample of what other draws see."""
LEAST_ROWS = 16
"""Rows from which a file has a part of its own; smaller ones share [rows]."""


class Settings(StageConfig):
    """Settings of the ingest stage."""

    NOT_IN_KEY: ClassVar[frozenset[str]] = frozenset({"corpus", "target", "unlike", "task"})

    reader: str = "files"
    """Name of a file in lightadapt_data/readers/: how the corpus is read."""
    corpus: tuple[str, ...] = ()
    """Files, folders or globs of the pile; with reader "docstrings" packages, empty for all."""
    target: tuple[str, ...] = ()
    """Files with the examples to select toward."""
    unlike: tuple[str, ...] = ()
    """Files with examples to select away from."""
    task: tuple[str, ...] = ()
    """Files with the labelled rows; train, validation or test in a file's name sets its split."""
    kind: str = "text_classification"
    """What the labelled rows are for, so which columns they have; a file of tasks/. Written once,
    as `task` at the top of a recipe."""
    text_column: str = "text"
    """Column that holds the text."""
    label_column: str = "label"
    """Column of the task files that holds the label."""
    ids: Literal["column", "content"] = "column"
    """Where ids come from: the input's own `id` column where it has one, or always the content."""
    sample: float = Field(default=1.0, gt=0, le=1)
    """Share of the corpus rows to take, drawn by their ids; for trials on a smaller pile."""
    validation_share: float = Field(default=0.15, ge=0, lt=1)
    """Share of task rows taken for validation when no file or column says so [fraction]."""
    test_share: float = Field(default=0.15, ge=0, lt=1)
    """Share of task rows taken for test when no file or column says so [fraction]."""


def check(settings: Settings, workspace: Workspace) -> None:
    """Check that every named file is there and that a needed one is named.

    Raises:
        InputError: no corpus, no target although the run selects, or a path that names nothing.
    """
    methods.load("tasks", settings.kind)
    if not settings.corpus and settings.reader == "files" and not settings.task:
        raise InputError("no corpus: name files, a folder or a glob with --corpus or ingest.corpus")
    if workspace.has("select") and not settings.target and _needs_target(workspace):
        raise InputError("no target: name a file of examples with --target or ingest.target")
    for role in rows.ROLES:
        _sources(settings, role)


def _needs_target(workspace: Workspace) -> bool:
    method = getattr(workspace.settings["select"], "method", "")
    return bool(getattr(methods.load("selectors", method), "NEEDS_TARGET", True))


def shards(settings: Settings, workspace: Workspace) -> list[Shard]:
    """Return shards of neighbouring files, cut by name and size, for each role."""
    digests = StatDigests(workspace.folder)
    made = []
    for role in rows.ROLES:
        sources = _sources(settings, role)
        for group in cut([(source.name, source.size) for source in sources], SHARD_BYTES):
            members = [sources[index] for index in group]
            contents = [source.signature or digests.digest(source.path) for source in members]
            named = [[source.name, dict(source.extra)] for source in members]
            name = f"{role}/{members[0].name}" + (f"+{len(members) - 1}" if members[1:] else "")
            reads = {"files": digest_of(named), "content": digest_of(contents), "role": role}
            entries = [
                [*entry, str(source.path)] for entry, source in zip(named, members, strict=True)
            ]
            made.append(Shard(name, reads, {"role": role, "files": entries}))
    digests.save()
    return made


def run_shard(settings: Settings, workspace: Workspace, shard: Shard, out: Path) -> Counts:
    """Read the shard's files into parts of at most PART_ROWS rows, and bad rows to quarantine."""
    role = shard.args["role"]
    counts: Counter[str] = Counter(rows_in=0, rows_out=0, quarantined=0, tokens=0)
    quarantine: list[dict[str, str]] = []
    files = (
        _rows_of_file(settings, workspace, role, entry, quarantine) for entry in shard.args["files"]
    )
    for number, batch in enumerate(_batches(files)):
        table = as_table(batch)
        write_parquet(out / f"rows-{number:05d}.parquet", [table], table.schema)
        keys = np.array([rows.key_of(row["id"]) for row in batch], np.uint64)
        tokens = np.array([row["n_tokens"] for row in batch], np.int32)
        np.save(out / f"keys-{number:05d}.npy", keys)
        np.save(out / f"tokens-{number:05d}.npy", tokens)
        counts["rows_out"] += len(batch)
        if role == "corpus":
            counts["tokens"] += int(tokens.sum())
    if quarantine:
        table = as_table(quarantine)
        write_parquet(out / "quarantine.parquet", [table], table.schema)
        logger.warning(
            "%s: %d rows quarantined; the first: %s row %s: %s",
            shard.name,
            len(quarantine),
            quarantine[0]["file"],
            quarantine[0]["where"],
            quarantine[0]["reason"],
        )
    counts["quarantined"] = len(quarantine)
    counts["rows_in"] = counts["rows_out"] + len(quarantine)
    return dict(counts)


def run(settings: Settings, workspace: Workspace, out: Path) -> Counts:
    """Check what only the whole shows: enough rows, ids that stand once, labelled splits."""
    totals: Counter[str] = Counter()
    for done in workspace.shards("ingest"):
        totals.update({f"{done.args['role']}.{name}": n for name, n in done.counts.items()})
    for role, given in (("corpus", settings.corpus), ("target", settings.target)):
        if (given or (role == "corpus" and settings.reader != "files")) and not totals[
            f"{role}.rows_out"
        ]:
            raise InputError(
                f"{role} {', '.join(given)}: holds no usable row "
                f"({totals[f'{role}.quarantined']} rows were unusable); give a file with text"
            )
    _check_ids(workspace)
    (out / "counts.json").write_text(json.dumps(dict(sorted(totals.items())), indent=1), "utf-8")
    return {
        "rows_in": sum(totals[f"{role}.rows_in"] for role in rows.ROLES),
        "rows_out": sum(totals[f"{role}.rows_out"] for role in rows.ROLES),
        "quarantined": sum(totals[f"{role}.quarantined"] for role in rows.ROLES),
        "tokens": totals["corpus.tokens"],
        **{role: totals[f"{role}.rows_out"] for role in rows.ROLES},
    }


def _sources(settings: Settings, role: str) -> list[Source]:
    reader = settings.reader if role == "corpus" else "files"
    paths = getattr(settings, role)
    if not paths and reader == "files":
        return []
    module, options = methods.chosen("readers", reader, settings.options)
    found: list[Source] = module.sources(paths, options)
    return found


def _batches(files: Iterable[Iterator[dict[str, Any]]]) -> Iterator[list[dict[str, Any]]]:
    """Yield the rows of each part: whole files until there are enough rows, large files in pieces.

    A new file among many thus changes no other file's part.
    """
    batch: list[dict[str, Any]] = []
    for file in files:
        for row in file:
            batch.append(row)
            if len(batch) == rows.PART_ROWS:
                yield batch
                batch = []
        if len(batch) >= LEAST_ROWS:
            yield batch
            batch = []
    if batch:
        yield batch


def _rows_of_file(
    settings: Settings,
    workspace: Workspace,
    role: str,
    entry: tuple[str, dict[str, Any], str],
    quarantine: list[dict[str, str]],
) -> Iterator[dict[str, Any]]:
    """Yield finished rows of one file; append the bad ones to `quarantine`.

    Raises:
        InputError: the file lacks the text column, or most of its rows are bad.
    """
    reader = settings.reader if role == "corpus" else "files"
    module, options = methods.chosen("readers", reader, settings.options)
    name, extra, path = entry
    seen: Counter[str] = Counter()
    n_good, n_bad_before = 0, len(quarantine)
    found = module.read(Source(name, Path(path), 0, extra=extra), options)
    for number, raw in enumerate(found, start=1):
        bad = raw if isinstance(raw, BadRow) else fault(settings, role, raw, number, path)
        if bad is not None:
            quarantine.append(
                {"file": name, "where": bad.where, "reason": bad.reason, "raw": bad.raw[:500]}
            )
            continue
        n_good += 1
        row = finished(settings, workspace.seed, role, raw, name, seen)
        if role != "corpus" or settings.sample == 1 or _is_drawn(row["id"], settings.sample):
            yield row
    n_bad = len(quarantine) - n_bad_before
    if n_bad > n_good and reader == "files":
        first = quarantine[n_bad_before]
        raise InputError(
            f"{path}: {n_bad} of {n_bad + n_good} rows are unusable; the first is row "
            f"{first['where']}: {first['reason']}; the file must be UTF-8 text of the kind that "
            "its name says"
        )


def _is_drawn(row_id: str, share: float) -> bool:
    draw: float = uniform(np.array([rows.key_of(row_id)], np.uint64), SAMPLE_SEED)[0]
    return draw < share


def _check_ids(workspace: Workspace) -> None:
    """Stop when an id stands twice in the corpus.

    Raises:
        InputError: with the id and the files that hold it.
    """
    parts = rows.parts(workspace, "corpus")
    keys = rows.load_arrays([part.keys for part in parts], np.uint64)
    order = np.sort(keys)
    twice = order[1:][order[1:] == order[:-1]]
    if not len(twice):
        return
    found = []
    for part in parts:
        for index in np.flatnonzero(np.load(part.keys) == twice[0]):
            row_id = read_parquet(part.rows, ["id"])["id"][int(index)].as_py()
            found.append(f"'{row_id}' in {part.name}")
    raise InputError(
        f"corpus: {len(twice)} ids stand more than once ({', '.join(found[:2])}); ids must be "
        "unique; make new ones from the text with --set ingest.ids=content (yours stay as input_id)"
    )

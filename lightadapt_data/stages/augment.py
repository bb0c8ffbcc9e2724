"""augment: new training rows from labelled ones, and labels for rows selected from the corpus.

Reads: ingest (task rows), embed (its encoder), select if the run has it. Leaves one shard per
method and block of parent rows, each with `accepted.parquet` and `rejected.parquet`; a rejected
row names the gate that refused it and the evidence.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from types import ModuleType
from typing import Any

import xxhash
from pydantic import Field

from lightadapt_data import judging, methods, rows
from lightadapt_data.augmenters import Context
from lightadapt_data.config import Config
from lightadapt_data.lazy_encoder import LazyEncode
from lightadapt_data.shards import Counts, Shard, Workspace, cut, digest_of, write_parquet

logger = logging.getLogger(__name__)

VERSION = 1
READS = ("ingest", "embed")
MAY_READ = ("select",)
FAMILIES = {"methods": "augmenters", "gates": "gates"}
RUN_ONLY = ("methods",)
"""Kept out of the keys of all shards: each shard's `reads` names its own method and options, so
that one method more, or another option of one, leaves the other methods' shards as they are."""

BLOCK_ROWS = 64
"""Most parent rows of a shard [rows]."""
LARGE_BLOCK_ROWS = 1024
"""The same for methods on selected rows, which are cheap per row [rows]."""

UNLABELLED = 2000
"""Rows from which a teacher may learn without their labels [rows]."""

TRAIN = "augmented"
"""Origin of rows made from labelled training rows."""
CORPUS_FILES = {"selected": "selected*.parquet", "baseline": "baseline*.parquet"}
"""Files of the select stage with the rows that `FEEDS_ON = "selected"` methods get, by origin."""

_COLUMNS = ("id", "text", "label", "split", "source", "score")


class Settings(Config):
    """Settings of the augment stage."""

    methods: tuple[str, ...] = ("back_translate", "char_noise")
    """Augmenters, each on its own; those for selected rows run only if the run selects."""
    gates: tuple[str, ...] = ("changed", "length", "numbers", "negation", "similarity")
    """Gates in the order of asking; the first that refuses ends it, so cheap ones come first."""
    accepted_per_row: int = Field(default=1, ge=1)
    """Most accepted rows per parent and method [rows]."""
    options: dict[str, dict[str, Any]] = Field(default_factory=dict)
    """Options of methods and gates, by name."""


def check(settings: Settings, workspace: Workspace) -> None:
    """Find the models that the methods need, before any work.

    Raises:
        InputError: a model cannot be found.
    """
    for method in settings.methods:
        _models(method, settings)


def reads(settings: Settings, workspace: Workspace) -> dict[str, dict[str, str]]:
    """Return the fingerprints of the models that the methods use, by method."""
    return {method: _models(method, settings) for method in settings.methods}


def shards(settings: Settings, workspace: Workspace) -> list[Shard]:
    """Return one shard per method and block of parent rows.

    Raises:
        InputError: a model cannot be found.
    """
    found = []
    for method in settings.methods:
        module = methods.load("augmenters", method)
        if module.FEEDS_ON == "selected" and not workspace.has("select"):
            logger.warning("augment: %s needs selected rows and the run selects none", method)
        for origin, paths in _sources(module, workspace).items():
            found += _method_shards(method, origin, paths, settings, workspace)
    return found


def run_shard(settings: Settings, workspace: Workspace, shard: Shard, out: Path) -> Counts:
    """Make, judge and write the candidates of one block of parents.

    Raises:
        InputError: a model or the labelled rows cannot be used.
    """
    import pyarrow as pa

    method, origin = shard.args["method"], shard.args["origin"]
    module = methods.load("augmenters", method)
    paths = _sources(module, workspace)[origin]
    parents = {str(row["id"]): row for row in _parents(paths, origin, shard.args["ids"])}
    labelled = _labelled(workspace) if module.FEEDS_ON == "selected" else ()
    encode = _encode(workspace)
    candidates = module.augment(
        list(parents.values()),
        _options("augmenters", method, settings),
        Context(workspace.seed, labelled, encode, _unlabelled(method, settings, workspace)),
    )
    judged = judging.judge(
        method,
        candidates,
        {row_id: row["text"] for row_id, row in parents.items()},
        _held_out(_task_files(workspace)),
        {gate: _options("gates", gate, settings) for gate in settings.gates},
        encode,
        settings.accepted_per_row,
    )
    accepted = [_row(method, origin, one, parents) for one in judged if not one.gate]
    rejected = [_row(method, origin, one, parents) for one in judged if one.gate]
    schema = _schema()
    for name, found in (("accepted", accepted), ("rejected", rejected)):
        table = pa.Table.from_pylist(found, schema=schema)
        write_parquet(out / f"{name}.parquet", [table], schema)
    return {
        "rows_in": len(parents),
        "rows_out": len(accepted),
        "rejected": len(rejected),
        f"accepted.{method}": len(accepted),
        f"rejected.{method}": len(rejected),
    }


def _method_shards(
    method: str, origin: str, paths: list[Path], settings: Settings, workspace: Workspace
) -> list[Shard]:
    parents = _parents(paths, origin)
    common = _reads(method, settings, workspace) if parents else {}
    found = []
    for block in _blocks([str(row["id"]) for row in parents], origin in CORPUS_FILES):
        content = [[parents[i].get(column) for column in _COLUMNS] for i in block]
        ids = [str(parents[i]["id"]) for i in block]
        # Named by its rows, not by a number: one row more must not rename its neighbours.
        name = f"{method}/{origin}/{digest_of(ids)[:12]}"
        reads = {**common, "rows": digest_of(content)}
        found.append(Shard(name, reads, {"method": method, "origin": origin, "ids": ids}))
    return found


def _reads(method: str, settings: Settings, workspace: Workspace) -> dict[str, str]:
    """Return digests of what a method's shards depend on besides their rows."""
    module = methods.load("augmenters", method)
    own = {
        "version": getattr(module, "VERSION", 1),
        **_options("augmenters", method, settings).key_fields(),
    }
    reads = {
        "seed": str(workspace.seed),
        "method": digest_of(own),
        "models": digest_of(_models(method, settings)),
        "encoder": _encode(workspace).digest(),
        "held_out": digest_of(sorted(_held_out(_task_files(workspace)))),
    }
    if module.FEEDS_ON == "selected":
        known = [[row["id"], row["text"], row["label"]] for row in _labelled(workspace)]
        reads["labelled"] = digest_of(known)
        reads["unlabelled"] = digest_of(_unlabelled(method, settings, workspace))
    return reads


def _models(method: str, settings: Settings) -> dict[str, str]:
    """Return the fingerprints of outside models that a method uses, if it names any."""
    reads = getattr(methods.load("augmenters", method), "reads", None)
    found: dict[str, str] = reads(_options("augmenters", method, settings)) if reads else {}
    return found


def _options(family: str, method: str, settings: Settings) -> Any:
    return methods.settings(family, method, settings.options.get(method, {}))


def _encode(workspace: Workspace) -> LazyEncode:
    embed: Any = workspace.settings["embed"]
    options = json.dumps(embed.options.get(embed.method, {}), sort_keys=True)
    return LazyEncode(embed.method, options)


def _task_files(workspace: Workspace) -> tuple[Path, ...]:
    return tuple(part.rows for part in rows.parts(workspace, "task"))


def _sources(module: ModuleType, workspace: Workspace) -> dict[str, list[Path]]:
    """Return the files with a method's parent rows, by the origin of what becomes of them."""
    if module.FEEDS_ON == "train":
        return {TRAIN: list(_task_files(workspace))}
    result = workspace.result("select") if workspace.has("select") else None
    if result is None:
        return {}
    found = {
        origin: sorted(result.folder.glob(pattern)) for origin, pattern in CORPUS_FILES.items()
    }
    return {origin: paths for origin, paths in found.items() if paths}


def _parents(
    paths: Iterable[Path], origin: str, ids: Sequence[str] | None = None
) -> list[dict[str, Any]]:
    """Return parent rows, or those with the given ids, in the order of their ids."""
    found = [row for row in _read(paths, ids) if row.get("text") is not None]
    if origin == TRAIN:
        found = [
            {**row, "label": str(row["label"])}
            for row in found
            if row.get("split") == "train" and row.get("label") is not None
        ]
    return sorted(found, key=lambda row: str(row["id"]))


def _read(paths: Iterable[Path], ids: Sequence[str] | None = None) -> Iterator[dict[str, Any]]:
    import pyarrow.parquet as pq

    for path in paths:
        present = set(pq.read_schema(path).names)
        columns = [column for column in _COLUMNS if column in present]
        filters = None if ids is None else [("id", "in", list(ids))]
        yield from pq.read_table(path, columns=columns, filters=filters).to_pylist()


def _labelled(workspace: Workspace) -> list[dict[str, Any]]:
    return _parents(_task_files(workspace), TRAIN)


def _unlabelled(method: str, settings: Settings, workspace: Workspace) -> tuple[str, ...]:
    """Return texts of selected rows where the method learns from them."""
    if not getattr(_options("augmenters", method, settings), "self_training", 0):
        return ()
    found = _sources(methods.load("augmenters", method), workspace).get("selected", [])
    return _drawn(tuple(found))


@lru_cache(maxsize=1)
def _drawn(paths: tuple[Path, ...]) -> tuple[str, ...]:
    """Return the texts of UNLABELLED rows, the same whatever else is selected beside them."""
    import pyarrow.parquet as pq

    texts: dict[str, str] = {}
    for path in paths:
        table = pq.read_table(path, columns=["id", "text"])
        texts |= dict(zip(table["id"].to_pylist(), table["text"].to_pylist(), strict=True))
    chosen = sorted(texts, key=lambda row_id: (rows.key_of(row_id), row_id))[:UNLABELLED]
    return tuple(texts[row_id] for row_id in chosen)


@lru_cache(maxsize=1)
def _held_out(paths: tuple[Path, ...]) -> dict[str, str]:
    """Return "validation row ID" or "test row ID" by the words of that row's text.

    Remembered, because every shard asks; the files are named by content and never change.
    """
    return {
        judging.words(row["text"]): f"{row['split']} row {row['id']}"
        for row in _read(paths)
        if row.get("split") in ("validation", "test") and row.get("text") is not None
    }


def _blocks(ids: list[str], is_large: bool) -> list[list[int]]:
    """Return runs of neighbouring rows whose borders depend on content only."""
    blocks = list(cut(((row_id, 1) for row_id in ids), BLOCK_ROWS))
    if not is_large:
        return blocks
    # Cut again with blocks for items: a run then has 16 of them in the mean.
    weights = ((ids[block[0]], len(block)) for block in blocks)
    return [[i for n in group for i in blocks[n]] for group in cut(weights, LARGE_BLOCK_ROWS)]


def _row(
    method: str, origin: str, one: judging.Judged, parents: Mapping[str, Mapping[str, Any]]
) -> dict[str, Any]:
    """Return a finished row; a pseudo-labelled one keeps its own id and selection score."""
    candidate = one.candidate
    parent = parents[candidate.parent_id]
    is_new = origin == TRAIN
    name = "\x1f".join((candidate.parent_id, method, str(candidate.replica), candidate.text))
    return {
        "id": xxhash.xxh3_128_hexdigest(name.encode()) if is_new else candidate.parent_id,
        "text": candidate.text,
        "label": candidate.label,
        "origin": origin,
        "parent_id": candidate.parent_id if is_new else None,
        "method": method,
        "source": parent.get("source"),
        "score": candidate.score if is_new else parent.get("score"),
        "n_tokens": rows.count_tokens(candidate.text),
        "split": "train",
        "gate": one.gate,
        "reason": one.reason,
        "scores": json.dumps(one.scores, sort_keys=True),
    }


def _schema() -> Any:
    """Return the columns of both files."""
    import pyarrow as pa

    names = "id text label origin parent_id method source score n_tokens split gate reason scores"
    types = {"score": pa.float64(), "n_tokens": pa.int32()}
    return pa.schema([(name, types.get(name, pa.string())) for name in names.split()])

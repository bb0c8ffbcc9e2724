"""select: score every corpus row against the target, keep what fits the budget, explain the rest."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, field_validator

from lightadapt_data import methods, rows
from lightadapt_data.budget import Budget, ranking, take
from lightadapt_data.config import Config
from lightadapt_data.errors import InputError, NothingSelectedError, RecipeError, allowed
from lightadapt_data.selectors import Floats, Scores
from lightadapt_data.shards import Counts, Shard, Workspace, deliver as deliver_files, digest_of
from lightadapt_data.stages.embed import vectors_of
from lightadapt_data.vectors import StoredVectors

if TYPE_CHECKING:
    import pyarrow as pa

logger = logging.getLogger(__name__)

VERSION = 1
READS = ("ingest", "embed")
FAMILIES = {"method": "selectors", "baseline": "selectors"}
RUN_ONLY = ("keep", "baseline", "baseline_tokens")
USES_ALL_CORES = True
FILE_PARTS = 64
"""Parts of the corpus in one file of the ledger or of the selection."""
LEDGER_COLUMNS = (
    ("id", "string"),
    ("source", "string"),
    ("origin", "string"),
    ("stage", "string"),
    ("decision", "string"),
    ("reason", "string"),
    ("score", "float"),
    ("rank", "int64"),
    ("nearest_id", "string"),
    ("duplicate_of", "string"),
)


class Settings(Config):
    """Settings of the select stage."""

    method: str = "nearest"
    """Name of a file in lightadapt_data/selectors/."""
    keep: str = "10%"
    """Budget: rows (5000, 20k), tokens (2Mtok) or a share of the corpus (10%)."""
    baseline: str = ""
    """Selector whose rows are kept beside the selection for the comparison; empty for none."""
    baseline_tokens: float = Field(default=4.0, gt=0)
    """Tokens of the baseline over tokens of the selection; more, as labelling refuses some."""
    options: dict[str, dict[str, Any]] = {}
    """Settings of the selectors."""

    @field_validator("keep", mode="before")
    @classmethod
    def _readable(cls, value: object) -> str:
        try:
            Budget.parse(str(value))
        except RecipeError as error:
            raise ValueError(str(error)) from None
        return str(value)


class CorpusView:
    """The corpus of a run as selectors see it."""

    def __init__(self, workspace: Workspace) -> None:
        self._parts = rows.parts(workspace, "corpus")
        self._vectors: StoredVectors = vectors_of(workspace, "corpus")
        self.n_rows = self._vectors.n_rows
        self.dim = self._vectors.dim

    @cached_property
    def keys(self) -> NDArray[np.uint64]:
        """uint64 [rows]: hash of each row's id."""
        return rows.load_arrays([part.keys for part in self._parts], np.uint64)

    @cached_property
    def tokens(self) -> NDArray[np.int32]:
        """int32 [rows]: tokens of each row."""
        return rows.load_arrays([part.tokens for part in self._parts], np.int32)

    def mean(self) -> Floats:
        """Return the mean vector, float32 [dim]."""
        return self._vectors.mean()

    def blocks(self) -> Iterator[tuple[int, Floats]]:
        """Yield (index of the first row, float32 [rows of the block, dim])."""
        return self._vectors.blocks()

    def column(self, name: str) -> NDArray[np.int32]:
        """Return a column as codes, int32 [rows].

        Raises:
            InputError: no part of the corpus has the column.
        """
        import pyarrow.parquet as pq

        codes: dict[str, int] = {}
        values: list[int] = []
        columns: set[str] = set()
        for part in self._parts:
            with pq.ParquetFile(part.rows) as file:
                columns |= set(file.schema_arrow.names)
                has_column = name in file.schema_arrow.names
                found = file.read([name])[name].to_pylist() if has_column else [None] * part.n_rows()
            values += [codes.setdefault(str(value), len(codes)) for value in found]
        if name not in columns:
            raise InputError(f"corpus: no column '{name}'; {allowed(name, columns)}")
        return np.array(values, np.int32)


def shards(settings: Settings, workspace: Workspace) -> list[Shard]:
    """Return one shard: the table of scores, which a new budget does not change."""
    reads = {
        "corpus": digest_of(_digests(workspace, "corpus")),
        "target": digest_of(_digests(workspace, "target")),
        "seed": str(workspace.seed),
    }
    return [Shard("scores", reads)]


def run_shard(settings: Settings, workspace: Workspace, shard: Shard, out: Path) -> Counts:
    """Score every row of the corpus."""
    corpus = CorpusView(workspace)
    scores = score(settings, workspace, corpus, settings.method)
    np.save(out / "scores.npy", scores.score)
    np.save(out / "nearest.npy", scores.nearest)
    return {"rows_in": corpus.n_rows, "rows_out": corpus.n_rows}


def score(settings: Settings, workspace: Workspace, corpus: CorpusView, method: str) -> Scores:
    """Return the scores of one selector, checked to be finite and one per row."""
    target = vectors_of(workspace, "target").read()
    options = methods.settings("selectors", method, settings.options.get(method, {}))
    scores: Scores = methods.load("selectors", method).score(
        corpus, target, options, workspace.seed
    )
    if scores.score.shape != (corpus.n_rows,) or not np.isfinite(scores.score).all():
        raise InputError(
            f"selector {method}: gave scores that are not one finite number per row "
            f"(shape {scores.score.shape} for {corpus.n_rows} rows); look at its options and vectors"
        )
    return scores


def run(settings: Settings, workspace: Workspace, out: Path) -> Counts:
    """Choose rows by the budget; write the selection, the baseline, the ledger and the cut."""
    corpus = CorpusView(workspace)
    (scored,) = workspace.shards("select")
    scores = np.load(scored.file("scores.npy"))
    order = ranking(scores, corpus.keys)
    n_kept = take(order, corpus.tokens, Budget.parse(settings.keep))
    if n_kept == 0:
        raise NothingSelectedError(
            f"select.keep = {settings.keep!r} keeps none of {corpus.n_rows:,} rows (the best one has "
            f"{int(corpus.tokens[order[0]]):,} tokens); raise the budget"
        )
    rank = np.empty(corpus.n_rows, np.int64)
    rank[order] = np.arange(1, corpus.n_rows + 1)
    chosen = order[:n_kept]
    cut = float(scores[chosen[-1]])
    _write(settings, workspace, out, scores, np.load(scored.file("nearest.npy")), rank, n_kept, cut)
    n_tokens = int(corpus.tokens[chosen].sum())
    if settings.baseline:
        _write_baseline(settings, workspace, out, corpus, n_tokens)
    summary = {"cut": cut, "kept": n_kept, "corpus": corpus.n_rows, "keep": settings.keep}
    (out / "summary.json").write_text(json.dumps(summary, indent=1), "utf-8")
    short = Budget.parse(settings.keep)
    if short.unit == "rows" and n_kept < short.amount:
        logger.warning("select: asked for %s, the corpus has %s rows", settings.keep, n_kept)
    return {"rows_in": corpus.n_rows, "rows_out": n_kept, "tokens": n_tokens}


def deliver(workspace: Workspace) -> None:
    """Put the selection and the ledger at the top of the run's folder, unless curate will."""
    result = workspace.result("select")
    if result is None or workspace.has("curate"):
        return
    files = sorted(result.folder.glob("*.parquet"))
    deliver_files(
        {
            "data": [path for path in files if path.name.startswith("selected-")],
            "ledger": [path for path in files if path.name.startswith("ledger-")],
        },
        workspace.folder,
    )


def ledger_schema() -> pa.Schema:
    """Return the columns of the ledger: what became of every row, where and why."""
    import pyarrow as pa

    return pa.schema([(name, pa.type_for_alias(kind)) for name, kind in LEDGER_COLUMNS])


def _digests(workspace: Workspace, role: str) -> list[str]:
    names = [part.digest for part in rows.parts(workspace, role)]
    return names + [s.digest for s in workspace.shards("embed") if s.args["role"] == role]


def _write(
    settings: Settings,
    workspace: Workspace,
    out: Path,
    scores: Floats,
    nearest: NDArray[np.int32],
    rank: NDArray[np.int64],
    n_kept: int,
    cut: float,
) -> None:
    """Write selection and ledger part by part, in corpus order: memory stays that of one part."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    parts = rows.parts(workspace, "corpus")
    target_ids = pa.array([*(row["id"] for row in rows.read_role(workspace, "target")), None])
    nearest = np.where(nearest < 0, len(target_ids) - 1, nearest)
    schema = selected_schema(parts)
    reasons = pa.array(
        [f"within the budget {settings.keep}", f"below the cut: rank > {n_kept}, score < {cut:.4f}"]
    )
    decisions = pa.array(["kept", "dropped"])
    start = 0
    for first in range(0, len(parts), FILE_PARTS):
        number = first // FILE_PARTS
        selection = pq.ParquetWriter(out / f"selected-{number:05d}.parquet", schema, compression="zstd")
        ledger = pq.ParquetWriter(out / f"ledger-{number:05d}.parquet", ledger_schema(), compression="zstd")
        with selection, ledger:
            for part in parts[first : first + FILE_PARTS]:
                table = pq.read_table(part.rows)
                span = slice(start, start + len(table))
                is_dropped = rank[span] > n_kept
                entries = {
                    "id": table["id"],
                    "source": table["source"],
                    "origin": pa.repeat("selected", len(table)),
                    "stage": pa.repeat("select", len(table)),
                    "decision": decisions.take(is_dropped.astype(np.int32)),
                    "reason": reasons.take(is_dropped.astype(np.int32)),
                    "score": scores[span],
                    "rank": rank[span],
                    "nearest_id": target_ids.take(nearest[span]),
                    "duplicate_of": pa.nulls(len(table), pa.string()),
                }
                ledger.write_table(pa.table(entries, schema=ledger_schema()))
                kept = np.flatnonzero(~is_dropped)
                if len(kept):
                    chosen = _with_provenance(table, scores[span], settings.method).take(kept)
                    selection.write_table(rows.conform(chosen, schema))
                start += len(table)


def selected_schema(parts: list[rows.Part]) -> pa.Schema:
    """Return the columns of selected rows: those of the input, then the provenance."""
    import pyarrow as pa

    schema = rows.unified_schema([part.rows for part in parts])
    for name in rows.PROVENANCE:
        schema = schema.append(pa.field(name, pa.float32() if name == "score" else pa.string()))
    return schema


def _with_provenance(table: pa.Table, scores: Floats, method: str) -> pa.Table:
    import pyarrow as pa

    n_rows = len(table)
    columns = {
        "origin": pa.repeat("selected", n_rows),
        "parent_id": pa.nulls(n_rows, pa.string()),
        "method": pa.repeat(method, n_rows),
        "score": pa.array(scores),
        "split": pa.repeat("train", n_rows),
    }
    for name, column in columns.items():
        table = table.append_column(name, column)
    return table


def _write_baseline(
    settings: Settings, workspace: Workspace, out: Path, corpus: CorpusView, n_tokens: int
) -> None:
    """Write the baseline's rows in its own order, `baseline_tokens` times as many tokens."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    scores = score(settings, workspace, corpus, settings.baseline).score
    order = ranking(scores, corpus.keys)
    budget = Budget(n_tokens * settings.baseline_tokens, "tokens")
    chosen = order[: take(order, corpus.tokens, budget)]
    parts = rows.parts(workspace, "corpus")
    schema = selected_schema(parts)
    place = np.full(corpus.n_rows, -1, np.int64)
    place[chosen] = np.arange(len(chosen))
    tables, places, start = [], [], 0
    for part in parts:
        span = slice(start, start + part.n_rows())
        start = span.stop
        taken = np.flatnonzero(place[span] >= 0)
        if len(taken):
            table = _with_provenance(pq.read_table(part.rows), scores[span], settings.baseline)
            tables.append(rows.conform(table.take(taken), schema))
            places.append(place[span][taken])
    table = pa.concat_tables(tables) if tables else schema.empty_table()
    table = table.take(np.argsort(np.concatenate(places))) if tables else table
    pq.write_table(table, out / "baseline.parquet", compression="zstd")

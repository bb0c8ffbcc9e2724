"""select: score every corpus row against the target, keep what fits a budget, explain all."""

from __future__ import annotations

import json
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, field_validator

from lightadapt_data import ledger, methods, rows
from lightadapt_data.budget import Budget, ranking, take
from lightadapt_data.config import StageConfig
from lightadapt_data.corpus import Corpus, content, read_target
from lightadapt_data.errors import InputError, NothingSelectedError, RecipeError
from lightadapt_data.selectors import Floats, Scores
from lightadapt_data.shards import Counts, Shard, Workspace, digest_of, read_parquet
from lightadapt_data.shards import deliver as deliver_files

if TYPE_CHECKING:
    import pyarrow as pa

logger = logging.getLogger(__name__)

VERSION = 1
READS = ("ingest", "embed")
FAMILIES = {"method": "selectors", "baseline": "selectors"}
RUN_ONLY = ("keep", "baseline", "baseline_tokens")
USES_ALL_CORES = True
FILE_PARTS = 256
"""Parts of the corpus in one file of the ledger or of the selection."""


class Settings(StageConfig):
    """Settings of the select stage."""

    method: str = "nearest"
    """Name of a file in lightadapt_data/selectors/."""
    keep: str = "10%"
    """Budget: rows (5000, 20k), tokens (2Mtok) or a share of the corpus (10%)."""
    baseline: str = ""
    """Selector whose rows are kept beside the selection for the comparison; empty for none."""
    baseline_tokens: float = Field(default=4.0, gt=0)
    """Tokens of the baseline over tokens of the selection; more, as labelling refuses some."""

    @field_validator("keep", mode="before")
    @classmethod
    def _readable(cls, value: object) -> str:
        try:
            Budget.parse(str(value))
        except RecipeError as error:
            raise ValueError(str(error)) from None
        return str(value)


def shards(settings: Settings, workspace: Workspace) -> list[Shard]:
    """Return one shard: the table of scores, which a new budget does not change."""
    reads = {
        "corpus": digest_of(content(workspace, "corpus")),
        "target": digest_of(content(workspace, "target")),
        "seed": str(workspace.seed),
    }
    return [Shard("scores", reads)]


def run_shard(settings: Settings, workspace: Workspace, shard: Shard, out: Path) -> Counts:
    """Score every row of the corpus."""
    corpus = Corpus(workspace)
    scores = score(settings, workspace, corpus, settings.method)
    np.save(out / "scores.npy", scores.score)
    np.save(out / "nearest.npy", scores.nearest)
    return {"rows_in": corpus.n_rows, "rows_out": corpus.n_rows}


def score(settings: Settings, workspace: Workspace, corpus: Corpus, method: str) -> Scores:
    """Return the scores of one selector, checked to be finite and one per row."""
    target = read_target(workspace)
    module, options = methods.chosen("selectors", method, settings.options)
    scores: Scores = module.score(corpus, target, options, workspace.seed)
    if scores.score.shape != (corpus.n_rows,) or not np.isfinite(scores.score).all():
        raise InputError(
            f"selector {method}: gave scores that are not one finite number per row "
            f"(shape {scores.score.shape} for {corpus.n_rows} rows); look at its options"
        )
    return scores


def run(settings: Settings, workspace: Workspace, out: Path) -> Counts:
    """Choose rows by the budget; write the selection, the baseline, the ledger and the cut."""
    corpus = Corpus(workspace)
    (scored,) = workspace.shards("select")
    scores = np.load(scored.file("scores.npy"))
    order = ranking(scores, corpus.keys)
    n_kept = take(order, corpus.tokens, Budget.parse(settings.keep))
    if n_kept == 0:
        raise NothingSelectedError(
            f"select.keep = {settings.keep!r} keeps none of {corpus.n_rows:,} rows (the best has "
            f"{int(corpus.tokens[order[0]]):,} tokens); raise the budget"
        )
    rank = np.empty(corpus.n_rows, np.int64)
    rank[order] = np.arange(1, corpus.n_rows + 1)
    nearest_ids = _nearest_ids(workspace, np.load(scored.file("nearest.npy")))
    choice = _Choice(settings.method, settings.keep, scores, rank, n_kept, nearest_ids)
    _write(choice, corpus.parts, out)
    n_tokens = int(corpus.tokens[order[:n_kept]].sum())
    if settings.baseline:
        _write_baseline(settings, workspace, out, corpus, n_tokens)
    cut = float(scores[order[n_kept - 1]])
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


def _nearest_ids(workspace: Workspace, nearest: NDArray[np.int32]) -> pa.Array:
    """Return the id of each row's nearest target row; null where the method looks at none."""
    import pyarrow as pa

    ids = pa.array([row["id"] for row in rows.read_role(workspace, "target")], pa.string())
    return ids.take(pa.array(nearest, mask=nearest < 0))


@dataclass(frozen=True)
class _Choice:
    """What was decided, one entry per corpus row."""

    method: str
    keep: str
    scores: Floats
    rank: NDArray[np.int64]
    """From 1, the best."""
    n_kept: int
    nearest_ids: pa.Array
    """Id of the nearest target row, or null."""


def _write(choice: _Choice, parts: list[rows.Part], out: Path) -> None:
    """Write selection and ledger part by part, in corpus order: memory stays that of one part."""
    import pyarrow.parquet as pq

    schema = selected_schema(parts)
    start = 0
    for first in range(0, len(parts), FILE_PARTS):
        name = f"{first // FILE_PARTS:05d}.parquet"
        selection = pq.ParquetWriter(out / f"selected-{name}", schema, compression="zstd")
        lines = pq.ParquetWriter(out / f"ledger-{name}", ledger.schema(), compression="zstd")
        with selection, lines:
            for part in parts[first : first + FILE_PARTS]:
                table = read_parquet(part.rows)
                span = slice(start, start + len(table))
                start = span.stop
                lines.write_table(_ledger_lines(choice, table, span))
                kept = np.flatnonzero(choice.rank[span] <= choice.n_kept)
                if len(kept):
                    chosen = _with_provenance(table, choice.scores[span], choice.method).take(kept)
                    selection.write_table(rows.conform(chosen, schema))


def _ledger_lines(choice: _Choice, table: pa.Table, span: slice) -> pa.Table:
    import pyarrow as pa

    cut = choice.scores[choice.rank == choice.n_kept][0]
    below = f"below the cut: rank over {choice.n_kept}, score under {cut:.4f}"
    is_dropped = pa.array((choice.rank[span] > choice.n_kept).astype(np.int32))
    return ledger.table(
        len(table),
        id=table["id"],
        source=table["source"],
        origin="selected",
        stage="select",
        decision=pa.array(["kept", "dropped"]).take(is_dropped),
        reason=pa.array([f"within the budget {choice.keep}", below]).take(is_dropped),
        score=choice.scores[span],
        rank=choice.rank[span],
        nearest_id=choice.nearest_ids[span],
    )


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
    settings: Settings, workspace: Workspace, out: Path, corpus: Corpus, n_tokens: int
) -> None:
    """Write the baseline's rows in its own order, `baseline_tokens` times as many tokens."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    scores = score(settings, workspace, corpus, settings.baseline).score
    order = ranking(scores, corpus.keys)
    budget = Budget(n_tokens * settings.baseline_tokens, "tokens")
    chosen = order[: take(order, corpus.tokens, budget)]
    schema = selected_schema(corpus.parts)
    place = np.full(corpus.n_rows, -1, np.int64)
    place[chosen] = np.arange(len(chosen))
    tables, places, start = [], [], 0
    for part in corpus.parts:
        span = slice(start, start + part.n_rows())
        start = span.stop
        taken = np.flatnonzero(place[span] >= 0)
        if len(taken):
            table = _with_provenance(read_parquet(part.rows), scores[span], settings.baseline)
            tables.append(rows.conform(table.take(taken), schema))
            places.append(place[span][taken])
    table = pa.concat_tables(tables) if tables else schema.empty_table()
    table = table.take(np.argsort(np.concatenate(places))) if tables else table
    pq.write_table(table, out / "baseline.parquet", compression="zstd")

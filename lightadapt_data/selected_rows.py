"""The selection on disk: chosen rows with their provenance, and a ledger line for every row.

Written part by part, in corpus order, so that memory stays that of one part and of a few numbers
per row.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from lightadapt_data import ledger, rows
from lightadapt_data.choosing import CHOSEN, Choice
from lightadapt_data.shards import read_parquet

if TYPE_CHECKING:
    import pyarrow as pa

FILE_PARTS = 256
"""Parts of the corpus in one file of the ledger or of the selection."""


@dataclass(frozen=True)
class Decision:
    """What the ledger says of every row."""

    method: str
    choice: Choice
    rank: NDArray[np.int64]
    scores: NDArray[np.float32]
    nearest: NDArray[np.int32]
    """Index of the nearest target row, -1 for none."""
    target_ids: pa.Array
    """Ids of the target rows."""
    reasons: tuple[str, str, str, str]
    """In words, by fate: chosen, below the cut, over a quota, too much like a better row."""
    like_ids: dict[int, str]
    """Ids of the rows that others are too much like, by their places."""


def write(decision: Decision, parts: list[rows.Part], out: Path) -> None:
    """Write `selected-*.parquet` and `ledger-*.parquet` into `out`."""
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
                lines.write_table(_ledger_lines(decision, table, span))
                kept = np.flatnonzero(decision.choice.fate[span] == CHOSEN)
                if len(kept):
                    scores = decision.scores[span]
                    chosen = with_provenance(table, scores, decision.method).take(kept)
                    selection.write_table(rows.conform(chosen, schema))


def _ledger_lines(decision: Decision, table: pa.Table, span: slice) -> pa.Table:
    import pyarrow as pa

    fate = decision.choice.fate[span]
    nearest = decision.nearest[span]
    like = decision.choice.like[span]
    alike = [decision.like_ids[row] if row >= 0 else None for row in like.tolist()]
    return ledger.table(
        len(table),
        id=table["id"],
        source=table["source"],
        origin="selected",
        stage="select",
        decision=pa.array(["kept", "dropped"]).take(pa.array((fate != CHOSEN).astype(np.int32))),
        reason=pa.array(decision.reasons).take(pa.array(fate.astype(np.int32))),
        score=decision.scores[span],
        rank=decision.rank[span],
        nearest_id=decision.target_ids.take(pa.array(nearest, mask=nearest < 0)),
        duplicate_of=pa.array(alike, pa.string()),
    )


def reasons(
    keep: str, choice: Choice, cut: float | None, diversity: str
) -> tuple[str, str, str, str]:
    """Return the reasons in words, by fate; `cut` is the last kept score where that decided."""
    below = f"below the cut: rank over {choice.n_kept}"
    if cut is not None:
        below += f", score under {cut:.4f}"
    return (
        f"within the budget {keep}",
        below,
        "over a quota (select.quotas): better rows of its kind have taken it",
        f"{diversity or 'diversity'}: too much like a chosen row",
    )


def selected_schema(parts: list[rows.Part]) -> pa.Schema:
    """Return the columns of selected rows: those of the input, then the provenance."""
    import pyarrow as pa

    schema = rows.unified_schema([part.rows for part in parts])
    for name in rows.PROVENANCE:
        schema = schema.append(pa.field(name, pa.float32() if name == "score" else pa.string()))
    return schema


def with_provenance(table: pa.Table, scores: NDArray[np.float32], method: str) -> pa.Table:
    """Return corpus rows with the columns that say how they were selected."""
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


def write_in_order(
    chosen: NDArray[np.int64],
    scores: NDArray[np.float32],
    method: str,
    parts: list[rows.Part],
    path: Path,
) -> None:
    """Write the corpus rows at the places `chosen`, in that order, to one Parquet file."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    schema = selected_schema(parts)
    place = np.full(len(scores), -1, np.int64)
    place[chosen] = np.arange(len(chosen))
    tables, places, start = [], [], 0
    for part in parts:
        span = slice(start, start + part.n_rows())
        start = span.stop
        taken = np.flatnonzero(place[span] >= 0)
        if len(taken):
            table = with_provenance(read_parquet(part.rows), scores[span], method)
            tables.append(rows.conform(table.take(taken), schema))
            places.append(place[span][taken])
    table = pa.concat_tables(tables) if tables else schema.empty_table()
    table = table.take(np.argsort(np.concatenate(places))) if tables else table
    pq.write_table(table, path, compression="zstd")

"""The ledger: one line for every row, saying what became of it, at which stage, and why."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pyarrow as pa

COLUMNS = (
    ("id", "string"),
    ("source", "string"),
    ("origin", "string"),
    ("stage", "string"),
    ("decision", "string"),
    ("reason", "string"),
    ("score", "float"),
    ("rank", "int64"),
    ("nearest_id", "string"),
    ("parent_id", "string"),
    ("duplicate_of", "string"),
)


def schema() -> pa.Schema:
    """Return the ledger's columns; `rank` counts from 1, `decision` is kept or dropped."""
    import pyarrow as pa

    return pa.schema([(name, pa.type_for_alias(kind)) for name, kind in COLUMNS])


def table(n_rows: int, **columns: Any) -> pa.Table:
    """Return `n_rows` lines; a single value fills its column, a missing column is null."""
    import pyarrow as pa

    filled = {}
    for field in schema():
        value = columns.get(field.name)
        if value is None or isinstance(value, str):
            value = pa.repeat(pa.scalar(value, field.type), n_rows)
        filled[field.name] = value
    return pa.table(filled, schema=schema())


def find(folder: Path, row_id: str) -> dict[str, Any] | None:
    """Return the line of one row in the ledger files of `folder`, or None."""
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    for path in sorted(folder.glob("*.parquet")):
        lines = pq.read_table(path, filters=pc.field("id") == row_id).to_pylist()
        if lines:
            return dict(lines[0])
    return None

"""Rows: the columns every row has, and where finished rows of a run are found."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import xxhash
from numpy.typing import NDArray

from lightadapt_data.shards import Workspace, read_parquet

if TYPE_CHECKING:
    import pyarrow as pa

TOKEN = re.compile(r"[\u3040-\u30ff\u3400-\u9fff]|[^\W\u3040-\u30ff\u3400-\u9fff]+|[^\w\s]")
"""A token where no model is asked: a word, a punctuation mark, or one Chinese or Japanese sign."""

PART_ROWS = 1024
"""Rows of one part file; the unit of embedding, so of resume and of growth [rows]."""

PROVENANCE = ("origin", "parent_id", "method", "score", "split")
"""Columns that the product adds; an input column of that name is kept as `input_<name>`."""

ROLES = ("corpus", "target", "unlike", "task")
"""What an ingested file is: the pile, rows to select toward and away from, the labelled rows."""

SPLITS = ("train", "validation", "test")

OFFSETS = ("spans", "head", "answers")
"""Fields that point into the text by characters, so the text may not change under them."""


@dataclass(frozen=True)
class Part:
    """At most PART_ROWS ingested rows on disk."""

    role: str
    name: str
    rows: Path
    """Parquet with `id, text, n_tokens, source` and every column of the input."""
    keys: Path
    """`.npy` uint64: hash of each row's id."""
    tokens: Path
    """`.npy` int32: tokens of each row's text."""
    digest: str

    def n_rows(self) -> int:
        """Return the number of rows."""
        return int(np.load(self.keys, mmap_mode="r").shape[0])


def parts(workspace: Workspace, role: str) -> list[Part]:
    """Return the finished parts of one role, in corpus order."""
    found = []
    for shard in workspace.shards("ingest"):
        if shard.args["role"] != role:
            continue
        for file in sorted(shard.files):
            if not file.startswith("rows-"):
                continue
            number = file.removeprefix("rows-").removesuffix(".parquet")
            found.append(
                Part(
                    role,
                    f"{shard.name}/{number}",
                    shard.file(file),
                    shard.file(f"keys-{number}.npy"),
                    shard.file(f"tokens-{number}.npy"),
                    shard.files[file],
                )
            )
    return found


def read_rows(paths: list[Path]) -> list[dict[str, Any]]:
    """Return the rows of Parquet files as dictionaries; for small sets only."""
    return [row for path in paths for row in read_parquet(path).to_pylist()]


def read_role(workspace: Workspace, role: str) -> list[dict[str, Any]]:
    """Return all rows of a role as dictionaries; for the target and the task, not the corpus."""
    return read_rows([part.rows for part in parts(workspace, role)])


def key_of(row_id: str) -> int:
    """Return the 64-bit hash of a row id that stands for it in arrays."""
    return xxhash.xxh3_64_intdigest(row_id.encode())


def family(row: dict[str, Any]) -> str:
    """Return what a row and all its augmented children share.

    Ids of the corpus and of the task are the user's and may meet, so the origin is part of it.
    """
    parent = row.get("parent_id")
    return f"seed/{parent}" if parent else f"{row['origin']}/{row['id']}"


def load_arrays(paths: list[Path], dtype: type[np.generic]) -> NDArray[Any]:
    """Return the concatenation of `.npy` files."""
    arrays = [np.load(path) for path in paths]
    return np.concatenate(arrays) if arrays else np.zeros(0, dtype)


def unified_schema(paths: list[Path]) -> pa.Schema:
    """Return a schema that holds the columns of all Parquet files.

    Columns whose types cannot be widened to one become text.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    schemas = [pq.read_schema(path).remove_metadata() for path in paths]
    try:
        return pa.unify_schemas(schemas, promote_options="permissive")
    except (pa.ArrowTypeError, pa.ArrowInvalid):
        fields: dict[str, Any] = {}
        for schema in schemas:
            for field in schema:
                same = fields.get(field.name, field.type) == field.type
                fields[field.name] = field.type if same else pa.string()
        return pa.schema(list(fields.items()))


def conform(table: pa.Table, schema: pa.Schema) -> pa.Table:
    """Return the table with exactly the columns and types of `schema`; missing cells are null."""
    import pyarrow as pa

    columns = []
    for field in schema:
        if field.name not in table.column_names:
            columns.append(pa.nulls(len(table), field.type))
            continue
        column = table[field.name]
        if column.type == field.type:
            columns.append(column)
        elif field.type == pa.string() and not pa.types.is_primitive(column.type):
            texts = [
                None if v is None else json.dumps(v, ensure_ascii=False) for v in column.to_pylist()
            ]
            columns.append(pa.array(texts, pa.string()))
        else:
            columns.append(column.cast(field.type))
    return pa.Table.from_arrays(columns, schema=schema)


def count_tokens(text: str) -> int:
    """Return the number of words, punctuation marks and CJK characters of a text [tokens]."""
    return sum(1 for _ in TOKEN.finditer(text))

"""The corpus of a run: its vectors in blocks, its keys and tokens, and rows looked up by place."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lightadapt_data import rows
from lightadapt_data.errors import InputError, allowed
from lightadapt_data.selectors import Target
from lightadapt_data.shards import Workspace, read_parquet
from lightadapt_data.vectors import Floats, StoredVectors


class Corpus:
    """All ingested and embedded rows of the role "corpus", as selectors see them."""

    def __init__(self, workspace: Workspace) -> None:
        self.parts = rows.parts(workspace, "corpus")
        self._vectors = stored_vectors(workspace, "corpus")
        self.n_rows = self._vectors.n_rows
        self.dim = self._vectors.dim

    @cached_property
    def keys(self) -> NDArray[np.uint64]:
        """uint64 [rows]: hash of each row's id."""
        return rows.load_arrays([part.keys for part in self.parts], np.uint64)

    @cached_property
    def tokens(self) -> NDArray[np.int32]:
        """int32 [rows]: tokens of each row."""
        return rows.load_arrays([part.tokens for part in self.parts], np.int32)

    def mean(self) -> Floats:
        """Return the mean vector, float32 [dim]."""
        return self._vectors.mean()

    def blocks(self) -> Iterator[tuple[int, Floats]]:
        """Yield (index of the first row, float32 [rows of the block, dim])."""
        return self._vectors.blocks()

    def texts(self, column: str = "text") -> Iterator[tuple[int, list[str]]]:
        """Yield (index of the first row, texts of one part); a missing cell is an empty text.

        Raises:
            InputError: a part of the corpus does not have the column, or it holds no texts.
        """
        import pyarrow as pa
        import pyarrow.parquet as pq

        start = 0
        for part in self.parts:
            names = [
                cell.name
                for cell in pq.read_schema(part.rows)
                if pa.types.is_string(cell.type) or pa.types.is_large_string(cell.type)
            ]
            if column not in names:
                raise InputError(
                    f"corpus: no text column '{column}' in {part.name}; {allowed(column, names)}"
                )
            texts = [cell or "" for cell in read_parquet(part.rows, [column])[column].to_pylist()]
            yield start, texts
            start += len(texts)

    def column(self, name: str) -> NDArray[np.int32]:
        """Return a column as codes, int32 [rows]: equal values share a code, missing is one too.

        Raises:
            InputError: no part of the corpus has the column.
        """
        return self.categories(name)[0]

    def categories(self, name: str) -> tuple[NDArray[np.int32], list[str]]:
        """Return a column as codes, int32 [rows], and what each code stands for.

        Raises:
            InputError: no part of the corpus has the column.
        """
        import pyarrow.parquet as pq

        codes: dict[str, int] = {}
        found: list[NDArray[np.int32]] = []
        columns: set[str] = set()
        for part in self.parts:
            with pq.ParquetFile(part.rows) as file:
                columns |= set(file.schema_arrow.names)
                has_column = name in file.schema_arrow.names
                cells = (
                    file.read([name])[name].to_pylist() if has_column else [None] * part.n_rows()
                )
            places = [codes.setdefault(str(cell), len(codes)) for cell in cells]
            found.append(np.array(places, np.int32))
        if name not in columns:
            raise InputError(f"corpus: no column '{name}'; {allowed(name, columns)}")
        return np.concatenate(found), list(codes)

    def vectors_at(self, places: NDArray[np.int64]) -> Floats:
        """Return the vectors of some rows, float32 [places, dim], in the order of `places`."""
        found = np.empty((len(places), self.dim), np.float32)
        for start, block in self.blocks():
            inside = np.flatnonzero((places >= start) & (places < start + len(block)))
            found[inside] = block[places[inside] - start]
        return found


def stored_vectors(workspace: Workspace, role: str) -> StoredVectors:
    """Return the stored vectors of all rows of a role, in the order of `rows.parts`."""
    done = [shard for shard in workspace.shards("embed") if shard.args["role"] == role]
    return StoredVectors([shard.file("vectors.npy") for shard in done])


def read_target(workspace: Workspace, role: str = "target") -> Target:
    """Return the rows of the role "target" or "unlike", as selectors see them."""
    found = rows.read_role(workspace, role)
    names = {name for row in found for name, cell in row.items() if isinstance(cell, str)}
    columns = {name: [str(row.get(name) or "") for row in found] for name in sorted(names)}
    return Target(stored_vectors(workspace, role).read(), columns.pop("text", []), columns)


def content(workspace: Workspace, role: str) -> list[str]:
    """Return the digests of a role's rows and vectors, for the keys of later stages."""
    vectors = [done.digest for done in workspace.shards("embed") if done.args["role"] == role]
    return [part.digest for part in rows.parts(workspace, role)] + vectors


def rows_at(
    workspace: Workspace, places: Sequence[int], columns: Sequence[str]
) -> list[dict[str, Any]]:
    """Return the corpus rows at the given places, counted from 0 in the order of the parts.

    Each part is read once, one part at a time; the rows come in the order of `places`.
    """
    parts = rows.parts(workspace, "corpus")
    starts = np.cumsum([0, *(part.n_rows() for part in parts)])
    by_part: dict[int, list[int]] = {}
    for place in places:
        by_part.setdefault(int(np.searchsorted(starts, place, "right")) - 1, []).append(place)
    found: dict[int, dict[str, Any]] = {}
    for number, inside in sorted(by_part.items()):
        table = read_parquet(parts[number].rows, columns)
        taken = table.take([place - int(starts[number]) for place in inside]).to_pylist()
        found.update(zip(inside, taken, strict=True))
    return [found[place] for place in places]

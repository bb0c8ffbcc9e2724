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

    def texts(self) -> Iterator[tuple[int, list[str]]]:
        """Yield (index of the first row, texts of one part)."""
        start = 0
        for part in self.parts:
            texts = read_parquet(part.rows, ["text"])["text"].to_pylist()
            yield start, texts
            start += len(texts)

    def column(self, name: str) -> NDArray[np.int32]:
        """Return a column as codes, int32 [rows]: equal values share a code, missing is one too.

        Raises:
            InputError: no part of the corpus has the column.
        """
        import pyarrow.parquet as pq

        codes: dict[str, int] = {}
        values: list[int] = []
        columns: set[str] = set()
        for part in self.parts:
            with pq.ParquetFile(part.rows) as file:
                columns |= set(file.schema_arrow.names)
                has_column = name in file.schema_arrow.names
                cells = (
                    file.read([name])[name].to_pylist() if has_column else [None] * part.n_rows()
                )
            values += [codes.setdefault(str(cell), len(codes)) for cell in cells]
        if name not in columns:
            raise InputError(f"corpus: no column '{name}'; {allowed(name, columns)}")
        return np.array(values, np.int32)


def stored_vectors(workspace: Workspace, role: str) -> StoredVectors:
    """Return the stored vectors of all rows of a role, in the order of `rows.parts`."""
    done = [shard for shard in workspace.shards("embed") if shard.args["role"] == role]
    return StoredVectors([shard.file("vectors.npy") for shard in done])


def read_target(workspace: Workspace, role: str = "target") -> Target:
    """Return the rows of the role "target" or "unlike", as selectors see them."""
    texts = [row["text"] for row in rows.read_role(workspace, role)]
    return Target(stored_vectors(workspace, role).read(), texts)


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

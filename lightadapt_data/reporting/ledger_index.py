"""ledger_index: a run's ledger in memory, a hash, the rank and the fate of every row.

Files are read block by block, so that their text never stays: about 25 bytes per row do.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import xxhash
from numpy.typing import NDArray

if TYPE_CHECKING:
    import pyarrow as pa

Places = NDArray[np.int64]

BLOCK_ROWS = 1 << 16


@dataclass(frozen=True)
class Ledger:
    """What a run said of every row, sorted by hash."""

    folder: Path
    keys: NDArray[np.uint64]
    """uint64 [rows], ascending: hash of origin and id."""
    places: Places
    """int64 [rows]: line in the ledger's files, in their order."""
    ranks: Places
    """int64 [rows]: from 1; 0 for none."""
    is_kept: NDArray[np.bool_]


def read(folder: Path) -> Ledger:
    """Return the ledger that a run delivered."""
    import pyarrow as pa
    import pyarrow.compute as pc

    keys, ranks, kept = [], [], []
    for batch in _batches(folder, ["id", "origin", "decision", "rank"]):
        names = zip(batch["origin"].to_pylist(), batch["id"].to_pylist(), strict=True)
        hashes = (
            xxhash.xxh3_64_intdigest(f"{origin}\x1f{name}".encode()) for origin, name in names
        )
        keys.append(np.fromiter(hashes, np.uint64, len(batch)))
        ranks.append(pc.fill_null(batch["rank"], pa.scalar(0, pa.int64())).to_numpy())
        kept.append(pc.equal(batch["decision"], "kept").to_numpy(zero_copy_only=False))
    joined = np.concatenate(keys)
    order = np.argsort(joined, kind="stable")
    return Ledger(
        folder, joined[order], order, np.concatenate(ranks)[order], np.concatenate(kept)[order]
    )


def _batches(folder: Path, columns: list[str]) -> Iterator[pa.RecordBatch]:
    import pyarrow.parquet as pq

    for path in sorted((folder / "ledger").glob("*.parquet")):
        with pq.ParquetFile(path) as file:
            yield from file.iter_batches(BLOCK_ROWS, columns=columns)


def lines_at(ledger: Ledger, rows: Places) -> list[dict[str, Any] | None]:
    """Return the whole lines of some rows, None for -1; other row groups are not read.

    Args:
        ledger: from `read`.
        rows: int64 [n], indices into its arrays.
    """
    import pyarrow.parquet as pq

    places = np.where(rows >= 0, ledger.places[rows], -1)
    wanted = np.unique(places[places >= 0])
    found: dict[int, dict[str, Any]] = {}
    start = 0
    for path in sorted((ledger.folder / "ledger").glob("*.parquet")):
        with pq.ParquetFile(path) as file:
            for number in range(file.num_row_groups):
                stop = start + file.metadata.row_group(number).num_rows
                inside = wanted[(wanted >= start) & (wanted < stop)]
                if len(inside):
                    lines = file.read_row_group(number).take(inside - start).to_pylist()
                    found.update(zip(inside.tolist(), lines, strict=True))
                start = stop
    return [found.get(place) for place in places.tolist()]

"""Vectors: normalise, read stored shards block by block, draw by key."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]

BLOCK_ROWS = 16_384


def unit(vectors: Floats) -> Floats:
    """Return the rows scaled to length 1; rows of zeros stay zero. Shape [rows, dim]."""
    lengths = np.linalg.norm(vectors, axis=-1, keepdims=True)
    return np.asarray(vectors / np.maximum(lengths, 1e-12), dtype=np.float32)


def uniform(keys: NDArray[np.uint64], seed: int) -> NDArray[np.float64]:
    """Return one number in [0, 1) per key; it depends on the key and the seed, not on position.

    Source: the SplitMix64 finaliser, Steele et al. 2014, https://doi.org/10.1145/2660193.2660195
    """
    with np.errstate(over="ignore"):
        mixed = keys + np.uint64(0x9E3779B97F4A7C15) * np.uint64(seed + 1)
        mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        mixed = mixed ^ (mixed >> np.uint64(31))
    return (mixed >> np.uint64(11)).astype(np.float64) / float(1 << 53)


@dataclass(frozen=True)
class StoredVectors:
    """Vectors of many shards on disk, read through memory maps; constant memory."""

    paths: Sequence[Path]
    """One float16 `.npy` per shard, [rows, dim], with `sum.npy` (float64 [dim]) beside it."""

    @cached_property
    def lengths(self) -> list[int]:
        """Rows of each shard."""
        return [int(np.load(path, mmap_mode="r").shape[0]) for path in self.paths]

    @cached_property
    def n_rows(self) -> int:
        """Rows of all shards."""
        return sum(self.lengths)

    @cached_property
    def dim(self) -> int:
        """Width of a vector; 0 when there is no shard."""
        return int(np.load(self.paths[0], mmap_mode="r").shape[1]) if self.paths else 0

    def mean(self) -> Floats:
        """Return the mean vector, float32 [dim]; the order of shards does not matter."""
        sums = np.array([np.load(path.with_name("sum.npy")) for path in self.paths])
        # Sorted first, so that no order of shards gives another rounding.
        total = np.sort(sums, axis=0).sum(axis=0)
        return np.asarray(total / max(self.n_rows, 1), dtype=np.float32)

    def blocks(self, rows: int = BLOCK_ROWS) -> Iterator[tuple[int, Floats]]:
        """Yield (index of the first row, float32 [at most `rows`, dim])."""
        start = 0
        for path in self.paths:
            shard = np.load(path, mmap_mode="r")
            for offset in range(0, len(shard), rows):
                yield start + offset, shard[offset : offset + rows].astype(np.float32)
            start += len(shard)

    def read(self) -> Floats:
        """Return all vectors in memory, float32 [rows, dim]."""
        parts = [np.load(path).astype(np.float32) for path in self.paths]
        return np.concatenate(parts) if parts else np.zeros((0, self.dim), np.float32)

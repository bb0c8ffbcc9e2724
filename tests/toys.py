"""Small data that tests share."""

import json
from pathlib import Path

import numpy as np

from lightadapt_data.selectors import Target

WORDS = (
    "mean",
    "variance",
    "socket",
    "thread",
    "matrix",
    "file",
    "parse",
    "plot",
    "queue",
    "sample",
)


def write_jsonl(path: Path, rows: list[dict]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    return path


def text(number: int) -> str:
    return " ".join(WORDS[(number * step + step) % len(WORDS)] for step in (1, 3, 7)) + f" {number}"


class ToyCorpus:
    """A corpus in memory, as selectors see it."""

    def __init__(self, vectors, texts=None, keys=None, columns=None, rows_per_block=4):
        self.vectors = np.asarray(vectors, np.float32)
        self.n_rows, self.dim = self.vectors.shape
        self.keys = np.arange(self.n_rows, dtype=np.uint64) * 7919 + 1 if keys is None else keys
        self._texts = texts or [f"row {index}" for index in range(self.n_rows)]
        self.tokens = np.array([len(text.split()) for text in self._texts], np.int32)
        self._columns = columns or {}
        self._rows_per_block = rows_per_block

    def mean(self):
        total = np.sort(self.vectors.astype(np.float64), axis=0).sum(axis=0)
        return (total / self.n_rows).astype(np.float32)

    def blocks(self):
        for start in range(0, self.n_rows, self._rows_per_block):
            yield start, self.vectors[start : start + self._rows_per_block].copy()

    def texts(self, column="text"):
        texts = self._texts if column == "text" else self._columns[column]
        for start in range(0, self.n_rows, 3):
            yield start, list(texts[start : start + 3])

    def column(self, name):
        return np.asarray(self._columns[name], np.int32)


def target_of(vectors, texts=None):
    vectors = np.asarray(vectors, np.float32)
    return Target(vectors, texts or [f"target {index}" for index in range(len(vectors))])

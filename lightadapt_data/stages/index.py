"""index: corpus vectors -> a FAISS index whose recall is measured against exact search."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from lightadapt_data.config import Config
from lightadapt_data.corpus import rows_at, stored_vectors
from lightadapt_data.errors import InputError
from lightadapt_data.shards import Counts, Workspace
from lightadapt_data.stages import embed
from lightadapt_data.vectors import Floats, StoredVectors

if TYPE_CHECKING:
    pass

logger = logging.getLogger(__name__)

VERSION = 1
READS = ("ingest", "embed")
USES_ALL_CORES = True
SEED = 1234
"""FAISS trains its cells with a generator of its own; the seed is fixed here."""


class Settings(Config):
    """Settings of the index stage."""

    kind: str = Field(default="auto", pattern="^(auto|flat|hnsw|ivf)$")
    """Index to build; auto: flat below `flat_rows`, hnsw below `hnsw_rows`, ivf above."""
    flat_rows: int = Field(default=20_000, ge=0)
    """Largest corpus that is searched exactly [rows]."""
    hnsw_rows: int = Field(default=500_000, ge=0)
    """Largest corpus that gets a graph index [rows]."""
    recall: float = Field(default=0.95, gt=0, le=1)
    """Share of the true k nearest rows that a search has to find [0 to 1]."""
    k: int = Field(default=10, ge=1)
    """Neighbours on which recall is measured [rows]."""
    n_queries: int = Field(default=500, ge=1)
    """Corpus rows used as queries to measure recall [rows]."""


def run(settings: Settings, workspace: Workspace, out: Path) -> Counts:
    """Build the index, tune it to the recall asked for, and write down what it reaches."""
    import faiss

    stored = stored_vectors(workspace, "corpus")
    kind = _kind(settings, stored.n_rows)
    index = _built(kind, stored)
    report: dict[str, Any] = {"kind": kind, "rows": stored.n_rows, "k": settings.k}
    report |= {"recall": 1.0, "effort": None, "target_recall": settings.recall, "n_queries": 0}
    if kind != "flat":
        report |= _tuned(settings, index, kind, stored)
        if report["recall"] < settings.recall:
            logger.warning(
                "index: recall@%d is %.3f, under the %.3f asked for; use --set index.kind=flat",
                settings.k,
                report["recall"],
                settings.recall,
            )
    faiss.write_index(index, str(out / "index.faiss"))
    report["bytes"] = (out / "index.faiss").stat().st_size
    (out / "index.json").write_text(json.dumps(report, indent=1), "utf-8")
    return {"rows_in": stored.n_rows, "rows_out": stored.n_rows}


def search(workspace: Workspace, text: str, k: int) -> list[dict[str, Any]]:
    """Return the k rows nearest to a text, best first: id, text, source, score (cosine).

    Raises:
        InputError: the run has no index yet.
    """
    import faiss

    result = workspace.result("index")
    if result is None:
        raise InputError(
            f"{workspace.folder}: no index here; build it with "
            f"python -m lightadapt_data index --corpus PATH --out {workspace.folder}"
        )
    index = faiss.read_index(str(result.file("index.faiss")), faiss.IO_FLAG_MMAP)
    report = json.loads(result.file("index.json").read_text("utf-8"))
    _set_effort(index, report["kind"], report["effort"])
    query = embed.load(workspace.settings["embed"]).encode([text])  # type: ignore[arg-type]
    scores, places = index.search(query, k)
    # FAISS fills up with -1 when there are fewer than k rows.
    found = [
        (place, score) for place, score in zip(places[0], scores[0], strict=True) if place >= 0
    ]
    texts = rows_at(workspace, [int(place) for place, _ in found], ("id", "text", "source"))
    return [
        {**row, "score": round(float(score), 4)}
        for row, (_, score) in zip(texts, found, strict=True)
    ]


def _kind(settings: Settings, n_rows: int) -> str:
    if settings.kind != "auto":
        return settings.kind
    if n_rows <= settings.flat_rows:
        return "flat"
    return "hnsw" if n_rows <= settings.hnsw_rows else "ivf"


def _built(kind: str, stored: StoredVectors) -> Any:
    """Return an index over all vectors; inner product of unit vectors is their cosine."""
    import faiss

    metric = faiss.METRIC_INNER_PRODUCT
    index: Any
    if kind == "flat":
        index = faiss.IndexFlat(stored.dim, metric)
    elif kind == "hnsw":
        index = faiss.IndexHNSWFlat(stored.dim, 32, metric)
        index.hnsw.efConstruction = 80
    else:
        n_lists = max(1, int(4 * np.sqrt(stored.n_rows)))
        index = faiss.IndexIVFFlat(faiss.IndexFlatIP(stored.dim), stored.dim, n_lists, metric)
        index.cp.seed = SEED
        index.train(_sample(stored, min(stored.n_rows, 64 * n_lists)))
    for _, block in stored.blocks():
        index.add(block)
    return index


def _sample(stored: StoredVectors, n_rows: int) -> Floats:
    """Return evenly spaced vectors, float32 [n_rows, dim], read block by block."""
    wanted = np.linspace(0, stored.n_rows - 1, n_rows).astype(np.int64)
    taken = []
    for start, block in stored.blocks():
        inside = wanted[(wanted >= start) & (wanted < start + len(block))] - start
        taken.append(block[inside])
    return np.concatenate(taken)


def exact_neighbours(stored: StoredVectors, queries: Floats, k: int) -> NDArray[np.int64]:
    """Return the k nearest rows of each query by exact search in blocks, int64 [queries, k]."""
    best = np.full((len(queries), 0), -np.inf, np.float32)
    rows_of = np.zeros((len(queries), 0), np.int64)
    for start, block in stored.blocks():
        best = np.concatenate([best, queries @ block.T], axis=1)
        places = np.broadcast_to(np.arange(start, start + len(block)), (len(queries), len(block)))
        rows_of = np.concatenate([rows_of, places], axis=1)
        order = np.argsort(-best, axis=1, kind="stable")[:, :k]
        best = np.take_along_axis(best, order, axis=1)
        rows_of = np.take_along_axis(rows_of, order, axis=1)
    return rows_of


def _tuned(settings: Settings, index: Any, kind: str, stored: StoredVectors) -> dict[str, Any]:
    """Raise the search effort until recall reaches the target; return effort and recall."""
    queries = _sample(stored, min(settings.n_queries, stored.n_rows))
    k = min(settings.k, stored.n_rows)
    truth = exact_neighbours(stored, queries, k)
    most = index.nlist if kind == "ivf" else 4096
    effort, recall = max(k, 8) if kind == "hnsw" else 1, 0.0
    while True:
        _set_effort(index, kind, effort)
        found = index.search(queries, k)[1]
        hits = [len(set(a) & set(b)) for a, b in zip(found.tolist(), truth.tolist(), strict=True)]
        recall = sum(hits) / (k * len(queries))
        if recall >= settings.recall or effort >= most:
            return {"effort": effort, "recall": recall, "n_queries": len(queries)}
        effort = min(most, 2 * effort)


def _set_effort(index: Any, kind: str, effort: int | None) -> None:
    if kind == "ivf":
        index.nprobe = effort
    elif kind == "hnsw":
        index.hnsw.efSearch = effort

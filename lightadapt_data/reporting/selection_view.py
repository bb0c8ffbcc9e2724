"""What a selection looks like: its histogram, rows on both sides of the cut, and a map.

Memory holds one number per corpus row and the few rows that are shown, never the corpus.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lightadapt_data import corpus, rows
from lightadapt_data.shards import Workspace
from lightadapt_data.vectors import Floats, uniform

BLOCK = 1 << 20
"""Scores that are counted at once [rows]."""
GRID = 1000
"""Places of the map from side to side."""


@dataclass(frozen=True)
class Selection:
    """A finished select stage."""

    scores: Floats
    """Float32 [rows], a memory map."""
    nearest: NDArray[np.int32]
    """Index of the nearest target row, -1 for none; [rows], a memory map."""
    rank: NDArray[np.int64]
    """From 1, the best; [rows]."""
    n_kept: int
    cut: float
    """Score of the last kept row."""


def read(workspace: Workspace) -> Selection | None:
    """Return the run's selection, or None when it has none."""
    import pyarrow.parquet as pq

    result = workspace.result("select") if workspace.has("select") else None
    if result is None:
        return None
    paths = sorted(result.folder.glob("ledger-*.parquet"))
    ranks = [pq.read_table(path, columns=["rank"])["rank"].to_numpy() for path in paths]
    summary = json.loads(result.file("summary.json").read_text("utf-8"))
    return Selection(
        np.load(result.file("scores.npy"), mmap_mode="r"),
        np.load(result.file("nearest.npy"), mmap_mode="r"),
        np.concatenate(ranks) if ranks else np.zeros(0, np.int64),
        summary["kept"],
        summary["cut"],
    )


def sentences(workspace: Workspace) -> list[str]:
    """Return in plain words what the summary of the select stage says besides the cut."""
    result = workspace.result("select")
    if result is None:
        return []
    found = json.loads(result.file("summary.json").read_text("utf-8"))
    said = []
    if found["short"]:
        said.append(f"The budget {found['keep']} is {found['short']:,} short: there was no more.")
    if len(found["by_target"]) > 1:
        parts = ", ".join(f"{n:,} toward {name}" for name, n in found["by_target"].items())
        said.append(f"Rows by target: {parts}.")
    for name, facts in found["facts"].items():
        toward = f" toward {name}" if len(found["facts"]) > 1 else ""
        if "relevant_rows" in facts:
            said.append(
                f"About {facts['relevant_rows']:,} rows of the corpus are estimated to be of the "
                f"target's kind{toward}; a target row that the classifier has not seen beats "
                f"{facts['separation']:.0%} of the corpus rows."
            )
    if found["capped"] or found["alike"]:
        said.append(
            f"{found['capped']:,} better rows were over a quota, {found['alike']:,} too much like "
            "a chosen row."
        )
    if "coverage_radius" in found:
        said.append(
            f"Coverage radius {found['coverage_radius']:.3f} (lower is better: mean distance, "
            "1 - cosine, from a target row to the nearest selected row)."
        )
    if "kl_reduction" in found:
        said.append(
            f"KL reduction {found['kl_reduction']:.3f} nats (higher is better: by how much the "
            "n-grams of the selected rows are more like the target's than those of as many "
            "random rows)."
        )
    return said


def score_counts(selection: Selection, bins: int) -> tuple[list[float], list[int], list[int]]:
    """Return the borders of `bins` equal bins, and each bin's kept and dropped rows."""
    low, high = float(selection.scores.min()), float(selection.scores.max())
    if low == high:
        low, high = low - 0.5, high + 0.5
    edges = np.linspace(low, high, bins + 1)
    counts = np.zeros((2, bins), np.int64)
    for start in range(0, len(selection.scores), BLOCK):
        # Rounding may put the largest float32 a hair over the last border.
        block = np.clip(selection.scores[start : start + BLOCK].astype(np.float64), low, high)
        is_kept = selection.rank[start : start + BLOCK] <= selection.n_kept
        counts[0] += np.histogram(block[is_kept], edges)[0]
        counts[1] += np.histogram(block[~is_kept], edges)[0]
    return edges.tolist(), counts[0].tolist(), counts[1].tolist()


def ranked_rows(
    workspace: Workspace, selection: Selection, ranks: Sequence[int]
) -> list[dict[str, Any]]:
    """Return the corpus rows of the given ranks, best first, each with its nearest target row.

    Keys: id, text, source, rank, score, nearest (id and text of the target row, or None).
    """
    places = np.flatnonzero(np.isin(selection.rank, ranks))
    places = places[np.argsort(selection.rank[places])]
    found = corpus.rows_at(workspace, places.tolist(), ("id", "text", "source"))
    targets = rows.read_role(workspace, "target")
    for row, place in zip(found, places, strict=True):
        nearest = int(selection.nearest[place])
        row["rank"] = int(selection.rank[place])
        row["score"] = float(selection.scores[place])
        row["nearest"] = targets[nearest] if nearest >= 0 else None
    return found


def spread(first: int, last: int, most: int) -> list[int]:
    """Return at most `most` whole numbers from first to last, evenly spaced, ends included."""
    n = min(most, last - first + 1)
    return sorted({round(float(at)) for at in np.linspace(first, last, n)}) if n > 0 else []


def map_points(
    workspace: Workspace, selection: Selection | None, most: int, chars: int
) -> dict[str, Any] | None:
    """Return the points of a two-dimensional map, or None when there is nothing to draw.

    The axes are the first two principal components of a sample of the corpus, in which a row is or
    is not by its own id and the seed. Selected rows are all shown, or `most` / 2 of them evenly
    spaced by rank.

    Returns:
        x, y: whole numbers from 0 to 1000; kind: 0 corpus, 1 selected, 2 target; text: at most
        `chars` characters; id, share (the variance on each axis, from 0 to 1), n_corpus (rows of
        the whole corpus).
    """
    vectors = corpus.stored_vectors(workspace, "corpus")
    if vectors.n_rows < 3 or vectors.dim < 2 or most < 3:
        return None
    parts = rows.parts(workspace, "corpus")
    sample = _sample(parts, vectors.n_rows, most, workspace.seed)
    if len(sample) < 3:
        return None
    kinds = np.zeros(vectors.n_rows, np.int8)
    places = sample
    if selection is not None:
        kinds[selection.rank <= selection.n_kept] = 1
        ranks = spread(1, selection.n_kept, max(1, most // 2))
        chosen = np.flatnonzero(np.isin(selection.rank, ranks))
        places = np.union1d(sample[kinds[sample] == 0], chosen)
    found = corpus.rows_at(workspace, places.tolist(), ("id", "text"))
    targets = rows.read_role(workspace, "target")[:most]
    cloud = _vectors_at(workspace, sample)
    mean = cloud.mean(axis=0)
    axes, share = _principal_axes(cloud - mean)
    everything = [_vectors_at(workspace, places)]
    if targets:
        everything.append(corpus.stored_vectors(workspace, "target").read()[:most])
    flat = (np.concatenate(everything) - mean) @ axes
    low, high = flat.min(axis=0), flat.max(axis=0)
    grid = np.round((flat - low) / np.maximum(high - low, 1e-9) * GRID).astype(int)
    kind = [*kinds[places].tolist(), *(2 for _ in targets)]
    shown = [*found, *targets]
    order = np.argsort(kind, kind="stable").tolist()  # targets are drawn last, on top
    return {
        "x": grid[order, 0].tolist(),
        "y": grid[order, 1].tolist(),
        "kind": [kind[i] for i in order],
        "id": [str(shown[i]["id"]) for i in order],
        "text": [_start(shown[i]["text"], chars) for i in order],
        "share": share,
        "n_corpus": vectors.n_rows,
    }


def _sample(parts: Sequence[rows.Part], n_rows: int, most: int, seed: int) -> NDArray[np.int64]:
    """Return about `most` places; each row is in by its own id, whatever the other rows are."""
    taken, start = [], 0
    for part in parts:
        keys = np.load(part.keys)
        taken.append(start + np.flatnonzero(uniform(keys, seed) < most / n_rows))
        start += len(keys)
    return np.concatenate(taken)


def _vectors_at(workspace: Workspace, places: NDArray[np.int64]) -> Floats:
    """Return the vectors at sorted places, float32 [places, dim]."""
    stored = corpus.stored_vectors(workspace, "corpus")
    taken, start = [], 0
    for path, length in zip(stored.paths, stored.lengths, strict=True):
        inside = places[(places >= start) & (places < start + length)] - start
        if len(inside):
            taken.append(np.load(path, mmap_mode="r")[inside].astype(np.float32))
        start += length
    return np.concatenate(taken)


def _principal_axes(centred: Floats) -> tuple[Floats, list[float]]:
    """Return the two axes of most variance, float32 [dim, 2], and each one's share of it.

    Source: Pearson 1901, https://doi.org/10.1080/14786440109462720
    """
    values, axes = np.linalg.eigh(centred.T.astype(np.float64) @ centred)
    axes = axes[:, ::-1][:, :2]
    # An axis has no sign of its own; its largest part is made positive, so the map never flips.
    axes = axes * np.sign(axes[np.abs(axes).argmax(axis=0), np.arange(2)])
    total = float(values.sum()) or 1.0
    return axes.astype(np.float32), [float(value) / total for value in values[::-1][:2]]


def _start(text: str, chars: int) -> str:
    flat = " ".join(text[: 4 * chars].split())
    return flat if len(flat) <= chars else flat[: chars - 1] + "\u2026"

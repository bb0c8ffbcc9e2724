"""difference: the rows that two runs decided differently on, and what may have caused it.

In memory are the index of both ledgers and the texts of the few rows that are shown.

Source: Spearman 1904, https://doi.org/10.2307/1412159 (rank correlation)
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from lightadapt_data.config import Config
from lightadapt_data.errors import InputError
from lightadapt_data.reporting import causes, story
from lightadapt_data.reporting.ledger_index import Ledger, Places, lines_at, read
from lightadapt_data.shards import Workspace

STAGES = ("ingest", "embed", "select", "augment", "curate")
"""Stages that decide what becomes of a row."""
CURATED = "ledger-rows.parquet"
"""File of the ledger that only curate writes."""
TEXT_CHARS = 200
"""Characters of a row's text that `lines` shows."""
KINDS = {
    "dropped_to_kept": "dropped in A, kept in B",
    "kept_to_dropped": "kept in A, dropped in B",
    "only_in_b": "only in B",
    "only_in_a": "only in A",
    "reranked": "kept in both, rank changed",
}
LAST = np.iinfo(np.int64).max


def between(folder_a: Path, folder_b: Path, n_rows: int = 20) -> dict[str, Any]:
    """Return how the fates of rows differ between two runs, as JSON values.

    Args:
        folder_a: folder of the first run.
        folder_b: folder of the second run.
        n_rows: most example rows of each kind.

    Returns:
        a, b (folders), sentence, counts, spearman (of the ranks of rows kept in both, -1 to 1, None
        below two rows), causes, and rows: by the names of KINDS, each with id, origin, source,
        text, and under a and b stage, decision, reason, score and rank (None where it has no row).

    Raises:
        InputError: a folder holds no finished selection.
    """
    runs = open_run(folder_a), open_run(folder_b)
    a, b = (read(run.folder) for run in runs)
    at = _join(a, b)
    both = at["kept_in_both"]
    ranks_a, ranks_b = a.ranks[both[0]], b.ranks[both[1]]
    found = causes.causes(*runs)
    counts = _counts(a, b, at)
    return {
        "a": str(runs[0].folder),
        "b": str(runs[1].folder),
        "sentence": _sentence(counts, found, len(both[0])),
        "counts": counts,
        "spearman": spearman(ranks_a, ranks_b),
        "causes": [asdict(cause) for cause in found],
        "rows": {
            kind: _examples(runs, a, b, at[kind], n_rows, is_moved=kind == "reranked")
            for kind in KINDS
        },
    }


def open_run(folder: Path) -> Workspace:
    """Return a run as its manifests tell it, whatever version has written them.

    Raises:
        InputError: the folder holds no finished selection.
    """
    folder = folder.absolute()
    if not any((folder / "ledger").glob("*.parquet")):
        raise InputError(
            f"{folder}: holds no finished selection (ledger/*.parquet); name the folder of a run "
            "that select or curate has finished"
        )
    is_curated = (folder / "ledger" / CURATED).exists()
    bare = Workspace(folder, 0, {})
    manifests = {stage: bare.manifest(stage) for stage in STAGES[: 5 if is_curated else 3]}
    finished = {stage: manifest for stage, manifest in manifests.items() if manifest}
    seeds = [int(manifest["seed"]) for manifest in finished.values()]
    return Workspace(folder, seeds[-1] if seeds else 0, dict.fromkeys(finished, Config()))


Pair = tuple[Places, Places]
"""Indices into the first and the second ledger; -1 where it lacks the row."""


def _join(a: Ledger, b: Ledger) -> dict[str, Pair]:
    """Return the rows of each kind of difference, the most telling first."""
    at = np.searchsorted(a.keys, b.keys)
    is_common = np.zeros(len(b.keys), bool)
    inside = at < len(a.keys)
    is_common[inside] = a.keys[at[inside]] == b.keys[inside]
    in_a, in_b = at[is_common], np.flatnonzero(is_common)
    is_only_a = np.ones(len(a.keys), bool)
    is_only_a[in_a] = False
    only_a, only_b = np.flatnonzero(is_only_a), np.flatnonzero(~is_common)
    kept_a, kept_b = a.is_kept[in_a], b.is_kept[in_b]
    in_both = kept_a & kept_b
    moves = np.abs(a.ranks[in_a] - b.ranks[in_b])
    is_moved = in_both & (moves > 0) & (a.ranks[in_a] > 0) & (b.ranks[in_b] > 0)
    moved = np.flatnonzero(is_moved)
    moved = moved[np.lexsort((_order(b, in_b[moved]), -moves[moved]))]
    gained, lost = np.flatnonzero(~kept_a & kept_b), np.flatnonzero(kept_a & ~kept_b)
    gained = gained[np.argsort(_order(b, in_b[gained]), kind="stable")]
    lost = lost[np.argsort(_order(a, in_a[lost]), kind="stable")]
    only_a = only_a[np.lexsort((_order(a, only_a), ~a.is_kept[only_a]))]
    only_b = only_b[np.lexsort((_order(b, only_b), ~b.is_kept[only_b]))]
    return {
        "dropped_to_kept": (in_a[gained], in_b[gained]),
        "kept_to_dropped": (in_a[lost], in_b[lost]),
        "only_in_b": (np.full(len(only_b), -1), only_b),
        "only_in_a": (only_a, np.full(len(only_a), -1)),
        "reranked": (in_a[moved], in_b[moved]),
        "kept_in_both": (in_a[in_both], in_b[in_both]),
    }


def _order(ledger: Ledger, rows: Places) -> Places:
    """Return the ranks of rows, those without one last."""
    ranks = ledger.ranks[rows]
    return np.where(ranks > 0, ranks, LAST)


def _counts(a: Ledger, b: Ledger, at: Mapping[str, Pair]) -> dict[str, int]:
    both_a, both_b = at["kept_in_both"]
    has_rank = (a.ranks[both_a] > 0) & (b.ranks[both_b] > 0)
    places = [_ranked(ledger.ranks[rows[has_rank]]) for ledger, rows in ((a, both_a), (b, both_b))]
    kept_only_a = int(a.is_kept[at["only_in_a"][0]].sum())
    kept_only_b = int(b.is_kept[at["only_in_b"][1]].sum())
    return {
        "in": len(at["dropped_to_kept"][0]) + kept_only_b,
        "out": len(at["kept_to_dropped"][0]) + kept_only_a,
        **{kind: len(at[kind][0]) for kind in KINDS},
        "reordered": int((places[0] != places[1]).sum()),
        "kept_only_in_a": kept_only_a,
        "kept_only_in_b": kept_only_b,
        "kept_in_both": len(both_a),
        "rows_a": len(a.keys),
        "rows_b": len(b.keys),
    }


def _ranked(ranks: Places) -> Places:
    """Return the place of each among the others, from 0."""
    found = np.empty(len(ranks), np.int64)
    found[np.argsort(ranks, kind="stable")] = np.arange(len(ranks))
    return found


def spearman(ranks_a: Places, ranks_b: Places) -> float | None:
    """Return the rank correlation, -1 to 1, of the rows with a rank above 0 in both; None below 2.

    No two rows share a rank.
    """
    has_rank = (ranks_a > 0) & (ranks_b > 0)
    n = int(has_rank.sum())
    if n < 2:
        return None
    gaps = (_ranked(ranks_a[has_rank]) - _ranked(ranks_b[has_rank])).astype(np.float64)
    return float(1 - 6 * (gaps @ gaps) / (n * (float(n) ** 2 - 1)))


def _sentence(counts: Mapping[str, int], found: Sequence[causes.Cause], n_both: int) -> str:
    n_in, n_out, n_moved = counts["in"], counts["out"], counts["reranked"]
    if n_in or n_out or n_moved:
        said = f"{n_in:,} rows in, {n_out:,} out, {n_moved:,} re-ranked"
        return f"{said}; {causes.in_words(found)}"
    said = f"nothing differs: the same {n_both:,} rows are kept, in the same order"
    n_other = counts["only_in_a"] + counts["only_in_b"]
    if n_other:
        said += f"; {n_other:,} rows that are not kept stand in one run only"
    if found:
        said += f", although: {'; '.join(cause.text for cause in found)}"
    return said


def _examples(
    runs: tuple[Workspace, Workspace],
    a: Ledger,
    b: Ledger,
    pair: Pair,
    n_rows: int,
    *,
    is_moved: bool,
) -> list[dict[str, Any]]:
    """Return the first rows of a kind with what both runs say of them."""
    shown = [rows[:n_rows] for rows in pair]
    said = [lines_at(ledger, rows) for ledger, rows in zip((a, b), shown, strict=True)]
    found = []
    for one, other in zip(*said, strict=True):
        line = one or other or {}
        entry = {name: line[name] for name in ("id", "origin", "source")}
        entry |= {"text": None, "a": _brief(one), "b": _brief(other)}
        if is_moved and one and other:
            entry["move"] = one["rank"] - other["rank"]
        found.append(entry)
    for run, side in zip(reversed(runs), ("b", "a"), strict=True):
        lacking = [entry for entry in found if entry["text"] is None and entry[side] is not None]
        texts = _texts(run, [(entry["origin"], entry["id"]) for entry in lacking])
        for entry in lacking:
            entry["text"] = texts.get((entry["origin"], entry["id"]))
    return found


def _brief(line: Mapping[str, Any] | None) -> dict[str, Any] | None:
    if line is None:
        return None
    return {name: line[name] for name in ("stage", "decision", "reason", "score", "rank")}


def _texts(run: Workspace, names: Sequence[tuple[str, str]]) -> dict[tuple[str, str], str]:
    """Return texts by (origin, id), of the rows that the run's work folder still holds."""
    found = {}
    for origin, role in (("selected", "corpus"), ("seed", "task")):
        ids = [row_id for own, row_id in names if own == origin]
        held = story.find_rows(run, role, ids, ("id", "text"))
        found.update({(origin, row_id): row["text"] for row_id, row in held.items()})
    made = {row_id for own, row_id in names if own == "augmented"}
    if made:
        found.update({("augmented", row_id): text for row_id, text in _made(run, made)})
    return found


def _made(run: Workspace, ids: set[str]) -> Iterator[tuple[str, str]]:
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    is_wanted = pc.field("id").isin(sorted(ids))
    for done in story.augment_shards(run):
        for name in ("accepted", "rejected"):
            path = done.file(f"{name}.parquet")
            table = pq.read_table(path, columns=["id", "text"], filters=is_wanted)
            yield from zip(table["id"].to_pylist(), table["text"].to_pylist(), strict=True)


def lines(found: Mapping[str, Any]) -> Iterator[str]:
    """Yield what `between` found as lines of text; the first is the sentence."""
    counts = found["counts"]
    yield found["sentence"]
    yield f"A: {found['a']} ({counts['rows_a']:,} rows)"
    yield f"B: {found['b']} ({counts['rows_b']:,} rows)"
    yield f"kept in both: {counts['kept_in_both']:,}" + (
        ""
        if found["spearman"] is None
        else f"; {counts['reordered']:,} of them in another order; Spearman of the ranks "
        f"{found['spearman']:.3f}"
    )
    for cause in found["causes"]:
        yield f"differs: {cause['text']}"
    for kind, words in KINDS.items():
        if not counts[kind]:
            continue
        rows = found["rows"][kind]
        yield ""
        yield f"{words}: {counts[kind]:,}" + (f", {len(rows)} shown" if rows else "")
        for row in rows:
            yield f"  {row['id']}  {row['source'] or ''}  ({row['origin']})"
            if row["text"] is not None:
                yield f"    {_short(row['text'])}"
            for run in ("a", "b"):
                if row[run] is not None:
                    yield f"    {run.upper()}: {_said(row[run])}"


def _said(line: Mapping[str, Any]) -> str:
    score = "" if line["score"] is None else f", score {line['score']:.4f}"
    rank = "" if not line["rank"] else f", rank {line['rank']:,}"
    return f"{line['decision']} by {line['stage']}: {line['reason']}{score}{rank}"


def _short(text: str) -> str:
    flat = " ".join(text.split())
    return flat if len(flat) <= TEXT_CHARS else f"{flat[: TEXT_CHARS - 1]}…"

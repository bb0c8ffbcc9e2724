"""What influence says of groups of rows, and the files that curate and select can take from it."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lightadapt_data.rows import key_of
from lightadapt_data.shards import write_parquet, write_text

Row = Mapping[str, Any]
Floats = NDArray[np.float64]

FIELDS = ("origin", "method", "source", "decile", "label")
"""What rows are grouped by."""
SCORES = ("tracin", "cosine", "agreement")
MOST_GROUPS = 100
"""Groups of one field that the totals show, the largest ones; ids of users' rows may be sources."""


@dataclass(frozen=True)
class Scored:
    """Training rows with what influence says of them."""

    rows: Sequence[Row]
    columns: Mapping[str, Floats]
    """float64 [rows] by name: SCORES and `loss`."""
    rank: NDArray[np.int64]
    """int64 [rows]: 1 for the row that helps most."""


def ranked(rows: Sequence[Row], columns: Mapping[str, Floats]) -> Scored:
    """Return the rows with deciles and ranks; the best agreement is first, ties go by id."""
    deciles = _deciles([row.get("score") for row in rows])
    known = [{**row, "decile": decile} for row, decile in zip(rows, deciles, strict=True)]
    ids = np.array([key_of(f"{row['origin']}/{row['id']}") for row in rows], np.uint64)
    rank = np.empty(len(rows), np.int64)
    rank[np.lexsort((ids, -columns["agreement"]))] = np.arange(1, len(rows) + 1)
    return Scored(known, columns, rank)


def totals(scored: Scored, draws: int, seed: int) -> dict[str, list[dict[str, Any]]]:
    """Return by field what its groups say, the largest group first.

    A group has `value`, `rows`, and for each score `sum`, `mean`, and `low` and `high`: the 95 %
    interval of the mean over `draws` bootstrap samples; None for a single row.
    """
    found = {}
    for field in FIELDS:
        values = [row.get(field) for row in scored.rows]
        groups = []
        for value, count in Counter(values).most_common(MOST_GROUPS):
            at = np.array([place for place, own in enumerate(values) if own == value])
            entry: dict[str, Any] = {"value": value, "rows": count}
            draw = np.random.default_rng([seed, key_of(f"{field}/{value}")])
            for name in SCORES:
                entry[name] = _interval(scored.columns[name][at], draws, draw)
            groups.append(entry)
        if any(group["value"] not in (None, "") for group in groups):
            found[field] = groups
    return found


def drops(scored: Scored, below: float, most_share: float) -> list[dict[str, Any]]:
    """Return the rows that others pull against, the worst first, with a reason in words.

    Args:
        scored: the rows.
        below: rows whose agreement is lower are dropped.
        most_share: of the rows, at most [ratio].
    """
    agreement = scored.columns["agreement"]
    order = np.argsort(-scored.rank)[: int(most_share * len(scored.rows))]
    found = []
    for place in (int(place) for place in order if agreement[place] < below):
        row = scored.rows[place]
        reason = (
            f"influence: its gradient points against those of the labelled rows (agreement "
            f"{agreement[place]:+.3f}, below {below:g}; rank {scored.rank[place]} of "
            f"{len(scored.rows)})"
        )
        found.append({**_name(row), "reason": reason, "text": row["text"]})
    return found


def weights(scored: Scored, dropped: Sequence[Row]) -> list[dict[str, Any]]:
    """Return a weight for each row: 0 if dropped, else 0.5 for the last rank up to 1.5."""
    gone = {(drop["origin"], drop["id"]) for drop in dropped}
    steps = max(1, len(scored.rows) - 1)
    return [
        {
            **_name(row),
            "weight": 0.0
            if (row["origin"], row["id"]) in gone
            else round(1.5 - (int(rank) - 1) / steps, 4),
        }
        for row, rank in zip(scored.rows, scored.rank, strict=True)
    ]


def next_target(scored: Scored, n_rows: int) -> list[dict[str, Any]]:
    """Return the texts of the most helpful rows, the labels in turn, as a target for `select`."""
    by_label: dict[Any, list[int]] = {}
    for place in np.argsort(scored.rank).tolist():
        by_label.setdefault(scored.rows[place].get("label"), []).append(place)
    turns = [(turn, place) for places in by_label.values() for turn, place in enumerate(places)]
    turns.sort(key=lambda entry: (entry[0], scored.rank[entry[1]]))
    seen: dict[str, dict[str, Any]] = {}
    for _, place in turns:
        row = scored.rows[place]
        if len(seen) < n_rows:
            entry = {"text": row["text"], "id": row["id"], "rank": int(scored.rank[place])}
            seen.setdefault(row["text"], entry)
    return list(seen.values())


def lines(found: Mapping[str, Any], most: int = 8) -> list[str]:
    """Return what a terminal shows of the totals and of the checks.

    Args:
        found: as `influence.run_influence` returns it.
        most: groups shown of each field, the largest [groups].
    """
    adapters = ", ".join(found["adapters"])
    shown = [f"{found['n_rows']:,} training rows of {adapters}; {found['n_drops']:,} to drop"]
    for field, groups in found["totals"].items():
        shown.append(f"{field:<28}{'rows':>7}{'agreement (95 % interval)':>30}{'cosine':>9}")
        for group in groups[:most]:
            mean, low, high = (group["agreement"][name] for name in ("mean", "low", "high"))
            interval = "" if low is None else f" ({low:+.3f} to {high:+.3f})"
            name = "none" if group["value"] in (None, "") else str(group["value"])[:26]
            shown.append(
                f"  {name:<26}{group['rows']:>7,}{f'{mean:+.3f}{interval}':>30}"
                f"{group['cosine']['mean']:>+9.3f}"
            )
    check = found.get("check")
    if check:
        shown += _check_lines(check["planted"], check["leave_out"])
    else:
        shown.append("not checked by training again; ask for the check to see whether this holds")
    return shown


def _check_lines(planted: Mapping[str, Any], left_out: Mapping[str, Any]) -> list[str]:
    if "left_out" in planted:
        first = f"wrong labels were not planted: {planted['left_out']}"
    else:
        best = sorted(planted["auc"].items(), key=lambda item: -item[1]["mean"])
        areas = ", ".join(f"{name} {spread['mean']:.3f}" for name, spread in best)
        first = f"AUC of finding {planted['share']:.0%} planted wrong labels: {areas}"
    parts = []
    for name, change in left_out["differences"].items():
        sd = change["metric"]["sd"]
        spread = "" if sd is None else f" (sd {sd:.3f})"
        parts.append(f"the {name} {change['metric']['mean']:+.3f}{spread}")
    rows = "that the scores have not read" if left_out["are_unseen"] else "that made the scores too"
    metric = left_out["metric"].replace("_", " ")
    second = (
        f"{metric} without {left_out['n_left_out']:,} rows: {', '.join(parts)}, "
        f"on {left_out['n_measured']:,} validation rows {rows}"
    )
    return [first, second]


def write_rows(scored: Scored, path: Path) -> None:
    """Write `rows.parquet`: who the row is, its scores and its rank, the most helpful first."""
    import pyarrow as pa

    text = ("id", "origin", "parent_id", "method", "source", "label")
    order = np.argsort(scored.rank)
    columns: dict[str, Any] = {
        name: pa.array([_text(scored.rows[place].get(name)) for place in order], pa.string())
        for name in text
    }
    selection = [scored.rows[place].get("score") for place in order]
    columns["score"] = pa.array(selection, pa.float32())
    columns["decile"] = pa.array([scored.rows[place]["decile"] for place in order], pa.int8())
    for name, values in scored.columns.items():
        columns[name] = pa.array(values[order], pa.float64())
    columns["rank"] = pa.array(scored.rank[order], pa.int32())
    table = pa.table(columns)
    temporary = path.with_suffix(".tmp")
    write_parquet(temporary, [table], table.schema)
    temporary.replace(path)


def write_lines(entries: Sequence[Row], path: Path) -> None:
    """Write one JSON object per line."""
    lines = (json.dumps(dict(entry), ensure_ascii=False) + "\n" for entry in entries)
    write_text(path, "".join(lines))


def _interval(values: Floats, draws: int, draw: np.random.Generator) -> dict[str, float | None]:
    found: dict[str, float | None] = {
        "sum": float(values.sum()),
        "mean": float(values.mean()),
        "low": None,
        "high": None,
    }
    if len(values) > 1:
        n_rows = len(values)
        means = [values[draw.integers(0, n_rows, n_rows)].mean() for _ in range(draws)]
        found["low"], found["high"] = (float(end) for end in np.percentile(means, [2.5, 97.5]))
    return found


def _deciles(scores: Sequence[float | None]) -> list[int | None]:
    """Return 1 for the lowest tenth of the selection scores up to 10; None without a score."""
    known = [place for place, score in enumerate(scores) if score is not None]
    values = np.array([scores[place] for place in known], np.float64)
    found: list[int | None] = [None] * len(scores)
    # By value and not by place, so that equal scores have one decile.
    below = np.searchsorted(np.sort(values), values, side="left")
    for place, n_below in zip(known, below.tolist(), strict=True):
        found[place] = 1 + 10 * n_below // len(known)
    return found


def _name(row: Row) -> dict[str, Any]:
    return {"id": row["id"], "origin": row["origin"]}


def _text(value: Any) -> str | None:
    return None if value is None else str(value)

"""What a run found, section by section, as plain values and drawings for the report and the card.

Each function returns None (or an empty list) where the run has no such stage.
"""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

from lightadapt_data import augmentation_view, charts, describe, selection_view, story
from lightadapt_data.shards import Workspace

BINS = 60
"""Bars of the histogram of scores."""


def results(workspace: Workspace) -> dict[str, Any] | None:
    result = workspace.result("train") if workspace.has("train") else None
    if result is None:
        return None
    found: dict[str, Any] = json.loads(result.file("results.json").read_text("utf-8"))
    return found


def pay(workspace: Workspace) -> dict[str, Any] | None:
    results = results(workspace)
    if results is None:
        return None
    metric = results["metric"]
    values = {name: arm["test"][metric]["values"] for name, arm in results["arms"].items()}
    first = next(iter(results["arms"].values()))
    chart = charts.dots(
        values,
        f"{metric.replace('_', ' ')} on {results['n_test']:,} test rows (0 to 1)",
        ("always the most frequent label", results["majority_accuracy"])
        if metric == "accuracy"
        else None,
    )
    return {
        **results,
        "chart": chart,
        "metrics": [metric, *(name for name in first["test"] if name not in (metric, "loss"))],
    }


def curves(workspace: Workspace) -> str | None:
    results = results(workspace)
    if results is None:
        return None
    metric = results["metric"]
    series: dict[str, list[tuple[str, list[tuple[float, float]]]]] = {}
    for done in results["runs"]:
        curve = [(point["step"], point[metric]) for point in done["dev_curve"]]
        series.setdefault(done["arm"], []).append((f"seed {done['seed']}", curve))
    label = f"{metric.replace('_', ' ')}, validation rows"
    return charts.lines(series, "optimizer step", label)


def funnel(workspace: Workspace) -> list[dict[str, Any]]:
    """Return (what, rows, note) from the corpus to the shards."""
    ingested = workspace.result("ingest")
    totals: Counter[str] = Counter()
    if ingested is not None:
        totals.update(json.loads(ingested.file("counts.json").read_text("utf-8")))
    steps: list[tuple[str, int, str]] = []
    if totals["corpus.rows_in"]:
        steps.append(("corpus rows read", totals["corpus.rows_in"], ""))
        note = f"{totals['corpus.quarantined']:,} quarantined; {totals['corpus.tokens']:,} tokens"
        steps.append(("usable", totals["corpus.rows_out"], note))
    if workspace.has("select"):
        counts = describe.stage_counts(workspace, "select")
        steps.append(("selected", counts["rows_out"], f"{counts['tokens']:,} tokens"))
    if totals["task.rows_out"]:
        steps.append(("labelled rows given", totals["task.rows_out"], "all splits"))
    for entry in augmentation_view.acceptance(workspace):
        if entry["origin"] != "baseline":
            what = {"selected": "selected, labelled"}.get(entry["origin"], "made from given rows")
            note = f"{what}; {entry['rejected']:,} refused"
            steps.append((f"accepted of {entry['method']}", entry["accepted"], note))
    if workspace.has("curate"):
        counts = describe.stage_counts(workspace, "curate")
        steps.append(("before curation", counts["rows_in"], ""))
        steps.append(("in the data set", counts["rows_out"], f"{counts['dropped']:,} dropped"))
        steps += [
            (f"\u2013 {split}", counts[split], "")
            for split in ("train", "validation", "test")
            if counts[split]
        ]
    most = max((n for _, n, _ in steps), default=1)
    return [
        {"what": what, "rows": n, "note": note, "share": n / max(most, 1)}
        for what, n, note in steps
    ]


def scores(workspace: Workspace, selection: selection_view.Selection | None) -> str | None:
    if selection is None:
        return None
    method: Any = workspace.settings["select"]
    edges, kept, dropped = selection_view.score_counts(selection, BINS)
    label = f"score of {method.method}, higher is better (no unit)"
    return charts.histogram(edges, kept, dropped, selection.cut, label)


def chosen(
    workspace: Workspace, selection: selection_view.Selection | None, most: int
) -> dict[str, Any] | None:
    if selection is None:
        return None
    n_kept, n_rows = selection.n_kept, len(selection.rank)
    ranks = selection_view.spread(1, n_kept, most)
    missed = list(range(n_kept + 1, min(n_kept + most // 2 + 1, n_rows) + 1))
    return {
        "rows": selection_view.ranked_rows(workspace, selection, ranks),
        "missed": selection_view.ranked_rows(workspace, selection, missed),
        "n_kept": n_kept,
        "n_rows": n_rows,
        "cut": selection.cut,
    }


def drops(workspace: Workspace, most: int) -> dict[str, Any] | None:
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    result = workspace.result("curate") if workspace.has("curate") else None
    if result is None or not result.counts["dropped"]:
        return None
    shown = json.loads(result.file("drops.json").read_text("utf-8"))[:most]
    texts = story.texts_of(workspace, {drop["of"] for drop in shown if drop["of"]})
    for drop in shown:
        other = texts.get(drop["of"] or "")
        pair = None if other is None else augmentation_view.differing(other, drop["text"])
        drop["kept"], drop["dropped"] = pair or (None, [(drop["text"], False)])
    is_drop = (pc.field("stage") == "curate") & (pc.field("decision") == "dropped")
    reasons: Counter[str] = Counter()
    for path in sorted(result.folder.glob("ledger-*.parquet")):
        found = pq.read_table(path, columns=["reason"], filters=is_drop)["reason"].to_pylist()
        reasons.update(reason.split(":")[0] for reason in found)
    return {"rows": shown, "n": result.counts["dropped"], "reasons": reasons.most_common(10)}


def augmented(workspace: Workspace, most: int) -> dict[str, Any] | None:
    acceptance = augmentation_view.acceptance(workspace)
    if not acceptance:
        return None
    return {"acceptance": acceptance, "rows": augmentation_view.examples(workspace, 2 * most)}


def quarantine(workspace: Workspace, most: int) -> dict[str, Any] | None:
    import pyarrow.parquet as pq

    rows: list[dict[str, Any]] = []
    reasons: Counter[str] = Counter()
    for done in workspace.shards("ingest"):
        if "quarantine.parquet" in done.files:
            table = pq.read_table(done.file("quarantine.parquet"))
            reasons.update(table["reason"].to_pylist())
            rows += table.slice(0, most - len(rows)).to_pylist()
    n_rows = sum(reasons.values())
    return {"rows": rows, "n": n_rows, "reasons": reasons.most_common(10)} if n_rows else None


def stages(workspace: Workspace) -> list[dict[str, Any]]:
    found = []
    for stage in describe.finished(workspace, "report"):
        counts = describe.stage_counts(workspace, stage)
        found.append(
            {
                "stage": stage,
                "rows_in": counts["rows_in"],
                "rows_out": counts["rows_out"],
                "settings": describe.stage_settings(workspace, stage),
            }
        )
    return found

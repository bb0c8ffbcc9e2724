"""What a run found, section by section, as plain values and drawings for the report and the card.

Each function returns None (or an empty list) where the run has no such stage.
"""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

from lightadapt_data.reporting import augmentation_view, charts, describe, selection_view, story
from lightadapt_data.reporting.selection_view import Selection
from lightadapt_data.rows import SPLITS
from lightadapt_data.shards import Workspace

BINS = 60
"""Bars of the histogram of scores."""
COMPARISON = "compare/results.json"
"""Where `compare` leaves its results, in the run's folder."""


def headline(workspace: Workspace) -> list[str]:
    """Return what the run came to in plain sentences; empty when it only read rows."""
    trained = results(workspace)
    if trained is not None:
        return [str(trained["headline"])]
    said = []
    selected = workspace.result("select") if workspace.has("select") else None
    if selected is not None:
        chosen = json.loads(selected.file("summary.json").read_text("utf-8"))
        kept, n_rows, cut = chosen["kept"], chosen["corpus"], chosen["cut"]
        said.append(f"Kept {kept:,} of {n_rows:,} rows; cut at score {cut:.2f}.")
    if workspace.has("augment"):
        counts = describe.stage_counts(workspace, "augment")
        n_new, n_refused = counts["rows_out"], counts["rejected"]
        said.append(f"Augmentation: {n_new:,} rows accepted, {n_refused:,} refused.")
    if workspace.has("curate"):
        counts = describe.stage_counts(workspace, "curate")
        splits = ", ".join(f"{counts[name]:,} {name}" for name in SPLITS if counts[name])
        said.append(f"The curated set has {splits} rows; {counts['dropped']:,} were dropped.")
    return said


def results(workspace: Workspace) -> dict[str, Any] | None:
    """Return what train wrote in its results.json."""
    result = workspace.result("train") if workspace.has("train") else None
    if result is None:
        return None
    found: dict[str, Any] = json.loads(result.file("results.json").read_text("utf-8"))
    return found


def pay(workspace: Workspace) -> dict[str, Any] | None:
    """Return the results with `metrics` (names, the main one first) and `chart` (SVG)."""
    trained = results(workspace)
    if trained is None:
        return None
    metric = trained["metric"]
    values = {
        name.replace("_", " "): arm["test"][metric]["values"]
        for name, arm in trained["arms"].items()
    }
    names = next(iter(trained["arms"].values()))["test"]
    scale = trained.get("scale", "0 to 1")  # runs of earlier versions do not say
    label = f"{metric.replace('_', ' ')} on {trained['n_test']:,} test rows ({scale})"
    majority = trained["majority_accuracy"]
    always = None if majority is None else ("always the most frequent label", majority)
    return {
        **trained,
        "chart": charts.dots(values, label, always if metric == "accuracy" else None),
        "metrics": [metric, *(name for name in names if name not in (metric, "loss"))],
    }


def comparison(workspace: Workspace) -> dict[str, Any] | None:
    """Return what `compare` found in this folder, with `is_stale`: the corpus or target changed."""
    path = workspace.folder / COMPARISON
    if not path.exists():
        return None
    found: dict[str, Any] = json.loads(path.read_text("utf-8"))
    return {**found, "is_stale": found["of"] != compared_with(workspace)["of"]}


def compared_with(workspace: Workspace) -> dict[str, Any]:
    """Return, as `of`, what names the corpus, the target and the vectors of a comparison."""
    return {"of": {stage: workspace.digest(stage) for stage in ("ingest", "embed")}}


def curves(workspace: Workspace) -> str | None:
    """Return the SVG of the main metric on validation rows over steps, a line per arm and seed."""
    trained = results(workspace)
    if trained is None:
        return None
    metric = trained["metric"]
    series: dict[str, list[tuple[str, list[tuple[float, float]]]]] = {}
    for arm in trained["arms"]:
        series[arm] = [
            (f"seed {one['seed']}", [(point["step"], point[metric]) for point in one["dev_curve"]])
            for one in trained["runs"]
            if one["arm"] == arm
        ]
    label = f"{metric.replace('_', ' ')}, validation"
    return charts.lines(series, "optimizer step", label)


def funnel(workspace: Workspace) -> list[dict[str, Any]]:
    """Return the way from the corpus to the data set: what, rows, note, share of the most rows."""
    ingested = workspace.result("ingest")
    totals: Counter[str] = Counter()
    if ingested is not None:
        totals.update(json.loads(ingested.file("counts.json").read_text("utf-8")))
    steps: list[tuple[str, int, str]] = []
    if totals["corpus.rows_in"]:
        note = f"{totals['corpus.quarantined']:,} quarantined; {totals['corpus.tokens']:,} tokens"
        steps.append(("corpus rows read", totals["corpus.rows_in"], ""))
        steps.append(("usable", totals["corpus.rows_out"], note))
    n_cut = describe.stage_counts(workspace, "embed")["cut"] if workspace.has("embed") else 0
    if n_cut:
        note = "only their beginning was embedded; embed.sentence_transformer.chunk takes all"
        steps.append(("longer than the encoder reads", n_cut, note))
    if workspace.has("select"):
        counts = describe.stage_counts(workspace, "select")
        steps.append(("selected", counts["rows_out"], f"{counts['tokens']:,} tokens"))
    if totals["task.rows_out"]:
        steps.append(("labelled rows given", totals["task.rows_out"], "all splits"))
    for entry in augmentation_view.acceptance(workspace):
        if entry["origin"] != "baseline":
            what = "selected rows that got a label" if entry["origin"] == "selected" else "new rows"
            note = f"{what}; {entry['rejected']:,} refused"
            steps.append((f"accepted of {entry['method']}", entry["accepted"], note))
    if workspace.has("curate"):
        counts = describe.stage_counts(workspace, "curate")
        steps.append(("before curation", counts["rows_in"], ""))
        steps.append(("in the data set", counts["rows_out"], f"{counts['dropped']:,} dropped"))
        steps += [(f"of them {name}", counts[name], "") for name in SPLITS if counts[name]]
    most = max((n for _, n, _ in steps), default=0) or 1
    return [{"what": what, "rows": n, "note": note, "share": n / most} for what, n, note in steps]


def scores(workspace: Workspace, selection: Selection | None) -> str | None:
    """Return the SVG of the histogram of scores."""
    if selection is None:
        return None
    settings: Any = workspace.settings["select"]
    edges, kept, dropped = selection_view.score_counts(selection, BINS)
    label = f"score of {settings.method}, higher is better (no unit)"
    return charts.histogram(edges, kept, dropped, selection.cut, label)


def chosen(workspace: Workspace, selection: Selection | None, most: int) -> dict[str, Any] | None:
    """Return rows of the selection, evenly spaced by rank, and the first ones below the cut."""
    if selection is None:
        return None
    n_kept, n_rows = selection.n_kept, len(selection.rank)
    ranks = selection_view.spread(1, n_kept, most)
    below = range(n_kept + 1, min(n_kept + max(1, most // 2), n_rows) + 1)
    return {
        "rows": selection_view.ranked_rows(workspace, selection, ranks),
        "missed": selection_view.ranked_rows(workspace, selection, below),
        "facts": selection_view.sentences(workspace),
        "n_kept": n_kept,
        "cut": selection.cut,
    }


def drops(workspace: Workspace, most: int) -> dict[str, Any] | None:
    """Return what curate dropped: `n`, `reasons` with their rows, and example `rows`.

    A row has id, why, of (the id of the row kept instead), and `dropped` and `kept`: the pieces
    of both texts.
    """
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
    summary = json.loads(result.file("summary.json").read_text("utf-8"))
    return {
        "rows": shown,
        "n": result.counts["dropped"],
        "reasons": reasons.most_common(10),
        "alarms": summary["alarms"],
    }


def augmented(workspace: Workspace, most: int) -> dict[str, Any] | None:
    """Return the `acceptance` of every method and example `rows` with their verdicts."""
    acceptance = augmentation_view.acceptance(workspace)
    if not acceptance:
        return None
    return {"acceptance": acceptance, "rows": augmentation_view.examples(workspace, most)}


def quarantine(workspace: Workspace, most: int) -> dict[str, Any] | None:
    """Return the rows that ingest could not read: `n`, the top `reasons`, and example `rows`."""
    import pyarrow.parquet as pq

    shown: list[dict[str, Any]] = []
    reasons: Counter[str] = Counter()
    for done in workspace.shards("ingest"):
        if "quarantine.parquet" in done.files:
            table = pq.read_table(done.file("quarantine.parquet"))
            reasons.update(table["reason"].to_pylist())
            shown += table.slice(0, most - len(shown)).to_pylist()
    n_rows = sum(reasons.values())
    return {"rows": shown, "n": n_rows, "reasons": reasons.most_common(10)} if n_rows else None


def stages(workspace: Workspace) -> list[dict[str, Any]]:
    """Return rows in and out and the settings of every stage that came before the report."""
    found = []
    for stage in describe.finished(workspace, "report"):
        counts = describe.stage_counts(workspace, stage)
        settings = describe.stage_settings(workspace, stage)
        rows_in, rows_out = counts["rows_in"], counts["rows_out"]
        found.append(
            {"stage": stage, "rows_in": rows_in, "rows_out": rows_out, "settings": settings}
        )
    return found

"""report: one HTML file, readable offline, that shows what the run did, why, and if it paid.

Text of rows is never trusted: the templates escape everything, and the page's own policy lets no
script run but the one that is shipped, and nothing be fetched.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import Field

from lightadapt_data import augmentation_view, charts, describe, selection_view, story
from lightadapt_data.config import Config
from lightadapt_data.shards import Counts, Workspace, write_text

if TYPE_CHECKING:
    import jinja2
    from markupsafe import Markup

VERSION = 1
READS = ("ingest",)
MAY_READ = ("embed", "index", "select", "augment", "curate", "train")
COST_MARK = "<!-- cost -->"
"""Where `deliver` puts the cost: times differ from run to run, the rest of the page does not.
No row can hold this text, as `<` is escaped."""
BINS = 60
MAP_CHARS = 120
"""Characters of a row that the map shows."""
ARMS = {
    "seed": "the labelled rows given, nothing else",
    "adapted": "all curated rows",
    "balanced_random": "the labelled rows and random corpus rows, as many tokens as adapted added",
}


class Settings(Config):
    """Settings of the report stage."""

    map_points: int = Field(default=4000, ge=0, le=20_000)
    """Corpus rows drawn on the map, about; 0 for no map [rows]."""
    samples: int = Field(default=20, ge=1, le=200)
    """Rows shown in each section [rows]."""
    text_chars: int = Field(default=600, ge=20, le=5000)
    """Characters shown of a row's text; the rest of a longer one is cut off."""


def run(settings: Settings, workspace: Workspace, out: Path) -> Counts:
    """Write `report.html`; its size is bounded by the settings, whatever the size of the corpus."""
    selection = selection_view.read(workspace)
    most = settings.samples
    sections = {
        "pay": _pay(workspace),
        "funnel": _funnel(workspace),
        "map": _map(settings, workspace, selection),
        "scores": _scores(workspace, selection),
        "chosen": _chosen(workspace, selection, most),
        "drops": _drops(workspace, most),
        "augmented": _augmented(workspace, most),
        "curves": _curves(workspace),
        "quarantine": _quarantine(workspace, most),
    }
    page = _environment(settings.text_chars).get_template("report.html.jinja")
    script = Path(__file__).with_name("report.js.jinja").read_text("utf-8")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    html = page.render(
        **sections,
        headline=headline(workspace),
        inputs=describe.inputs(workspace),
        stages=_stages(workspace),
        seed=workspace.seed,
        versions=describe.versions(),
        arms=ARMS,
        style=_markup(Path(__file__).with_name("report.css.jinja").read_text("utf-8")),
        script=_markup(script),
        script_digest=digest,
        cost_mark=_markup(COST_MARK),
    )
    (out / "report.html").write_text(html, "utf-8")
    n_rows = sum(describe.stage_counts(workspace, "ingest")[role] for role in ("corpus", "task"))
    return {"rows_in": n_rows, "rows_out": n_rows}


def deliver(workspace: Workspace) -> None:
    """Put the report, with the cost of the run, at the top of the run's folder."""
    result = workspace.result("report")
    if result is None:
        return
    cost = _environment(0).get_template("report_cost.html.jinja").render(costs=costs(workspace))
    html = result.file("report.html").read_text("utf-8").replace(COST_MARK, cost, 1)
    write_text(workspace.folder / "report.html", html)


def headline(workspace: Workspace) -> list[str]:
    """Return what the run came to in plain sentences; empty when it only read rows."""
    trained = workspace.result("train") if workspace.has("train") else None
    if trained is not None:
        return [str(json.loads(trained.file("results.json").read_text("utf-8"))["headline"])]
    said = []
    selected = workspace.result("select") if workspace.has("select") else None
    if selected is not None:
        chosen = json.loads(selected.file("summary.json").read_text("utf-8"))
        said.append(
            f"Kept {chosen['kept']:,} of {chosen['corpus']:,} rows; "
            f"cut at score {chosen['cut']:.2f}."
        )
    if workspace.has("augment"):
        counts = describe.stage_counts(workspace, "augment")
        said.append(
            f"Augmentation: {counts['rows_out']:,} rows accepted, {counts['rejected']:,} refused."
        )
    if workspace.has("curate"):
        counts = describe.stage_counts(workspace, "curate")
        splits = ", ".join(
            f"{counts[name]:,} {name}" for name in ("train", "validation", "test") if counts[name]
        )
        said.append(f"The curated set has {splits} rows; {counts['dropped']:,} were dropped.")
    return said


def explain(workspace: Workspace, row_id: str) -> dict[str, Any]:
    """Return the whole story of one row; see `story.explain`.

    Raises:
        InputError: the run has no ledger yet, or the ledger no such row.
    """
    return story.explain(workspace, row_id)


def costs(workspace: Workspace) -> list[dict[str, Any]]:
    """Return seconds and shards worked off per stage, over all runs of this folder."""
    path = workspace.folder / "work" / "events.jsonl"
    spent: dict[str, list[float]] = {}
    for line in path.read_text("utf-8").splitlines() if path.exists() else []:
        event = json.loads(line)
        spent.setdefault(event["stage"], []).append(event["seconds"])
    total = sum(sum(seconds) for seconds in spent.values())
    return [
        {
            "stage": stage,
            "seconds": sum(seconds),
            "shards": len(seconds),
            "share": sum(seconds) / (total or 1.0),
        }
        for stage, seconds in spent.items()
    ]


def script_json(value: Any) -> Markup:
    """Return a value as JSON that can stand in a script element: no text in it can end it."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    for sign in "<>&\u2028\u2029":
        text = text.replace(sign, f"\\u{ord(sign):04x}")
    return _markup(text)


def _markup(text: str) -> Markup:
    from markupsafe import Markup

    return Markup(text)  # noqa: S704  # own files and own drawings only


def _environment(chars: int) -> jinja2.Environment:
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["script_json"] = script_json
    environment.filters["short"] = lambda text: (
        text if len(text) <= chars else text[: chars - 1] + "\u2026"
    )
    environment.filters["n"] = lambda number: f"{number:,}"
    environment.filters["share"] = lambda number: f"{100 * number:.1f} %"
    environment.filters["setting"] = lambda value: json.dumps(value, ensure_ascii=False)
    return environment

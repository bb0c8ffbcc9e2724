"""report: one HTML file, readable offline, that shows what the run did, why, and if it paid.

Text of rows is never trusted: the templates escape everything, and the page's own policy lets no
script run but the one that is shipped, and nothing be fetched.
"""

from __future__ import annotations

import base64
import hashlib
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import Field

from lightadapt_data.config import Config
from lightadapt_data.reporting import describe, findings, selection_view, story
from lightadapt_data.reporting.adapter_costs import adapter_costs
from lightadapt_data.shards import Counts, Workspace, write_text

if TYPE_CHECKING:
    import jinja2
    from markupsafe import Markup

VERSION = 3
READS = ("ingest",)
MAY_READ = ("embed", "index", "select", "augment", "curate", "train")
COST_MARK = "<!-- cost -->"
"""Where `deliver` puts the cost: times differ from run to run, the rest of the page does not.
No row can hold this text, as `<` is escaped."""
COMPARISON_MARK = "<!-- comparison -->"
"""The same for what `compare` found: it comes after the report, or never."""
MAP_CHARS = 120
"""Characters of a row that the map shows."""
ARMS = {
    "seed": "the labelled rows given, nothing else",
    "adapted": "all curated rows",
    "balanced_random": "the labelled rows and random corpus rows, as many tokens as adapted added",
}
FOLDER = Path(describe.__file__).parent


class Settings(Config):
    """Settings of the report stage."""

    map_points: int = Field(default=4000, ge=0, le=20_000)
    """Corpus rows drawn on the map, about; 0 for no map [rows]."""
    samples: int = Field(default=20, ge=1, le=200)
    """Rows shown in each section [rows]."""
    text_chars: int = Field(default=400, ge=20, le=5000)
    """Characters shown of a row's text; the rest of a longer one is cut off."""


def run(settings: Settings, workspace: Workspace, out: Path) -> Counts:
    """Write `report.html`; its size is bounded by the settings, whatever the size of the corpus."""
    selection = selection_view.read(workspace)
    has_map = workspace.has("embed") and settings.map_points
    script = (FOLDER / "report.js.jinja").read_text("utf-8")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    html = (
        environment(settings.text_chars)
        .get_template("report.html.jinja")
        .render(
            headline=headline(workspace),
            inputs=describe.inputs(workspace),
            pay=findings.pay(workspace),
            arms=ARMS,
            funnel=findings.funnel(workspace),
            map=selection_view.map_points(workspace, selection, settings.map_points, MAP_CHARS)
            if has_map
            else None,
            scores=findings.scores(workspace, selection),
            chosen=findings.chosen(workspace, selection, settings.samples),
            drops=findings.drops(workspace, settings.samples),
            augmented=findings.augmented(workspace, 2 * settings.samples),
            curves=findings.curves(workspace),
            quarantine=findings.quarantine(workspace, settings.samples),
            stages=findings.stages(workspace),
            seed=workspace.seed,
            versions=describe.versions(),
            style=(FOLDER / "report.css.jinja").read_text("utf-8"),
            script=script,
            script_digest=digest,
            cost_mark=COST_MARK,
            comparison_mark=COMPARISON_MARK,
        )
    )
    (out / "report.html").write_text(html, "utf-8")
    counts = describe.stage_counts(workspace, "ingest")
    return {"rows_in": counts["rows_out"], "rows_out": counts["rows_out"]}


def deliver(workspace: Workspace) -> None:
    """Put the report, with comparison and cost, at the top of the run's folder."""
    result = workspace.result("report")
    if result is not None:
        html = result.file("report.html").read_text("utf-8")
        found = findings.comparison(workspace)
        for mark, name, values in (
            (COMPARISON_MARK, "report_compare.html.jinja", {"compared": found}),
            (
                COST_MARK,
                "report_cost.html.jinja",
                {"costs": costs(workspace), "adapters": adapter_costs(workspace)},
            ),
        ):
            html = html.replace(mark, environment(0).get_template(name).render(values), 1)
        write_text(workspace.folder / "report.html", html)


def headline(workspace: Workspace) -> list[str]:
    """Return what the run came to in plain sentences; empty when it only read rows."""
    return findings.headline(workspace)


def explain(workspace: Workspace, row_id: str) -> dict[str, Any]:
    """Return the whole story of one row; see `story.explain`.

    Raises:
        InputError: the run has no ledger yet, or the ledger no such row.
    """
    return story.explain(workspace, row_id)


def costs(workspace: Workspace) -> list[dict[str, Any]]:
    """Return stage, seconds, shards worked off and share of all seconds, over all runs."""
    path = workspace.folder / "work" / "events.jsonl"
    spent: dict[str, list[float]] = {}
    for line in path.read_text("utf-8").splitlines() if path.exists() else []:
        event = json.loads(line)
        spent.setdefault(event["stage"], []).append(event["seconds"])
    total = sum(sum(seconds) for seconds in spent.values()) or 1.0
    return [
        {"stage": stage, "seconds": sum(found), "shards": len(found), "share": sum(found) / total}
        for stage, found in spent.items()
    ]


def environment(chars: int) -> jinja2.Environment:
    """Return the templates' environment: everything is escaped, a missing value is an error.

    Args:
        chars: characters that the filter `short` leaves of a text.
    """
    import jinja2

    made = jinja2.Environment(
        loader=jinja2.FileSystemLoader(FOLDER),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters["own"] = _own
    made.filters["script_json"] = script_json
    made.filters["short"] = lambda text: text if len(text) <= chars else f"{text[: chars - 1]}…"
    made.filters["n"] = lambda number: f"{number:,}"
    made.filters["share"] = lambda number: f"{100 * number:.1f} %"
    made.filters["setting"] = lambda value: json.dumps(value, ensure_ascii=False)
    return made


def script_json(value: Any) -> Markup:
    """Return a value as JSON that can stand in a script element: no text in it can end it."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    for sign in "<>&\u2028\u2029":
        text = text.replace(sign, f"\\u{ord(sign):04x}")
    return _own(text)


def _own(text: str) -> Markup:
    """Mark text as safe: only for what this package wrote or escaped itself."""
    from markupsafe import Markup

    return Markup(text)  # noqa: S704

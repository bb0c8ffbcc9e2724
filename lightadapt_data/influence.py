"""influence: which training rows helped a run's adapter, and which worked against it.

Reads the states that training kept (`train.keep_states = true`) and writes `influence/` in the
run's folder:

- rows.parquet: every training row with `tracin`, `cosine`, `agreement` (see row_influence), `loss`
  and `rank`, the most helpful first. The rank goes by agreement: see benchmarks/influence.py;
- totals.json: sums and means by origin, method, source, decile of the selection score and label;
- drops.jsonl, weights.jsonl: rows to leave out, with the reason, and a weight for every row;
- next_target.jsonl: texts of the most helpful rows, as a target for the next selection.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic import Field

from lightadapt_data import adapter_jobs, influence_check, methods, recipe, run, shards
from lightadapt_data import influence_totals as results
from lightadapt_data.arms import ArmRows, Curated, read_curated, rows_of_arms
from lightadapt_data.errors import InputError
from lightadapt_data.influence_scores import GradientSettings, Training, of_training
from lightadapt_data.shards import Done, Workspace
from lightadapt_data.stages import train

logger = logging.getLogger(__name__)

HOME = "influence"


class Settings(GradientSettings):
    """Settings of influence."""

    adapters: Literal["best", "all"] = "best"
    """Explain the adapter that was delivered, or the mean over all seeds of its arm, which is
    steadier and takes as many times longer."""
    drop_below: float = Field(default=0.0, ge=-1, le=1)
    """Rows with a lower agreement go into the list of drops [cosine]."""
    most_drops: float = Field(default=0.2, ge=0, le=1)
    """Longest list of drops [share of the rows]."""
    target_rows: int = Field(default=64, ge=1)
    """Rows of the next target [rows]."""
    draws: int = Field(default=500, ge=10)
    """Bootstrap samples behind an interval [samples]."""
    check: bool = False
    """Show beside the scores whether they hold: train again without the worst, the best and random
    rows, and with wrong labels that are then looked for. Takes about five times `check_seeds`
    trainings."""
    check_seeds: int = Field(default=3, ge=1)
    """Seeds of each check [trainings]."""


@dataclass(frozen=True)
class Explained:
    """The training that is explained."""

    settings: train.Settings
    curated: Curated
    content: ArmRows
    done: Sequence[Done]
    """The adapters that are explained, all of one arm."""


def run_influence(folder: Path, settings: Settings | None = None) -> dict[str, Any]:
    """Score the training rows of the run in `folder`, write `influence/`, and return the totals.

    Args:
        folder: of a run that trained with `keep_states`.
        settings: None for the defaults.

    Returns:
        What totals.json holds: `adapters`, `arm`, `n_rows`, `n_drops`, `seconds`, `totals` by field
        (see influence_totals.totals), and `check` (see influence_check), None if not asked for.

    Raises:
        InputError: the folder holds no run, no training, or one without kept states; or rows,
            settings or base model have changed since.
    """
    settings = settings or Settings()
    what = read_run(folder, settings)
    started = time.monotonic()
    parts = []
    for done in what.done:
        parts.append(of_training(_training(what, done), settings))
        logger.info("influence: %s done, %.0f s", done.name, time.monotonic() - started)
    columns = {name: np.mean([part[name] for part in parts], axis=0) for name in parts[0]}
    scored = results.ranked(what.content.rows, columns)
    dropped = results.drops(scored, settings.drop_below, settings.most_drops)
    found: dict[str, Any] = {
        "adapters": [done.name for done in what.done],
        "arm": what.done[0].args["arm"],
        "n_rows": len(scored.rows),
        "n_drops": len(dropped),
        "seconds": round(time.monotonic() - started, 1),
        "totals": results.totals(scored, settings.draws, settings.seed),
        "check": None,
    }
    out = folder / HOME
    out.mkdir(exist_ok=True)
    results.write_rows(scored, out / "rows.parquet")
    results.write_lines(dropped, out / "drops.jsonl")
    results.write_lines(results.weights(scored, dropped), out / "weights.jsonl")
    best = results.next_target(scored, settings.target_rows)
    results.write_lines(best, out / "next_target.jsonl")
    if settings.check:
        found["check"] = _checks(what, scored, settings)
    text = json.dumps(found, indent=1, ensure_ascii=False)
    shards.write_text(out / "totals.json", text)
    return found


def _training(what: Explained, done: Done) -> Training:
    """Return one adapter's training, as it was."""
    return Training(
        what.settings,
        adapter_jobs.job(what.settings, what.curated, what.content, done.args["seed"]),
        what.content.rows,
        what.curated.validation,
        what.curated.labels,
        done.folder,
        json.loads(done.file("metrics.json").read_text("utf-8"))["best_step"],
    )


def read_run(folder: Path, settings: Settings) -> Explained:
    """Return the training of a run that is to be explained.

    Raises:
        InputError: see run_influence.
    """
    path = folder / "work" / "recipe.json"
    if not path.exists():
        raise InputError(f"{folder}: holds no run; name the folder of one that trained")
    workspace = recipe.load(path).workspace(folder)
    result = workspace.result("train") if workspace.has("train") else None
    if result is None:
        raise InputError(
            f"{folder}: nothing is trained there yet; run train with keep_states = true first"
        )
    if not _is_current(workspace):
        raise InputError(
            f"{folder}: its rows or settings have changed since train ran, so the kept states are "
            "of other rows; run train again"
        )
    own: Any = workspace.settings["train"]
    curated = read_curated(workspace, methods.load("tasks", own.task))
    own = train.decided(own, curated)
    name = json.loads(result.file("results.json").read_text("utf-8"))["adapter"]
    trained = workspace.shards("train")
    best = next(done for done in trained if done.name == name)
    arm = best.args["arm"]
    alike = [done for done in trained if done.args["arm"] == arm]
    content = rows_of_arms(curated, (arm,))[arm]
    chosen = alike if settings.adapters == "all" else [best]
    return Explained(own, curated, content, chosen)


def _is_current(workspace: Workspace) -> bool:
    manifest = workspace.manifest("train") or {}
    return bool(manifest.get("inputs") == run.inputs_key(workspace, "train"))


def _checks(what: Explained, scored: results.Scored, settings: Settings) -> dict[str, Any]:
    """Return what both checks found; the first one only where rows have one of several labels."""
    seeds = range(settings.seed, settings.seed + settings.check_seeds)
    checked = influence_check.Checked(what.settings, what.curated, what.content, settings)
    return {
        "planted": influence_check.check_planted(checked, seeds),
        "leave_out": influence_check.check_leave_out(checked, scored, seeds),
    }

"""The flow `adapt`: all stages of a recipe, one Prefect task per stage.

The same as `lightadapt_data.run.run_stages`, on the same folders: what one has done, the other
does not do again. Our keys decide what is left to do, so Prefect's cache is off, and a stage with
nothing to do ends in a state named "Cached". Tasks pass paths and short JSON only. Nothing is
retried: a stage that fails would fail again, and finished shards stay for the next run.
"""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import UUID

from prefect import flow, task
from prefect.artifacts import (
    create_progress_artifact,
    create_table_artifact,
    update_progress_artifact,
)
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State
from prefect.states import Completed

from lightadapt_data import recipe as recipes
from lightadapt_data import run
from lightadapt_data.run import OnShard, StageReport


@flow(name="adapt", flow_run_name="adapt-{recipe}")
def adapt(recipe: str, run_dir: str, workers: int = 1) -> str:
    """Run all stages of a recipe in a folder and return the folder.

    Args:
        recipe: path of the recipe, from the working folder.
        run_dir: folder of the run; one that holds finished shards is continued.
        workers: processes that work shards off.

    Raises:
        LightadaptError: as the library raises it; its message is the failure message of the run.
    """
    _let_library_log()
    folder = Path(run_dir)
    what = recipes.load(Path(recipe))
    with run.begin(what, folder), _stage_table(what.name, folder) as add:
        for stage in what.settings:
            named = do_stage.with_options(task_run_name=stage)
            state = named(stage, recipe, run_dir, str(workers), return_state=True)
            add(str(state.result()))
    return run_dir


@task(name="stage", cache_policy=NO_CACHE, persist_result=False)
def do_stage(stage: str, recipe: str, run_dir: str, workers: str) -> str | State[str]:
    """Run one stage, in a folder that the flow holds, and return its row of the table as JSON."""
    workspace = recipes.load(Path(recipe)).workspace(Path(run_dir))
    report = run.run_stage(workspace, stage, int(workers), _progress(stage))
    row = json.dumps(table_row(report))
    if not report.is_hit:
        return row
    message = f"nothing to do: {report.n_reused} of {report.n_shards} shards are there"
    return Completed(name="Cached", message=message, data=row)


def table_row(report: StageReport) -> dict[str, str | int | float]:
    """Return what the table shows of one stage."""
    return {
        "stage": report.stage,
        "shards reused": report.n_reused,
        "shards done": report.n_shards - report.n_reused,
        "rows in": report.rows_in,
        "rows out": report.rows_out,
        "seconds": round(report.seconds, 2),
    }


@contextmanager
def _stage_table(name: str, folder: Path) -> Iterator[Callable[[str], None]]:
    """Yield a function that takes rows; in the end they are an artifact, after a failure too."""
    rows: list[Mapping[str, Any]] = []
    try:
        yield lambda row: rows.append(json.loads(row))
    finally:
        if rows:
            # Prefect allows only these characters in a key.
            key = re.sub(r"[^a-z0-9]+", "-", f"adapt {name}".lower()).strip("-")
            text = f"Stages of `{name}` in `{folder.absolute()}`"
            create_table_artifact([dict(row) for row in rows], key=key, description=text)


def _progress(stage: str) -> OnShard:
    """Return a callback that keeps one progress artifact, with at most 100 calls to the server."""
    shown: dict[str, Any] = {"id": None, "percent": -1}

    def on_shard(_: str, n_done: int, n_all: int, n_rows: int) -> None:
        percent = 100 * n_done // n_all
        if percent == shown["percent"]:
            return
        shown["percent"] = percent
        text = f"{stage}: {n_done} of {n_all} shards, {n_rows:,} rows"
        if shown["id"] is None:
            shown["id"] = create_progress_artifact(float(percent), description=text)
        else:
            artifact: UUID = shown["id"]
            update_progress_artifact(artifact, float(percent), description=text)

    return on_shard


def _let_library_log() -> None:
    # Prefect adds its handler to the logger but leaves the level, which is WARNING from the root.
    logger = logging.getLogger("lightadapt_data")
    if logger.level == logging.NOTSET:
        logger.setLevel(logging.INFO)

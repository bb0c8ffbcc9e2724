"""Run stages: prepare (what is left), do (one shard), finish (write the manifest).

The data's way: recipe -> for each stage: prepare, do, finish -> `RUN/work/<stage>/`, and at the
end the files that people want at the top of the folder. The command line loops over this, the
Prefect flow calls the same functions, one task per stage.
"""

from __future__ import annotations

import fcntl
import json
import logging
import os
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from lightadapt_data import __version__, recipe, shards, stages
from lightadapt_data.engines import local
from lightadapt_data.errors import HeldError, InputError
from lightadapt_data.shards import Counts, Shard, Workspace

logger = logging.getLogger(__name__)

RESULT = "result"
"""Name of the shard that a stage's `run` makes."""


@dataclass(frozen=True)
class Plan:
    """What one stage has to do."""

    stage: str
    shards: tuple[tuple[Shard, str], ...]
    """Every shard of the stage with its key."""
    todo: tuple[Shard, ...]
    """Those not on disk yet."""


@dataclass(frozen=True)
class StageReport:
    """What one stage did."""

    stage: str
    n_shards: int
    n_reused: int
    rows_in: int
    rows_out: int
    counts: Mapping[str, int]
    seconds: float

    @property
    def is_hit(self) -> bool:
        """Whether nothing had to be done."""
        return self.n_reused == self.n_shards


OnShard = Callable[[str, int, int, int], None]
"""Called with (stage, shards done, shards in all, rows done)."""


def run_stages(
    what: recipe.Recipe, folder: Path, workers: int = 1, on_shard: OnShard | None = None
) -> list[StageReport]:
    """Run all stages of a recipe in `folder` and return a report of each.

    Raises:
        HeldError: another live run holds the folder.
        LightadaptError: as the stages raise it; finished shards stay, nothing else does.
    """
    with begin(what, folder) as workspace:
        return [run_stage(workspace, name, workers, on_shard) for name in what.settings]


@contextmanager
def begin(what: recipe.Recipe, folder: Path) -> Iterator[Workspace]:
    """Check the inputs, hold the folder, save the recipe there, and yield the stages' view of it.

    Raises:
        HeldError: another live run holds the folder.
        InputError: a file or model that the recipe names cannot be used; nothing was written.
    """
    workspace = what.workspace(folder)
    check_inputs(workspace)
    with hold(folder):
        shards.write_text(folder / "work" / "recipe.json", recipe.saved_text(what))
        yield workspace


def check_inputs(workspace: Workspace) -> None:
    """Let every stage that can do so check its outside inputs before any work.

    Raises:
        InputError: a file or model that the recipe names cannot be used.
    """
    for name, settings in workspace.settings.items():
        check = getattr(stages.load(name), "check", None)
        if check is not None:
            check(settings, workspace)


def run_stage(
    workspace: Workspace, name: str, workers: int = 1, on_shard: OnShard | None = None
) -> StageReport:
    """Run one stage whose earlier stages are finished, and write its manifest."""
    started = time.monotonic()
    module = stages.load(name)
    stage_folder = workspace.folder / "work" / name
    stage_folder.mkdir(parents=True, exist_ok=True)
    shards.remove_leftovers(stage_folder)
    plan = prepare(workspace, name)
    try:
        _work_off(workspace, plan, workers, on_shard)
    except BaseException:
        shards.remove_leftovers(stage_folder)  # of workers that were stopped in the middle
        raise
    key, is_result_reused = None, True
    if hasattr(module, "run"):
        key = result_key(workspace, name, plan.shards)
        is_result_reused = shards.read_done(stage_folder / key) is not None
        if not is_result_reused:
            _write_manifest(workspace, name, plan, None)  # `run` reads its own shards
            _do_result(workspace, name, stage_folder / key)
    _write_manifest(workspace, name, plan, key)
    deliver = getattr(module, "deliver", None)
    if deliver is not None:
        deliver(workspace)
    report = _report(workspace, name, plan, is_result_reused, time.monotonic() - started)
    logger.info(
        "%s: %s rows in, %s rows out, %.1f s%s",
        name,
        f"{report.rows_in:,}",
        f"{report.rows_out:,}",
        report.seconds,
        " (nothing to do)" if report.is_hit else "",
    )
    return report


def prepare(workspace: Workspace, name: str) -> Plan:
    """Return the shards of a stage and which of them are left to do."""
    module = stages.load(name)
    if not hasattr(module, "shards"):
        return Plan(name, (), ())
    settings = workspace.settings[name]
    material = {
        key: value
        for key, value in recipe.resolved(module, settings).items()
        if key.split(".")[0] not in getattr(module, "RUN_ONLY", ())
    }
    material |= {"stage": name, "version": module.VERSION}
    keyed = []
    for shard in module.shards(settings, workspace):
        keyed.append((shard, shards.digest_of({**material, "reads": dict(shard.reads)})))
    folder = workspace.folder / "work" / name
    # Two shards that read the same have the same key, and are done once.
    todo = {key: shard for shard, key in keyed if shards.read_done(folder / key) is None}
    return Plan(name, tuple(keyed), tuple(todo.values()))


def do(workspace: Workspace, name: str, keys: Mapping[str, str], shard: Shard) -> Counts:
    """Do one shard and put it in place."""
    started = time.monotonic()
    module = stages.load(name)
    settings = workspace.settings[name]
    folder = workspace.folder / "work" / name / keys[shard.name]
    counts = shards.put_in_place(
        folder, lambda out: module.run_shard(settings, workspace, shard, out)
    )
    _note(workspace, name, shard.name, counts, time.monotonic() - started)
    return counts


def _work_off(workspace: Workspace, plan: Plan, workers: int, on_shard: OnShard | None) -> None:
    keys = {shard.name: key for shard, key in plan.shards}
    n_done, n_rows = len(plan.shards) - len(plan.todo), 0
    if plan.todo:
        logger.info("%s: %d of %d shards to do", plan.stage, len(plan.todo), len(plan.shards))
    work = partial(do, workspace, plan.stage, keys)
    module = stages.load(plan.stage)
    has_gpu = getattr(module, "USES_GPU", False) and local.has_gpu()
    if has_gpu or getattr(module, "USES_ALL_CORES", False):
        done: Iterable[tuple[Shard, Counts]] = ((shard, work(shard)) for shard in plan.todo)
    else:
        done = local.map_shards(work, plan.todo, workers)
    for _, counts in done:
        n_done += 1
        n_rows += counts.get("rows_in", 0)
        if on_shard is not None:
            on_shard(plan.stage, n_done, len(plan.shards), n_rows)


def _do_result(workspace: Workspace, name: str, folder: Path) -> None:
    started = time.monotonic()
    module = stages.load(name)
    settings = workspace.settings[name]
    counts = shards.put_in_place(folder, lambda out: module.run(settings, workspace, out))
    _note(workspace, name, RESULT, counts, time.monotonic() - started)


def inputs_key(workspace: Workspace, name: str) -> str:
    """Return the key of all that a stage works from: settings, seed, what the stages it reads left.

    Outside files and models count where the stage's `reads` names them.
    """
    module = stages.load(name)
    settings = workspace.settings[name]
    outside = getattr(module, "reads", None)
    return shards.digest_of(
        {
            "stage": name,
            "version": module.VERSION,
            "settings": recipe.resolved(module, settings),
            "seed": workspace.seed,
            "inputs": {other: workspace.digest(other) for other in read_stages(workspace, name)},
            "outside": outside(settings, workspace) if outside else {},
        }
    )


def result_key(workspace: Workspace, name: str, keyed: tuple[tuple[Shard, str], ...]) -> str:
    """Return the key of what a stage's `run` makes from its shards and the stages it reads."""
    return shards.digest_of([inputs_key(workspace, name), [key for _, key in keyed]])


def read_stages(workspace: Workspace, name: str) -> list[str]:
    """Return the stages of this run that the stage `name` reads."""
    module = stages.load(name)
    readable = {*module.READS, *getattr(module, "MAY_READ", ())}
    return [other for other in stages.STAGES if other in readable and workspace.has(other)]


def _write_manifest(workspace: Workspace, name: str, plan: Plan, result_key: str | None) -> None:
    module = stages.load(name)
    folder = workspace.folder / "work" / name
    entries = [
        {"name": shard.name, "key": key, "args": dict(shard.args)} for shard, key in plan.shards
    ]
    digests = []
    for key in [*(key for _, key in plan.shards), *([result_key] if result_key else [])]:
        done = shards.read_done(folder / key)
        if done is None:
            raise InputError(f"{folder / key}: vanished while the run was using it; run again")
        digests.append(done[1])
    manifest = {
        "stage": name,
        "version": module.VERSION,
        "package_version": __version__,
        "settings": recipe.resolved(module, workspace.settings[name]),
        "seed": workspace.seed,
        "inputs": inputs_key(workspace, name),
        "shards": entries,
        "result": {"name": RESULT, "key": result_key, "args": {}} if result_key else None,
        "digest": shards.digest_of(digests),
    }
    shards.write_text(folder / "manifest.json", json.dumps(manifest, indent=1, sort_keys=True))


def _report(
    workspace: Workspace, name: str, plan: Plan, is_result_reused: bool, seconds: float
) -> StageReport:
    done = workspace.shards(name)
    counts: Counter[str] = Counter()
    for shard in done:
        counts.update(shard.counts)
    result = workspace.result(name)
    if result is not None:
        counts.update(result.counts) if not done else counts.update(
            {key: value - counts[key] for key, value in result.counts.items()}
        )
    n_shards = len(done) + (result is not None)
    n_reused = len(done) - len(plan.todo) + (result is not None and is_result_reused)
    rows_in, rows_out = counts["rows_in"], counts["rows_out"]
    return StageReport(name, n_shards, n_reused, rows_in, rows_out, dict(counts), seconds)


def _note(workspace: Workspace, stage: str, shard: str, counts: Counts, seconds: float) -> None:
    """Append to the run's log, which `plan` reads for its estimate; times live only here."""
    entry = {"at": time.time(), "stage": stage, "shard": shard, "seconds": seconds, **counts}
    line = json.dumps(entry) + "\n"
    with (workspace.folder / "work" / "events.jsonl").open("a", encoding="utf-8") as file:
        file.write(line)


@contextmanager
def hold(folder: Path) -> Iterator[None]:
    """Hold `folder` for this run; the system lets go when the process ends, however it ends.

    Raises:
        HeldError: another live run holds it.
    """
    try:
        (folder / "work").mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(
            f"{folder}: cannot be the run's folder ({error.strerror}); name another with --out"
        ) from None
    path = folder / "work" / "lock"
    with path.open("a+", encoding="utf-8") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            owner = file.read().strip() or "unknown process"
            raise HeldError(
                f"{folder}: another run holds this folder ({owner}); "
                "wait for it or use another --out"
            ) from None
        file.truncate(0)
        file.write(f"process {os.getpid()}")
        file.flush()
        yield

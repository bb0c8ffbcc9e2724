"""The stages, in the order data passes; this is their only list.

A stage is a plain module with `VERSION`, `READS` (earlier stages it needs), `MAY_READ` (earlier
stages it uses when the run has them), `FAMILIES` (which field names a method of which family),
`Settings`, and one or both of

- `shards(settings, workspace) -> list[Shard]` with
  `run_shard(settings, workspace, shard, out) -> Counts`, when its work splits;
- `run(settings, workspace, out) -> Counts`, for the part that needs all shards.

`USES_GPU = True` keeps the shards in one process where there is a GPU, and
`USES_ALL_CORES = True` keeps the shards of a stage in one process, with all threads.
`CHOSEN_LATER` maps a field to values for which the stage chooses a method when it sees the rows.
`RUN_ONLY` names the fields that only `run` reads, so that changing them keeps the shards.
"""

from __future__ import annotations

import importlib
from pathlib import Path
from types import ModuleType

STAGES = (
    "ingest",
    "embed",
    "index",
    "select",
    "augment",
    "curate",
    "train",
    "report",
    "publish",
)


def load(name: str) -> ModuleType:
    """Return the module of a stage."""
    return importlib.import_module(f"lightadapt_data.stages.{name}")


def summary(name: str) -> str:
    """Return what a stage does in one line: the head of its docstring, read without an import."""
    with Path(__file__).with_name(f"{name}.py").open(encoding="utf-8") as file:
        return file.readline().strip().removeprefix(f'"""{name}: ').removesuffix('"""')

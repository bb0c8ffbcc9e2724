"""What the run's adapters cost, from the notes that training leaves beside its shards."""

from __future__ import annotations

import json
from statistics import fmean
from typing import Any

from lightadapt_data.shards import Workspace

MEASURES = (
    "trainable",
    "parameters",
    "bytes_on_disk",
    "peak_memory_bytes",
    "train_seconds",
    "train_rows_per_second",
    "inference_overhead",
)


def adapter_costs(workspace: Workspace) -> list[dict[str, Any]]:
    """Return per arm: `arm`, `adapter`, `adapters` (how many) and the mean of each measure.

    A measure is None where none was taken. Of several trainings of one adapter the last counts.
    """
    trained = {(done.args["arm"], done.args["seed"]) for done in workspace.shards("train")}
    paths = (workspace.folder / "work" / "costs").glob("*.json")
    latest: dict[tuple[str, int], dict[str, Any]] = {}
    for path in sorted(paths, key=lambda path: path.stat().st_mtime_ns):
        entry = json.loads(path.read_text("utf-8"))
        latest[entry["arm"], entry["seed"]] = entry
    found = []
    for arm in dict.fromkeys(arm for arm, _ in sorted(trained)):
        own = [entry for key, entry in latest.items() if key in trained and key[0] == arm]
        if not own:
            continue
        means: dict[str, Any] = {}
        for name in MEASURES:
            values = [entry[name] for entry in own if entry[name] is not None]
            means[name] = fmean(values) if values else None
        found.append({"arm": arm, "adapter": own[-1]["adapter"], "adapters": len(own), **means})
    return found

"""The score table: what the shards of the select stage said of every row, by target."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lightadapt_data import rows
from lightadapt_data.errors import InputError, allowed
from lightadapt_data.selectors import Floats, Target
from lightadapt_data.shards import Workspace

ALL = "all"
"""Name of the one target that all target rows make, where no shares are given."""


def target_sources(workspace: Workspace) -> list[str]:
    """Return the file that each target row comes from, without folder and ending."""
    return [Path(row["source"]).stem for row in rows.read_role(workspace, "target")]


def members(workspace: Workspace, name: str) -> NDArray[np.int64]:
    """Return the places of the target rows that one target holds.

    Raises:
        InputError: no target row comes from a file of that name.
    """
    sources = target_sources(workspace)
    if name == ALL:
        return np.arange(len(sources))
    found = [place for place, source in enumerate(sources) if source == name]
    if not found:
        raise InputError(f"select.shares: no target file '{name}'; {allowed(name, set(sources))}")
    return np.array(found)


def part(target: Target, places: NDArray[np.int64]) -> Target:
    """Return the target rows at the given places."""
    columns = {name: [cells[place] for place in places] for name, cells in target.columns.items()}
    texts = [target.texts[place] for place in places]
    return Target(target.vectors[places], texts, columns)


@dataclass(frozen=True)
class ScoreTable:
    """One entry per target; arrays have one per corpus row."""

    scores: dict[str, Floats]
    nearest: dict[str, NDArray[np.int32]]
    """Index among all target rows, -1 for none."""
    facts: dict[str, Any]

    def of(self, target: NDArray[np.int16]) -> tuple[Floats, NDArray[np.int32]]:
        """Return each row's score and nearest target row, by the number of its target."""
        if len(self.scores) == 1:
            name = next(iter(self.scores))
            return self.scores[name], self.nearest[name]
        where = target.astype(np.int64), np.arange(len(target))
        return np.stack(list(self.scores.values()))[where], np.stack(list(self.nearest.values()))[
            where
        ]


def read(workspace: Workspace, unlike_weight: float) -> ScoreTable:
    """Return the scores toward every target, less what is owed for closeness to `unlike` rows.

    Being closer to the unlike rows than the typical row is what counts: a row that is far from
    them, as most are, neither gains nor loses.
    """
    shards = workspace.shards("select")
    penalty: Floats | float = 0.0
    for done in shards:
        if done.args["target"] is None:
            away = np.load(done.file("scores.npy"))
            penalty = unlike_weight * np.maximum(away - np.median(away), 0)
    table = ScoreTable({}, {}, {})
    for done in shards:
        name = done.args["target"]
        if name is None:
            continue
        table.scores[name] = (np.load(done.file("scores.npy")) - penalty).astype(np.float32)
        found = np.load(done.file("nearest.npy"))
        places = members(workspace, name).astype(np.int32)
        table.nearest[name] = np.where(found >= 0, places[found], -1).astype(np.int32)
        table.facts[name] = json.loads(done.file("facts.json").read_text("utf-8"))
    return table

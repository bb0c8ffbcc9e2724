"""The arms of a comparison: which curated rows each one trains on, at equal tokens."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import Any

from lightadapt_data.errors import InputError
from lightadapt_data.rows import SPLITS, family, read_rows
from lightadapt_data.shards import Workspace, digest_of

ARMS = ("seed", "adapted", "balanced_random")
"""The labelled rows that the user gave; all curated rows; the first and random corpus rows."""

Row = Mapping[str, Any]


@dataclass(frozen=True)
class Curated:
    """The curated rows as training needs them; all can be trained on."""

    train: Sequence[Row]
    validation: Sequence[Row]
    test: Sequence[Row]
    baseline: Sequence[Row]
    labels: list[str]
    n_unlabelled: dict[str, int]
    """Rows left out for having no label, by split."""


@dataclass(frozen=True)
class ArmRows:
    """One arm's training rows."""

    rows: Sequence[Row]
    n_added: int
    """Rows besides the seed rows."""
    tokens_added: int
    tokens_short: int
    """Tokens that this arm has fewer than `adapted`, because no row fits in the rest."""


def read_curated(workspace: Workspace, task: ModuleType) -> Curated:
    """Return the curated rows that have a label, after checking that they can be trained on.

    Raises:
        InputError: nothing is curated, or there are fewer than two labels, no validation or test
            rows, or labels in those that no training row has.
    """
    result = workspace.result("curate")
    if result is None:
        raise InputError(
            f"{workspace.folder}: there is no curated data set to train on; run curate first"
        )
    files = sorted(result.files)
    parts = {
        split: [result.file(name) for name in files if name.startswith(f"data/{split}-")]
        for split in SPLITS
    }
    parts["baseline"] = [result.file(name) for name in files if name == "baseline.parquet"]
    everything = {split: read_rows(paths) for split, paths in parts.items()}
    labelled = {
        split: [row for row in found if task.is_labelled(row)]
        for split, found in everything.items()
    }
    labels = task.labels(labelled["train"])
    _check_rows(labelled, labels, task)
    known = [row for row in labelled["baseline"] if set(task.labels([row])) <= set(labels)]
    n_unlabelled = {name: len(rows) - len(labelled[name]) for name, rows in everything.items()}
    return Curated(
        labelled["train"],
        labelled["validation"],
        labelled["test"],
        known,
        labels,
        n_unlabelled,
    )


def rows_of_arms(curated: Curated, wanted: Sequence[str]) -> dict[str, ArmRows]:
    """Return the rows of every arm that is asked for and that has rows of its own.

    Raises:
        InputError: no arm is left.
    """
    seed = [row for row in curated.train if row["origin"] == "seed"]
    added = [row for row in curated.train if row["origin"] != "seed"]
    budget = n_tokens_of(added)
    arms = {"seed": ArmRows(seed, 0, 0, 0)} if seed else {}
    if added:
        arms["adapted"] = ArmRows(curated.train, len(added), budget, 0)
        random_rows = _up_to(curated.baseline, budget)
        if random_rows:
            n_tokens = n_tokens_of(random_rows)
            rows = [*seed, *random_rows]
            arms["balanced_random"] = ArmRows(rows, len(random_rows), n_tokens, budget - n_tokens)
    found = {arm: arms[arm] for arm in ARMS if arm in arms and arm in wanted}
    if not found:
        raise InputError(
            f"train.arms = {list(wanted)}: the curated rows have {len(seed)} seed and "
            f"{len(added)} added training rows with a label, so there is nothing to train on; "
            "give labelled task rows, or another list of arms"
        )
    return found


def repeated(rows: Sequence[Row], seed_share: float) -> list[Row]:
    """Return the rows, those of origin "seed" as often as it takes to make their share."""
    seed = [row for row in rows if row["origin"] == "seed"]
    n_added = len(rows) - len(seed)
    if not seed or not n_added:
        return list(rows)
    wanted = n_added * seed_share / (1 - seed_share)
    times = max(1, round(wanted / len(seed)))
    return [*rows, *(seed * (times - 1))]


def rows_digest(rows: Sequence[Row], task: ModuleType) -> str:
    """Return what names all of the rows that training reads, and their order."""
    names = ["id", "text", "label", "n_tokens", *(name for name, _ in task.columns())]
    return digest_of([[row.get(name) for name in names] for row in rows])


def n_tokens_of(rows: Sequence[Row]) -> int:
    """Return the tokens of all rows."""
    return sum(int(row["n_tokens"]) for row in rows)


def _up_to(rows: Sequence[Row], budget: int) -> list[Row]:
    """Return rows, in their order, of at most `budget` tokens; one that is too long is skipped."""
    taken = []
    for row in rows:
        if row["n_tokens"] <= budget:
            taken.append(row)
            budget -= row["n_tokens"]
        if budget <= 0:
            break
    return taken


def _check_rows(
    labelled: Mapping[str, Sequence[Row]], labels: Sequence[str], task: ModuleType
) -> None:
    if not labelled["train"] or len(labels) < task.LEAST_LABELS:
        raise InputError(
            f"train: {len(labelled['train'])} training rows can be trained on, with {len(labels)} "
            f"label(s) ({', '.join(labels) or 'none'}); allowed: {task.LEAST_LABELS} or more; "
            "check label_column of the task rows, and `task` of the recipe"
        )
    for split in ("validation", "test"):
        if not labelled[split]:
            raise InputError(
                f"train: there are no {split} rows with a label; allowed: 1 or more; give more "
                f"task rows, or a larger share for {split}"
            )
        unseen = sorted(set(task.labels(labelled[split])) - set(labels))
        if unseen:
            raise InputError(
                f"train: label '{unseen[0]}' is in {split} but in no training row; allowed: "
                f"{', '.join(labels)}; add training rows of that label or drop it"
            )
    _check_leaks(labelled)


def _check_leaks(labelled: Mapping[str, Sequence[Row]]) -> None:
    """Stop when a held-out row, or a child or copy of one, is in train."""
    others = [row for name in ("validation", "test") for row in labelled[name]]
    held_out = {row["text"]: row for row in others}
    families = {family(dict(row)): row for row in others}
    for row in labelled["train"]:
        leak = held_out.get(row["text"]) or families.get(family(dict(row)))
        if leak is not None:
            raise InputError(
                f"train: row '{row['id']}' is the {leak['split']} row '{leak['id']}', or made from "
                "it, so a test would measure memory; take it out of one of the files, or curate "
                'with filters = ["exact_duplicate"]'
            )

"""Whether influence says the truth: wrong labels that were planted, and trainings without rows.

- planted: a share of the training rows gets another label, an adapter is trained, and the scores
  have to find these rows. AUC is the chance that a wrong row stands before a right one, 0.5 for
  guessing. `loss` is the yardstick: the mean loss over the same states, which costs no gradients.
- leave_out: the adapter is trained again without the tenth of the rows that ranks worst, the tenth
  that ranks best, and a random tenth. What counts is the difference to all rows, beside the random
  one: any loss of rows costs something.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lightadapt_data import adapter_jobs, methods, training
from lightadapt_data.arms import ArmRows, Curated
from lightadapt_data.influence_scores import GradientSettings, Row, Training, drawn, of_training
from lightadapt_data.influence_totals import Scored
from lightadapt_data.rows import key_of
from lightadapt_data.vectors import uniform

SHARE = 0.1
"""Of the rows that get a wrong label, or are left out [ratio]."""
LEAST_UNSEEN = 100
"""Validation rows that the scores have not read, from which on these alone are measured [rows]."""


@dataclass(frozen=True)
class Checked:
    """The training that is checked."""

    settings: Any
    """Of the train stage."""
    curated: Curated
    content: ArmRows
    options: GradientSettings


def check_planted(what: Checked, seeds: Sequence[int], share: float = SHARE) -> dict[str, Any]:
    """Plant wrong labels, train, and return how well each score finds them.

    Args:
        what: the training; its rows stay as they are.
        seeds: one training each, with other wrong labels and another start.
        share: of the rows that get a wrong label [ratio].

    Returns:
        `share`, `seeds`, `metric` (of the adapters on validation, by seed), and by score `auc` and
        `precision` (wrong ones among as many rows as were planted, the worst by that score), each
        with `mean`, `sd` (None for one seed) and `values`; or `left_out` with the reason.
    """
    labels = what.curated.labels
    if len(labels) < 2 or any(row.get("label") not in labels for row in what.content.rows):
        return {"left_out": "rows of this task have no single label that could be made wrong"}
    areas: dict[str, list[float]] = {}
    shares: dict[str, list[float]] = {}
    reached = []
    for seed in seeds:
        rows, is_wrong = planted(what.content.rows, labels, share, seed)
        found, metric = _scores_of(what, rows, seed)
        found["random"] = uniform(_keys(rows), seed + 1)
        for name, scores in found.items():
            # Wrong rows have a high loss and a low influence.
            suspicion = scores if name == "loss" else -scores
            areas.setdefault(name, []).append(auc(suspicion, is_wrong))
            worst = np.argsort(-suspicion)[: int(is_wrong.sum())]
            shares.setdefault(name, []).append(float(is_wrong[worst].mean()))
        reached.append(metric)
    return {
        "share": share,
        "seeds": list(seeds),
        "metric": reached,
        "auc": {name: _spread(values) for name, values in areas.items()},
        "precision": {name: _spread(values) for name, values in shares.items()},
    }


def planted(
    rows: Sequence[Row], labels: Sequence[str], share: float, seed: int
) -> tuple[list[Row], NDArray[np.bool_]]:
    """Return the rows, a random share of them with another label, and which these are."""
    keys = _keys(rows)
    is_wrong = np.zeros(len(rows), bool)
    is_wrong[np.lexsort((keys, uniform(keys, seed)))[: max(1, round(share * len(rows)))]] = True
    found = []
    for row, wrong, key in zip(rows, is_wrong, keys.tolist(), strict=True):
        others = [label for label in labels if label != row["label"]]
        draw = np.random.default_rng([seed, key])
        found.append({**row, "label": others[draw.integers(len(others))]} if wrong else row)
    return found, is_wrong


def check_leave_out(
    what: Checked, scored: Scored, seeds: Sequence[int], share: float = SHARE
) -> dict[str, Any]:
    """Train without the worst, the best and random rows, and return what each costs or brings.

    Args:
        what: the training.
        scored: its rows, with their ranks.
        seeds: of the trainings; the four of a seed have the same start.
        share: of the rows that are left out [ratio].

    Returns:
        `share`, `n_left_out`, `metric`, `n_measured` (validation rows), `are_unseen` (whether the
        scores have not read these), and `differences` to training with all rows, by what is left
        out: `metric` and `loss`, each with `mean`, `sd` and `values`.
    """
    n_out = max(1, round(share * len(scored.rows)))
    order = np.argsort(scored.rank)
    seen = set(drawn(what.curated.validation, what.options.validation_rows, what.options.seed))
    unseen = [row for place, row in enumerate(what.curated.validation) if place not in seen]
    measured = unseen if len(unseen) >= LEAST_UNSEEN else what.curated.validation
    keys = _keys(scored.rows)
    found: dict[str, dict[str, list[float]]] = {}
    task = methods.load("tasks", what.settings.task)
    for seed in seeds:
        left_out = {
            "worst": order[len(order) - n_out :],
            "best": order[:n_out],
            "random": np.lexsort((keys, uniform(keys, seed)))[:n_out],
        }
        full = _reached(what, what.content.rows, measured, seed)
        for name, places in left_out.items():
            gone = set(places.tolist())
            rows = [row for place, row in enumerate(what.content.rows) if place not in gone]
            without = _reached(what, rows, measured, seed)
            for key, metric in (("metric", task.MAIN_METRIC), ("loss", "loss")):
                values = found.setdefault(name, {}).setdefault(key, [])
                values.append(without[metric] - full[metric])
    return {
        "share": share,
        "n_left_out": n_out,
        "metric": task.MAIN_METRIC,
        "n_measured": len(measured),
        "are_unseen": measured is unseen,
        "differences": {
            name: {key: _spread(values) for key, values in by.items()} for name, by in found.items()
        },
    }


def auc(scores: NDArray[Any], is_wrong: NDArray[np.bool_]) -> float:
    """Return the chance that a wrong row has the higher score of a wrong and a right one."""
    from sklearn.metrics import roc_auc_score

    return float(roc_auc_score(is_wrong, scores))


def _scores_of(what: Checked, rows: Sequence[Row], seed: int) -> tuple[dict[str, Any], float]:
    """Train on the rows with states kept, and return their scores and the validation metric."""
    settings = what.settings.model_copy(update={"keep_states": True})
    content = replace(what.content, rows=rows)
    job = adapter_jobs.job(settings, what.curated, content, seed)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "adapter").mkdir()
        job = replace(job, states=folder / "states")
        result = training.train(job, settings, folder / "adapter")
        finished = Training(
            settings,
            job,
            rows,
            what.curated.validation,
            what.curated.labels,
            folder,
            result.best_step,
        )
        best = next(point for point in result.dev_curve if point["step"] == result.best_step)
        return dict(of_training(finished, what.options)), float(best[job.task.MAIN_METRIC])


def _reached(
    what: Checked, rows: Sequence[Row], measured: Sequence[Row], seed: int
) -> Mapping[str, float]:
    """Return the best metrics, on some validation rows, of an adapter trained on the rows."""
    settings = what.settings.model_copy(update={"keep_states": False})
    curated = replace(what.curated, validation=measured)
    job = adapter_jobs.job(settings, curated, replace(what.content, rows=rows), seed)
    with tempfile.TemporaryDirectory() as folder:
        result = training.train(job, settings, Path(folder))
    return next(point for point in result.dev_curve if point["step"] == result.best_step)


def _spread(values: Sequence[float]) -> dict[str, Any]:
    sd = stdev(values) if len(values) > 1 else None
    return {"mean": fmean(values), "sd": sd, "values": list(values)}


def _keys(rows: Sequence[Row]) -> NDArray[np.uint64]:
    return np.array([key_of(f"{row.get('origin')}/{row['id']}") for row in rows], np.uint64)

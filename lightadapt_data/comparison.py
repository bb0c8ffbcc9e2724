"""Compare arms over seeds: means, spreads, and what they say in plain words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import fmean, stdev
from typing import Any


def headline(
    values: Mapping[str, Sequence[float]],
    metric: str,
    n_test: int,
    random_share: float = 1.0,
    goal: str = "max",
) -> str:
    """Return in plain words whether `adapted` beats the other arms.

    A difference within the spread counts as no gain; the spread is the square root of the summed
    variances of the two arms over seeds.

    Args:
        values: the metric of every seed, by arm.
        metric: its name.
        n_test: test rows.
        random_share: tokens that the random arm added, over those that `adapted` added [ratio].
        goal: "max" where a higher value is better, else "min".
    """
    main = "adapted" if "adapted" in values else next(iter(values))
    seeds = len(values[main])
    word = "seed" if seeds == 1 else "seeds"
    name = {"adapted": "The adapted model", "seed": "The model trained on the seed rows"}
    parts = [
        f"{name.get(main, 'The model trained on random rows')} reaches {metric.replace('_', ' ')} "
        f"{fmean(values[main]):.3f} on {n_test:,} test rows (mean of {seeds} {word})."
    ]
    # A random row that no longer fits is skipped, so a few tokens are always lacking.
    random_tokens = "as many" if random_share > 0.95 else f"only {random_share:.0%} as many"
    against = {
        "seed": "the seed rows alone",
        "balanced_random": f"{random_tokens} tokens of random rows",
    }
    for arm, words in against.items():
        if arm in values and arm != main == "adapted":
            parts.append(
                f"Against {words} ({fmean(values[arm]):.3f}): {_verdict(values, arm, goal)}."
            )
    if len(values) == 1:
        parts.append("There is no other arm to compare it with.")
    return " ".join(parts)


def _verdict(values: Mapping[str, Sequence[float]], arm: str, goal: str) -> str:
    difference = fmean(values["adapted"]) - fmean(values[arm])
    if len(values["adapted"]) < 2 or len(values[arm]) < 2:
        return f"a difference of {difference:+.3f}, from one seed only, so its spread is not known"
    spread = (stdev(values["adapted"]) ** 2 + stdev(values[arm]) ** 2) ** 0.5
    if difference == 0 or abs(difference) <= spread:
        return f"no gain; the difference of {difference:+.3f} is within the spread of {spread:.3f}"
    kind = "a gain" if (difference > 0) == (goal == "max") else "a loss"
    return f"{kind} of {abs(difference):.3f} (spread {spread:.3f})"


def summary(runs: list[dict[str, Any]]) -> dict[str, Any]:
    """Return mean, sample standard deviation (None for one run) and values of each metric."""
    same = ("n_rows", "n_tokens", "n_added", "tokens_added", "tokens_short", "n_trainable")
    metrics = {}
    for part in ("test", "validation"):
        names = runs[0][part]
        values = {name: [run[part][name] for run in runs] for name in names}
        metrics[part] = {
            name: {
                "mean": fmean(found),
                "sd": stdev(found) if len(found) > 1 else None,
                "values": found,
            }
            for name, found in values.items()
        }
    return {**metrics, **{name: runs[0][name] for name in same}}

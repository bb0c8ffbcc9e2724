"""Paired differences over draws: their mean, how sure it is, and what that says in words.

A draw gives one number per selector from the same seeds, so selectors are compared draw by draw:
what a seed does to all of them alike falls out of the difference.

Source: Student 1908, https://doi.org/10.2307/2331554 (the t distribution of a mean)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import sqrt
from statistics import fmean, stdev

import numpy as np

CONFIDENCE = 0.95
FEW_DRAWS = 5
"""Below this number of draws an interval is wide for want of draws, and the words say so."""
TIE = 1e-9
"""Spread below which all draws count as equal, relative to the mean or 1; rounding leaves less."""


@dataclass(frozen=True)
class Interval:
    """A mean difference and the interval that holds the true one in 95 of 100 such comparisons."""

    mean: float
    low: float
    high: float
    n: int
    """Draws."""
    is_tied: bool
    """All draws gave the same difference, so that they say nothing of its spread."""

    @property
    def sign(self) -> int:
        """1 above zero, -1 below, 0 where the interval holds zero."""
        return int(self.low > 0) - int(self.high < 0)

    def __str__(self) -> str:
        return f"{self.mean:+.3f} [{self.low:.3f}, {self.high:.3f}]"


def interval(differences: Sequence[float]) -> Interval:
    """Return the t interval of the mean of paired differences, one per draw.

    Raises:
        ValueError: fewer than two differences.
    """
    n = len(differences)
    if n < 2:
        raise ValueError(f"interval: {n} draws; allowed: 2 or more")
    mean, spread = fmean(differences), stdev(differences)
    if spread <= TIE * max(1.0, abs(mean)):
        return Interval(mean, mean, mean, n, True)
    half = quantile(n - 1) * spread / sqrt(n)
    return Interval(mean, mean - half, mean + half, n, False)


def quantile(freedom: int) -> float:
    """Return how many standard errors an interval reaches to each side, by degrees of freedom."""
    from scipy.special import stdtrit  # type: ignore[import-untyped, unused-ignore]

    return float(stdtrit(freedom, (1 + CONFIDENCE) / 2))


def trend(leads: Sequence[Sequence[float]], sizes: Sequence[float]) -> Interval:
    """Return by how much a lead grows per tenfold pile: the slopes of all draws, as an interval.

    Args:
        leads: one list per pile, each with one lead per draw.
        sizes: sizes of the piles, at least two different ones; only their ratios count.
    """
    places = np.log10(np.asarray(sizes, np.float64))
    slopes = np.polyfit(places, np.asarray(leads, np.float64), 1)[0]
    return interval([float(slope) for slope in slopes])


def trained_verdict(name: str, against: Mapping[str, Interval], metric: str) -> str:
    """Return whether training on the rows of selector `name` paid, over each other selector."""
    clauses = []
    for place, (other, found) in enumerate(against.items()):
        where = f" on validation {metric}, {found.n} draws" if place == 0 else ""
        clauses.append(_clause(found, other, where))
    return f"{name}: {'; '.join(clauses)}."


def _clause(found: Interval, other: str, where: str) -> str:
    if found.is_tied:
        if found.mean == 0:
            return f"no gain: every draw gives the same as {other}{where}"
        return (
            f"no verdict: every draw gives {found.mean:+.3f} over {other}{where}, so that the "
            "spread is not known"
        )
    if found.sign > 0:
        return f"pays: {found} over {other}{where}"
    if found.sign < 0:
        return f"does harm: {found} against {other}{where}"
    wide = ", and is wide for want of draws" if found.n < FEW_DRAWS else ""
    return f"no gain: {found} over {other}{where}, the interval holds zero{wide}"


def proxy_verdict(
    name: str,
    means: Mapping[str, Mapping[str, float]],
    against: Mapping[str, Mapping[str, Interval]],
) -> str:
    """Return what the proxies say of selector `name`, which nothing was trained on.

    Args:
        name: the selector.
        means: by proxy, by selector: its mean over draws.
        against: by proxy, by other selector: the lead over it, above 0 where `name` is better.
    """
    parts, signs, n_draws = [], set(), 0
    for proxy, leads in against.items():
        others = " and ".join(f"{means[proxy][other]:.3f} ({other})" for other in leads)
        found = {_proxy_sign(lead) for lead in leads.values()}
        word = {frozenset({1}): "better", frozenset({-1}): "worse"}.get(frozenset(found), "unclear")
        signs.add(word)
        n_draws = next(iter(leads.values())).n
        parts.append(f"{proxy} {means[proxy][name]:.3f} against {others}: {word}")
    said = signs.pop() if len(signs) == 1 else "mixed"
    end = {
        "better": "both speak for it, which is no proof",
        "worse": "both speak against it",
        "unclear": f"neither tells it from random rows in {n_draws} draws",
        "mixed": "they do not agree",
    }[said]
    return f"{name}: without a task only the proxies can say: {'; '.join(parts)}; {end}."


def _proxy_sign(lead: Interval) -> int:
    """Return the sign of a lead; a proxy has no noise of its own, so that a tie is exact."""
    return int(lead.mean > TIE) - int(lead.mean < -TIE) if lead.is_tied else lead.sign


def growth_verdict(
    name: str, other: str, measure: str, leads: Sequence[Interval], slope: Interval, sizes: str
) -> str:
    """Return whether the lead of `name` over `other` grows with the pile.

    Args:
        name: the selector.
        other: the one it is compared with.
        measure: what the lead is measured by; it is above 0 where `name` is better.
        leads: one per pile, from the smallest.
        slope: from `trend`.
        sizes: the piles in words.
    """
    way = ", ".join(f"{lead.mean:+.3f}" for lead in leads)
    kind = {
        1: "improves as the pile grows",
        -1: "falls behind as the pile grows",
        0: f"no trend that {slope.n} draws can show",
    }[_proxy_sign(slope)]
    last = leads[-1]
    place = {1: "ahead of", -1: "behind", 0: "not to be told from"}[_proxy_sign(last)]
    return (
        f"{name} against {other} by {measure}, piles {sizes}: {way}; {kind} "
        f"({slope} per tenfold pile); on the largest it is {place} {other}."
    )

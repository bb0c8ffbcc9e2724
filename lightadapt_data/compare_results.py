"""What the draws of a comparison come to: means, paired differences, and sentences."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import fmean, stdev
from typing import Any

from lightadapt_data import paired
from lightadapt_data.paired import Interval

MEASURES: Mapping[str, int] = {"validation": 1, "kl_reduction": 1, "coverage_radius": -1}
"""What a draw is judged by; 1 where higher is better, -1 where lower is."""
PROXIES: Mapping[str, str] = {
    "kl_reduction": "KL reduction",
    "coverage_radius": "coverage radius (lower is better)",
}
"""Measures that need no training, as sentences call them."""
AVERAGED = ("rows", "tokens", "rows_left", "tokens_left", *MEASURES)

Draws = Mapping[str, Sequence[Mapping[str, Any]]]
"""The draws of each selector, in the same order; see `compare_draw.draw` for their keys."""


@dataclass(frozen=True)
class PileDraws:
    """All draws on one pile."""

    size: int
    """As a part of the largest pile."""
    rows: int
    tokens: int
    draws: Draws


def results(
    selectors: Sequence[str], baselines: Sequence[str], piles: Sequence[PileDraws]
) -> dict[str, Any]:
    """Return the results as JSON values.

    Returns:
        draws, selectors, baselines, metric and n_validation (None without training), pools and
        sentences. A pool has size, rows, tokens, and by selector: draws, summary (mean and sample
        standard deviation by measure), and for those that are judged `against`: by baseline and
        measure the lead, above 0 where the selector is better, with its interval.
    """
    first = piles[0].draws[selectors[0]]
    found: dict[str, Any] = {
        "draws": len(first),
        "selectors": list(selectors),
        "baselines": list(baselines),
        "metric": first[0]["metric"],
        "n_validation": first[0]["n_validation"],
    }
    leads = [{name: _against(pile.draws, name, baselines) for name in selectors} for pile in piles]
    found["pools"] = [_pool(pile, against) for pile, against in zip(piles, leads, strict=True)]
    found["sentences"] = [_sentence(found, leads[-1][name], name) for name in selectors]
    if len(piles) > 1:
        found["sentences"] += _growth(selectors, baselines[0], piles, leads)
    return found


Leads = Mapping[str, Mapping[str, Interval]]
"""By baseline, by measure."""


def _against(draws: Draws, name: str, baselines: Sequence[str]) -> Leads:
    return {
        other: {
            measure: paired.interval(_lead(draws, name, other, measure))
            for measure in MEASURES
            if draws[name][0][measure] is not None
        }
        for other in baselines
    }


def _lead(draws: Draws, name: str, other: str, measure: str) -> list[float]:
    """Return by how much `name` is better than `other`, draw by draw."""
    sign = MEASURES[measure]
    pairs = zip(draws[name], draws[other], strict=True)
    return [sign * (own[measure] - its[measure]) for own, its in pairs]


def _pool(pile: PileDraws, against: Mapping[str, Leads]) -> dict[str, Any]:
    by_selector = {}
    for name, draws in pile.draws.items():
        kept = [{key: draw[key] for key in ("draw", *AVERAGED)} for draw in draws]
        by_selector[name] = {"draws": kept, "summary": _summary(draws)}
        if name in against:
            by_selector[name]["against"] = {
                other: {measure: asdict(lead) for measure, lead in leads.items()}
                for other, leads in against[name].items()
            }
    return {
        "size": pile.size,
        "rows": pile.rows,
        "tokens": pile.tokens,
        "selectors": by_selector,
    }


def _summary(draws: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    found = {}
    for measure in AVERAGED:
        values = [draw[measure] for draw in draws]
        if None not in values:
            found[measure] = {"mean": fmean(values), "sd": stdev(values)}
    return found


def _sentence(found: Mapping[str, Any], leads: Leads, name: str) -> str:
    """Return whether selector `name` pays on the largest pile."""
    by_selector = found["pools"][-1]["selectors"]
    if found["metric"] is None:
        means = {
            words: {other: entry["summary"][proxy]["mean"] for other, entry in by_selector.items()}
            for proxy, words in PROXIES.items()
        }
        against = {
            words: {other: lead[proxy] for other, lead in leads.items()}
            for proxy, words in PROXIES.items()
        }
        return paired.proxy_verdict(name, means, against)
    validation = {other: lead["validation"] for other, lead in leads.items()}
    said = paired.trained_verdict(name, validation, found["metric"].replace("_", " "))
    left = {
        other: f"{by_selector[other]['summary']['tokens_left']['mean']:,.0f} of {other}"
        for other in (name, *leads)
    }
    return f"{said} Tokens left after labelling and curation: {', '.join(left.values())}."


def _growth(
    selectors: Sequence[str],
    other: str,
    piles: Sequence[PileDraws],
    leads: Sequence[Mapping[str, Leads]],
) -> list[str]:
    sizes = [pile.rows for pile in piles]
    shown = ", ".join(f"x{pile.size}" for pile in piles)
    said = []
    for name in selectors:
        present = list(leads[0][name][other])
        for measure in ["validation"] if "validation" in present else present:
            slope = paired.trend([_lead(pile.draws, name, other, measure) for pile in piles], sizes)
            own = [found[name][other][measure] for found in leads]
            words = PROXIES.get(measure, "validation metric").removesuffix(" (lower is better)")
            said.append(paired.growth_verdict(name, other, words, own, slope, shown))
    return said

import pytest

from lightadapt_data import compare_results
from lightadapt_data.compare_results import PileDraws


def draw(validation=None, kl=0.0, radius=0.0):
    return {
        "draw": 0,
        "rows": 10,
        "tokens": 100,
        "rows_left": None if validation is None else 4,
        "tokens_left": None if validation is None else 40,
        "kl_reduction": kl,
        "coverage_radius": radius,
        "validation": validation,
        "metric": None if validation is None else "macro_f1",
        "n_validation": None if validation is None else 25,
    }


def pile(size, **draws):
    return PileDraws(size, 100 * size, 1000 * size, draws)


BASELINES = ("balanced_random", "random")


def trained(size, own):
    return pile(
        size,
        nearest=[draw(value) for value in own],
        balanced_random=[draw(value) for value in (0.50, 0.55, 0.52)],
        random=[draw(value) for value in (0.40, 0.30, 0.90)],
    )


def test_draws_are_compared_pair_by_pair():
    found = compare_results.results(["nearest"], BASELINES, [trained(1, (0.61, 0.65, 0.62))])
    against = found["pools"][0]["selectors"]["nearest"]["against"]
    lead = against["balanced_random"]["validation"]
    # The draws spread widely; their differences hardly do.
    assert lead["mean"] == pytest.approx(0.1033, abs=1e-4)
    assert 0.08 < lead["low"] < lead["high"] < 0.13
    assert against["random"]["validation"]["low"] < 0
    (said,) = found["sentences"]
    assert said.startswith(
        "nearest: pays: +0.103 [0.089, 0.118] over balanced_random on validation"
    )
    assert "no gain: +0.093" in said
    assert "Tokens left after labelling and curation: 40 of nearest, 40 of balanced_random" in said


def test_without_training_the_proxies_are_compared_and_lower_radii_lead():
    draws = pile(
        1,
        nearest=[draw(kl=0.4, radius=0.2)] * 3,
        balanced_random=[draw(kl=kl, radius=0.5 - kl) for kl in (0.1, 0.2, 0.15)],
        random=[draw(kl=kl, radius=0.6 - kl) for kl in (0.1, 0.2, 0.15)],
    )
    found = compare_results.results(["nearest"], BASELINES, [draws])
    lead = found["pools"][0]["selectors"]["nearest"]["against"]["random"]
    assert set(lead) == {"kl_reduction", "coverage_radius"}
    assert lead["coverage_radius"]["mean"] == pytest.approx(0.25)
    assert "both speak for it" in found["sentences"][0]
    assert found["metric"] is None
    assert "tokens_left" not in found["pools"][0]["selectors"]["nearest"]["summary"]


def test_growing_piles_add_a_sentence_on_the_trend():
    own = {1: (0.51, 0.56, 0.53), 5: (0.56, 0.61, 0.59), 25: (0.61, 0.67, 0.63)}
    found = compare_results.results(
        ["nearest"], BASELINES, [trained(size, values) for size, values in own.items()]
    )
    verdict, growth = found["sentences"]
    assert "pays" in verdict
    assert growth.startswith("nearest against balanced_random by validation metric, piles x1, x5,")
    assert "improves as the pile grows" in growth
    assert [pool["rows"] for pool in found["pools"]] == [100, 500, 2500]


def test_without_training_both_proxies_have_a_trend():
    piles = [
        pile(
            size,
            nearest=[draw(kl=0.1 * size, radius=0.2)] * 2,
            balanced_random=[draw(kl=kl, radius=0.5) for kl in (0.1, 0.11)],
            random=[draw()] * 2,
        )
        for size in (1, 5)
    ]
    said = compare_results.results(["nearest"], BASELINES, piles)["sentences"]
    assert [" by KL reduction, " in said[1], " by coverage radius, " in said[2]] == [True, True]

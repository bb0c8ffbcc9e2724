import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from lightadapt_data.budget import Budget, ranking, take
from lightadapt_data.errors import RecipeError


@pytest.mark.parametrize(
    ("text", "budget"),
    [
        ("5000", Budget(5000, "rows")),
        ("20k", Budget(20_000, "rows")),
        ("5_000 rows", Budget(5000, "rows")),
        ("2Mtok", Budget(2_000_000, "tokens")),
        ("1.5ktokens", Budget(1500, "tokens")),
        ("10%", Budget(0.1, "fraction")),
    ],
)
def test_a_budget_is_read_as_it_is_written(text, budget):
    assert Budget.parse(text) == budget


@pytest.mark.parametrize("text", ["", "0", "-5", "101%", "ten", "5 apples", "0.5", "5k%", "nan"])
def test_another_form_names_the_allowed_ones(text):
    with pytest.raises(
        RecipeError, match=r"allowed: rows \(5000, 20k\), tokens \(2Mtok\)|less than"
    ):
        Budget.parse(text)


scores = hnp.arrays(np.float32, st.integers(1, 50), elements=st.floats(-1, 1, width=32))


@given(scores, st.integers(1, 10_000), st.sampled_from(["rows", "tokens", "fraction"]))
def test_a_choice_never_exceeds_its_budget_and_one_more_row_would(scores, amount, unit):
    rng = np.random.default_rng(0)
    keys = rng.permutation(len(scores)).astype(np.uint64)
    tokens = rng.integers(1, 300, len(scores)).astype(np.int32)
    budget = Budget(amount / 10_000 if unit == "fraction" else amount, unit)
    order = ranking(scores, keys)
    n = take(order, tokens, budget)
    spent = {"rows": n, "tokens": tokens[order[:n]].sum(), "fraction": n / len(scores)}[unit]
    assert spent <= budget.amount + 1e-9
    if n < len(scores):
        more = {
            "rows": n + 1,
            "tokens": tokens[order[: n + 1]].sum(),
            "fraction": (n + 1) / len(scores),
        }[unit]
        assert more > budget.amount - 1e-9


@given(scores, st.randoms())
def test_the_order_of_rows_never_changes_the_choice(scores, random):
    keys = np.arange(len(scores), dtype=np.uint64) * 7919 % 65_537
    shuffled = list(range(len(scores)))
    random.shuffle(shuffled)
    first = keys[ranking(scores, keys)]
    second = keys[shuffled][ranking(scores[shuffled], keys[shuffled])]
    assert first.tolist() == second.tolist()


def test_a_share_is_not_lost_to_rounding():
    order = np.arange(100)
    assert take(order, np.ones(100, np.int32), Budget.parse("29%")) == 29

import json

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lightadapt_data import influence_totals as totals


def scored_of(agreement, **columns):
    agreement = np.array(agreement, float)
    n_rows = len(agreement)
    rows = [
        {
            "id": f"r{place}",
            "text": f"text {place}",
            "origin": ("seed", "selected")[place % 2],
            "method": "",
            "label": ("a", "b", "c")[place % 3],
            "source": "s",
            "score": columns.get("score", [None] * n_rows)[place],
        }
        for place in range(n_rows)
    ]
    known = {"tracin": agreement * 2, "cosine": agreement / 2, "loss": -agreement}
    return totals.ranked(rows, known | {"agreement": agreement})


def test_the_best_agreement_ranks_first_and_ties_go_by_id():
    scored = scored_of([0.1, 0.9, -0.5, 0.1])
    assert scored.rank.tolist()[1:3] == [1, 4]
    assert sorted(scored.rank.tolist()) == [1, 2, 3, 4]
    turned = totals.ranked(
        scored.rows[::-1], {name: values[::-1] for name, values in scored.columns.items()}
    )
    assert turned.rank.tolist()[::-1] == scored.rank.tolist()


@given(
    st.lists(
        st.one_of(st.none(), st.sampled_from([0.1, 0.2, 0.5]), st.floats(-1, 1, width=32)),
        min_size=1,
        max_size=40,
    )
)
def test_deciles_go_by_the_share_of_lower_scores(scores):
    scored = scored_of([0.0] * len(scores), score=scores)
    known = [score for score in scores if score is not None]
    for row, score in zip(scored.rows, scores, strict=True):
        below = sum(other < score for other in known) if score is not None else 0
        assert row["decile"] == (None if score is None else 1 + 10 * below // len(known))


def test_totals_have_sums_means_and_an_interval_by_group():
    scored = scored_of(np.linspace(-1, 1, 21))
    found = totals.totals(scored, draws=200, seed=0)
    assert "method" not in found  # nothing but empty names
    assert "decile" not in found  # no row has a score
    by_label = {group["value"]: group for group in found["label"]}
    for number, label in enumerate("abc"):
        values = scored.columns["agreement"][number::3]
        group = by_label[label]
        assert group["rows"] == 7
        assert group["agreement"]["sum"] == pytest.approx(values.sum())
        assert group["agreement"]["mean"] == pytest.approx(values.mean())
        assert group["agreement"]["low"] < values.mean() < group["agreement"]["high"]
        assert group["tracin"]["mean"] == pytest.approx(2 * values.mean())
    assert [group["rows"] for group in found["origin"]] == [11, 10]
    assert totals.totals(scored, draws=200, seed=0) == found
    json.dumps(found)


def test_a_single_row_has_no_interval():
    (group,) = totals.totals(scored_of([0.5]), draws=10, seed=0)["source"]
    assert group["tracin"] == {"sum": 1.0, "mean": 1.0, "low": None, "high": None}


def test_drops_are_the_worst_rows_below_the_limit_up_to_a_share():
    scored = scored_of([-0.3, 0.2, -0.1, 0.4, -0.2, 0.1, 0.3, 0.5, 0.6, 0.7])
    found = totals.drops(scored, below=0.0, most_share=0.5)
    assert [drop["id"] for drop in found] == ["r0", "r4", "r2"]
    assert found[0]["text"] == "text 0"
    assert found[0]["origin"] == "seed"
    assert "agreement -0.300, below 0; rank 10 of 10" in found[0]["reason"]
    assert [drop["id"] for drop in totals.drops(scored, 0.0, 0.2)] == ["r0", "r4"]
    assert totals.drops(scored, 0.0, 0.0) == []


def test_weights_fall_with_the_rank_and_dropped_rows_have_none():
    scored = scored_of([0.3, -0.1, 0.9, 0.5])
    dropped = totals.drops(scored, 0.0, 1.0)
    found = {entry["id"]: entry["weight"] for entry in totals.weights(scored, dropped)}
    assert found == {"r2": 1.5, "r3": 1.1667, "r0": 0.8333, "r1": 0.0}
    assert totals.weights(scored_of([1.0]), [])[0]["weight"] == 1.5


def test_the_next_target_takes_the_labels_in_turn_and_no_text_twice():
    scored = scored_of([0.9, 0.1, 0.2, 0.8, 0.3, 0.4])
    found = totals.next_target(scored, 4)
    assert [entry["id"] for entry in found] == ["r0", "r5", "r4", "r3"]
    assert found[0] == {"text": "text 0", "id": "r0", "rank": 1}
    assert len(totals.next_target(scored, 99)) == 6
    twins = [{**row, "text": "same"} for row in scored.rows]
    same = totals.Scored(twins, scored.columns, scored.rank)
    assert [entry["id"] for entry in totals.next_target(same, 4)] == ["r0"]


def test_rows_are_written_best_first(tmp_path):
    scored = scored_of([0.3, -0.1, 0.9], score=[0.5, None, 0.25])
    totals.write_rows(scored, tmp_path / "rows.parquet")
    table = pq.read_table(tmp_path / "rows.parquet").to_pylist()
    assert [row["id"] for row in table] == ["r2", "r0", "r1"]
    assert [row["decile"] for row in table] == [1, 6, None]
    assert table[0]["agreement"] == 0.9
    assert table[0]["parent_id"] is None
    assert [path.name for path in tmp_path.iterdir()] == ["rows.parquet"]


def spread(mean, sd=None):
    return {"mean": mean, "sd": sd, "values": [mean]}


CHECK = {
    "planted": {
        "share": 0.1,
        "auc": {"loss": spread(0.8), "agreement": spread(0.95), "random": spread(0.5)},
    },
    "leave_out": {
        "metric": "macro_f1",
        "n_left_out": 3,
        "n_measured": 40,
        "are_unseen": False,
        "differences": {"worst": {"metric": spread(0.01, 0.002)}, "best": {"metric": spread(-0.1)}},
    },
}


def shown(**changes):
    scored = scored_of(np.linspace(-1, 1, 21))
    found = {
        "adapters": ["adapted-0"],
        "n_rows": 21,
        "n_drops": 4,
        "totals": totals.totals(scored, draws=20, seed=0),
        "check": None,
    }
    return totals.lines({**found, **changes})


def test_a_terminal_shows_groups_with_intervals_and_says_that_nothing_was_checked():
    lines = shown()
    assert lines[0] == "21 training rows of adapted-0; 4 to drop"
    assert any(line.startswith("  seed ") and " to " in line for line in lines)
    assert lines[-1].startswith("not checked")
    assert max(map(len, lines)) < 100


def test_a_terminal_shows_what_the_checks_found_the_best_first():
    *_, first, second = shown(check=CHECK)
    assert first == (
        "AUC of finding 10% planted wrong labels: agreement 0.950, loss 0.800, random 0.500"
    )
    assert second == (
        "macro f1 without 3 rows: the worst +0.010 (sd 0.002), the best -0.100, on 40 validation "
        "rows that made the scores too"
    )
    *_, first, _ = shown(check={**CHECK, "planted": {"left_out": "no labels"}})
    assert first == "wrong labels were not planted: no labels"

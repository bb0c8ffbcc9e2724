import numpy as np
import pytest
import toy_training as toy

from lightadapt_data import influence_totals
from lightadapt_data.influence_check import (
    Checked,
    auc,
    check_leave_out,
    check_planted,
    planted,
)
from lightadapt_data.influence_scores import GradientSettings, drawn


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return toy.tiny_base(tmp_path_factory.mktemp("base"))


def checked(base, what=None, options=None, **changes):
    what = what or toy.curated(40, 20)
    return Checked(
        toy.settings(base, **changes), what, toy.arm(what.train), options or GradientSettings()
    )


def test_planted_wrong_labels_are_found(base):
    found = check_planted(checked(base, steps=60), seeds=(0, 1))
    assert found["seeds"] == [0, 1]
    assert len(found["metric"]) == 2
    assert found["auc"]["agreement"]["mean"] > 0.9
    assert found["auc"]["agreement"]["sd"] is not None
    assert found["precision"]["agreement"]["mean"] > found["precision"]["random"]["mean"]
    assert set(found["auc"]) == {"tracin", "cosine", "agreement", "loss", "random"}


def test_wrong_labels_depend_on_seed_and_id_and_are_always_others():
    rows = toy.rows(30)
    labels = ["negative", "neutral", "positive"]
    found, is_wrong = planted(rows, labels, 0.1, 0)
    assert is_wrong.sum() == 3
    for before, after, wrong in zip(rows, found, is_wrong, strict=True):
        assert (before["label"] != after["label"]) == wrong
        assert after["label"] in labels
    turned, _ = planted(rows[::-1], labels, 0.1, 0)
    assert turned[::-1] == found
    assert planted(rows, labels, 0.1, 1)[0] != found
    assert planted(rows, labels, 0.0, 0)[1].sum() == 1


def test_tasks_without_a_label_per_row_are_left_out(base):
    what = toy.curated(8, 4)
    what = Checked(toy.settings(base), what, toy.arm([{**what.train[0], "label": None}]), None)
    assert check_planted(what, (0,)) == {
        "left_out": "rows of this task have no single label that could be made wrong"
    }


def test_leaving_out_groups_is_measured_against_all_rows(base):
    what = checked(base, steps=8, evaluations=1)
    n_rows = len(what.content.rows)
    columns = {name: np.arange(n_rows, dtype=float) for name in ("agreement", "loss")}
    scored = influence_totals.ranked(what.content.rows, columns)
    found = check_leave_out(what, scored, seeds=(0,), share=0.25)
    assert found["n_left_out"] == 10
    assert found["metric"] == "accuracy"
    assert not found["are_unseen"]
    assert found["n_measured"] == 20
    assert set(found["differences"]) == {"worst", "best", "random"}
    entry = found["differences"]["worst"]["loss"]
    assert entry["sd"] is None
    assert len(entry["values"]) == 1


def test_validation_rows_that_the_scores_did_not_read_are_measured_where_there_are_enough(base):
    what = checked(base, toy.curated(10, 120), GradientSettings(validation_rows=20), steps=2)
    columns = {name: np.arange(10.0) for name in ("agreement", "loss")}
    scored = influence_totals.ranked(what.content.rows, columns)
    found = check_leave_out(what, scored, seeds=(0,))
    assert found["are_unseen"]
    assert found["n_measured"] == 100


def test_drawn_rows_do_not_depend_on_the_order():
    rows = toy.rows(30)
    chosen = drawn(rows, 7, 0)
    assert chosen == sorted(chosen)
    turned = rows[::-1]
    assert {rows[place]["id"] for place in chosen} == {
        turned[place]["id"] for place in drawn(turned, 7, 0)
    }
    assert drawn(rows, 99, 0) == list(range(30))


def test_auc_is_the_chance_that_a_wrong_row_scores_higher():
    is_wrong = np.array([True, False, False])
    assert auc(np.array([3, 1, 2]), is_wrong) == 1
    assert auc(np.array([1.5, 1, 2]), is_wrong) == 0.5

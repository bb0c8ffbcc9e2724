"""The histogram, the shown rows and the map; mirrors lightadapt_data/selection_view.py."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lightadapt_data import corpus
from lightadapt_data.reporting import selection_view
from lightadapt_data.reporting.selection_view import Selection


def selection(scores, n_kept):
    scores = np.array(scores, np.float32)
    rank = np.empty(len(scores), np.int64)
    rank[np.argsort(-scores, kind="stable")] = np.arange(1, len(scores) + 1)
    cut = float(np.sort(scores)[::-1][n_kept - 1])
    return Selection(scores, np.zeros(len(scores), np.int32), rank, n_kept, cut)


@given(st.lists(st.floats(-1e3, 1e3, width=32), min_size=1, max_size=60), st.data())
@settings(max_examples=60)
def test_every_score_is_counted_once(scores, data):
    n_kept = data.draw(st.integers(1, len(scores)))
    edges, kept, dropped = selection_view.score_counts(selection(scores, n_kept), 7)
    assert len(edges) == 8
    assert (sum(kept), sum(dropped)) == (n_kept, len(scores) - n_kept)


def test_counting_in_blocks_changes_nothing(monkeypatch):
    chosen = selection(np.random.default_rng(0).normal(size=500), 100)
    whole = selection_view.score_counts(chosen, 20)
    monkeypatch.setattr(selection_view, "BLOCK", 7)
    assert selection_view.score_counts(chosen, 20) == whole


@pytest.mark.parametrize(
    ("first", "last", "most", "found"),
    [(1, 3, 5, [1, 2, 3]), (1, 100, 3, [1, 50, 100]), (5, 4, 3, []), (1, 10, 1, [1])],
)
def test_spread_is_even_and_has_both_ends(first, last, most, found):
    assert selection_view.spread(first, last, most) == found


def test_ranked_rows_come_best_first_with_score_and_target(select_run):
    chosen = selection_view.read(select_run)
    rows = selection_view.ranked_rows(select_run, chosen, [3, 1, 2])
    assert [row["rank"] for row in rows] == [1, 2, 3]
    assert rows[0]["score"] >= rows[1]["score"] >= rows[2]["score"] >= chosen.cut
    assert rows[0]["nearest"]["text"]


def test_a_run_without_selection_has_none(select_run):
    space = type(select_run)(select_run.folder, 0, {})
    assert selection_view.read(space) is None


def test_the_map_holds_all_kinds_inside_its_grid(select_run):
    found = selection_view.map_points(select_run, selection_view.read(select_run), 1000, 20)
    n_points = 62 + 2
    assert all(len(found[name]) == n_points for name in ("x", "y", "kind", "id", "text"))
    assert [found["kind"].count(kind) for kind in (0, 1, 2)] == [32, 30, 2]
    assert (min(found["x"]), max(found["x"])) == (0, 1000)
    assert max(len(text) for text in found["text"]) <= 20
    assert 1 >= found["share"][0] >= found["share"][1] >= 0


def test_the_map_is_bounded_and_the_same_each_time(select_run):
    chosen = selection_view.read(select_run)
    first = selection_view.map_points(select_run, chosen, 12, 50)
    assert len(first["x"]) < 40
    assert first == selection_view.map_points(select_run, chosen, 12, 50)


def test_too_few_points_give_no_map(select_run):
    assert selection_view.map_points(select_run, None, 0, 50) is None


def test_the_axes_are_those_of_a_singular_value_decomposition():
    cloud = np.random.default_rng(0).normal(size=(50, 6)).astype(np.float32) * np.arange(1, 7)
    cloud = (cloud - cloud.mean(axis=0)).astype(np.float32)
    axes, share = selection_view._principal_axes(cloud)
    _, sizes, twin = np.linalg.svd(cloud, full_matrices=False)
    np.testing.assert_allclose(np.abs(axes.T @ twin[:2].T), np.eye(2), atol=1e-3)
    np.testing.assert_allclose(share, (sizes**2 / (sizes**2).sum())[:2], rtol=1e-4)
    assert (axes[np.abs(axes).argmax(axis=0), [0, 1]] > 0).all()


def test_rows_at_places_come_in_the_order_asked_for(select_run):
    found = corpus.rows_at(select_run, [5, 0, 61, 5], ["id"])
    assert [row["id"] for row in found] == ["c5", "c0", "copy", "c5"]
    assert corpus.rows_at(select_run, [], ["id"]) == []


def test_what_the_summary_says_is_said_in_words(copy_of, select_run):
    space = copy_of(select_run)
    (path,) = (space.folder / "work" / "select").glob("[!.]*/summary.json")
    found = json.loads(path.read_text())
    assert "Coverage radius" in selection_view.sentences(space)[-1]
    found |= {
        "kl_reduction": 0.25,
        "short": 7,
        "by_target": {"law": 20, "tax": 10},
        "capped": 3,
        "alike": 2,
    }
    found["facts"] = {
        "law": {"relevant_rows": 1234, "separation": 0.975},
        "tax": {"relevant_rows": 1, "separation": 0.5},
    }
    path.write_text(json.dumps(found))
    said = " ".join(selection_view.sentences(space))
    for words in (
        "The budget 30 is 7 short",
        "20 toward law, 10 toward tax",
        "About 1,234 rows of the corpus are estimated to be of the target's kind toward law",
        "3 better rows were over a quota, 2 too much like a chosen row",
        "KL reduction 0.250 nats",
    ):
        assert words in said

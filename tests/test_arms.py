from hypothesis import given
from hypothesis import strategies as st

from lightadapt_data.arms import repeated


@given(st.integers(1, 20), st.integers(0, 200), st.floats(0, 0.9))
def test_seed_rows_are_repeated_to_their_share_and_no_row_is_lost(n_seed, n_added, share):
    seed = [{"id": f"s{i}", "origin": "seed"} for i in range(n_seed)]
    added = [{"id": f"a{i}", "origin": "selected"} for i in range(n_added)]
    rows = repeated([*seed, *added], share)
    assert {row["id"] for row in rows} == {row["id"] for row in (*seed, *added)}
    assert sum(row["origin"] == "selected" for row in rows) == n_added
    reached = 1 - n_added / len(rows)
    step = n_seed / len(rows)
    assert reached >= share - step
    if n_added == 0:
        assert rows == seed

import logging

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from lightadapt_data.encoders.hashing import Settings as Hashing
from lightadapt_data.encoders.hashing import load
from lightadapt_data.filters import Text, semantic_duplicate
from lightadapt_data.filters.semantic_duplicate import FALLBACK, Settings, examine
from lightadapt_data.vectors import unit


class Vectors:
    """A run whose rows have the given vectors."""

    seed = 0

    def __init__(self, vectors):
        self._vectors = unit(np.asarray(vectors, np.float32))

    def vectors(self, rows):
        return self._vectors


class Hashes:
    """A run with the hashing encoder; it counts the texts that it encodes."""

    seed = 0

    def __init__(self):
        self._encoder = load(Hashing(dim=256))
        self.n_encoded = 0

    def vectors(self, rows):
        return self._encoder.encode([row.text for row in rows])

    def encode(self, texts):
        self.n_encoded += len(texts)
        return self._encoder.encode(texts)


def rows_of(count, families=None, n_settled=0):
    families = families or [str(i) for i in range(count)]
    return [Text(str(i), families[i], f"row {i}", is_settled=i < n_settled) for i in range(count)]


def at_angles(*degrees):
    radians = np.deg2rad(degrees)
    return np.stack([np.cos(radians), np.sin(radians)], axis=1)


def twin(vectors, families, n_settled, threshold):
    """Return {dropped: cosine with the closest kept row} by a loop over all pairs."""
    vectors = np.asarray(vectors, np.float64)
    kept, found = [], {}
    for index in range(len(vectors)):
        others = [other for other in kept if families[other] != families[index]]
        cosines = [float(vectors[index] @ vectors[other]) for other in others]
        assume(all(abs(cosine - threshold) > 1e-4 for cosine in cosines))
        highest = max(cosines, default=-1.0)
        if highest > threshold and index >= n_settled:
            found[index] = highest
        else:
            kept.append(index)
    return found


def small_blocks(patch):
    patch.setattr(semantic_duplicate, "BLOCK_ROWS", 5)
    patch.setattr(semantic_duplicate, "BLOCK_COLUMNS", 3)


@settings(deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 40), st.integers(0, 3)), min_size=1, max_size=25),
    st.lists(st.sampled_from("abcdefgh"), min_size=25, max_size=25),
    st.integers(0, 4),
    st.sampled_from([0.5, 0.9, 0.97]),
    st.booleans(),
)
def test_the_result_equals_a_loop_over_all_pairs(angles, families, n_settled, threshold, has_cells):
    vectors = np.concatenate([at_angles(*(9 * a for a, _ in angles)), [[b] for _, b in angles]], 1)
    run = Vectors(vectors)
    families = families[: len(angles)]
    rows = rows_of(len(angles), families, n_settled)
    chosen = Settings(threshold=threshold, probes=99, exact_rows=0 if has_cells else 99)
    with pytest.MonkeyPatch.context() as patch:
        small_blocks(patch)
        found = examine(rows, chosen, run)
    expected = twin(run.vectors(rows), families, n_settled, threshold)
    assert sorted(found) == sorted(expected)
    for index, finding in found.items():
        assert finding.similarity == pytest.approx(expected[index], abs=1e-5)
        assert finding.kept not in found
        assert families[finding.kept] != families[index]


def test_a_chain_deletes_only_rows_close_to_a_kept_one():
    found = examine(rows_of(5), Settings(threshold=0.95), Vectors(at_angles(0, 15, 30, 45, 60)))
    assert {row: finding.kept for row, finding in found.items()} == {1: 0, 3: 2}
    assert found[1].reason == "cosine 0.97, threshold 0.95"


def test_the_order_of_rows_decides_who_is_kept():
    found = examine(rows_of(3), Settings(threshold=0.95), Vectors(at_angles(15, 0, 30)))
    assert {row: finding.kept for row, finding in found.items()} == {1: 0, 2: 0}


def test_a_row_and_its_children_are_no_copies_of_each_other():
    run = Vectors(at_angles(0, 0, 1))
    assert list(examine(rows_of(3, ["a", "a", "b"]), Settings(threshold=0.9), run)) == [2]


def test_rows_of_an_earlier_run_stay_and_drop_others():
    run = Vectors(at_angles(0, 0, 1))
    found = examine(rows_of(3, n_settled=2), Settings(threshold=0.9), run)
    assert {row: finding.kept for row, finding in found.items()} == {2: 0}


def test_rows_without_a_direction_are_no_copies():
    assert examine(rows_of(3), Settings(threshold=0.5), Vectors(np.zeros((3, 4)))) == {}


def test_the_size_of_blocks_does_not_show(monkeypatch):
    draw = np.random.default_rng(0)
    run = Vectors(draw.normal(size=(300, 3)))
    whole = examine(rows_of(300), Settings(threshold=0.9), run)
    small_blocks(monkeypatch)
    assert examine(rows_of(300), Settings(threshold=0.9), run) == whole
    assert len(whole) > 100


def test_cells_find_nearly_all_that_an_exact_search_finds():
    draw = np.random.default_rng(0)
    centres = draw.normal(size=(300, 24))
    run = Vectors(np.concatenate([centres + 0.05 * draw.normal(size=(300, 24)) for _ in range(4)]))
    exact = examine(rows_of(1200), Settings(threshold=0.95), run)
    cells = examine(rows_of(1200), Settings(threshold=0.95, exact_rows=0), run)
    assert len(exact) > 800
    assert len(exact.keys() & cells.keys()) >= 0.98 * len(exact)
    assert examine(rows_of(1200), Settings(threshold=0.95, exact_rows=0), run) == cells


def test_thousands_of_equal_rows_in_one_cell_leave_one():
    vectors = np.tile(at_angles(10), (5000, 1))
    found = examine(rows_of(5000), Settings(threshold=0.9, exact_rows=0), Vectors(vectors))
    assert len(found) == 4999
    assert {finding.kept for finding in found.values()} == {0}


WORDS = [f"w{i}" for i in range(400)]


def corpus(count):
    draw = np.random.default_rng(7)
    return [" ".join(draw.choice(WORDS, 20)) for _ in range(count)]


def test_without_a_threshold_it_is_measured_and_told(caplog):
    values = corpus(120)
    values.append(values[3] + " w1")
    rows = [Text(str(i), str(i), value) for i, value in enumerate(values)]
    run = Hashes()
    with caplog.at_level(logging.INFO):
        found = examine(rows, Settings(), run)
    assert list(found) == [120]
    assert found[120].kept == 3
    assert run.n_encoded <= 500
    assert "count as copies: precision" in caplog.text
    assert "recall" in caplog.text


def test_a_tiny_corpus_takes_the_fixed_threshold_and_encodes_nothing():
    run = Hashes()
    rows = [Text(str(i), str(i), value) for i, value in enumerate(corpus(5) + corpus(1))]
    assert examine(rows, Settings(), run)[5].reason.endswith(f"threshold {FALLBACK}")
    assert run.n_encoded == 0


def test_rows_too_short_to_measure_on_take_the_fixed_threshold(caplog):
    rows = [Text(str(i), str(i), f"word {i}") for i in range(60)]
    examine(rows, Settings(), Hashes())
    assert "too few texts of four words to measure a threshold; it is 0.95" in caplog.text


def test_a_threshold_that_nothing_can_reach_is_refused():
    with pytest.raises(ValidationError, match="less than 1"):
        Settings(threshold=1.0)


def test_no_rows_need_no_encoder():
    assert examine([], Settings(), None) == {}

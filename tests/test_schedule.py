import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lightadapt_data.schedule import WINDOW_BATCHES, batches_by_length, learning_rate_at


def epoch(lengths, batch_rows, seed=0):
    return batches_by_length(lengths, batch_rows, torch.Generator().manual_seed(seed))


@given(st.lists(st.integers(1, 128), max_size=120), st.integers(1, 9), st.integers(0, 99))
def test_an_epoch_has_every_row_once_in_full_batches(lengths, batch_rows, seed):
    batches = epoch(lengths, batch_rows, seed)
    assert sorted(row for batch in batches for row in batch) == list(range(len(lengths)))
    assert sorted(map(len, batches), reverse=True)[:-1] == [batch_rows] * (len(batches) - 1)


def test_rows_of_a_batch_are_of_like_length():
    lengths = list(range(4 * WINDOW_BATCHES))
    assert all(max(batch) - min(batch) == 3 for batch in epoch(lengths, 4))


def test_order_depends_on_the_seed_only():
    lengths = [5] * 50
    assert epoch(lengths, 4, 1) == epoch(lengths, 4, 1) != epoch(lengths, 4, 2)


def test_epochs_differ():
    generator = torch.Generator().manual_seed(0)
    first, second = (batches_by_length([5] * 50, 4, generator) for _ in range(2))
    assert first != second


@given(st.integers(1, 500), st.floats(0, 0.9))
def test_learning_rate_rises_to_1_then_falls_and_is_never_0(steps, warmup):
    rates = [learning_rate_at(step, steps, warmup) for step in range(steps)]
    top = rates.index(max(rates))
    assert all(0 < rate <= 1 for rate in rates)
    assert rates[:top] == sorted(rates[:top])
    assert rates[top:] == sorted(rates[top:], reverse=True)
    assert max(rates) == 1


def test_learning_rate_ends_at_0():
    assert learning_rate_at(60, 60, 0.06) == 0
    assert learning_rate_at(59, 60, 0.0) == pytest.approx(1 / 60)

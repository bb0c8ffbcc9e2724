import numpy as np
import pytest
import torch
import toy_training as toy
from hypothesis import given
from hypothesis import strategies as st

from lightadapt_data import kept_states
from lightadapt_data.errors import InputError
from lightadapt_data.example_gradients import passes
from lightadapt_data.row_influence import Judging, State, restore, scores, shared_step

DAMPING = 0.01
WHOLE = Judging(DAMPING, 10**9, 8192, 0)
PARTS = ("tracin", "cosine", "agreement", "loss")


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A learner with two states, its training rows and its validation rows."""
    folder = tmp_path_factory.mktemp("trained")
    own = toy.settings(toy.tiny_base(folder / "base"), steps=6)
    what = toy.finished(folder / "run", own, toy.curated(7, 5))
    states = kept_states.read(folder / "run" / "states", own, 1e-2, 0)
    who = kept_states.learner(what.job, folder / "run" / "states", True)
    return who, states, what.job.train, what.job.dev


def all_gradients(who, examples):
    found = [None] * len(examples)
    for places, gradients, _ in passes(who, examples, False):
        for place, gradient in zip(places, gradients, strict=True):
            found[place] = gradient.double()
    return found


def by_hand(trained, is_judge):
    """All three scores by their formulas, row by row and pair by pair."""
    who, states, train, validation = trained
    n = len(train)
    tracin, cosine, agreement = np.zeros((3, n))
    mean, square = (
        torch.cat([who.moments[f"{name}/{part}"].flatten() for name in who.names]).double()
        for part in ("exp_avg", "exp_avg_sq")
    )
    rates = [state.rate for state in states]
    for state in states:
        restore(who, state.values)
        mine, theirs = all_gradients(who, train), all_gradients(who, validation)
        share = state.rate / sum(rates)
        for i in range(n):
            tracin[i] += state.rate * np.mean([float(mine[i] @ other) for other in theirs])
            step = (0.9 * mean + 0.1 * mine[i]) / (
                0.999 * square + 0.001 * mine[i] ** 2 + 1e-8
            ).sqrt()
            cosine[i] += share * np.mean([angle(step, other) for other in theirs])
            others = [mine[j] for j in range(n) if j != i and is_judge[j]] + theirs
            units = torch.stack([other / other.norm() for other in others])
            n_judges = sum(is_judge) + len(theirs)
            curvature = units.T @ units + DAMPING * n_judges * torch.eye(units.shape[1]).double()
            step = torch.linalg.solve(curvature, units.sum(0))
            agreement[i] += share * float(step @ mine[i] / mine[i].norm())
    return tracin, cosine, agreement


def angle(a, b):
    return float(a @ b / a.norm() / b.norm())


@pytest.mark.parametrize("judges", [[1] * 7, [1, 1, 0, 1, 0, 0, 1], [0] * 7])
def test_scores_follow_their_formulas(trained, judges):
    is_judge = np.array(judges, bool)
    found = scores(*trained, is_judge, WHOLE)
    expected = by_hand(trained, is_judge)
    for name, values in zip(PARTS, expected, strict=False):
        np.testing.assert_allclose(getattr(found, name), values, atol=1e-5, rtol=1e-3)
    assert (found.loss > 0).all()


def test_scores_do_not_depend_on_the_order_of_the_rows(trained):
    who, states, train, validation = trained
    is_judge = np.array([True, False] * 3 + [True])
    found = scores(who, states, train, validation, is_judge, WHOLE)
    turned = scores(who, states, train[::-1], validation[::-1], is_judge[::-1], WHOLE)
    for name in PARTS:
        np.testing.assert_allclose(
            getattr(found, name), getattr(turned, name)[::-1], atol=1e-6, rtol=1e-4
        )


def test_rows_that_do_not_fit_are_projected_and_little_is_lost(trained):
    everyone = np.ones(7, bool)
    whole = scores(*trained, everyone, WHOLE)
    projected = scores(*trained, everyone, Judging(DAMPING, 1, 4096, 0))
    assert not np.array_equal(whole.agreement, projected.agreement)
    np.testing.assert_allclose(projected.agreement, whole.agreement, atol=0.05)
    np.testing.assert_array_equal(projected.tracin, whole.tracin)
    np.testing.assert_array_equal(projected.cosine, whole.cosine)
    kept = scores(*trained, everyone, Judging(DAMPING, 1, 0, 0))
    np.testing.assert_array_equal(kept.agreement, whole.agreement)


def test_the_mean_gradient_tells_what_a_step_takes_off_the_validation_loss(trained):
    who, states, train, validation = trained
    last = states[-1]
    found = scores(who, [State(last.values, 1.0)], train, validation, np.ones(7, bool), WHOLE)
    gradients = all_gradients(who, train)
    rate = 1e-4
    for row in range(3):
        before = loss_of(who, last.values, validation)
        moved = dict(last.values)
        start = 0
        for name in who.names:
            size = moved[name].numel()
            part = gradients[row][start : start + size].reshape(moved[name].shape)
            moved[name] = moved[name] - rate * part
            start += size
        taken_off = before - loss_of(who, moved, validation)
        assert taken_off == pytest.approx(rate * found.tracin[row], rel=0.1, abs=1e-7)
    restore(who, last.values)


def loss_of(who, values, examples):
    who.model.double()
    who.model.load_state_dict({name: value.double() for name, value in values.items()}, False)
    with torch.no_grad():
        batch = who.task.collate(examples, who.tokenizer)
        labels = batch.pop("labels")
        logits = who.model(**batch).logits
    who.model.float()
    return float(torch.nn.functional.cross_entropy(logits, labels))


def test_states_of_another_model_are_refused(trained):
    who, states, train, validation = trained
    values = dict(states[0].values)
    name = next(iter(values))
    with pytest.raises(InputError, match=r"1 parameters of the kept state do not fit the model"):
        restore(who, {key: value for key, value in values.items() if key != name})
    with pytest.raises(InputError, match=f"the first is {name}.*run train again"):
        restore(who, values | {name: values[name][:1]})
    with pytest.raises(InputError, match="0 kept states, 5 validation rows; allowed: 1 or more"):
        scores(who, [], train, validation, np.ones(7, bool), WHOLE)
    with pytest.raises(InputError, match="2 kept states, 0 validation rows"):
        scores(who, states, train, [], np.ones(7, bool), WHOLE)


@given(st.integers(1, 12), st.integers(1, 9), st.sampled_from([1e-3, 0.1, 10.0]))
def test_the_step_of_the_others_is_found_without_leaving_each_out(n_rows, width, damping):
    draw = torch.Generator().manual_seed(n_rows * 100 + width)
    units = torch.nn.functional.normalize(torch.randn(n_rows, width, generator=draw), dim=1)
    step, without = shared_step(units, damping)
    ridge = damping * n_rows * torch.eye(width).double()
    exact = units.double()
    expected = torch.linalg.solve(exact.T @ exact + ridge, exact.sum(0))
    torch.testing.assert_close(step.double(), expected, atol=1e-3, rtol=1e-3)
    for row in range(n_rows):
        rest = torch.cat([exact[:row], exact[row + 1 :]])
        other = torch.linalg.solve(rest.T @ rest + ridge, rest.sum(0))
        assert float(without[row]) == pytest.approx(float(other @ exact[row]), abs=1e-3, rel=1e-3)


def test_a_row_without_a_gradient_agrees_with_nobody_and_spoils_nothing():
    units = torch.eye(3)[[0, 0, 1, 1]]
    with_zero = torch.cat([units, torch.zeros(1, 3)])
    _, without = shared_step(with_zero, 0.01)
    assert float(without[-1]) == pytest.approx(0, abs=1e-6)
    assert (without[:4] > 0.9).all()

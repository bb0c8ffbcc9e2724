import shutil

import pytest
import torch
import toy_training as toy
from safetensors.torch import load_file, save_file

from lightadapt_data import kept_states
from lightadapt_data.errors import InputError
from lightadapt_data.schedule import learning_rate_at


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("made")
    own = toy.settings(toy.tiny_base(folder / "base"), steps=10, evaluations=2)
    return toy.finished(folder / "run", own, toy.curated(8, 4))


@pytest.fixture
def copy(made, tmp_path):
    return shutil.copytree(made.folder, tmp_path / "copy")


def test_states_come_in_order_with_the_mean_rate_of_their_steps(made):
    states = kept_states.read(made.folder / "states", made.settings, 0.5, 0)
    for state, steps in zip(states, (range(5), range(5, 10)), strict=True):
        rates = [0.5 * learning_rate_at(step, 10, made.settings.warmup) for step in steps]
        assert state.rate == pytest.approx(sum(rates) / 5)
    (last,) = kept_states.read(made.folder / "states", made.settings, 0.5, 1)
    assert last.rate == states[1].rate
    assert all(torch.equal(last.values[name], found) for name, found in states[1].values.items())


def test_the_best_state_gives_the_saved_adapter_and_another_does_not(made, copy):
    who = kept_states.learner(made.job, made.folder / "states", True)
    kept_states.check(who, made.job, made.best_step, made.folder)
    path = copy / "states" / f"step-{made.best_step}.safetensors"
    save_file({name: value + 1 for name, value in load_file(path).items()}, path)
    with pytest.raises(InputError, match="does not give the outputs of the adapter"):
        kept_states.check(who, made.job, made.best_step, copy)


def test_a_prefix_from_a_network_is_built_anew_as_it_was(tmp_path):
    options = {"prefix": {"length": 3, "mlp_width": 8, "learning_rate": 1e-2}}
    own = toy.settings(toy.tiny_base(tmp_path), adapter="prefix", steps=3, options=options)
    what = toy.finished(tmp_path / "run", own, toy.curated(8, 4), seed=5)
    who = kept_states.learner(what.job, what.folder / "states", True)
    kept_states.check(who, what.job, what.best_step, what.folder)


def test_missing_and_broken_files_are_named(made, copy, tmp_path):
    with pytest.raises(InputError, match=r"no kept states; .* set train.keep_states = true"):
        kept_states.read(tmp_path, made.settings, 1e-3, 0)
    (copy / "states" / "step-10.safetensors").write_bytes(b"no tensors")
    with pytest.raises(InputError, match=r"step-10.safetensors: cannot be read: .*run train again"):
        kept_states.read(copy / "states", made.settings, 1e-3, 0)
    moments = copy / "states" / "adam.safetensors"
    save_file({"other/exp_avg": torch.zeros(1)}, moments)
    with pytest.raises(InputError, match="holds no moments of"):
        kept_states.learner(made.job, copy / "states", True)
    moments.unlink()
    with pytest.raises(InputError, match="holds no kept states"):
        kept_states.read(copy / "states", made.settings, 1e-3, 0)

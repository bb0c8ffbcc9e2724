"""What a training kept on its way, read back into the model that it was kept of."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from lightadapt_data import saved_adapters
from lightadapt_data.errors import InputError, LightadaptError
from lightadapt_data.example_gradients import Learner, parameters
from lightadapt_data.predicting import batch_of, device, prompted
from lightadapt_data.row_influence import State, restore
from lightadapt_data.schedule import learning_rate_at
from lightadapt_data.training import CHECKED_ROWS, Job, TrainingSettings

MOMENTS = "adam.safetensors"


def read(folder: Path, settings: TrainingSettings, learning_rate: float, most: int) -> list[State]:
    """Return the kept states, the first one first.

    Args:
        folder: `states/` of a training.
        settings: of that training.
        learning_rate: the highest one.
        most: so many of the latest; 0 for all.

    Raises:
        InputError: there are none, or a file cannot be read.
    """
    steps = sorted(int(path.stem.partition("-")[2]) for path in folder.glob("step-*.safetensors"))
    if not steps or not (folder / MOMENTS).exists():
        raise InputError(
            f"{folder}: holds no kept states; influence needs what was trained at every evaluation "
            "and Adam's moments; set train.keep_states = true and run again"
        )
    found, before = [], 0
    for step in steps:
        shares = [
            learning_rate_at(number, settings.steps, settings.warmup)
            for number in range(before, step)
        ]
        rate = learning_rate * sum(shares) / max(1, len(shares))
        found.append(State(_tensors(folder / f"step-{step}.safetensors"), rate))
        before = step
    return found[-most:] if most else found


def learner(job: Job, folder: Path, include_head: bool) -> Learner:
    """Return the model that a training had, with its adapter attached anew.

    Start values that are not trained come from the same seed as in the training.

    Args:
        job: what was trained.
        folder: `states/` of the training.
        include_head: take gradients of the head too.

    Raises:
        InputError: as the adapter's `attach` does; or Adam's moments cannot be read or
            are of another model.
    """
    import torch

    with torch.random.fork_rng():
        torch.manual_seed(job.seed)
        built = job.build()
        model = job.adapter.attach(built.network, job.adapter_settings, built.head_modules)
    model.to(device()).eval()
    names = parameters(model, built.head_modules, include_head)
    moments = _tensors(folder / MOMENTS)
    lacking = [name for name in names if f"{name}/exp_avg_sq" not in moments]
    if lacking:
        raise InputError(
            f"{folder / MOMENTS}: holds no moments of {lacking[0]}; allowed: those of this base "
            "model and adapter; run train again with keep_states = true"
        )
    return Learner(model, job.task, job.tokenizer, moments, names)


def check(who: Learner, job: Job, step: int, folder: Path) -> None:
    """Check that the state of a step gives what the saved adapter gives.

    Args:
        who: as `learner` gave it; its model is set to the state.
        job: what was trained.
        step: the best one on validation, which was saved.
        folder: of the finished training, with `adapter/` and `states/`.

    Raises:
        InputError: the state does not fit the model, or the outputs differ.
    """
    path = folder / "states" / f"step-{step}.safetensors"
    restore(who, _tensors(path))
    fresh = job.adapter.load(job.build().network, folder / "adapter").to(device())
    dev = prompted(job.dev[:CHECKED_ROWS], job.task, job.adapter, who.model, job.tokenizer)
    try:
        batch = batch_of(dev, job.task, job.tokenizer)
        saved_adapters.check(who.model, fresh, batch, folder / "adapter")
    except LightadaptError:
        raise InputError(
            f"{path}: does not give the outputs of the adapter that was trained; the base model or "
            "the adapter's settings have changed since; run train again with keep_states = true"
        ) from None


def _tensors(path: Path) -> dict[str, Any]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return dict(load_file(path))
    except (OSError, SafetensorError) as error:
        raise InputError(
            f"{path}: cannot be read: {str(error).splitlines()[0][:200]}; run train again with "
            "keep_states = true"
        ) from None

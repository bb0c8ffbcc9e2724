"""Checkpoints: the whole state of a training in one file, put in place by one rename."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any


@dataclass
class Progress:
    """What a training has reached; all of it stands in a checkpoint."""

    losses: list[float] = field(default_factory=list)
    dev_curve: list[dict[str, float]] = field(default_factory=list)
    best_step: int = 0
    best_score: tuple[float, float] | None = None
    best_state: dict[str, Any] = field(default_factory=dict)
    n_worse: int = 0
    """Evaluations since the best one."""
    seconds: float = 0.0

    def take(self, step: int, scores: dict[str, float], task: ModuleType, model: Any) -> None:
        """Note an evaluation, and the state when it is the best so far."""
        self.dev_curve.append({"step": step, **scores})
        sign = 1 if task.GOAL == "max" else -1
        score = (sign * scores[task.MAIN_METRIC], -scores["loss"])
        self.n_worse += 1
        if self.best_score is None or score > self.best_score:
            self.best_score, self.best_step, self.n_worse = score, step, 0
            self.best_state = trainable_state(model)


def save(path: Path | None, progress: Progress, model: Any, optimizer: Any, schedule: Any) -> None:
    """Write what `resume` reads; nothing where there is no path."""
    if path is None:
        return
    import torch

    content = {
        "progress": vars(progress),
        "trainable": trainable_state(model),
        "optimizer": optimizer.state_dict(),
        "schedule": schedule.state_dict(),
        "generator": torch.get_rng_state(),
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(f".{os.getpid()}.tmp")
    torch.save(content, temporary)
    os.replace(temporary, path)


def resume(path: Path | None, model: Any, optimizer: Any, schedule: Any) -> Progress:
    """Set model, optimizer, schedule and torch's generator to a checkpoint's state.

    Returns:
        What the training had reached; nothing yet where there is no file.
    """
    if path is None or not path.exists():
        return Progress()
    import torch

    content = torch.load(path, weights_only=True)
    model.load_state_dict(content["trainable"], strict=False)
    optimizer.load_state_dict(content["optimizer"])
    schedule.load_state_dict(content["schedule"])
    torch.set_rng_state(content["generator"])
    return Progress(**content["progress"])


def save_state(folder: Path, step: int, model: Any, optimizer: Any) -> None:
    """Write the trainable parameters as `step-N.safetensors`, and Adam's moments of now.

    The moments stand in `adam.safetensors`, as "<parameter>/exp_avg" and "<parameter>/exp_avg_sq".
    """
    from safetensors.torch import save_file

    folder.mkdir(parents=True, exist_ok=True)
    state = {name: tensor.cpu().contiguous() for name, tensor in trainable_state(model).items()}
    save_file(state, folder / f"step-{step}.safetensors")
    moments = {
        f"{name}/{part}": optimizer.state[parameter][part].cpu().contiguous()
        for name, parameter in model.named_parameters()
        if parameter.requires_grad
        for part in ("exp_avg", "exp_avg_sq")
    }
    save_file(moments, folder / "adam.safetensors")


def trainable_state(model: Any) -> dict[str, Any]:
    """Return copies of all trainable parameters by name."""
    return {
        name: parameter.detach().clone()
        for name, parameter in model.named_parameters()
        if parameter.requires_grad
    }

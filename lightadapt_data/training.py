"""Train an adapter: a fixed number of steps, the best step on dev kept, saved and read back.

A loop of our own and not transformers' Trainer: it starts at once, keeps the best state in memory
instead of on disk, and for a seed gives the same bytes every time. It stops with names when a
trainable parameter gets no gradient, and when what was saved does not read back to the same model:
both have gone wrong silently in adapter libraries.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from lightadapt_data.config import Config
from lightadapt_data.errors import InputError, LightadaptError
from lightadapt_data.schedule import batches_by_length, learning_rate_at
from lightadapt_data.tasks import Built, Example

logger = logging.getLogger(__name__)

EVAL_ROWS = 64
"""Rows of one forward pass without gradients."""


class TrainingSettings(Config):
    """How long and how to train; the same for every arm that is compared."""

    steps: int = Field(default=50, ge=1)
    """Optimizer steps [batches]."""
    batch_rows: int = Field(default=16, ge=1)
    """Rows of one step [rows]."""
    warmup: float = Field(default=0.06, ge=0, lt=1)
    """Share of the steps in which the learning rate rises; after that it falls to 0 [ratio]."""
    weight_decay: float = Field(default=0.01, ge=0)
    """AdamW's weight decay on matrices [per step, times the learning rate]."""
    evaluations: int = Field(default=3, ge=1)
    """How often dev is evaluated, at equal distances, the last time after the last step [times]."""
    dropout: bool = False
    """Use the model's dropout; without it training is faster and, over few steps, better."""
    mixed_precision: bool = False
    """Compute in bfloat16 where the processor or GPU has it; else nothing changes. On processors
    without AMX it was slower."""


@dataclass(frozen=True)
class Job:
    """What to train."""

    build: Callable[[], Built]
    """Gives a fresh model; called twice."""
    task: ModuleType
    adapter: ModuleType
    adapter_settings: Any
    tokenizer: Any
    train: Sequence[Example]
    dev: Sequence[Example]
    seed: int
    start_head: Callable[[Any], None] | None = None
    """Gives the fresh model's head better start weights than random ones."""


@dataclass(frozen=True)
class Result:
    """What training gave."""

    model: Any
    """The best state on dev, in evaluation mode."""
    best_step: int
    dev_curve: list[dict[str, float]]
    """`step` and the task's metrics on dev."""
    loss_curve: list[float]
    """Training loss of every step."""
    n_trainable: int
    n_parameters: int
    """All parameters, trainable and frozen."""
    bytes_on_disk: int
    seconds: float


def train(job: Job, settings: TrainingSettings, folder: Path) -> Result:
    """Train, save the best state on dev in `folder`, read it back, and return the result.

    Torch's global generator is left as it was.

    Raises:
        InputError: a trainable parameter gets no gradient, or the loss is no number.
        LightadaptError: the saved adapter gives other outputs than the trained one.
    """
    import torch

    if not job.train or not job.dev:
        raise InputError(
            f"training: {len(job.train)} train, {len(job.dev)} dev rows; allowed: >= 1"
        )
    started = time.monotonic()
    with torch.random.fork_rng():
        torch.manual_seed(job.seed)
        built = job.build()
        if job.start_head is not None:
            job.start_head(built.network)
        model = job.adapter.attach(built.network, job.adapter_settings, built.head_modules)
        model.to(_device())
        dev_curve, loss_curve, best_step = _fit(model, job, settings)
        save(model, folder)
        _check_saved(model, job, folder)
    parameters = list(model.parameters())
    return Result(
        model=model,
        best_step=best_step,
        dev_curve=dev_curve,
        loss_curve=loss_curve,
        n_trainable=sum(p.numel() for p in parameters if p.requires_grad),
        n_parameters=sum(p.numel() for p in parameters),
        bytes_on_disk=sum(path.stat().st_size for path in folder.iterdir()),
        seconds=time.monotonic() - started,
    )


def save(model: Any, folder: Path) -> None:
    """Write the adapter and the head in PEFT's format."""
    # Embeddings are frozen; PEFT's "auto" would ask the Hub whether they were resized.
    model.save_pretrained(str(folder), save_embedding_layers=False)
    # PEFT's card is a form left empty, with the path of the base model on this machine.
    (folder / "README.md").unlink(missing_ok=True)


def predict(
    model: Any, examples: Sequence[Example], task: ModuleType, tokenizer: Any
) -> NDArray[np.float32]:
    """Return the model's logits, float32 [rows, labels], in the order of the examples."""
    import torch

    was_training = model.training
    model.eval()
    order = sorted(range(len(examples)), key=lambda row: len(examples[row].token_ids))
    found: dict[int, NDArray[np.float32]] = {}
    with torch.inference_mode():
        for start in range(0, len(order), EVAL_ROWS):
            rows = order[start : start + EVAL_ROWS]
            batch = _batch([examples[row] for row in rows], task, tokenizer)
            del batch["labels"]  # they may be unknown
            logits = model(**batch).logits.float().cpu().numpy()
            found.update(zip(rows, logits, strict=True))
    model.train(was_training)
    return np.stack([found[row] for row in range(len(examples))])


def check_gradients(model: Any) -> None:
    """Check that every trainable parameter took part in the loss; call it after the backward pass.

    Raises:
        InputError: some did not, or nothing is trainable.
    """
    trainable = {name: p for name, p in model.named_parameters() if p.requires_grad}
    lacking = [name for name, parameter in trainable.items() if parameter.grad is None]
    if lacking or not trainable:
        names = ", ".join(lacking[:5]) + (", ..." if len(lacking) > 5 else "")
        raise InputError(
            f"training: {len(lacking)} of {len(trainable)} trainable parameters got no gradient in "
            f"step 1 ({names or 'there is none'}); the adapter does not take part in this base "
            "model's output; choose another base_model or adapter"
        )


def _fit(
    model: Any, job: Job, settings: TrainingSettings
) -> tuple[list[dict[str, float]], list[float], int]:
    """Train in place and leave the best state on dev in the model."""
    import torch

    optimizer = _optimizer(model, settings, job.adapter_settings.learning_rate)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: learning_rate_at(step, settings.steps, settings.warmup)
    )
    when = {
        round(settings.steps * (i + 1) / settings.evaluations) for i in range(settings.evaluations)
    }
    dev_curve: list[dict[str, float]] = []
    losses: list[float] = []
    best_score: tuple[float, float] | None = None
    best_state: dict[str, Any] = {}
    best_step = 0
    model.train(settings.dropout)
    for step, rows in enumerate(_endless(job, settings), start=1):
        losses.append(_step(model, [job.train[row] for row in rows], job, settings, step))
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
        if step in when:
            scores = job.task.metrics(predict(model, job.dev, job.task, job.tokenizer), job.dev)
            dev_curve.append({"step": step, **scores})
            score = (scores[job.task.MAIN_METRIC], -scores["loss"])
            if best_score is None or score > best_score:
                best_score, best_step, best_state = score, step, _trainable_state(model)
        if step == settings.steps:
            break
    model.load_state_dict(best_state, strict=False)
    model.eval()
    return dev_curve, losses, best_step


def _step(
    model: Any, examples: Sequence[Example], job: Job, settings: TrainingSettings, step: int
) -> float:
    """Do one forward and backward pass and return the loss."""
    import torch

    with _autocast(settings.mixed_precision):
        loss = model(**_batch(examples, job.task, job.tokenizer)).loss
    value = float(loss.detach())
    if not np.isfinite(value):
        raise InputError(
            f"training: the loss became {value} in step {step}; lower the adapter's learning_rate "
            f"(now {job.adapter_settings.learning_rate}) or switch mixed_precision off"
        )
    if not loss.requires_grad:
        check_gradients(model)
    loss.backward()
    if step == 1:
        check_gradients(model)
    torch.nn.utils.clip_grad_norm_([p for p in model.parameters() if p.requires_grad], 1.0)
    return value


def _optimizer(model: Any, settings: TrainingSettings, learning_rate: float) -> Any:
    import torch

    trainable = [parameter for parameter in model.parameters() if parameter.requires_grad]
    groups = [
        {"params": [p for p in trainable if p.ndim > 1], "weight_decay": settings.weight_decay},
        {"params": [p for p in trainable if p.ndim <= 1], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=learning_rate)


def _endless(job: Job, settings: TrainingSettings) -> Iterator[list[int]]:
    """Yield batches of row numbers, epoch after epoch."""
    import torch

    generator = torch.Generator().manual_seed(job.seed)
    lengths = [len(example.token_ids) for example in job.train]
    while True:
        yield from batches_by_length(lengths, settings.batch_rows, generator)


def _batch(examples: Sequence[Example], task: ModuleType, tokenizer: Any) -> dict[str, Any]:
    device = _device()
    return {name: tensor.to(device) for name, tensor in task.collate(examples, tokenizer).items()}


def _trainable_state(model: Any) -> dict[str, Any]:
    return {
        name: parameter.detach().clone()
        for name, parameter in model.named_parameters()
        if parameter.requires_grad
    }


def _check_saved(model: Any, job: Job, folder: Path) -> None:
    """Read the adapter back into a fresh base and compare logits on the first dev rows.

    The fresh base's head has other start weights, so a head that was not saved shows up.

    Raises:
        LightadaptError: they differ.
    """
    import torch

    rows = job.dev[:8]
    fresh = job.adapter.load(job.build().network, folder).to(_device())
    expected, found = (predict(m, rows, job.task, job.tokenizer) for m in (model, fresh))
    if not torch.allclose(torch.from_numpy(expected), torch.from_numpy(found), atol=1e-4):
        raise LightadaptError(
            f"{folder}: the saved adapter gives other outputs than the trained one (largest "
            f"difference {np.abs(expected - found).max():.3g}); something that was trained is not "
            "saved; check that the base model's files did not change, and report this with the "
            "versions of peft and transformers"
        )


@contextmanager
def _autocast(is_wanted: bool) -> Iterator[None]:
    """Compute in bfloat16 inside, if wanted and if the hardware has it."""
    import torch

    kind = _device()
    with torch.autocast(kind, torch.bfloat16, enabled=is_wanted and has_bfloat16(kind)):
        yield


def has_bfloat16(device: str) -> bool:
    """Return whether torch says that the device computes bfloat16 in hardware."""
    import torch

    if device == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


def _device() -> str:
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"

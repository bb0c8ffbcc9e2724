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
from pydantic import Field

from lightadapt_data import checkpoints, frozen_layers, saved_adapters
from lightadapt_data.checkpoints import Progress
from lightadapt_data.config import Config
from lightadapt_data.errors import InputError
from lightadapt_data.predicting import autocast, batch_of, device, eval_batches, predict, prompted
from lightadapt_data.schedule import batches_by_length, learning_rate_at
from lightadapt_data.tasks import Built

logger = logging.getLogger(__name__)

LEAST_EPOCHS = 1.5
"""From so many epochs on it pays to keep the outputs of frozen layers."""
CHECKED_ROWS = 8
"""Dev rows by which a saved adapter is compared with the trained one."""


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
    patience: int = Field(default=0, ge=0)
    """Stop when so many evaluations in a row bring no better score; 0: never [times]."""
    dropout: bool = False
    """Use the model's dropout; without it training is faster and, over few steps, better."""
    mixed_precision: bool = False
    """Compute in bfloat16 where the processor or GPU has it; else nothing changes. On processors
    without AMX it was slower."""
    gradient_checkpointing: bool = False
    """Keep only the layers' inputs for the backward pass: less memory, about a third more time."""
    keep_states: bool = False
    """Keep what was trained at every evaluation, and Adam's moments, for `influence`."""


@dataclass(frozen=True)
class Job:
    """What to train."""

    build: Callable[[], Built]
    """Gives a fresh model; called twice."""
    task: ModuleType
    adapter: ModuleType
    adapter_settings: Any
    tokenizer: Any
    train: Sequence[Any]
    """The task's examples."""
    dev: Sequence[Any]
    seed: int
    start_head: Callable[[Any], None] | None = None
    """Gives the fresh model's head better start weights than random ones."""
    checkpoint: Path | None = None
    """File that lets a killed training go on from its last evaluation; removed when it is done."""
    states: Path | None = None
    """Folder for what was trained at each evaluation, as `checkpoints.save_state` writes it."""


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
    """Wall time of the steps, without evaluations [seconds]."""


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
    with torch.random.fork_rng():
        torch.manual_seed(job.seed)
        built = job.build()
        if job.start_head is not None:
            job.start_head(built.network)
        model = job.adapter.attach(built.network, job.adapter_settings, built.head_modules)
        model.to(device())
        if settings.gradient_checkpointing:
            _save_memory(model)
        progress = _fit(model, job, settings)
        saved_adapters.save(model, folder)
        dev = prompted(job.dev[:CHECKED_ROWS], job.task, job.adapter, model, job.tokenizer)
        batch = batch_of(dev, job.task, job.tokenizer)
        fresh = job.adapter.load(job.build().network, folder).to(device())
        saved_adapters.check(model, fresh, batch, folder)
    if job.checkpoint is not None:
        job.checkpoint.unlink(missing_ok=True)
    parameters = list(model.parameters())
    return Result(
        model=model,
        best_step=progress.best_step,
        dev_curve=progress.dev_curve,
        loss_curve=progress.losses,
        n_trainable=sum(p.numel() for p in parameters if p.requires_grad),
        n_parameters=sum(p.numel() for p in parameters),
        bytes_on_disk=sum(path.stat().st_size for path in folder.iterdir()),
        seconds=progress.seconds,
    )


def _save_memory(model: Any) -> None:
    """Switch gradient checkpointing on, in the transformers model that may stand in another."""
    from transformers import PreTrainedModel

    for part in model.modules():
        if not isinstance(part, PreTrainedModel):
            continue
        try:
            part.gradient_checkpointing_enable({"use_reentrant": False})
        except ValueError as error:
            raise InputError(
                f"train.gradient_checkpointing = true: {error}; set it to false for this model"
            ) from None
        return


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


def _fit(model: Any, job: Job, settings: TrainingSettings) -> Progress:
    """Train in place and leave the best state on dev in the model."""
    import torch

    train, dev = (
        prompted(examples, job.task, job.adapter, model, job.tokenizer)
        for examples in (job.train, job.dev)
    )
    optimizer = _optimizer(model, settings, job.adapter_settings.learning_rate)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: learning_rate_at(step, settings.steps, settings.warmup)
    )
    when = {
        round(settings.steps * (i + 1) / settings.evaluations) for i in range(settings.evaluations)
    }
    progress = checkpoints.resume(job.checkpoint, model, optimizer, schedule)
    n_done = len(progress.losses)
    model.train(settings.dropout)
    with _recalled(model, train, job, settings) as recall:
        for step, rows in enumerate(_endless(train, job.seed, settings), start=1):
            if step <= n_done:
                continue
            started = time.monotonic()
            recall(rows)
            progress.losses.append(_step(model, [train[row] for row in rows], job, settings, step))
            optimizer.step()
            schedule.step()
            optimizer.zero_grad()
            progress.seconds += time.monotonic() - started
            if step not in when:
                continue
            recall(())
            scores = job.task.metrics(predict(model, dev, job.task, job.tokenizer), dev)
            progress.take(step, scores, job.task, model)
            if job.states is not None:
                checkpoints.save_state(job.states, step, model, optimizer)
            _tell(progress, scores, job.task, settings)
            if step == settings.steps or 0 < settings.patience <= progress.n_worse:
                break
            checkpoints.save(job.checkpoint, progress, model, optimizer, schedule)
    model.load_state_dict(progress.best_state, strict=False)
    model.eval()
    return progress


@contextmanager
def _recalled(
    model: Any, train: Sequence[Any], job: Job, settings: TrainingSettings
) -> Iterator[frozen_layers.Recall]:
    """Keep the outputs of frozen lower layers where that saves work; yield what takes batches."""
    n_epochs = settings.steps * settings.batch_rows / len(train)
    if settings.dropout or settings.gradient_checkpointing or n_epochs < LEAST_EPOCHS:
        yield lambda rows: None
        return
    lengths = [len(example.token_ids) for example in train]

    def run(rows: Sequence[int]) -> None:
        with autocast(settings.mixed_precision):
            model(**batch_of([train[row] for row in rows], job.task, job.tokenizer))

    with frozen_layers.kept(model, lengths, list(eval_batches(lengths)), run) as recall:
        yield recall


def _tell(
    progress: Progress, scores: dict[str, float], task: ModuleType, settings: TrainingSettings
) -> None:
    """Log how far training is, how good, and how long the rest takes at most."""
    n_done = len(progress.losses)
    left = progress.seconds / n_done * (settings.steps - n_done)
    logger.info(
        "train: step %d of %d, loss %.3f, %s %.3f on dev (best %.3f in step %d), %.0f s left",
        n_done,
        settings.steps,
        float(np.mean(progress.losses[-20:])),
        task.MAIN_METRIC,
        scores[task.MAIN_METRIC],
        abs((progress.best_score or (0.0, 0.0))[0]),
        progress.best_step,
        left,
    )


def _step(
    model: Any, examples: Sequence[Any], job: Job, settings: TrainingSettings, step: int
) -> float:
    """Do one forward and backward pass and return the loss."""
    import torch

    with autocast(settings.mixed_precision):
        loss = model(**batch_of(examples, job.task, job.tokenizer)).loss
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


def _endless(examples: Sequence[Any], seed: int, settings: TrainingSettings) -> Iterator[list[int]]:
    """Yield batches of row numbers, epoch after epoch."""
    import torch

    generator = torch.Generator().manual_seed(seed)
    lengths = [len(example.token_ids) for example in examples]
    while True:
        yield from batches_by_length(lengths, settings.batch_rows, generator)

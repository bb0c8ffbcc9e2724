"""What training an adapter costs: time, memory, and how much slower the model is with it.

Times never stand in a shard, whose content must not depend on the clock; they are written beside.
"""

from __future__ import annotations

import json
import resource
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from lightadapt_data.predicting import predict, prompted
from lightadapt_data.training import Job, Result, TrainingSettings

ROUNDS = 3
"""Rounds of measuring predictions with the adapter and without; the fastest of each counts."""
MEASURED_ROWS = 128


def start_of_peak() -> None:
    """Let `peak_memory` count from now on, where the system can."""
    import torch

    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5", "utf-8")


def peak_memory() -> int:
    """Return the most memory in use since `start_of_peak`: the GPU's, or this process's [bytes]."""
    import torch

    if torch.cuda.is_available():
        return int(torch.cuda.max_memory_allocated())
    with suppress(OSError):
        for line in Path("/proc/self/status").read_text("utf-8").splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def inference_overhead(model: Any, job: Job) -> float | None:
    """Return the time of a prediction with the adapter over that without it, less 1 [ratio].

    None where an adapter cannot be switched off, as when the whole model was trained.
    """
    if not hasattr(model, "disable_adapter"):
        return None
    plain = job.dev[:MEASURED_ROWS]
    examples = prompted(plain, job.task, job.adapter, model, job.tokenizer)
    with_it, without = float("inf"), float("inf")
    for _ in range(ROUNDS):
        with_it = min(with_it, _seconds(model, examples, job))
        with model.disable_adapter():
            without = min(without, _seconds(model, plain, job))
    return with_it / without - 1


def _seconds(model: Any, examples: Sequence[Any], job: Job) -> float:
    started = time.perf_counter()
    predict(model, examples, job.task, job.tokenizer)
    return time.perf_counter() - started


def write(
    path: Path, what: dict[str, Any], result: Result, settings: TrainingSettings, overhead: Any
) -> None:
    """Write one adapter's costs as JSON.

    Args:
        path: the file.
        what: which adapter it is.
        result: what training gave.
        settings: how it was trained.
        overhead: as `inference_overhead` returns it.
    """
    rows = len(result.loss_curve) * settings.batch_rows
    content = {
        **what,
        "trainable": result.n_trainable,
        "parameters": result.n_parameters,
        "bytes_on_disk": result.bytes_on_disk,
        "peak_memory_bytes": peak_memory(),
        "train_seconds": result.seconds,
        "train_rows_per_second": rows / max(result.seconds, 1e-9),
        "inference_overhead": overhead,
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, indent=1), "utf-8")

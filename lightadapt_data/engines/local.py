"""local: shards on this machine, in this process or in spawned ones."""

from __future__ import annotations

import multiprocessing
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait

from lightadapt_data.shards import Counts, Shard


def map_shards(
    do: Callable[[Shard], Counts], shards: Sequence[Shard], workers: int
) -> Iterator[tuple[Shard, Counts]]:
    """Yield (shard, counts) as shards are finished.

    Args:
        do: picklable when `workers` is above 1.
        shards: the work; each worker pulls the next one when it is free.
        workers: processes; 1 works in this process.
    """
    workers = min(workers, len(shards))
    if workers <= 1:
        for shard in shards:
            yield shard, do(shard)
        return
    context = multiprocessing.get_context("spawn")  # fork deadlocks with threads of BLAS and torch
    with ProcessPoolExecutor(workers, context, initializer=_die_with_parent) as pool:
        futures = {pool.submit(do, shard): shard for shard in shards}
        try:
            waiting = set(futures)
            while waiting:
                finished, waiting = wait(waiting, return_when=FIRST_COMPLETED)
                for future in finished:
                    yield futures[future], future.result()
        except BaseException:
            pool.shutdown(wait=True, cancel_futures=True)
            raise


def _die_with_parent() -> None:
    """End this worker when its parent is gone: a killed run must leave no process behind."""
    parent = multiprocessing.parent_process()
    if parent is None:
        return

    def watch() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()

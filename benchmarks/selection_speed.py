"""Speed of the methods that read text, against named peers on the same work.

Both sides do the same work on the same texts in memory, in one process on one core, in turns, five
rounds. Printed: the median of each side in MB of UTF-8 text per CPU second with lowest and highest,
the ratio of the medians, and how far the results agree. Nothing is asserted.

dsir            count the corpus and the target, then weigh every row; peer: the package
                `data-selection`, HashedNgramDSIR, with one process. cross_entropy, which has no
                such peer, is timed beside it

Run: python benchmarks/selection_speed.py dsir [--texts FILE.jsonl] [--megabytes 2] [--rounds 5]
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import platform
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray

from lightadapt_data import hashed_ngrams
from lightadapt_data.selectors import Target, cross_entropy, dsir

TARGET_ROWS = 64

Side = Callable[[], NDArray[np.floating]]
"""Do the work once; return one number per row."""


@dataclass(frozen=True)
class Work:
    """What both sides are given."""

    texts: list[str]
    target: list[str]
    rounds: int

    @property
    def megabytes(self) -> float:
        """UTF-8 size of the texts [MB of 10^6 bytes]."""
        return sum(len(text.encode()) for text in self.texts) / 1e6


def main() -> None:
    """Run the named sections."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("sections", nargs="+", choices=sorted(SECTIONS))
    parser.add_argument("--texts", type=Path, help="JSON lines with a field `text`")
    parser.add_argument("--data", type=Path, default=Path("../shared/data/pool"))
    parser.add_argument("--megabytes", type=float, default=2.0)
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    with contextlib.suppress(AttributeError):  # not on macOS and Windows
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    texts = _sample(_read(arguments.texts, arguments.data), arguments.megabytes)
    step = max(1, len(texts) // TARGET_ROWS)
    work = Work(texts, texts[::step][:TARGET_ROWS], arguments.rounds)
    print(
        f"{len(texts):,} texts, {work.megabytes:.2f} MB; {_processor()}, {os.cpu_count()} cores, "
        f"one used; Python {platform.python_version()}, numpy {np.__version__}"
    )
    for section in arguments.sections:
        print(f"\n{section}")
        SECTIONS[section](work)


def run_dsir(work: Work) -> None:
    """Print the speed of dsir and cross_entropy over that of data-selection."""
    from data_selection import HashedNgramDSIR

    with tempfile.TemporaryDirectory() as folder:

        def peer() -> NDArray[np.floating]:
            sources = {"corpus": work.texts, "target": work.target}
            # Texts from memory, so that its time is not spent on reading JSON.
            ours = HashedNgramDSIR(
                ["corpus"],
                ["target"],
                folder,
                raw_load_dataset_fn=lambda name: iter(sources[name]),
                raw_parse_example_fn=None,
                target_load_dataset_fn=lambda name: iter(sources[name]),
                target_parse_example_fn=None,
                num_proc=1,
            )
            with open(os.devnull, "w") as nothing, contextlib.redirect_stderr(nothing):
                ours.fit_importance_estimator(num_tokens_to_fit="all")
                ours.compute_importance_weights()
            weights: NDArray[np.floating] = np.load(f"{folder}/log_importance_weights/0.npy")
            return weights

        def compatible() -> NDArray[np.floating]:
            # What a new process would find: no bucket is remembered yet.
            hashed_ngrams._known_buckets.cache_clear()
            return _scored(work, dsir.Settings(compatible=True))

        name = f"data-selection {metadata.version('data-selection')}"
        sides: dict[str, Side] = {
            "dsir": lambda: _scored(work, dsir.Settings()),
            "dsir, compatible": compatible,
            "cross_entropy": lambda: _scored_by_cross_entropy(work),
            name: peer,
        }
        results = _in_turns(work, sides, name)
    for side in ("dsir, compatible", "dsir"):
        print(f"Spearman of {side} with {name}: {_spearman(results[side], results[name]):.4f}")


SECTIONS: dict[str, Callable[[Work], None]] = {"dsir": run_dsir}
"""Sections by name; a new one is a function of Work that prints its lines."""


def _in_turns(work: Work, sides: dict[str, Side], peer: str) -> dict[str, NDArray[np.floating]]:
    """Run all sides in turns, print their speeds and ratios, return their last results."""
    speeds: dict[str, list[float]] = {side: [] for side in sides}
    results = {}
    for number in range(work.rounds):
        # Every other round backwards, so that no side always comes first.
        for side in list(sides)[:: 1 if number % 2 == 0 else -1]:
            started = time.process_time()
            results[side] = sides[side]()
            speeds[side].append(work.megabytes / (time.process_time() - started))
    reference = statistics.median(speeds[peer])
    print(f"{'MB per CPU second':<28}{'median':>9}{'lowest':>9}{'highest':>9}{'ratio':>9}")
    for side, found in speeds.items():
        middle = statistics.median(found)
        print(
            f"{side:<28}{middle:>9.2f}{min(found):>9.2f}{max(found):>9.2f}"
            f"{middle / reference:>8.1f}x"
        )
    return results


class _InMemory:
    """The texts as selectors that read texts see a corpus."""

    dim = 1

    def __init__(self, texts: list[str]) -> None:
        self._texts = texts
        self.n_rows = len(texts)
        self.keys = np.arange(1, len(texts) + 1, dtype=np.uint64)
        self.tokens = np.ones(len(texts), np.int32)

    def mean(self) -> NDArray[np.float32]:
        """Return a vector that no method here looks at."""
        return np.zeros(1, np.float32)

    def blocks(self) -> Iterator[tuple[int, NDArray[np.float32]]]:
        """Yield vectors that no method here looks at."""
        yield 0, np.zeros((self.n_rows, 1), np.float32)

    def texts(self, column: str = "text") -> Iterator[tuple[int, list[str]]]:
        """Yield (index of the first row, texts) in blocks as large as a run's parts."""
        for start in range(0, self.n_rows, 1024):
            yield start, self._texts[start : start + 1024]

    def column(self, name: str) -> NDArray[np.int32]:
        """Return one code for all rows."""
        return np.zeros(self.n_rows, np.int32)


def _target(work: Work) -> Target:
    return Target(np.zeros((len(work.target), 1), np.float32), work.target)


def _scored(work: Work, settings: dsir.Settings) -> NDArray[np.floating]:
    return dsir.score(_InMemory(work.texts), _target(work), settings, 0).score


def _scored_by_cross_entropy(work: Work) -> NDArray[np.floating]:
    settings = cross_entropy.Settings()
    return cross_entropy.score(_InMemory(work.texts), _target(work), settings, 0).score


def _read(path: Path | None, folder: Path) -> list[str]:
    """Return all texts of the JSON lines, or else of the folder's Parquet files."""
    if path is not None:
        with path.open(encoding="utf-8") as lines:
            return [json.loads(line)["text"] for line in lines if line.strip()]
    files = sorted(folder.glob("*.parquet"))
    if not files:
        raise SystemExit(f"{folder}: no Parquet files; name texts by --texts FILE.jsonl or --data")
    return [text for file in files for text in pq.read_table(file)["text"].to_pylist()]


def _sample(texts: list[str], megabytes: float) -> list[str]:
    """Return evenly spread texts of about that size together."""
    size = sum(len(text.encode()) for text in texts) / 1e6
    return texts[:: max(1, round(size / megabytes))]


def _spearman(left: NDArray[np.floating], right: NDArray[np.floating]) -> float:
    """Return the rank correlation, from -1 to 1; equal values are ranked in order of rows."""
    ranks = [np.argsort(np.argsort(values, kind="stable")) for values in (left, right)]
    return float(np.corrcoef(ranks[0], ranks[1])[0, 1])


def _processor() -> str:
    """Return the processor's name where the system tells it."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text("utf-8").splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


if __name__ == "__main__":
    main()

"""Deduplication: what the ladder finds on a corpus with planted copies, and speed against peers.

Quality: exact_duplicate, near_duplicate and semantic_duplicate, one after the other, in the order
of the corpus. The `source` of a planted row ends in -copy or -edited, and no filter sees it. A
planted copy counts as found when it is dropped, or when a row is dropped for it. All other drops
are written with both texts to drops.json, to be read: a corpus has copies that nobody planted.

Speed: near_duplicate against rensa and semantic_duplicate against semhash with the same vectors,
on one core, alternating, in CPU seconds. rensa is timed as its README shows it, on plain words; on
the same 3-grams of words; and as a loop of queries and inserts. It estimates the similarity;
near_duplicate counts it.

Run: python benchmarks/deduplication.py [--data ../shared/data] [--out runs/deduplication]
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import platform
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray

from lightadapt_data import methods, recipe, run
from lightadapt_data.corpus import Corpus
from lightadapt_data.filters import Finding, Text
from lightadapt_data.vectors import Floats

LADDER = ("exact_duplicate", "near_duplicate", "semantic_duplicate")
KINDS = ("copy", "edited")
THRESHOLD = 0.95
ONE_CORE = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "RAYON_NUM_THREADS"), "1")


def main() -> None:
    """Print what was found and dropped, then the speed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--out", type=Path, default=Path("runs/deduplication"))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--part", choices=("all", "quality", "speed"), default="all")
    arguments = parser.parse_args()
    rows, vectors, encoder = _embedded(arguments.data, arguments.out.absolute())
    if arguments.part == "speed":
        _speed(rows, vectors, arguments.rounds)
        return
    print(f"{len(rows):,} rows; {_machine()}", flush=True)
    logging.basicConfig(level=logging.WARNING, format="%(message)s", stream=sys.stdout)
    logging.getLogger("lightadapt_data.filters").setLevel(logging.INFO)
    _quality(rows, vectors, encoder, arguments.out)
    if arguments.part == "all":
        # Libraries read how many threads to start when they are loaded: so a process of its own.
        same = [sys.executable, __file__, "--data", str(arguments.data), "--out"]
        more = [str(arguments.out), "--rounds", str(arguments.rounds), "--part", "speed"]
        subprocess.run([*same, *more], env={**os.environ, **ONE_CORE}, check=True)  # noqa: S603


class Run:
    """What filters may ask of a run."""

    seed = 0

    def __init__(self, vectors: dict[str, Floats], encoder: Any) -> None:
        self._vectors = vectors
        self._encoder = encoder

    def vectors(self, rows: Sequence[Text]) -> Floats:
        """Return the vectors of the embed stage."""
        return np.stack([self._vectors[row.id] for row in rows])

    def encode(self, texts: Sequence[str]) -> Floats:
        """Return vectors of other texts by the same encoder."""
        return np.asarray(self._encoder.encode(texts), np.float32)


def _embedded(data: Path, out: Path) -> tuple[list[Text], Floats, Any]:
    """Return the corpus, its vectors, and a maker of the encoder that they come from."""
    what = recipe.load(
        None,
        [
            ("ingest.corpus", [str(data / "pool")]),
            ("ingest.target", [str(data / "targets" / "medical.jsonl")]),
        ],
        ["embed"],
    )
    run.run_stages(what, out)
    corpus = Corpus(what.workspace(out))
    columns = ["id", "text", "source"]
    parts = [pq.read_table(part.rows, columns=columns).to_pylist() for part in corpus.parts]
    rows = [
        Text(row["id"], row["id"], row["text"], row["source"] or "")
        for part in parts
        for row in part
    ]
    vectors = np.concatenate([block for _, block in corpus.blocks()])
    module, settings = methods.chosen("encoders", "sentence_transformer", {})
    return rows, vectors, lambda: module.load(settings)


def _machine() -> str:
    names = [
        line.split(":")[1].strip()
        for line in Path("/proc/cpuinfo").read_text("utf-8").splitlines()
        if line.startswith("model name")
    ]
    return f"{names[0] if names else platform.machine()}, {os.cpu_count()} cores"


def _quality(rows: list[Text], vectors: Floats, make_encoder: Any, out: Path) -> None:
    """Print what each step of the ladder drops, and write down what was not planted."""
    context = Run(dict(zip((row.id for row in rows), vectors, strict=True)), make_encoder())
    left, drops = rows, []
    for name in LADDER:
        module, settings = methods.chosen("filters", name, {})
        found: dict[int, Finding] = module.examine(left, settings, context)
        drops += [(name, left[row], left[match.kept or 0], match) for row, match in found.items()]
        left = [row for index, row in enumerate(left) if index not in found]
    kinds = {row.id: _kind(row) for row in rows}
    touched = {row.id for _, dropped, kept, _ in drops for row in (dropped, kept)}
    for kind in KINDS:
        members = [row for row, of in kinds.items() if of == kind]
        n_found = sum(row in touched for row in members)
        print(f"{kind:<8} {n_found:,} of {len(members):,} found")
    others = [drop for drop in drops if not kinds[drop[1].id] and not kinds[drop[2].id]]
    for name in LADDER:
        counts = Counter(
            kinds[dropped.id] or kinds[kept.id] or "not planted"
            for step, dropped, kept, _ in drops
            if step == name
        )
        print(f"{name:<20} {json.dumps(counts)}")
    print(f"{len(others):,} of {len(drops):,} drops have no planted row")
    for low in (0.95, 0.9, 0.8, 0.0):
        some = [drop for drop in others if low <= _shared(drop[1].text, drop[2].text)]
        print(f"  at least {low:.0%} of their words in common: {len(some):,}")
    listed: list[dict[str, Any]] = [
        {
            "filter": name,
            "reason": match.reason,
            "words_in_common": round(_shared(dropped.text, kept.text), 3),
            "dropped": dropped.text,
            "kept": kept.text,
        }
        for name, dropped, kept, match in others
    ]
    listed.sort(key=lambda entry: entry["words_in_common"])
    (out / "drops.json").write_text(json.dumps(listed, indent=1, ensure_ascii=False), "utf-8")


def _kind(row: Text) -> str:
    return next((kind for kind in KINDS if row.source.endswith(f"-{kind}")), "")


def _shared(left: str, right: str) -> float:
    """Return the share of common words among all occurrences of words."""
    one, other = Counter(left.lower().split()), Counter(right.lower().split())
    return 2 * (one & other).total() / max(one.total() + other.total(), 1)


def _speed(rows: list[Text], vectors: Floats, rounds: int) -> None:
    """Print medians and ranges of CPU seconds on one core, and the ratios of medians."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    context = Run(dict(zip((row.id for row in rows), vectors, strict=True)), None)
    texts = [row.text for row in rows]
    near, near_settings = methods.chosen("filters", "near_duplicate", {})
    _race(
        "near_duplicate",
        lambda: len(near.examine(rows, near_settings, context)),
        {
            "rensa, words, as in its README": lambda: _rensa(texts, _words),
            "rensa, 3-grams": lambda: _rensa(texts, _trigrams),
            "rensa, words, loop": lambda: _rensa_loop(texts),
        },
        rounds,
    )
    semantic = methods.load("filters", "semantic_duplicate")
    kept: dict[str, NDArray[np.bool_]] = {}

    def ours(name: str, exact_rows: int) -> int:
        settings = semantic.Settings(threshold=THRESHOLD, exact_rows=exact_rows)
        found = semantic.examine(rows, settings, context)
        kept[name] = np.array([row not in found for row in range(len(rows))])
        return len(found)

    _race(
        "semantic_duplicate",
        lambda: ours("semantic_duplicate", 10**9),
        {
            "semantic_duplicate, cells": lambda: ours("semantic_duplicate, cells", 0),
            "semhash": lambda: _semhash(texts, vectors, kept),
        },
        rounds,
    )
    for name, total, n_open in _pairs_left(vectors, kept):
        print(f"{name:<32} {1 - n_open / max(total, 1):.4f} of {total:,} close pairs parted")


def _race(
    name: str, ours: Callable[[], int], peers: dict[str, Callable[[], int]], rounds: int
) -> None:
    """Time all sides by turns and print each one's dropped rows and CPU seconds."""
    sides = {name: ours, **peers}
    seconds: dict[str, list[float]] = {side: [] for side in sides}
    dropped = {}
    for _ in range(rounds):
        for side, work in sides.items():
            started = time.process_time()
            dropped[side] = work()
            seconds[side].append(time.process_time() - started)
    mine = float(np.median(seconds[name]))
    for side, taken in seconds.items():
        middle = float(np.median(taken))
        print(
            f"{side:<32} {middle:7.2f} s ({min(taken):.2f} to {max(taken):.2f}), "
            f"{middle / mine:5.2f} times ours; {dropped[side]:,} rows dropped",
            flush=True,
        )


def _words(text: str) -> list[str]:
    return text.split()


def _trigrams(text: str) -> list[str]:
    words = text.split()
    return [" ".join(words[i : i + 3]) for i in range(max(1, len(words) - 2))]


def _rensa(texts: Sequence[str], cut: Callable[[str], list[str]]) -> int:
    from rensa import RMinHashDeduplicator

    found = RMinHashDeduplicator(threshold=0.8, num_perm=128, use_lsh=True)
    kept = found.add_pairs((str(row), cut(text)) for row, text in enumerate(texts))
    return len(texts) - int(sum(kept))


def _rensa_loop(texts: Sequence[str]) -> int:
    from rensa import RMinHash, RMinHashLSH

    index = RMinHashLSH(threshold=0.8, num_perm=128, num_bands=16)
    sketches: list[Any] = []
    n_dropped = 0
    for row, text in enumerate(texts):
        sketch = RMinHash(num_perm=128, seed=42)
        sketch.update(text.split())
        sketches.append(sketch)
        if any(sketches[other].jaccard(sketch) >= 0.8 for other in index.query(sketch)):
            n_dropped += 1
        else:
            index.insert(row, sketch)
    return n_dropped


def _semhash(texts: Sequence[str], vectors: Floats, kept: dict[str, NDArray[np.bool_]]) -> int:
    from semhash import SemHash

    # The row's number is part of the record, so that the vectors alone decide.
    records = [{"text": text, "row": str(row)} for row, text in enumerate(texts)]
    no_model: Any = None
    index = SemHash.from_embeddings(vectors, records, no_model, ["text", "row"])
    result = index.self_deduplicate(THRESHOLD)
    kept["semhash"] = np.zeros(len(texts), bool)
    kept["semhash"][[int(record["row"]) for record in result.selected]] = True
    return len(result.filtered)


def _pairs_left(vectors: Floats, kept: dict[str, NDArray[np.bool_]]) -> list[tuple[str, int, int]]:
    """Return for each method all pairs above the threshold, and those with both rows kept."""
    total, left = 0, dict.fromkeys(kept, 0)
    for start in range(0, len(vectors), 1024):
        rows, others = np.nonzero(vectors[start : start + 1024] @ vectors.T > THRESHOLD)
        rows += start
        is_pair = others < rows
        total += int(is_pair.sum())
        for name, is_kept in kept.items():
            left[name] += int((is_kept[rows[is_pair]] & is_kept[others[is_pair]]).sum())
    return [(name, total, n_left) for name, n_left in left.items()]


if __name__ == "__main__":
    main()

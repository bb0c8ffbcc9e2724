"""Rows per second of the filters that judge one row by its content.

Each filter is asked for the same rows in turn, several rounds, and the best round counts. Texts:
generated ones (short and long rows, one in fifty with something to find), or those of Parquet
files with a column `text`.

Run: python benchmarks/filters.py [--data ../shared/data/pool] [--rows 10000] [--rounds 3]
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import random
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from lightadapt_data import methods
from lightadapt_data.filters import Text

VARIANTS: tuple[tuple[str, str, dict[str, Any]], ...] = (
    ("length", "length", {}),
    ("quality, safe rules", "quality", {}),
    ("quality, all rules", "quality", {"rules": ["gopher", "c4", "fineweb"], "judged_words": 0}),
    ("language", "language", {"languages": ["en"]}),
    ("personal_data", "personal_data", {}),
    ("repair", "repair", {}),
    ("contamination", "contamination", {}),
)
PLANTED = ("jane@example.com", "+49 30 901820", "s\u00c3\u00a9ance", "8.8.8.8")
EVALUATION_ROWS = 1000


def main() -> None:
    """Print one table per kind of rows."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path)
    parser.add_argument("--rows", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    print(f"{platform.machine()}, {os.cpu_count()} cores; best of {arguments.rounds} rounds")
    if arguments.data:
        paths = sorted(arguments.data.glob("*.parquet"))
        texts = [text for path in paths for text in pq.read_table(path)["text"].to_pylist()]
        measure(str(arguments.data), texts[: arguments.rows], arguments.rounds)
        return
    measure("short rows", generated(arguments.rows, 20), arguments.rounds)
    measure("long rows", generated(arguments.rows // 10, 400), arguments.rounds)


def generated(n_rows: int, n_words: int) -> list[str]:
    """Return rows of random words, some with planted personal data or damage."""
    dice = random.Random(0)
    letters = "eeeetttaaoinshrdlucm"
    vocabulary = ["".join(dice.choices(letters, k=dice.randint(2, 9))) for _ in range(20_000)]
    rows = []
    for number in range(n_rows):
        words = dice.choices(vocabulary, k=dice.randint(n_words // 2, 3 * n_words // 2))
        if number % 50 == 0:
            words[len(words) // 2] = dice.choice(PLANTED)
        rows.append(" ".join(words) + ".")
    return rows


def measure(name: str, texts: Sequence[str], n_rounds: int) -> None:
    """Print rows, characters and findings per second and filter."""
    rows = [Text(str(at), str(at), text) for at, text in enumerate(texts)]
    n_characters = sum(map(len, texts))
    best: dict[str, float] = {}
    n_found: dict[str, int] = {}
    with tempfile.TemporaryDirectory() as folder:
        exam = Path(folder, "exam.jsonl")
        step = max(1, len(texts) // EVALUATION_ROWS)
        lines = [json.dumps({"question": text}) for text in texts[: EVALUATION_ROWS * step : step]]
        # The first tenth is contaminated; the other questions are in no row.
        clean = [json.dumps({"question": text[::-1]}) for text in texts[1 : EVALUATION_ROWS + 1]]
        exam.write_text("\n".join([*lines[: len(lines) // 10], *clean]), "utf-8")
        for turn in range(n_rounds + 1):
            for label, method, options in VARIANTS:
                files = {"files": [str(exam)]} if method == "contamination" else {}
                module, settings = methods.chosen("filters", method, {method: options | files})
                # The first turn reads models and is not counted.
                part = rows if turn else rows[:10]
                started = time.perf_counter()
                n_found[label] = len(module.examine(part, settings, None))
                seconds = time.perf_counter() - started
                best[label] = min(best.get(label, seconds), seconds) if turn > 1 else seconds
    print(f"\n{name}: {len(rows):,} rows of {n_characters / len(rows):.0f} characters")
    print(f"{'filter':<22}{'rows/s':>12}{'Mchar/s':>10}{'found':>8}")
    for label, seconds in best.items():
        speed, volume = len(rows) / seconds, n_characters / seconds / 1e6
        print(f"{label:<22}{speed:>12,.0f}{volume:>10.1f}{n_found[label]:>8,}")


if __name__ == "__main__":
    main()

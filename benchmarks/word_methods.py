"""Rows per second on one core of the augmenters that edit words, and of the gates on words.

Methods are asked for the same rows in turn, several rounds, and the best round counts. Texts:
generated ones of about 20 words, or the column `text` of Parquet files, cut to 20 words. The share
of rows with a candidate stands beside.

Run: python benchmarks/word_methods.py [--data ../shared/data/pool] [--rows 5000] [--rounds 3]
"""

from __future__ import annotations

import argparse
import itertools
import os
import platform
import random
import time
from pathlib import Path

from lightadapt_data import methods, wordnet
from lightadapt_data.augmenters import Context
from lightadapt_data.word_edits import STOP_WORDS

AUGMENTERS = ("aeda", "eda", "synonym")
GATES = ("repetition", "protected", "entities", "antonyms")
N_WORDS = 20


def main() -> None:
    """Print one line per method."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path)
    parser.add_argument("--rows", type=int, default=5000)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    texts = read(arguments.data, arguments.rows) if arguments.data else generated(arguments.rows)
    rows = [{"id": str(i), "text": text, "label": "x"} for i, text in enumerate(texts)]
    print(f"{platform.machine()}, {os.cpu_count()} cores, one used; {len(rows)} rows")
    best: dict[str, float] = {}
    made: dict[str, float] = {}
    children: list[str] = texts
    for _ in range(arguments.rounds):
        for name in AUGMENTERS:
            module = methods.load("augmenters", name)
            start = time.process_time()
            found = module.augment(rows, module.Settings(), Context(0, (), no_encoder))
            best[name] = max(best.get(name, 0), len(rows) / (time.process_time() - start))
            made[name] = sum(not one.refused for one in found) / len(rows)
            children = [one.text for one in found]
        for name in GATES:
            gate = methods.load("gates", name)
            start = time.process_time()
            gate.judge(texts, children, gate.Settings(), no_encoder)
            best[name] = max(best.get(name, 0), len(rows) / (time.process_time() - start))
    for name, speed in best.items():
        share = f"{made[name]:8.0%} of the rows" if name in made else ""
        print(f"{name:12}{speed:10,.0f} rows/s{share}")


def no_encoder(texts: object) -> None:
    """Stand for the encoder, which none of these methods asks."""


def read(folder: Path, n_rows: int) -> list[str]:
    """Return the first words of the texts in a folder's Parquet files."""
    import pyarrow.parquet as pq

    paths = sorted(folder.glob("*.parquet"))
    texts = (text for path in paths for text in pq.read_table(path)["text"].to_pylist())
    return [" ".join(text.split()[:N_WORDS]) for text in itertools.islice(texts, n_rows)]


def generated(n_rows: int) -> list[str]:
    """Return rows of random English words: grammar, common words, a number and a name."""
    dice = random.Random(0)
    grammar, common = sorted(STOP_WORDS), sorted(wordnet.load().entries)
    texts = []
    for _ in range(n_rows):
        words = [dice.choice(grammar if i % 2 else common) for i in range(N_WORDS - 2)]
        texts.append(" ".join(["The", *words[:9], str(dice.randrange(1000)), *words[9:], "Lisbon"]))
    return texts


if __name__ == "__main__":
    main()

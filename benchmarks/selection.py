"""Precision at R of every selector, on a corpus whose domains are known.

For each target, R is the number of corpus rows of the target's domain, planted copies left out.
Precision at R is the share of true rows among the R best; at R/2 among the R/2 best. No selector
sees the `domain` column. Targets: the given medical exam questions, and as many rows of each domain
of the corpus, which are then taken out of it.

Run: python benchmarks/selection.py [--data ../shared/data] [--out runs/selection]
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray

from lightadapt_data import methods, recipe, run
from lightadapt_data.budget import ranking
from lightadapt_data.corpus import Corpus, read_target
from lightadapt_data.selectors import Target
from lightadapt_data.vectors import Floats, uniform

SELECTORS = [
    name for name in methods.names("selectors") if name not in ("gradient", "quality_density")
]
"""All that look at the target; `gradient` takes minutes per target, name it to have it."""


def main() -> None:
    """Print one table: precision at R and R/2 by selector and target."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--out", type=Path, default=Path("runs/selection"))
    parser.add_argument("--selectors", nargs="+", default=SELECTORS)
    parser.add_argument("--target-rows", type=int, default=64, help="rows of each target")
    arguments = parser.parse_args()
    what = recipe.load(
        None,
        [
            ("ingest.corpus", [str(arguments.data / "pool")]),
            ("ingest.target", [str(arguments.data / "targets" / "medical.jsonl")]),
        ],
        ["embed"],
    )
    run.run_stages(what, arguments.out.absolute())
    workspace = what.workspace(arguments.out.absolute())
    corpus = Corpus(workspace)
    columns = [
        pq.read_table(part.rows, columns=["domain", "source"]).to_pylist() for part in corpus.parts
    ]
    table = [row for part in columns for row in part]
    domains = np.array([row["domain"] for row in table])
    is_copy = np.array([row["source"].endswith(("-copy", "-edited")) for row in table])
    medical = read_target(workspace)
    print(f"{len(table):,} rows; {platform.machine()}, {os.cpu_count()} cores")
    results = []
    for name in arguments.selectors:
        targets = _targets(corpus, domains, is_copy, medical, arguments.target_rows)
        for target_name, target, view, truth in targets:
            started = time.perf_counter()
            results.append(
                {"selector": name, "target": target_name, **_measured(name, view, target, truth)}
            )
            results[-1]["seconds"] = time.perf_counter() - started
            print(json.dumps(results[-1]), file=sys.stderr, flush=True)
    _print(results)
    (arguments.out / "precision.json").write_text(json.dumps(results, indent=1), "utf-8")


class View:
    """The corpus without the rows that serve as target, and without planted copies."""

    def __init__(
        self, corpus: Corpus, vectors: Floats, texts: list[str], kept: NDArray[np.int64]
    ) -> None:
        self.dim = corpus.dim
        self.n_rows = len(kept)
        self.keys = corpus.keys[kept]
        self.tokens = corpus.tokens[kept]
        self._corpus, self._vectors, self._texts, self._kept = corpus, vectors, texts, kept

    def mean(self) -> Floats:
        """Return the mean vector."""
        return np.asarray(self._vectors[self._kept].mean(axis=0), np.float32)

    def blocks(self) -> Iterator[tuple[int, Floats]]:
        """Yield (index of the first row, vectors)."""
        for start in range(0, self.n_rows, 16_384):
            yield start, self._vectors[self._kept[start : start + 16_384]]

    def texts(self, column: str = "text") -> Iterator[tuple[int, list[str]]]:
        """Yield (index of the first row, texts)."""
        texts = self._texts
        if column != "text":
            texts = [text for _, block in self._corpus.texts(column) for text in block]
        for start in range(0, self.n_rows, 1024):
            yield start, [texts[row] for row in self._kept[start : start + 1024]]

    def column(self, name: str) -> NDArray[np.int32]:
        """Return a column as codes."""
        return self._corpus.column(name)[self._kept]


def _targets(
    corpus: Corpus,
    domains: NDArray[Any],
    is_copy: NDArray[np.bool_],
    medical: Target,
    n_rows: int,
) -> Iterator[tuple[str, Target, View, NDArray[np.bool_]]]:
    """Yield (name, target, corpus without copies and target rows, true rows)."""
    vectors = np.concatenate([block for _, block in corpus.blocks()])
    texts = [text for _, block in corpus.texts() for text in block]
    whole = np.flatnonzero(~is_copy)
    exam = Target(medical.vectors[:n_rows], medical.texts[:n_rows])
    yield "medical exam", exam, View(corpus, vectors, texts, whole), domains[whole] == "medical"
    for domain in sorted(set(domains.tolist())):
        members = np.flatnonzero((domains == domain) & ~is_copy)
        drawn = members[np.argsort(uniform(corpus.keys[members], 0))[:n_rows]]
        kept = np.setdiff1d(whole, drawn)
        target = Target(vectors[drawn], [texts[row] for row in drawn])
        yield domain, target, View(corpus, vectors, texts, kept), domains[kept] == domain


def _measured(name: str, view: View, target: Target, truth: NDArray[np.bool_]) -> dict[str, Any]:
    module, settings = methods.chosen("selectors", name, {})
    scores = module.score(view, target, settings, 0)
    order = ranking(scores.score, view.keys)
    n_true = int(truth.sum())
    return {
        "at_R": float(truth[order[:n_true]].mean()),
        "at_R_half": float(truth[order[: n_true // 2]].mean()),
        "R": n_true,
        "facts": dict(scores.facts),
    }


def _print(results: list[dict[str, Any]]) -> None:
    """Print one line per target and selector, then the means."""
    names = list(dict.fromkeys(result["selector"] for result in results))
    print(f"{'precision at R (at R/2)':<24}" + "".join(f"{name:>18}" for name in names))
    for target in dict.fromkeys(result["target"] for result in results):
        mine = {result["selector"]: result for result in results if result["target"] == target}
        cells = [f"{mine[name]['at_R']:.3f} ({mine[name]['at_R_half']:.3f})" for name in names]
        print(f"{target:<24}" + "".join(f"{cell:>18}" for cell in cells))
    cells = []
    for name in names:
        mine_of = [result for result in results if result["selector"] == name]
        at_r = float(np.mean([result["at_R"] for result in mine_of]))
        at_half = float(np.mean([result["at_R_half"] for result in mine_of]))
        cells.append(f"{at_r:.3f} ({at_half:.3f})")
    print(f"{'mean':<24}" + "".join(f"{cell:>18}" for cell in cells))


if __name__ == "__main__":
    main()

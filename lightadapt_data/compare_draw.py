"""One draw of one selector in a comparison: its stages in a folder of its own, and what they gave.

The folder's ingest and embed are links to those of the pile, and shards that another folder of the
comparison has done are taken over: their keys name their content.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lightadapt_data import proxies, recipe, rows, run, shards
from lightadapt_data.corpus import Corpus, read_target
from lightadapt_data.errors import InputError
from lightadapt_data.reporting import selection_view
from lightadapt_data.shards import Done, Workspace

SHARED = ("ingest", "embed")
"""Stages that all selectors of a pile share through links."""
LENT = ("select", "augment", "train")
"""Stages whose shards another folder of the comparison may have done already."""
COUNTED = ("corpus", "target")
"""Roles whose n-grams are counted once per pile."""

Tallies = Mapping[str, NDArray[np.int64]]
"""N-gram counts by role."""


def draw(
    what: recipe.Recipe,
    base: Path,
    folder: Path,
    lenders: Sequence[Path],
    counts: Tallies,
    workers: int,
) -> dict[str, Any]:
    """Run the stages of a draw and return what it is judged by; None for what it has not.

    Args:
        what: the recipe of the draw.
        base: folder whose ingest and embed are shared.
        folder: where the draw runs.
        lenders: folders whose finished shards may be taken over.
        counts: of the pile, from `ngram_counts`.
        workers: processes that work shards off.

    Returns:
        rows, tokens (selected); rows_left, tokens_left (of them after labelling and curation);
        kl_reduction, coverage_radius (see `proxies`); validation, metric, n_validation.
    """
    space = what.workspace(folder)
    with run.hold(folder):
        save(what, folder)
        for stage in SHARED:
            link(base / "work" / stage, folder / "work" / stage)
        for stage in what.settings:
            if stage == "train" and not _n_added(space):
                # Labelling refused all that was selected: what is left to train on is the seed.
                space = _on_seed_rows(space)
            if stage not in SHARED:
                _borrow(space, stage, lenders)
                run.run_stage(space, stage, workers)
        summary = _result_json(space, "select", "summary.json")
        facts = {"rows": summary["kept"], "tokens": summary["tokens"]}
        return facts | _left(space) | _proxies(space, counts) | _validation(space)


def _on_seed_rows(space: Workspace) -> Workspace:
    train = space.settings["train"].model_copy(update={"arms": ("seed",)})
    return replace(space, settings={**space.settings, "train": train})


def save(what: recipe.Recipe, folder: Path) -> None:
    """Write the recipe into a folder, so that it can be looked at like any run."""
    shards.write_text(folder / "work" / "recipe.json", recipe.saved_text(what))


def link(source: Path, link: Path) -> None:
    """Make `link` point to the stage folder `source`, relatively, so that the run can be moved.

    Raises:
        InputError: something else is in its place.
    """
    target = os.path.relpath(source, link.parent)
    if link.is_symlink() and os.readlink(link) != target:
        link.unlink()
    if not link.is_symlink():
        if link.exists():
            raise InputError(
                f"{link}: is a folder of its own, where compare needs a link to {source}; remove it"
            )
        link.symlink_to(target)


def _borrow(space: Workspace, stage: str, lenders: Sequence[Path]) -> None:
    """Put shards in place that another folder has done: same key, same content.

    Hard links, so that removing the lender takes nothing away.
    """
    if stage not in LENT:
        return
    own = space.folder / "work" / stage
    own.mkdir(exist_ok=True)
    keys = dict.fromkeys(key for _, key in run.prepare(space, stage).shards)
    for key in (key for key in keys if shards.read_done(own / key) is None):
        for lender in lenders:
            source = lender / "work" / stage / key
            if shards.read_done(source) is not None:
                fresh = own / f".{key}.{os.getpid()}"  # what a kill leaves, the stage clears away
                shutil.rmtree(fresh, ignore_errors=True)
                shutil.copytree(source, fresh, copy_function=_link_or_copy)
                os.rename(fresh, own / key)
                break


def _link_or_copy(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)


def ngram_counts(space: Workspace, folder: Path) -> dict[str, NDArray[np.int64]]:
    """Return the n-gram counts of a pile's corpus and target, counted once and kept in `folder`."""
    digests = {role: [part.digest for part in rows.parts(space, role)] for role in COUNTED}
    place = folder / shards.digest_of([proxies.VERSION, digests])

    def make(out: Path) -> shards.Counts:
        blocks = {
            "corpus": (texts for _, texts in Corpus(space).texts()),
            "target": iter([read_target(space).texts]),
        }
        for role in COUNTED:
            texts = (text for block in blocks[role] for text in block)
            np.save(out / f"{role}.npy", proxies.ngram_counts(texts))
        return {}

    _once(place, make)
    return {role: np.load(place / f"{role}.npy") for role in COUNTED}


def _proxies(space: Workspace, counts: Tallies) -> dict[str, float]:
    """Return the proxies of a selection, computed once per selection."""
    seen = [space.digest(stage) for stage in (*SHARED, "select")]
    folder = space.folder / "work" / "proxies" / shards.digest_of([proxies.VERSION, seen])

    def make(out: Path) -> shards.Counts:
        selection = selection_view.read(space)
        result = result_of(space, "select")
        corpus = Corpus(space)
        is_kept = selection.rank <= selection.n_kept  # type: ignore[union-attr]
        texts = (
            text
            for path in sorted(result.folder.glob("selected-*.parquet"))
            for text in shards.read_parquet(path, ["text"])["text"].to_pylist()
        )
        selected = proxies.ngram_counts(texts)
        blocks = (block[is_kept[start : start + len(block)]] for start, block in corpus.blocks())
        found = {
            "kl_reduction": proxies.kl_reduction(counts["target"], counts["corpus"], selected),
            "coverage_radius": proxies.coverage_radius(
                read_target(space).vectors, blocks, corpus.mean()
            ),
        }
        (out / "proxies.json").write_text(json.dumps(found), "utf-8")
        return {}

    _once(folder, make)
    found: dict[str, float] = json.loads((folder / "proxies.json").read_text("utf-8"))
    return found


def _once(folder: Path, make: Callable[[Path], shards.Counts]) -> None:
    """Let `make` fill `folder`, named by content, unless it is there."""
    if shards.read_done(folder) is None:
        folder.parent.mkdir(parents=True, exist_ok=True)
        shards.remove_leftovers(folder.parent)
        shards.put_in_place(folder, make)


def _left(space: Workspace) -> dict[str, int | None]:
    """Return the selected rows and tokens that labelling and curation leave to train on."""
    if not space.has("curate"):
        return {"rows_left": None, "tokens_left": None}
    left = [row for row in _curated(space) if row["origin"] == "selected"]
    return {"rows_left": len(left), "tokens_left": sum(row["n_tokens"] for row in left)}


def _n_added(space: Workspace) -> int:
    return sum(row["origin"] != "seed" for row in _curated(space))


def _curated(space: Workspace) -> list[dict[str, Any]]:
    """Return origin and tokens of the curated training rows, of those with a label if it trains."""
    folder = result_of(space, "curate").file("data")
    columns = ["origin", "label", "n_tokens"]
    found = [
        row
        for path in folder.glob("train-*.parquet")
        for row in shards.read_parquet(path, columns).to_pylist()
    ]
    return [row for row in found if row["label"] is not None or not space.has("train")]


def _validation(space: Workspace) -> dict[str, Any]:
    """Return the trained adapter's metric on the validation rows, with its name."""
    if not space.has("train"):
        return {"validation": None, "metric": None, "n_validation": None}
    found = _result_json(space, "train", "results.json")
    metric = found["metric"]
    (arm,) = found["arms"].values()
    (value,) = arm["validation"][metric]["values"]
    return {"validation": value, "metric": metric, "n_validation": found["n_validation"]}


def result_of(space: Workspace, stage: str) -> Done:
    """Return what the stage's `run` left.

    Raises:
        InputError: it is gone.
    """
    result = space.result(stage)
    if result is None:
        raise InputError(f"{space.folder}: {stage} vanished while it was used; run compare again")
    return result


def _result_json(space: Workspace, stage: str, name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(result_of(space, stage).file(name).read_text("utf-8"))
    return found

"""Filtering: rows through the filters of a recipe, one after the other, each finding kept."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lightadapt_data import methods, rows
from lightadapt_data.corpus import Corpus
from lightadapt_data.encoders import Encoder
from lightadapt_data.errors import InputError
from lightadapt_data.filters import Finding, Text
from lightadapt_data.shards import Workspace

logger = logging.getLogger(__name__)

Row = dict[str, Any]


@dataclass(frozen=True)
class Drop:
    """Why a row was dropped."""

    row: Row
    reason: str
    duplicate_of: str | None


@dataclass
class Filtered:
    """What the filters left, dropped and changed."""

    kept: list[Row]
    drops: list[Drop] = field(default_factory=list)
    notes: dict[tuple[str, str], list[str]] = field(default_factory=dict)
    """What was changed or only reported, by (origin, id) of a kept row."""


@dataclass(frozen=True)
class RunContext:
    """The run as filters see it; the encoder is loaded when one asks for it."""

    workspace: Workspace

    @property
    def seed(self) -> int:
        """The recipe's seed."""
        return self.workspace.seed

    @cached_property
    def _encoder(self) -> Encoder:
        if not self.workspace.has("embed"):
            raise InputError(
                "curate: a filter asks for vectors and the run has no encoder; add an [embed] "
                "table to the recipe, or name one with --encoder"
            )
        settings: Any = self.workspace.settings["embed"]
        module, options = methods.chosen("encoders", settings.method, settings.options)
        encoder: Encoder = module.load(options)
        return encoder

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Return unit vectors of any texts, float32 [texts, dim]."""
        return self._encoder.encode(texts)

    def vectors(self, texts: Sequence[Text]) -> NDArray[np.float32]:
        """Return unit vectors, float32 [rows, dim]: stored ones of corpus rows, others made now."""
        corpus = Corpus(self.workspace)
        order = np.argsort(corpus.keys)
        keys = np.array([rows.key_of(text.id) for text in texts], np.uint64)
        places = np.searchsorted(corpus.keys, keys, sorter=order)
        places = order[np.minimum(places, len(order) - 1)] if len(order) else places * 0
        is_stored = np.array([text.family == f"selected/{text.id}" for text in texts], bool)
        if len(order) and corpus.dim:
            is_stored &= corpus.keys[places] == keys
        else:
            is_stored[:] = False
        fresh = [text.text for text, stored in zip(texts, is_stored, strict=True) if not stored]
        dim = corpus.dim if is_stored.any() else self._encoder.dim
        found = np.empty((len(texts), dim), np.float32)
        found[is_stored] = corpus.vectors_at(places[is_stored])
        if fresh:
            found[~is_stored] = self.encode(fresh)
        return found


def apply(
    names: Sequence[str],
    options: dict[str, dict[str, Any]],
    kept: list[Row],
    settled: Sequence[Row],
    context: RunContext,
) -> Filtered:
    """Return what the filters make of the rows.

    Args:
        names: filters, in the order in which they work.
        options: settings of methods by name.
        kept: rows, those to keep first at the head.
        settled: rows of earlier runs that new ones must not repeat; they are never dropped.
        context: the run.
    """
    result = Filtered(kept)
    for name in names:
        started = time.monotonic()
        n_before = len(result.kept)
        module, checked = methods.chosen("filters", name, options)
        everything = [*settled, *result.kept]
        texts = [
            Text(row["id"], rows.family(row), row["text"], row["source"] or "", i < len(settled))
            for i, row in enumerate(everything)
        ]
        found: dict[int, Finding] = module.examine(texts, checked, context)
        judges_seeds = getattr(module, "JUDGES_SEEDS", False)
        _take_over(result, name, everything, len(settled), found, judges_seeds)
        logger.info(
            "curate: %s: %s rows in, %s rows out, %.1f s",
            name,
            f"{n_before:,}",
            f"{len(result.kept):,}",
            time.monotonic() - started,
        )
    return result


def _take_over(
    result: Filtered,
    name: str,
    everything: list[Row],
    n_settled: int,
    found: dict[int, Finding],
    judges_seeds: bool,
) -> None:
    """Put one filter's findings into the result."""
    kept: list[Row] = []
    gone: set[str] = set()
    for index in range(n_settled, len(everything)):
        row, finding = everything[index], found.get(index)
        if finding is None or _asks_another(row, everything, finding):
            kept.append(row)
            continue
        reason = f"{name}: {finding.reason}"
        is_spared = finding.kept is None and not (judges_seeds and row["split"] == "train")
        if finding.text is not None or (row["origin"] == "seed" and is_spared):
            # The user's own labelled rows are not dropped for what they are, only reported.
            notes = result.notes.setdefault((row["origin"], row["id"]), [])
            may_change = finding.text is not None and not any(row.get(n) for n in rows.OFFSETS)
            notes.append(reason if may_change else f"{reason} (reported only)")
            if may_change and finding.text is not None and finding.text != row["text"]:
                n_tokens = rows.count_tokens(finding.text)
                row = {**row, "text": finding.text, "n_tokens": n_tokens}
            kept.append(row)
            continue
        copied = None if finding.kept is None else everything[finding.kept]
        if copied is not None:
            reason += f" with a kept {copied['origin']} row"
        result.drops.append(Drop(row, reason, copied["id"] if copied else None))
        if row["origin"] == "seed":
            gone.add(row["id"])
    # A child of a dropped row would bring that row back, so it goes with it.
    orphans = [row for row in kept if row["parent_id"] in gone]
    result.drops += [Drop(row, "its parent was dropped", row["parent_id"]) for row in orphans]
    result.kept = [row for row in kept if row["parent_id"] not in gone]


def _asks_another(row: Row, everything: list[Row], finding: Finding) -> bool:
    """Return whether a row and its near copy ask two questions of one context: both are wanted."""
    question = row.get("question")
    if finding.kept is None or not question:
        return False
    return bool(everything[finding.kept].get("question") != question)

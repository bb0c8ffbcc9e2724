"""Quotas: the most that rows of one kind may take of a budget, from the settings to `Cap`s."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from lightadapt_data import score_table
from lightadapt_data.budget import Cap
from lightadapt_data.corpus import Corpus
from lightadapt_data.errors import InputError, allowed
from lightadapt_data.score_table import ScoreTable
from lightadapt_data.shards import Workspace


def caps(
    quotas: Mapping[str, Mapping[str, float]],
    size: float,
    workspace: Workspace,
    corpus: Corpus,
    table: ScoreTable,
) -> list[Cap]:
    """Return one cap per column.

    Args:
        quotas: share of the budget by value of the column, "*" for all others.
        size: the budget [rows or tokens].
        workspace: of the run, for the target rows.
        corpus: for the columns.
        table: for the nearest target rows, which the column "target" stands for.

    Raises:
        InputError: there is no such column, or no row with such a value.
    """
    return [
        _cap(column, quota, size, *_kinds(column, workspace, corpus, table))
        for column, quota in quotas.items()
    ]


def _kinds(
    column: str, workspace: Workspace, corpus: Corpus, table: ScoreTable
) -> tuple[NDArray[np.int32], list[str]]:
    """Return the kind of every row by a column, as codes, and the names of the kinds."""
    if column != "target":
        return corpus.categories(column)
    sources = score_table.target_sources(workspace)
    names = sorted(set(sources))
    codes = np.array([*(names.index(source) for source in sources), 0], np.int32)
    nearest = next(iter(table.nearest.values()))
    return codes[nearest], names


def _cap(
    column: str,
    quota: Mapping[str, float],
    size: float,
    codes: NDArray[np.int32],
    names: list[str],
) -> Cap:
    unknown = set(quota) - {"*", *names}
    if unknown:
        name = sorted(unknown)[0]
        raise InputError(
            f"select.quotas.{column}: no row has the value '{name}'; {allowed(name, names[:50])}"
        )
    others = quota.get("*", np.inf)
    return Cap(codes, np.array([quota.get(name, others) * size for name in names], np.float64))

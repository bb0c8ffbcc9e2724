"""Facts about a run that may be shown to anybody: counts, settings and versions, without paths."""

from __future__ import annotations

import platform
import re
from collections import Counter
from importlib.metadata import PackageNotFoundError, version
from pathlib import PurePosixPath, PureWindowsPath
from typing import Any

from lightadapt_data import __version__
from lightadapt_data.shards import Workspace

PACKAGES = (
    "numpy",
    "pyarrow",
    "torch",
    "transformers",
    "peft",
    "sentence-transformers",
    "faiss-cpu",
    "scikit-learn",
    "datasets",
)
"""Packages whose versions can change what comes out."""

_PATH = re.compile(r"(/|~|\.{1,2}/|[A-Za-z]:[\\/]|\\\\)\S")


def without_paths(value: Any) -> Any:
    """Return a JSON value in which every text that is a path is cut to its last part.

    A path names a person or a machine; its last part is enough to know the file.
    """
    if isinstance(value, dict):
        return {key: without_paths(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [without_paths(item) for item in value]
    if isinstance(value, str) and _PATH.match(value):
        kind = PureWindowsPath if "\\" in value else PurePosixPath
        return kind(value).name or "."
    return value


def stage_counts(workspace: Workspace, stage: str) -> Counter[str]:
    """Return the counts of a finished stage; what its `run` counted stands for the whole."""
    counts: Counter[str] = Counter()
    for done in workspace.shards(stage):
        counts.update(done.counts)
    result = workspace.result(stage)
    for name, n in (result.counts if result else {}).items():
        counts[name] = n
    return counts


def finished(workspace: Workspace, before: str) -> list[str]:
    """Return the stages of the run that come before one and are finished, in their order."""
    names = list(workspace.settings)
    stop = names.index(before) if before in names else len(names)
    return [name for name in names[:stop] if workspace.manifest(name) is not None]


def stage_settings(workspace: Workspace, stage: str) -> dict[str, Any]:
    """Return all settings that decided a finished stage's output, as its manifest has them."""
    manifest = workspace.manifest(stage)
    settings: dict[str, Any] = without_paths(manifest["settings"]) if manifest else {}
    return settings


def recipe_tables(workspace: Workspace) -> dict[str, Any]:
    """Return the run's recipe as the tables of a recipe file."""
    tables: dict[str, Any] = {"seed": workspace.seed}
    for stage, settings in workspace.settings.items():
        fields = settings.model_dump(mode="json")
        tables[stage] = without_paths({**fields, **fields.pop("options", {})})
        tables[stage].pop("options", None)
    return tables


def inputs(workspace: Workspace) -> dict[str, list[str]]:
    """Return the names of what was read, by role."""
    settings: Any = workspace.settings.get("ingest")
    found = {}
    for role in ("corpus", "target", "task"):
        names = without_paths(list(getattr(settings, role, ())))
        if role == "corpus" and getattr(settings, "reader", "files") != "files":
            names = [f"{settings.reader}: {', '.join(names) or 'all'}"]
        if names:
            found[role] = names
    return found


def versions() -> dict[str, str]:
    """Return the versions of the product, Python and the packages that do the work."""
    found = {"lightadapt-data": __version__, "python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found

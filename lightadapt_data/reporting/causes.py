"""causes: which setting, input, model or version differs between two runs.

Only what the runs themselves wrote down is compared: the manifests of their stages, the digests of
what they read, and the keys of their shards. Where that leaves a doubt, the cause says so.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lightadapt_data.shards import Done, Workspace

MOVES_NOTHING: Mapping[str, tuple[str, ...]] = {
    "select": ("baseline", "baseline_tokens"),
    "curate": ("alarm_share",),
}
"""Settings by stage that no row's fate depends on."""
SHOWN_FILES = 3
"""Names of files in one cause; the others are counted."""
SHOWN_CHARS = 60
"""Characters shown of a value."""


@dataclass(frozen=True)
class Cause:
    """One thing that differs."""

    kind: str
    """setting, seed, stage, input, model, version or package."""
    name: str
    """What differs, as a recipe calls it."""
    text: str
    """What differs and how, in words."""


def causes(a: Workspace, b: Workspace) -> list[Cause]:
    """Return what differs between two runs, in the order data passes; what must follow is left out.

    Args:
        a: a run; its `settings` name the stages that count.
        b: another one.
    """
    found = _seed(a, b)
    for stage in dict.fromkeys((*a.settings, *b.settings)):
        if not (a.has(stage) and b.has(stage)):
            only = "A" if a.has(stage) else "B"
            found.append(Cause("stage", stage, f"{stage}: only in {only}"))
            continue
        own = _settings(stage, a, b)
        if stage == "ingest":
            own += _inputs(a, b, is_read_alike=not own)
        elif not own:
            own = _outside(stage, a, b)
        found += own
    return found + _packages(a, b)


def _manifests(stage: str, a: Workspace, b: Workspace) -> tuple[dict[str, Any], dict[str, Any]]:
    return a.manifest(stage) or {}, b.manifest(stage) or {}


def _seed(a: Workspace, b: Workspace) -> list[Cause]:
    if a.seed == b.seed:
        return []
    return [Cause("seed", "seed", f"seed {a.seed} -> {b.seed}")]


def _packages(a: Workspace, b: Workspace) -> list[Cause]:
    versions = [
        sorted({str((run.manifest(stage) or {}).get("package_version")) for stage in run.settings})
        for run in (a, b)
    ]
    if versions[0] == versions[1]:
        return []
    text = f"lightadapt-data {', '.join(versions[0])} -> {', '.join(versions[1])}"
    return [Cause("package", "lightadapt-data", text)]


def _settings(stage: str, a: Workspace, b: Workspace) -> list[Cause]:
    """Return the differing version and settings of a stage, with those of methods both runs use."""
    ours, theirs = _manifests(stage, a, b)
    found = []
    is_same_version = ours.get("version") == theirs.get("version")
    if not is_same_version:
        text = f"{stage}: version {ours.get('version')} -> {theirs.get('version')}"
        found.append(Cause("version", stage, text))
    flat_a, flat_b = _flat(stage, ours), _flat(stage, theirs)
    for name in dict.fromkeys((*flat_a, *flat_b)):
        if name in flat_a and name in flat_b:
            if flat_a[name] != flat_b[name]:
                text = f"{name} {_shown(flat_a[name])} -> {_shown(flat_b[name])}"
                found.append(Cause("setting", name, text))
        # A method of one run only is told by the setting that names it, and a setting that another
        # version of the stage does not know by the version.
        elif is_same_version and name.count(".") == 1:
            one, other = (flat.get(name, "not set") for flat in (flat_a, flat_b))
            found.append(Cause("setting", name, f"{name} {_shown(one)} -> {_shown(other)}"))
    return found


def _flat(stage: str, manifest: Mapping[str, Any]) -> dict[str, Any]:
    """Return settings by their names in a recipe: `select.keep`, `select.nearest.k`."""
    found = {}
    for key, value in manifest.get("settings", {}).items():
        field, _, method = key.partition(".")
        if field in MOVES_NOTHING.get(stage, ()):
            continue
        if method and isinstance(value, dict):
            found.update({f"{stage}.{method}.{option}": cell for option, cell in value.items()})
        else:
            found[f"{stage}.{key}"] = value
    return found


def _outside(stage: str, a: Workspace, b: Workspace) -> list[Cause]:
    """Return a cause when a stage of the same settings read other outside files or models."""
    text = ""
    if stage == "embed":
        ours, theirs = _keys_by_rows(a), _keys_by_rows(b)
        if any(theirs.get(rows, key) != key for rows, key in ours.items()):
            text = "embed: the files of the model"
    elif _has_other_inputs(stage, a, b):
        text = f"{stage}: models or files that it reads from outside the run"
    return [Cause("model", stage, f"{text} have changed")] if text else []


def _keys_by_rows(run: Workspace) -> dict[str, str]:
    """Return the keys of the shards of embed by the rows they read; both are named by content."""
    return {done.args["rows"]: done.key for done in run.shards("embed")}


def _has_other_inputs(stage: str, a: Workspace, b: Workspace) -> bool:
    """Return whether a stage of the same settings differs although all before it is the same."""
    ours, theirs = _manifests(stage, a, b)
    names = list(a.settings)
    before = names[: names.index(stage)]
    is_same_before = list(b.settings)[: len(before)] == before and all(
        a.digest(other) == b.digest(other) for other in before
    )
    is_same = is_same_before and a.seed == b.seed and ours["settings"] == theirs["settings"]
    return is_same and ours["inputs"] != theirs["inputs"]


@dataclass(frozen=True)
class _File:
    """An input file of a run."""

    shard: Done
    is_alone: bool
    """Whether no other file shares its shard."""
    digest: str | None
    """Of the file itself, where the run has remembered it."""


def _inputs(a: Workspace, b: Workspace, *, is_read_alike: bool) -> list[Cause]:
    """Return the files that were added, removed or changed, by role."""
    ours, theirs = _files(a), _files(b)
    found = []
    for role in dict.fromkeys((*ours, *theirs)):
        one, other = ours.get(role, {}), theirs.get(role, {})
        change = {
            name: _change(one[name], other[name], is_read_alike=is_read_alike)
            for name in one.keys() & other.keys()
        }
        for what, names in (
            ("added", other.keys() - one.keys()),
            ("removed", one.keys() - other.keys()),
            ("changed", {name for name, is_changed in change.items() if is_changed}),
            ("changed, at least one of", {name for name in change if change[name] is None}),
        ):
            if names:
                text = f"{role} files {what}: {_some(names)}"
                found.append(Cause("input", f"ingest.{role}", text))
    return found


def _change(one: _File, other: _File, *, is_read_alike: bool) -> bool | None:
    """Return whether a file has changed; None when only some file of its shard has."""
    if one.digest and other.digest:
        return one.digest != other.digest
    if not is_read_alike or one.shard.digest == other.shard.digest:
        return False
    return True if one.is_alone and other.is_alone else None


def _files(run: Workspace) -> dict[str, dict[str, _File]]:
    """Return the input files by role and name."""
    digests = _remembered(run)
    found: dict[str, dict[str, _File]] = {}
    for done in run.shards("ingest"):
        for name, _, path in done.args["files"]:
            file = _File(done, len(done.args["files"]) == 1, digests.get(path))
            found.setdefault(done.args["role"], {})[name] = file
    return found


def _remembered(run: Workspace) -> dict[str, str]:
    """Return the digests of outside files by path, of each the newest that the run has read."""
    newest: dict[str, tuple[int, str]] = {}
    path = run.folder / "work" / "digests.json"
    known: dict[str, str] = json.loads(path.read_text("utf-8")) if path.exists() else {}
    for signature, digest in known.items():
        name, _, modified = signature.rsplit("|", 2)
        newest[name] = max(newest.get(name, (0, "")), (int(modified), digest))
    return {name: digest for name, (_, digest) in newest.items()}


def _some(names: Iterable[str]) -> str:
    shown = sorted(names)
    more = len(shown) - SHOWN_FILES
    return ", ".join(shown[:SHOWN_FILES]) + (f" and {more:,} more" if more > 0 else "")


def _shown(value: Any) -> str:
    text = value if isinstance(value, str) and value else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= SHOWN_CHARS else f"{text[: SHOWN_CHARS - 1]}…"


def in_words(found: Sequence[Cause], most: int = 4) -> str:
    """Return "cause: ..." or "causes: ..."; one or several of several may be at work."""
    if not found:
        return "cause: none that the runs have written down"
    shown = "; ".join(cause.text for cause in found[:most])
    more = f"; and {len(found) - most} more" if len(found) > most else ""
    return f"{'cause' if len(found) == 1 else 'possible causes'}: {shown}{more}"

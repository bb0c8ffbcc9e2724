"""publish: the folder for the Hugging Face Hub, written and loaded back; sent with `push = true`.

Without `push` nothing is sent anywhere: a dry run. No path of this machine is in the card, the
manifest or the adapter. The token is read as huggingface_hub reads it (HF_TOKEN, `hf auth login`).
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from pathlib import Path
from typing import Any, ClassVar

from pydantic import Field

from lightadapt_data import hub_card, pushing
from lightadapt_data.config import Config
from lightadapt_data.errors import InputError
from lightadapt_data.reporting import card, describe
from lightadapt_data.reporting.card import Facts
from lightadapt_data.rows import SPLITS
from lightadapt_data.shards import Counts, Done, Workspace

VERSION = 2
READS = ("ingest",)
MAY_READ = ("embed", "select", "augment", "curate", "train", "report")
LINKED = (".parquet", ".safetensors")
"""Large files, delivered as hard links; others are copied, so that editing one changes no shard."""


class Settings(Config):
    """Settings of the publish stage."""

    NOT_IN_KEY: ClassVar[frozenset[str]] = frozenset(
        {"push", "endpoint", "private", "create_pr", "revision", "tag", "adapter_repo"}
        | {"allow_unknown_license"}
    )

    repo: str = Field(default="", pattern=r"^([\w.-]+/[\w.-]+)?$")
    """Name on the Hub, as in owner/name; shown in the card, and where `push` sends the set."""
    license: str = Field(default="unknown", pattern=r"^[a-z0-9.-]+$")
    """The Hub's id of the licence, as in apache-2.0; with "unknown" the card warns."""
    title: str = Field(default="Data set made with lightadapt-data", min_length=1, max_length=200)
    """First line of the card."""
    push: bool = False
    """Send the set to the Hub: in one commit, with a tag, and loaded back from there."""
    endpoint: str = Field(default="", pattern=r"^(https?://[^\s@?#]+)?$")
    """Address of another Hub, as in https://hub.example; empty: HF_ENDPOINT or the public one."""
    private: bool = False
    """Make new repositories private; refused for one that is there and public."""
    create_pr: bool = False
    """Open a pull request in place of committing; it gets no tag."""
    revision: str = Field(default="", pattern=r"^[\w./-]*$")
    """Branch to commit to, made when missing; empty: main."""
    tag: str = Field(default="", pattern=r"^[\w.-]*$")
    """Tag of the commit; it never moves; empty: one that names the content."""
    adapter_repo: str = Field(default="", pattern=r"^([\w.-]+/[\w.-]+)?$")
    """Model repository for the adapter, as in owner/name-adapter; empty: it is not sent there."""
    allow_unknown_license: bool = False
    """Push although the licence is unknown."""


def check(settings: Settings, workspace: Workspace) -> None:
    """Check, before any stage runs, that what is to be pushed can be.

    Raises:
        InputError: `push` without a repo, a licence or a token, or settings that exclude others.
    """
    if settings.push:
        pushing.check(settings, has_adapter=workspace.has("train"))


def run(settings: Settings, workspace: Workspace, out: Path) -> Counts:
    """Write data, card, manifest, report and adapter, and load the data back.

    Raises:
        InputError: there is no data to publish, or it does not load back as it was written.
    """
    files = _place_data(workspace, out)
    found = card.facts(files)
    _place_report(workspace, out)
    _place_adapter(workspace, out)
    text = card.text(workspace, found, settings.title, settings.license, settings.repo)
    (out / "README.md").write_text(text + hub_card.OWN_SECTION, "utf-8")
    manifest = json.dumps(_manifest(workspace, found), indent=1, ensure_ascii=False)
    (out / "run_manifest.json").write_text(manifest, "utf-8")
    check_loads(out)
    return {
        "rows_in": found.n_rows,
        "rows_out": found.n_rows,
        **{name: split.rows for name, split in found.splits.items()},
    }


def deliver(workspace: Workspace) -> None:
    """Put the folder at `publish/` of the run's folder, in place of an older one, and push it.

    Raises:
        InputError: the settings do not allow to push it.
        ServiceError: the Hub did not take it; the folder stays, and another run pushes again.
    """
    result = workspace.result("publish")
    if result is None:
        return
    _deliver_folder(workspace, result)
    settings: Any = workspace.settings["publish"]
    if settings.push:
        check(settings, workspace)
        pushing.push(workspace, settings, result)


def _deliver_folder(workspace: Workspace, result: Done) -> None:
    fresh, final, old = (workspace.folder / f"{mark}publish" for mark in (".new-", "", ".old-"))
    for leftover in (fresh, old):
        shutil.rmtree(leftover, ignore_errors=True)
    for name in result.files:
        path = fresh / name
        path.parent.mkdir(parents=True, exist_ok=True)
        _place(result.file(name), path, is_linked=path.suffix in LINKED)
    if final.exists():
        os.rename(final, old)
    os.rename(fresh, final)
    shutil.rmtree(old, ignore_errors=True)


def headline(workspace: Workspace) -> list[str]:
    """Return what can be published and how, in one sentence."""
    result = workspace.result("publish")
    if result is None:
        return []
    settings: Any = workspace.settings["publish"]
    if settings.push and (told := pushing.told(workspace)):
        return told
    warning = "; its licence is unknown, set publish.license" * (settings.license == "unknown")
    return [
        f"publish/ holds {result.counts['rows_out']:,} rows and loads back{warning}. Nothing was "
        f"sent; to send it add --push{'' if settings.repo else ' --repo OWNER/NAME'}"
    ]


def check_loads(folder: Path) -> None:
    """Load a published folder with `datasets` and compare the rows of its splits with its manifest.

    Nothing is left behind outside the folder, and no network is used.

    Raises:
        InputError: it does not load, or gives other splits or numbers of rows.
    """
    import datasets

    manifest = json.loads((folder / "run_manifest.json").read_text("utf-8"))
    was_quiet = datasets.are_progress_bars_disabled()
    datasets.disable_progress_bars()
    try:
        with tempfile.TemporaryDirectory(prefix="lightadapt-publish-") as cache:
            loaded = datasets.load_dataset(str(folder), cache_dir=cache)
            found = {name: split.num_rows for name, split in loaded.items()}
            del loaded  # lets go of the files in the cache before it is removed
    except (datasets.exceptions.DatasetsError, OSError, ValueError) as error:
        raise InputError(
            f"publish: the folder does not load with datasets {datasets.__version__}: {error}; "
            "look at the columns of the data for a type that datasets does not know"
        ) from error
    finally:
        if not was_quiet:
            datasets.enable_progress_bars()
    if found != manifest["splits"]:
        raise InputError(
            f"publish: {folder} loads back with rows {found}, the manifest says "
            f"{manifest['splits']}; remove work/publish of the run and run publish again"
        )


def _place_data(workspace: Workspace, out: Path) -> dict[str, list[Path]]:
    """Put the Parquet files into `data/`, named `<split>-...`, and return them by split.

    Raises:
        InputError: the run has neither curated nor selected rows.
    """
    placed: dict[str, list[Path]] = {}
    (out / "data").mkdir()
    curated = workspace.result("curate") if workspace.has("curate") else None
    selected = workspace.result("select") if workspace.has("select") else None
    if curated is not None:
        for split in SPLITS:
            paths = sorted(curated.file("data").glob(f"{split}-*.parquet"))
            if paths:
                placed[split] = [_place(path, out / "data" / path.name) for path in paths]
    elif selected is not None:
        paths = sorted(selected.folder.glob("selected-*.parquet"))
        placed["train"] = [
            _place(path, out / "data" / path.name.replace("selected-", "train-")) for path in paths
        ]
    if not any(placed.values()):
        raise InputError(
            "publish: the run has neither a selection nor a curated set, so there is nothing to "
            "publish; give the recipe a table [select] or [curate]"
        )
    return placed


def _place_report(workspace: Workspace, out: Path) -> None:
    result = workspace.result("report") if workspace.has("report") else None
    if result is not None:
        _place(result.file("report.html"), out / "report.html")


def _place_adapter(workspace: Workspace, out: Path) -> None:
    """Put the adapter's files side by side into `adapter/`, as train delivers them."""
    result = workspace.result("train") if workspace.has("train") else None
    if result is None:
        return
    (out / "adapter").mkdir()
    for name in result.files:
        target = out / "adapter" / Path(name).name
        if target.suffix == ".json":
            content = json.loads(result.file(name).read_text("utf-8"))
            clean = json.dumps(describe.without_paths(content), indent=1, ensure_ascii=False)
            target.write_text(clean, "utf-8")
        else:
            _place(result.file(name), target)


def _place(source: Path, target: Path, *, is_linked: bool = True) -> Path:
    """Put a file at `target`, as a hard link where that is wanted and possible."""
    if is_linked:
        try:
            os.link(source, target)
        except OSError:
            pass  # another file system, or one without links
        else:
            return target
    shutil.copyfile(source, target)
    return target


def _manifest(workspace: Workspace, found: Facts) -> dict[str, Any]:
    stages = {}
    for stage in describe.finished(workspace, "publish"):
        manifest = workspace.manifest(stage) or {}
        result = manifest["result"]
        stages[stage] = {
            "version": manifest["version"],
            "digest": manifest["digest"],
            "result": result["key"] if result else None,
            "shards": [entry["key"] for entry in manifest["shards"]],
            "counts": dict(sorted(describe.stage_counts(workspace, stage).items())),
        }
    recipe = describe.recipe_tables(workspace)
    # Where the set is sent to does not decide what it is, so it is no part of it.
    recipe["publish"] = {
        name: value for name, value in recipe["publish"].items() if name not in Settings.NOT_IN_KEY
    }
    return {
        "made_with": describe.versions(),
        "splits": {name: split.rows for name, split in found.splits.items()},
        "recipe": recipe,
        "stages": stages,
    }

"""Push what the stage publish made: the data set, and the adapter to a repository of its own."""

from __future__ import annotations

import fnmatch
import json
import logging
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from lightadapt_data import hub, hub_card, hub_check
from lightadapt_data.errors import InputError
from lightadapt_data.reporting import card, describe
from lightadapt_data.rows import SPLITS
from lightadapt_data.shards import Done, Workspace, write_text

logger = logging.getLogger(__name__)

OWNED = (*(f"data/{split}-*.parquet" for split in SPLITS), "adapter/*", "report.html")
"""What of a data set on the Hub only the stage makes, so that it may be deleted."""
OWNED_ADAPTER = ("adapter_*", "*.safetensors", "labels.json", "results.json")


def check(settings: Any, *, has_adapter: bool) -> None:
    """Check that settings of the stage publish with `push = true` go together.

    Raises:
        InputError: no repo, licence or token, or settings that exclude others.
    """
    wrong = ""
    if not settings.repo:
        wrong = "push = true, but no repo; set repo = 'owner/name'"
    elif settings.license == "unknown" and not settings.allow_unknown_license:
        wrong = (
            "push = true, but the licence is unknown; set license to the Hub's id of it, as in "
            "'apache-2.0', or allow_unknown_license = true"
        )
    elif settings.create_pr and (settings.revision or settings.tag):
        wrong = "create_pr = true goes to main and gets no tag; leave revision and tag out"
    elif settings.adapter_repo and not has_adapter:
        wrong = (
            f"adapter_repo = '{settings.adapter_repo}', but the run trains no adapter; leave it out"
        )
    elif settings.adapter_repo == settings.repo:
        wrong = f"adapter_repo and repo are both '{settings.repo}'; give them two names"
    elif not hub.has_token():
        wrong = "push = true, but there is no token; run `hf auth login` or set HF_TOKEN"
    if wrong:
        raise InputError(f"publish: {wrong}")


def told(workspace: Workspace) -> list[str]:
    """Return what the last push came to, one sentence a repository."""
    path = _record(workspace)
    return [one["told"] for one in json.loads(path.read_text("utf-8"))] if path.exists() else []


def _record(workspace: Workspace) -> Path:
    """Return where it is written what was sent; it is no part of the stage's result."""
    return workspace.folder / "work" / "publish" / "pushed.json"


def push(workspace: Workspace, settings: Any, result: Done) -> None:
    """Send the data set, load it back from the Hub, and send the adapter.

    Args:
        workspace: the run.
        settings: those of the stage publish.
        result: what that stage made.

    Raises:
        InputError: the tag names other files, or a private set would become public.
        ServiceError: the Hub did not take it; what it has by then is not sent again.
    """
    (_record(workspace)).unlink(missing_ok=True)
    target = hub.Target(
        settings.repo,
        endpoint=settings.endpoint,
        is_private=settings.private,
        is_pull_request=settings.create_pr,
        branch=settings.revision,
        tag=settings.tag or f"lightadapt-{result.key[:12]}",
        owned=OWNED,
    )
    files: dict[str, Path | bytes] = {name: result.file(name) for name in result.files}
    pushed = [hub.push(files, target)]
    written: dict[str, list[Path]] = {}
    for name in sorted(fnmatch.filter(files, "data/*.parquet")):
        written.setdefault(Path(name).name.split("-")[0], []).append(result.file(name))
    rows = hub_check.check_loads(
        target.repo, pushed[0].revision, hub.address(target.endpoint), written
    )
    if settings.adapter_repo:
        adapter = replace(target, repo=settings.adapter_repo, kind="model", owned=OWNED_ADAPTER)
        pushed.append(hub.push(_adapter_files(workspace, settings, result), adapter))
    record = []
    for one in pushed:
        what = f"{len(one.sent)} files sent" if one.sent else "the Hub had all files already"
        checked = f"; {sum(rows.values()):,} rows load back as written" * (one.kind == "dataset")
        record.append({**asdict(one), "told": f"{one.url} at {one.revision}: {what}{checked}"})
        logger.info("publish: %s", record[-1]["told"])
    write_text(_record(workspace), json.dumps(record, indent=1))


def _adapter_files(workspace: Workspace, settings: Any, result: Done) -> dict[str, Path | bytes]:
    names = fnmatch.filter(result.files, "adapter/*")
    files: dict[str, Path | bytes] = {Path(name).name: result.file(name) for name in names}
    train: Any = workspace.settings["train"]
    is_id = describe.without_paths(train.base_model) == train.base_model
    results = json.loads(result.file("adapter/results.json").read_text("utf-8"))
    text = hub_card.adapter_card(
        settings.adapter_repo,
        train.base_model if is_id else "",
        settings.repo,
        card.plain(results["headline"]),
    )
    return {**files, "README.md": text.encode()}

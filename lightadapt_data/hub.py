"""Send files to a repository of the Hugging Face Hub: one commit, one tag, then loaded back.

Every step can be repeated: a push starts from what the Hub has and sends what differs, so that a
push that was killed or refused is simply done again. Nothing is visible before the one commit.
"""

from __future__ import annotations

import fnmatch
import hashlib
import logging
import os
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lightadapt_data import hub_card, hub_retries
from lightadapt_data.errors import InputError, ServiceError

if TYPE_CHECKING:
    from huggingface_hub import HfApi

logger = logging.getLogger(__name__)

DELAYS = (1.0, 2.0, 4.0, 8.0, 16.0)
"""Seconds before each further try; a Retry-After of the server counts instead."""
CARD = "README.md"
MESSAGE = "Publish with lightadapt-data"

Files = Mapping[str, Path | bytes]
"""What a repository is to hold: local file, or content, by path in the repository."""


@dataclass(frozen=True)
class Target:
    """Where files go."""

    repo: str
    """As in owner/name."""
    kind: str = "dataset"
    """"dataset" or "model"."""
    endpoint: str = ""
    """Address of the Hub; empty: HF_ENDPOINT, or the public one."""
    is_private: bool = False
    is_pull_request: bool = False
    branch: str = ""
    """Empty: main; made when it is missing."""
    tag: str = ""
    """Empty: none; a pull request gets none either."""
    owned: tuple[str, ...] = ()
    """Patterns of paths that only a push makes; what matches and is not sent, is deleted."""


@dataclass(frozen=True)
class Pushed:
    """What a push came to."""

    repo: str
    kind: str
    commit: str
    revision: str
    """What to load it by: the tag, the pull request, or the commit."""
    url: str
    sent: tuple[str, ...] = ()
    """Files of the commit; empty when the Hub had all of them."""
    deleted: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Changes:
    add: dict[str, Path | bytes] = field(default_factory=dict)
    delete: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.add or self.delete)


def address(endpoint: str) -> str:
    """Return the Hub's address: as given, as HF_ENDPOINT says, or the public one."""
    from huggingface_hub import constants

    return (endpoint or os.environ.get("HF_ENDPOINT") or constants.ENDPOINT).rstrip("/")


def has_token() -> bool:
    """Return whether huggingface_hub finds a token of the user's."""
    from huggingface_hub import get_token

    return bool(get_token())


def push(files: Files, target: Target, wait: Callable[[float], object] = time.sleep) -> Pushed:
    """Make a repository hold the given files, and nothing stale, by one commit at most.

    A commit of somebody else that comes in between, a busy or failing server and a lost
    connection are met by up to five further tries, each from what the Hub then has.

    Args:
        files: all files; of the card README.md, what people wrote between their marks is kept.
        target: where they go.
        wait: called with seconds before a further try.

    Raises:
        InputError: the tag names other files, or a private set would become public.
        ServiceError: the Hub cannot be reached, refuses the token or keeps failing.
    """
    import httpx2
    from huggingface_hub import HfApi

    api = HfApi(endpoint=address(target.endpoint))
    for delay in (*DELAYS, None):
        try:
            return _push_once(api, files, target)
        except (httpx2.HTTPError, OSError, RuntimeError, ValueError) as error:
            seconds = hub_retries.seconds_to_wait(error, delay)
            if seconds is None:
                raise hub_retries.told(error, api.endpoint, target.repo) from None
            why = hub_retries.in_short(error)
            logger.warning("publish: %s: %s; next try in %g s", target.repo, why, seconds)
            wait(seconds)
    raise ServiceError(f"publish: {target.repo}: gave up")  # never: the last try returns or raises


def _push_once(api: HfApi, files: Files, target: Target) -> Pushed:
    head = _head(api, target)
    there = _tree(api, target, head)
    if CARD in files and CARD in there:
        files = {**files, CARD: _merged_card(api, target, files[CARD], head)}
    is_tagged = _is_tagged(api, files, target)
    revision = _proposed(api, files, target) if target.is_pull_request else ""
    changes = _changes(there, files, target.owned)
    commit = head
    if changes and not revision:
        commit, revision = _commit(api, changes, target, head)
    if target.tag and not target.is_pull_request and not is_tagged:
        api.create_tag(target.repo, tag=target.tag, revision=commit, repo_type=target.kind)
    revision = revision or (not target.is_pull_request and target.tag) or commit
    if left := _changes(_tree(api, target, revision), _without_card(files), ()):
        raise ServiceError(
            f"publish: {target.repo} at {revision} does not hold what was sent: "
            f"{', '.join(sorted(left.add))}; look at the repository's files and publish again"
        )
    url = f"{api.endpoint}/{'datasets/' * (target.kind == 'dataset')}{target.repo}"
    sent = tuple(sorted(changes.add)) if commit != head or target.is_pull_request else ()
    return Pushed(target.repo, target.kind, commit, revision, url, sent, changes.delete)


def _head(api: HfApi, target: Target) -> str:
    """Return the newest commit; the repository and the branch are made when they are missing."""
    from huggingface_hub.errors import RepositoryNotFoundError, RevisionNotFoundError

    name: dict[str, Any] = {"repo_id": target.repo, "repo_type": target.kind}
    try:
        info: Any = api.repo_info(**name)
    except RepositoryNotFoundError:
        api.create_repo(**name, private=target.is_private or None, exist_ok=True)
        info = api.repo_info(**name)
    if target.is_private and info.private is False:
        raise InputError(
            f"publish: private = true, but {target.repo} is there already and public; make it "
            "private in its settings on the Hub, or publish to another repo"
        )
    if target.branch:
        try:
            info = api.repo_info(**name, revision=target.branch)
        except RevisionNotFoundError:
            api.create_branch(**name, branch=target.branch, exist_ok=True)
            info = api.repo_info(**name, revision=target.branch)
    return str(info.sha)


def _tree(api: HfApi, target: Target, revision: str) -> dict[str, Any]:
    """Return the files of a revision by path."""
    entries: Any = api.list_repo_tree(
        target.repo, recursive=True, revision=revision, repo_type=target.kind
    )
    return {entry.path: entry for entry in entries if hasattr(entry, "blob_id")}


def _changes(there: Mapping[str, Any], files: Files, owned: tuple[str, ...]) -> _Changes:
    """Return what a commit has to do so that a tree holds the files and nothing stale."""
    add = {
        path: content
        for path, content in files.items()
        if path not in there or not _is_same(there[path], content)
    }
    stale = (
        path
        for path in sorted(set(there) - set(files))
        if any(fnmatch.fnmatchcase(path, pattern) for pattern in owned)
    )
    return _Changes(add, tuple(stale))


def _is_same(entry: Any, content: Path | bytes) -> bool:
    size = len(content) if isinstance(content, bytes) else content.stat().st_size
    if entry.size != size:
        return False
    if entry.lfs is None:
        data = content if isinstance(content, bytes) else content.read_bytes()
        blob = b"blob %d\0" % size + data
        return bool(entry.blob_id == hashlib.sha1(blob).hexdigest())  # noqa: S324  # git's id
    if isinstance(content, bytes):
        return bool(entry.lfs.sha256 == hashlib.sha256(content).hexdigest())
    with content.open("rb") as file:
        return bool(entry.lfs.sha256 == hashlib.file_digest(file, "sha256").hexdigest())


def _merged_card(api: HfApi, target: Target, card: Path | bytes, head: str) -> bytes:
    """Return the card with what people wrote into the one that is there."""
    text = (card if isinstance(card, bytes) else card.read_bytes()).decode()
    with tempfile.TemporaryDirectory(prefix="lightadapt-card-") as cache:
        path = api.hf_hub_download(
            target.repo, CARD, repo_type=target.kind, revision=head, cache_dir=cache
        )
        return hub_card.with_own_text(text, Path(path).read_text("utf-8")).encode()


def _without_card(files: Files) -> Files:
    return {path: content for path, content in files.items() if path != CARD}


def _is_tagged(api: HfApi, files: Files, target: Target) -> bool:
    """Return whether the tag is there; it never moves, so it must name these files."""
    tags = api.list_repo_refs(target.repo, repo_type=target.kind).tags
    commit = next((tag.target_commit for tag in tags if tag.name == target.tag), None)
    if commit is None or target.is_pull_request:
        return False
    if _changes(_tree(api, target, commit), _without_card(files), target.owned):
        raise InputError(
            f"publish: tag = '{target.tag}' names commit {commit[:12]} of {target.repo}, which "
            "has other files, and a tag never moves; choose another tag, or none for one by content"
        )
    return True


def _proposed(api: HfApi, files: Files, target: Target) -> str:
    """Return the open pull request that has just these files, or ""."""
    found = api.get_repo_discussions(
        target.repo,
        repo_type=target.kind,
        discussion_type="pull_request",
        discussion_status="open",
    )
    for pull in found:
        reference = f"refs/pr/{pull.num}"
        if pull.title == MESSAGE and not _changes(
            _tree(api, target, reference), files, target.owned
        ):
            return reference
    return ""


def _commit(api: HfApi, changes: _Changes, target: Target, head: str) -> tuple[str, str]:
    """Send the changes; return the commit and, when it is a pull request, its name."""
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete

    operations: list[Any] = [
        CommitOperationAdd(path, content) for path, content in sorted(changes.add.items())
    ]
    operations += [CommitOperationDelete(path) for path in changes.delete]
    with _without_xet_where_absent(api, target):
        made = api.create_commit(
            target.repo,
            operations,
            commit_message=MESSAGE,
            repo_type=target.kind,
            revision=target.branch or None,
            create_pr=target.is_pull_request,
            parent_commit=head,
        )
    return str(made.oid), str(made.pr_revision or "")


@contextmanager
def _without_xet_where_absent(api: HfApi, target: Target) -> Iterator[None]:
    """Send large files by LFS to a server without Xet storage.

    The client has no way back by itself: with hf_xet installed it fails on such a server.
    """
    from huggingface_hub import constants, get_session
    from huggingface_hub.utils import build_hf_headers  # type: ignore[attr-defined]

    before = constants.HF_HUB_DISABLE_XET
    branch = target.branch.replace("/", "%2F") or "main"
    path = f"/api/{target.kind}s/{target.repo}/xet-write-token/{branch}"
    if not before:
        answer = get_session().get(api.endpoint + path, headers=build_hf_headers())
        constants.HF_HUB_DISABLE_XET = answer.status_code == 404
    try:
        yield
    finally:
        constants.HF_HUB_DISABLE_XET = before

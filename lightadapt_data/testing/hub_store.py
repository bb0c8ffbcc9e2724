"""What the loopback Hub keeps: repositories with commits, branches, tags and pull requests."""

from __future__ import annotations

import base64
import hashlib
import json
import threading
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any

LFS_SUFFIXES = (".parquet", ".safetensors", ".arrow", ".bin", ".pt", ".gz", ".zst", ".zip", ".npy")
LFS_FROM = 10_000_000
"""Bytes from which any file is stored as an LFS object."""
GITATTRIBUTES = "".join(
    f"*{suffix} filter=lfs diff=lfs merge=lfs -text\n" for suffix in LFS_SUFFIXES
)


class RefusedError(Exception):
    """A request that the Hub answers with an error."""

    def __init__(self, status: int, message: str, code: str = "") -> None:
        super().__init__(message)
        self.status, self.message, self.code = status, message, code


@dataclass(frozen=True)
class Blob:
    """One file at one revision."""

    content: bytes
    oid: str
    """Git's id: of the content, or of the pointer of an LFS file."""
    sha256: str = ""
    """Digest of the content of an LFS file; empty for any other."""

    def as_json(self, path: str) -> dict[str, Any]:
        """Return the file's entry in a tree."""
        entry = {"type": "file", "path": path, "size": len(self.content), "oid": self.oid}
        if self.sha256:
            entry["lfs"] = {"oid": self.sha256, "size": len(self.content), "pointerSize": 130}
        return entry


@dataclass(frozen=True)
class Commit:
    """One revision."""

    oid: str
    parents: tuple[str, ...]
    title: str
    files: Mapping[str, Blob]


@dataclass
class Repo:
    """One repository; `refs` holds branches, tags and pull requests by their full names."""

    kind: str
    """"datasets" or "models"."""
    name: str
    is_private: bool
    commits: dict[str, Commit] = field(default_factory=dict)
    refs: dict[str, str] = field(default_factory=dict)

    def names(self, prefix: str) -> dict[str, str]:
        """Return the commits of all refs under a prefix, as in refs/tags/, by their short names."""
        return {
            name.removeprefix(prefix): oid
            for name, oid in self.refs.items()
            if name.startswith(prefix)
        }

    def log(self, revision: str = "main") -> list[Commit]:
        """Return the commits of a revision, newest first."""
        found = [self.at(revision)]
        while found[-1].parents:
            found.append(self.commits[found[-1].parents[0]])
        return found

    def at(self, revision: str) -> Commit:
        """Return the commit that a branch, tag, pull request or id names."""
        for name in (f"refs/heads/{revision}", f"refs/tags/{revision}", revision):
            if name in self.refs:
                return self.commits[self.refs[name]]
        if revision in self.commits:
            return self.commits[revision]
        raise RefusedError(404, f"Invalid rev id: {revision}", "RevisionNotFound")

    def add(self, ref: str, parents: tuple[str, ...], title: str, files: dict[str, Blob]) -> Commit:
        """Put a commit on top of a ref."""
        tree = {path: blob.oid for path, blob in sorted(files.items())}
        text = json.dumps([parents, title, tree, ref])
        commit = Commit(hashlib.sha1(text.encode()).hexdigest(), parents, title, files)  # noqa: S324
        self.commits[commit.oid] = commit
        self.refs[ref] = commit.oid
        return commit

    def branch(self, name: str, start: str) -> None:
        """Make a branch."""
        self._new_ref(f"refs/heads/{name}", start)

    def tag(self, name: str, target: str) -> None:
        """Make a tag."""
        self._new_ref(f"refs/tags/{name}", target)

    def _new_ref(self, ref: str, target: str) -> None:
        if ref in self.refs:
            raise RefusedError(409, f"Reference already exists: {ref}")
        self.refs[ref] = self.at(target).oid


class Store:
    """All repositories and LFS objects of one server, in memory."""

    def __init__(self) -> None:
        self.repos: dict[tuple[str, str], Repo] = {}
        self.objects: dict[str, bytes] = {}
        """Content of LFS objects by SHA-256; they may belong to no commit yet."""
        self.lock = threading.RLock()

    def create(self, kind: str, name: str, *, is_private: bool) -> Repo:
        """Make a repository with the first commit that the Hub gives it."""
        repo = self.repos[kind, name] = Repo(kind, name, is_private)
        repo.add(
            "refs/heads/main", (), "initial commit", {".gitattributes": plain_blob(GITATTRIBUTES)}
        )
        return repo

    def repo(self, kind: str, name: str) -> Repo:
        """Return a repository."""
        if (kind, name) not in self.repos:
            raise RefusedError(404, "Repository not found", "RepoNotFound")
        return self.repos[kind, name]

    def commit(
        self, repo: Repo, revision: str, body: bytes, *, is_pull: bool
    ) -> tuple[Commit, int]:
        """Apply the lines of a commit request; return the commit and its pull request's number."""
        lines = [json.loads(line) for line in body.splitlines() if line.strip()]
        head = repo.at(revision)
        header = next(line["value"] for line in lines if line["key"] == "header")
        parent = header.get("parentCommit")
        if parent and not is_pull and not head.oid.startswith(parent):
            raise RefusedError(412, "A commit has happened since. Please refresh and try again.")
        if parent and is_pull:
            head = repo.at(parent)
        files = self._changed(dict(head.files), (line for line in lines if line["key"] != "header"))
        number = len(repo.names("refs/pr/")) + 1 if is_pull else 0
        ref = f"refs/pr/{number}" if is_pull else f"refs/heads/{revision}"
        if ref not in repo.refs and revision in repo.refs:
            ref = revision
        elif not is_pull and ref not in repo.refs:
            raise RefusedError(400, f"{revision} is no branch")
        return repo.add(ref, (head.oid,), header["summary"], files), number

    def _changed(self, files: dict[str, Blob], lines: Iterable[dict[str, Any]]) -> dict[str, Blob]:
        for line in lines:
            value = line["value"]
            path = value["path"].rstrip("/")
            if line["key"] == "file":
                files[path] = plain_blob(base64.b64decode(value["content"]))
            elif line["key"] == "lfsFile":
                files[path] = self._linked(value["oid"])
            elif line["key"] == "deletedFile":
                if files.pop(path, None) is None:
                    raise RefusedError(
                        404, f"A file with this name doesn't exist: {path}", "EntryNotFound"
                    )
            elif line["key"] == "deletedFolder":
                files = {
                    name: blob for name, blob in files.items() if not name.startswith(f"{path}/")
                }
            else:
                raise RefusedError(400, f"unknown operation {line['key']}")
        return files

    def _linked(self, sha256: str) -> Blob:
        if sha256 not in self.objects:
            raise RefusedError(400, f"LFS pointer pointed to a file that does not exist: {sha256}")
        content = self.objects[sha256]
        pointer = (
            "version https://git-lfs.github.com/spec/v1\n"
            f"oid sha256:{sha256}\nsize {len(content)}\n"
        )
        return Blob(content, plain_blob(pointer).oid, sha256)


def plain_blob(content: bytes | str) -> Blob:
    """Return a file that is no LFS file."""
    data = content.encode() if isinstance(content, str) else content
    return Blob(data, hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest())  # noqa: S324


def is_linked(path: str, size: int, sample: bytes) -> bool:
    """Return whether the Hub wants a file as an LFS object."""
    return path.endswith(LFS_SUFFIXES) or size >= LFS_FROM or b"\0" in sample


def tree(files: Mapping[str, Blob], folder: str, *, is_deep: bool) -> list[dict[str, Any]]:
    """Return the entries of a folder, with all below them if `is_deep`."""
    prefix = f"{folder}/" if folder else ""
    found: dict[str, dict[str, Any]] = {}
    for path, blob in sorted(files.items()):
        if not path.startswith(prefix):
            continue
        for parent in reversed(PurePosixPath(path).parents):
            name = parent.as_posix()
            if name.startswith(prefix) and name not in (".", folder):
                oid = hashlib.sha1(name.encode()).hexdigest()  # noqa: S324
                found[name] = {"type": "directory", "path": name, "size": 0, "oid": oid}
        found[path] = blob.as_json(path)
    if folder and not found:
        raise RefusedError(404, f"{folder} does not exist", "EntryNotFound")
    depth = prefix.count("/")
    return [entry for path, entry in found.items() if is_deep or path.count("/") == depth]

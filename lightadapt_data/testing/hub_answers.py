"""What the loopback Hub answers: a pattern and a method for every route of the clients."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs, unquote

from lightadapt_data.testing import hub_store
from lightadapt_data.testing.hub_store import RefusedError, Repo, Store

_DATE = "2025-01-01T00:00:00.000Z"
_REPO = r"/api/(?P<kind>datasets|models)/(?P<name>[^/]+/[^/]+)"
_FILES = r"/(?:(?P<kind>datasets)/)?(?P<name>[^/]+/[^/]+)"
PATTERNS = [
    (name, method, re.compile(f"{pattern}$"))
    for name, method, pattern in (
        ("whoami", "GET", r"/api/whoami-v2"),
        ("create", "POST", r"/api/repos/create"),
        ("validate", "POST", r"/api/validate-yaml"),
        ("refs", "GET", _REPO + r"/refs"),
        ("tree", "GET", _REPO + r"/tree/(?P<rev>[^/]+)(?:/(?P<path>.*))?"),
        ("paths", "POST", _REPO + r"/paths-info/(?P<rev>[^/]+)"),
        ("preupload", "POST", _REPO + r"/preupload/(?P<rev>[^/]+)"),
        ("commit", "POST", _REPO + r"/commit/(?P<rev>[^/]+)"),
        ("branch", "POST", _REPO + r"/branch/(?P<rev>[^/]+)"),
        ("tag", "POST", _REPO + r"/tag/(?P<rev>[^/]+)"),
        ("discussions", "GET", _REPO + r"/discussions"),
        ("info", "GET", _REPO + r"(?:/revision/(?P<rev>[^/]+))?"),
        ("batch", "POST", _FILES + r"\.git/info/lfs/objects/batch"),
        ("upload", "PUT", r"/lfs/(?P<oid>[0-9a-f]{64})"),
        ("verify", "POST", r"/lfs/verify"),
        ("object", "GET", r"/lfs/(?P<oid>[0-9a-f]{64})"),
        ("resolve", "GET", _FILES + r"/resolve/(?P<rev>[^/]+)/(?P<path>.+)"),
    )
]
ROUTES = tuple(name for name, *_ in PATTERNS)


@dataclass
class Answer:
    """One answer: JSON, or bytes as they are."""

    content: Any = None
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)


@dataclass
class Call:
    """One request, split up; a method per route returns the JSON to answer, or an Answer."""

    url: str
    store: Store
    query: str
    body: bytes
    content_type: str
    kind: str | None = None
    name: str = ""
    rev: str | None = None
    path: str | None = None
    oid: str = ""

    @property
    def repo(self) -> Repo:
        """The repository of the path."""
        return self.store.repo(self.kind or "models", unquote(self.name))

    @property
    def revision(self) -> str:
        """The revision of the path, main if it names none."""
        return unquote(self.rev or "main")

    @property
    def params(self) -> dict[str, Any]:
        """The body, read as JSON or as a form."""
        if "form" in self.content_type:
            return parse_qs(self.body.decode())
        found: dict[str, Any] = json.loads(self.body or b"{}")
        return found

    def whoami(self) -> Any:
        """Say who asks."""
        return {"type": "user", "name": "me", "orgs": [], "auth": {"type": "access_token"}}

    def create(self) -> Any:
        """Make a repository."""
        asked = self.params
        name = f"{asked.get('organization') or 'me'}/{asked['name']}"
        kind = f"{asked.get('type') or 'model'}s"
        is_private = asked.get("visibility") == "private" or bool(asked.get("private"))
        prefix = "datasets/" if kind == "datasets" else ""
        found = {"url": f"{self.url}/{prefix}{name}", "name": name, "id": name}
        if (kind, name) in self.store.repos:
            return Answer({"error": "You already created this repo", **found}, 409)
        self.store.create(kind, name, is_private=is_private)
        return found

    def validate(self) -> Any:
        """Find the header of a card right."""
        return {"errors": [], "warnings": []}

    def info(self) -> Any:
        """Describe a repository at a revision."""
        commit, repo = self.repo.at(self.revision), self.repo
        found: dict[str, Any] = {"_id": "0" * 24, "id": repo.name, "sha": commit.oid}
        found |= {
            "author": repo.name.split("/")[0],
            "private": repo.is_private,
            "gated": False,
            "disabled": False,
        }
        found |= {"lastModified": _DATE, "createdAt": _DATE, "downloads": 0, "likes": 0, "tags": []}
        return {**found, "siblings": [{"rfilename": path} for path in sorted(commit.files)]}

    def refs(self) -> Any:
        """List branches, tags and, when asked for, pull requests."""

        def listed(prefix: str) -> list[dict[str, str]]:
            names = self.repo.names(prefix)
            return [{"name": n, "ref": prefix + n, "targetCommit": oid} for n, oid in names.items()]

        pulls = listed("refs/pr/") if "include_prs" in self.query else []
        found = {"branches": listed("refs/heads/"), "tags": listed("refs/tags/")}
        return {**found, "converts": [], "pullRequests": pulls}

    def tree(self) -> Any:
        """List a folder."""
        files = self.repo.at(self.revision).files
        is_deep = parse_qs(self.query).get("recursive", ["false"])[0].lower() in ("true", "1")
        return hub_store.tree(files, unquote(self.path or "").strip("/"), is_deep=is_deep)

    def paths(self) -> Any:
        """Describe files."""
        wanted = set(self.params.get("paths", []))
        everything = hub_store.tree(self.repo.at(self.revision).files, "", is_deep=True)
        return [entry for entry in everything if entry["path"] in wanted]

    def preupload(self) -> Any:
        """Say how each file is to be sent."""
        there, answers = self.repo.at(self.revision).files, []
        for file in self.params["files"]:
            sample = base64.b64decode(file["sample"])
            is_linked = hub_store.is_linked(file["path"], file["size"], sample)
            old = there.get(file["path"])
            answer = {"path": file["path"], "shouldIgnore": False}
            answer["uploadMode"] = "lfs" if is_linked else "regular"
            answer["oid"] = (old.sha256 or old.oid) if old else None
            answers.append(answer)
        return {"files": answers}

    def commit(self) -> Any:
        """Make a commit, or a pull request of one commit."""
        is_pull = "create_pr=1" in self.query
        made, number = self.store.commit(self.repo, self.revision, self.body, is_pull=is_pull)
        page = f"{self.url}/{'datasets/' * (self.kind == 'datasets')}{self.name}"
        pull = f"{page}/discussions/{number}" if is_pull else None
        found = {"commitOid": made.oid, "commitUrl": f"{page}/commit/{made.oid}", "success": True}
        return {**found, "pullRequestUrl": pull}

    def branch(self) -> Any:
        """Make a branch."""
        self.repo.branch(self.revision, self.params.get("startingPoint") or "main")
        return {}

    def tag(self) -> Any:
        """Make a tag."""
        self.repo.tag(self.params["tag"], self.revision)
        return {}

    def discussions(self) -> Any:
        """List the pull requests, all open."""
        repo = {"name": self.repo.name, "type": (self.kind or "models")[:-1]}
        same = {"isPullRequest": True, "createdAt": _DATE, "author": {"name": "me"}, "repo": repo}
        found = [
            {"num": int(number), "title": self.repo.commits[oid].title, "status": "open", **same}
            for number, oid in self.repo.names("refs/pr/").items()
        ]
        return {"discussions": found, "count": len(found), "start": 0}

    def batch(self) -> Any:
        """Say which LFS objects are to be sent, and where."""
        objects = []
        for wanted in self.params["objects"]:
            entry = {"oid": wanted["oid"], "size": wanted["size"]}
            if wanted["oid"] not in self.store.objects:
                entry["actions"] = {
                    "upload": {"href": f"{self.url}/lfs/{wanted['oid']}"},
                    "verify": {"href": f"{self.url}/lfs/verify"},
                }
            objects.append(entry)
        content = json.dumps({"transfer": "basic", "objects": objects}).encode()
        return Answer(content, 200, {"Content-Type": "application/vnd.git-lfs+json"})

    def upload(self) -> Any:
        """Take the content of an LFS object."""
        if hashlib.sha256(self.body).hexdigest() != self.oid:
            raise RefusedError(400, "the content does not have this SHA-256")
        self.store.objects[self.oid] = self.body
        return {}

    def verify(self) -> Any:
        """Say whether an LFS object is there and whole."""
        if len(self.store.objects.get(self.params["oid"], b"")) != self.params["size"]:
            raise RefusedError(404, "Object does not exist")
        return {}

    def object(self) -> Any:
        """Give the content of an LFS object."""
        content = self.store.objects[self.oid]
        commit = parse_qs(self.query).get("commit", [""])[0]
        return Answer(content, 200, {"ETag": f'"{self.oid}"', "X-Repo-Commit": commit})

    def resolve(self) -> Any:
        """Give a file, or send the client to its LFS object."""
        commit, path = self.repo.at(self.revision), unquote(self.path or "")
        blob = commit.files.get(path)
        if blob is None:
            raise RefusedError(404, "Entry not found", "EntryNotFound")
        headers = {"ETag": f'"{blob.sha256 or blob.oid}"', "X-Repo-Commit": commit.oid}
        if not blob.sha256:
            return Answer(blob.content, 200, headers)
        headers["X-Linked-Size"], headers["X-Linked-ETag"] = str(len(blob.content)), headers["ETag"]
        headers["Location"] = f"{self.url}/lfs/{blob.sha256}?commit={commit.oid}"
        return Answer(b"", 302, headers)

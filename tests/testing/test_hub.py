"""The loopback Hub, asked by the unmodified clients."""

import json
import os
import subprocess
import sys

import pytest
from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi
from huggingface_hub.errors import (
    EntryNotFoundError,
    HfHubHTTPError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from lightadapt_data.testing import hub

TOKEN = "hf_box"
REPO = "me/set"


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_DISABLE_XET", True)
    # Or the client asks the public Hub for a list of agents.
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_DISABLE_TELEMETRY", True)
    with hub.serve() as running:
        yield running


@pytest.fixture
def api(server):
    api = HfApi(endpoint=server.url)
    api.create_repo(REPO, repo_type="dataset")
    return api


def commit(api, *operations, **more):
    return api.create_commit(
        REPO, list(operations), commit_message="m", repo_type="dataset", **more
    )


def paths(api, revision="main", **more):
    found = api.list_repo_tree(REPO, revision=revision, repo_type="dataset", **more)
    return sorted(entry.path for entry in found)


def test_a_repository_begins_with_one_commit(api, server):
    assert paths(api) == [".gitattributes"]
    assert api.repo_info(REPO, repo_type="dataset").sha == server.repo(REPO).at("main").oid
    with pytest.raises(HfHubHTTPError, match="409"):
        api.create_repo(REPO, repo_type="dataset")
    api.create_repo(REPO, repo_type="dataset", exist_ok=True)


def test_revisions_are_kept_and_folders_are_listed(api):
    add = [CommitOperationAdd(f"a/b/{n}.txt", b"x") for n in range(2)]
    first = commit(api, *add, CommitOperationAdd("c.parquet", b"long"))
    commit(api, CommitOperationDelete("a/b/0.txt"), CommitOperationDelete("c.parquet"))
    assert paths(api) == [".gitattributes", "a"]
    assert paths(api, first.oid, recursive=True) == [
        *(".gitattributes", "a", "a/b", "a/b/0.txt", "a/b/1.txt", "c.parquet")
    ]
    assert paths(api, path_in_repo="a/b") == ["a/b/1.txt"]
    commit(api, CommitOperationDelete("a/"))
    assert paths(api) == [".gitattributes"]


def test_large_files_are_lfs_objects_with_their_digest(api):
    commit(api, CommitOperationAdd("c.parquet", b"long"), CommitOperationAdd("t.txt", b"hello\n"))
    linked, plain = api.get_paths_info(REPO, ["c.parquet", "t.txt"], repo_type="dataset")
    assert linked.lfs.sha256.startswith("fc66f021")  # printf long | sha256sum
    assert plain.lfs is None
    assert plain.blob_id == "ce013625030ba8dba906f756967f9e9ca394464a"  # git hash-object


def test_files_come_back_through_redirect_and_cache(api, tmp_path):
    commit(api, CommitOperationAdd("d/c d.parquet", b"long"), CommitOperationAdd("t.txt", b"text"))
    for name, content in (("d/c d.parquet", b"long"), ("t.txt", b"text")):
        path = api.hf_hub_download(REPO, name, repo_type="dataset", cache_dir=tmp_path)
        with open(path, "rb") as file:
            assert file.read() == content


def test_branches_tags_and_pull_requests(api, server):
    first = commit(api, CommitOperationAdd("a.txt", b"1"))
    api.create_tag(REPO, tag="v1", repo_type="dataset")
    api.create_branch(REPO, branch="x/y", repo_type="dataset")
    commit(api, CommitOperationAdd("a.txt", b"2"), revision="x/y")
    pull = commit(api, CommitOperationAdd("a.txt", b"3"), create_pr=True)
    assert pull.pr_revision == "refs/pr/1"
    contents = [server.repo(REPO).at(r).files["a.txt"].content for r in ("main", "x/y", "v1")]
    assert contents == [b"1", b"2", b"1"]
    refs = api.list_repo_refs(REPO, repo_type="dataset", include_pull_requests=True)
    assert sorted(branch.name for branch in refs.branches) == ["main", "x/y"]
    assert [(tag.name, tag.target_commit) for tag in refs.tags] == [("v1", first.oid)]
    (found,) = api.get_repo_discussions(REPO, repo_type="dataset")
    assert (found.num, found.is_pull_request, found.status) == (1, True, "open")
    with pytest.raises(HfHubHTTPError, match="409"):
        api.create_tag(REPO, tag="v1", repo_type="dataset")


def test_a_stale_parent_is_refused_and_nothing_changes(api, server):
    head = api.repo_info(REPO, repo_type="dataset").sha
    commit(api, CommitOperationAdd("a.txt", b"1"), parent_commit=head)
    with pytest.raises(HfHubHTTPError, match="412"):
        commit(api, CommitOperationAdd("a.txt", b"2"), parent_commit=head)
    assert server.repo(REPO).at("main").files["a.txt"].content == b"1"


def test_what_is_missing_is_named_as_on_the_hub(api, tmp_path):
    with pytest.raises(RepositoryNotFoundError):
        api.repo_info("me/other", repo_type="dataset")
    with pytest.raises(RevisionNotFoundError):
        api.repo_info(REPO, revision="v9", repo_type="dataset")
    with pytest.raises(EntryNotFoundError):
        api.hf_hub_download(REPO, "no.txt", repo_type="dataset", cache_dir=tmp_path)
    with pytest.raises(EntryNotFoundError):
        commit(api, CommitOperationDelete("no.txt"))


def test_a_token_guards_writing_and_what_is_private():
    with hub.serve(TOKEN) as server:
        known, unknown = (HfApi(endpoint=server.url, token=token) for token in (TOKEN, False))
        known.create_repo(REPO, private=True)
        known.create_repo("me/open")
        assert known.whoami()["name"] == "me"
        assert unknown.repo_info("me/open").private is False
        with pytest.raises(RepositoryNotFoundError):
            unknown.repo_info(REPO)
        with pytest.raises(HfHubHTTPError, match="401"):
            unknown.create_repo("me/third")


def test_parts_of_a_file_can_be_asked_for(api, server):
    from huggingface_hub import get_session

    commit(api, CommitOperationAdd("c.parquet", b"0123456789"))
    url = f"{server.url}/datasets/{REPO}/resolve/main/c.parquet"
    for asked, status, content in (
        ("bytes=2-4", 206, b"234"),
        ("bytes=8-", 206, b"89"),
        ("bytes=20-", 416, b""),
    ):
        answer = get_session().get(url, headers={"Range": asked})
        assert (answer.status_code, answer.content) == (status, content)


def test_faults_are_used_up_in_their_order(api, server):
    called = []
    server.faults.add("server_error", "info", times=2)
    server.faults.add("call", "info", call=lambda: called.append(1))
    for _ in range(2):
        with pytest.raises(HfHubHTTPError, match="500"):
            api.repo_info(REPO, repo_type="dataset")
    api.repo_info(REPO, repo_type="dataset")
    assert called == [1]
    assert server.count("info") == 3


@pytest.mark.parametrize(("kind", "route"), [("earthquake", "commit"), ("drop", "sideways")])
def test_unknown_faults_are_refused(server, kind, route):
    with pytest.raises(ValueError, match=r"allowed kinds .* allowed routes"):
        server.faults.add(kind, route)


CLIENT = """
import datasets, json
made = datasets.Dataset.from_dict({"a": [1, 2, 3], "t": ["x", "é", None]})
made.push_to_hub("me/set")
made.select([0]).push_to_hub("me/set", split="test")
back = datasets.load_dataset("me/set")
streamed = datasets.load_dataset("me/set", split="train", streaming=True)
print(json.dumps([{k: v[:] for k, v in back.items()}, list(streamed)]))
"""


def test_datasets_pushes_loads_and_streams(server, tmp_path):
    names = {"HF_ENDPOINT": server.url, "HF_HOME": str(tmp_path), "HF_TOKEN": "hf_any"}
    more = {**names, "HF_HUB_DISABLE_XET": "1", "HF_HUB_DISABLE_TELEMETRY": "1"}
    words = [sys.executable, "-c", CLIENT]
    done = subprocess.run(
        words, env={**os.environ, **more}, cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    back, streamed = json.loads(done.stdout)
    assert back["train"] == {"a": [1, 2, 3], "t": ["x", "é", None]}
    assert back["test"] == {"a": [1], "t": ["x"]}
    assert [row["a"] for row in streamed] == [1, 2, 3]

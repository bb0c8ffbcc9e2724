import logging
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from lightadapt_data import hub, hub_card, hub_check, hub_retries
from lightadapt_data.errors import InputError, ServiceError
from lightadapt_data.testing import hub as box
from lightadapt_data.testing.hub_store import RefusedError, plain_blob

TOKEN = "hf_test_secret_that_must_stay_secret"
REPO = "me/set"
OWNED = ("data/train-*.parquet",)
CARD = f"---\nlicense: mit\n---\n\n# A set\n\n{hub_card.OURS}\n{hub_card.OWN_SECTION}"


@pytest.fixture
def server(monkeypatch, tmp_path):
    """A Hub that wants a token; the clients' own pauses are left out."""
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    for name in ("HF_ENDPOINT", "HF_HUB_OFFLINE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("huggingface_hub.constants.HF_HOME", str(tmp_path / "home"))
    # Or the client asks the public Hub for a list of agents.
    monkeypatch.setenv("HF_HUB_DISABLE_TELEMETRY", "1")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_DISABLE_TELEMETRY", True)
    nothing = SimpleNamespace(sleep=lambda seconds: None, time=time.time)
    monkeypatch.setattr("huggingface_hub.utils._http.time", nothing)
    with box.serve(TOKEN) as running:
        yield running


def shard(name, *numbers):
    sink = pa.BufferOutputStream()
    rows = {"id": [f"r{n}" for n in numbers], "text": [f"text {n} é" for n in numbers]}
    pq.write_table(pa.table(rows), sink)
    return {f"data/train-{name}.parquet": sink.getvalue().to_pybytes()}


FIRST = {**shard("a", 1, 2), **shard("b", 3), "README.md": CARD.encode(), "x.json": b"{}"}
SECOND = {**shard("a", 1, 2), **shard("c", 4), "README.md": CARD.encode(), "x.json": b"{}"}


def push(server, files, waits=None, **more):
    target = hub.Target(REPO, endpoint=server.url, owned=OWNED, **more)
    return hub.push(files, target, (waits if waits is not None else []).append)


def held(server, revision="main", kind="datasets"):
    files = server.repo(REPO, kind).at(revision).files
    return {path: blob.content for path, blob in files.items() if path != ".gitattributes"}


def uploads(server):
    return [request.path for request in server.requests if request.route == "upload"]


def titles(server):
    return [commit.title for commit in server.repo(REPO).log()]


def test_a_folder_is_one_commit_and_one_tag(server):
    pushed = push(server, FIRST, tag="v1")
    assert titles(server) == [hub.MESSAGE, "initial commit"]
    assert held(server) == held(server, "v1") == FIRST
    assert pushed.revision == "v1"
    assert pushed.commit == server.repo(REPO).at("main").oid
    assert pushed.url == f"{server.url}/datasets/{REPO}"
    assert set(pushed.sent) == set(FIRST)


def test_files_of_a_folder_are_sent_from_where_they_are(server, tmp_path):
    files = {}
    for name, content in FIRST.items():
        files[name] = tmp_path / name.replace("/", "-")
        files[name].write_bytes(content)
    push(server, files)
    assert held(server) == FIRST
    assert push(server, files).sent == ()


def test_the_same_content_again_makes_no_commit_and_sends_nothing(server):
    first = push(server, FIRST, tag="v1")
    n_uploads = len(uploads(server))
    again = push(server, FIRST, tag="v1")
    assert again.commit == first.commit
    assert again.sent == again.deleted == ()
    assert server.count("commit") == 1
    assert len(uploads(server)) == n_uploads == 2


def test_only_what_changed_travels_and_stale_shards_go_in_the_same_commit(server):
    push(server, FIRST, tag="v1")
    pushed = push(server, SECOND, tag="v2")
    assert pushed.sent == ("data/train-c.parquet",)
    assert pushed.deleted == ("data/train-b.parquet",)
    assert len(uploads(server)) == 3
    assert held(server) == SECOND
    assert held(server, "v1") == FIRST
    assert len(titles(server)) == 3


def test_files_that_are_not_ours_stay(server):
    push(server, FIRST)
    stay = {"data/extra.parquet": b"PAR1 mine", "LICENSE": b"mine"}
    push(server, {**FIRST, **stay})
    push(server, SECOND)
    assert held(server) == {**SECOND, **stay}


def test_an_adapter_goes_to_a_model_repository(server):
    files = {"adapter_model.safetensors": b"weights", "adapter_config.json": b"{}"}
    pushed = push(server, files, kind="model", tag="v1")
    assert held(server, "v1", "models") == files
    assert pushed.url == f"{server.url}/{REPO}"


def test_a_branch_is_made_and_main_is_left_alone(server):
    push(server, FIRST)
    push(server, SECOND, branch="next/one")
    push(server, SECOND, branch="next/one")
    assert held(server) == FIRST
    assert held(server, "next/one") == SECOND
    assert server.count("commit") == 2


def test_a_pull_request_is_opened_once_and_main_is_left_alone(server):
    push(server, FIRST)
    pushed = [push(server, SECOND, is_pull_request=True, tag="no") for _ in range(2)]
    assert [one.revision for one in pushed] == ["refs/pr/1"] * 2
    assert held(server) == FIRST
    assert held(server, "refs/pr/1") == SECOND
    assert server.repo(REPO).names("refs/tags/") == {}


def test_a_tag_that_names_other_files_never_moves(server):
    push(server, FIRST, tag="v1")
    with pytest.raises(InputError, match=r"tag = 'v1' names commit .* choose another tag"):
        push(server, SECOND, tag="v1")
    assert held(server) == held(server, "v1") == FIRST
    assert server.count("commit") == 1


def test_a_private_set_is_not_put_into_a_public_repository(server):
    push(server, FIRST)
    with pytest.raises(InputError, match="is there already and public"):
        push(server, SECOND, is_private=True)
    assert held(server) == FIRST


def test_a_new_private_repository_is_private(server):
    push(server, FIRST, is_private=True)
    assert server.repo(REPO).is_private
    assert push(server, FIRST, is_private=True).sent == ()


def test_a_commit_of_somebody_else_in_between_is_kept(server):
    push(server, FIRST)

    def interfere():
        repo = server.repo(REPO)
        head = repo.at("main")
        files = {**head.files, "theirs.txt": plain_blob("theirs")}
        repo.add("refs/heads/main", (head.oid,), "theirs", files)

    server.faults.add("call", call=interfere)
    waits = []
    push(server, SECOND, waits)
    assert waits == [0.0]
    assert titles(server) == [hub.MESSAGE, "theirs", hub.MESSAGE, "initial commit"]
    assert held(server) == {**SECOND, "theirs.txt": b"theirs"}


def test_conflicts_without_end_are_given_up_after_five_more_tries(server):
    server.faults.add("conflict", times=99)
    with pytest.raises(ServiceError, match=r"did not take me/set .*412.*run again"):
        push(server, FIRST)
    assert server.count("commit") == 6
    assert titles(server) == ["initial commit"]


def test_a_busy_server_says_how_long_to_wait(server):
    server.faults.add("rate_limit", retry_after=37)
    waits = []
    push(server, FIRST, waits)
    assert waits == [37.0]
    assert len(titles(server)) == 2


def test_a_failing_server_is_asked_again_with_growing_delays(server):
    server.faults.add("server_error", times=3)
    waits = []
    push(server, FIRST, waits)
    assert waits == [1.0, 2.0, 4.0]
    assert held(server) == FIRST
    assert len(titles(server)) == 2


def test_a_server_that_never_recovers_is_exit_code_5(server):
    server.faults.add("server_error", times=99)
    waits = []
    with pytest.raises(ServiceError, match="nothing is half-published; run again") as caught:
        push(server, FIRST, waits)
    assert caught.value.exit_code == 5
    assert waits == list(hub.DELAYS)
    assert held(server) == {}


@pytest.mark.parametrize("more", [{"tag": "v1"}, {"is_pull_request": True}])
def test_a_commit_whose_answer_was_lost_is_not_made_twice(server, more):
    server.faults.add("lost_answer")
    pushed = push(server, FIRST, **more)
    assert server.count("commit") == 1
    assert held(server, pushed.revision) == FIRST
    assert len(server.repo(REPO).commits) == 2


@pytest.mark.parametrize("route", ["info", "tree", "refs", "preupload", "batch", "tag", "create"])
@pytest.mark.parametrize("kind", ["server_error", "rate_limit", "lost_answer"])
def test_a_failure_at_any_step_changes_nothing_in_the_end(server, route, kind):
    server.faults.add(kind, route)
    push(server, FIRST, tag="v1")
    assert held(server) == held(server, "v1") == FIRST
    assert len(titles(server)) == 2


def test_a_connection_cut_in_the_middle_of_a_file_is_taken_up_again(server):
    server.faults.add("drop", "upload", times=2)
    push(server, FIRST)
    assert held(server) == FIRST
    assert len(titles(server)) == 2


def test_an_upload_that_fails_for_good_leaves_nothing_visible_and_is_resumed(server):
    server.faults.add("call", "upload")  # the first object passes
    server.faults.add("drop", "upload", times=36)
    waits = []
    with pytest.raises(ServiceError, match="run again"):
        push(server, FIRST, waits)
    assert held(server) == {}
    assert len(server.store.objects) == 1
    (there,) = server.store.objects
    server.faults.waiting.clear()
    n_before = len(uploads(server))
    push(server, FIRST)
    assert held(server) == FIRST
    assert len(uploads(server)) == n_before + 1
    assert there not in uploads(server)[-1]


def test_a_killed_push_is_resumed_without_sending_again(server, tmp_path):
    (tmp_path / "big.parquet").write_bytes(os.urandom(1000))
    (tmp_path / "more.parquet").write_bytes(os.urandom(1000))
    code = (
        "import sys; from pathlib import Path; from lightadapt_data import hub; "
        "files = {p.name: p for p in Path(sys.argv[2]).glob('*.parquet')}; "
        f"hub.push(files, hub.Target('{REPO}', endpoint=sys.argv[1], tag='v1'))"
    )
    words = [sys.executable, "-c", code, server.url, str(tmp_path)]
    process = subprocess.Popen(words, cwd=Path(hub.__file__).parents[1])

    def kill():
        os.kill(process.pid, signal.SIGKILL)
        raise RefusedError(500, "nobody is there to hear this")

    server.faults.add("call", call=kill)
    assert process.wait(60) == -signal.SIGKILL
    assert held(server) == {}
    n_uploads = len(uploads(server))
    assert n_uploads == 2
    files = {path.name: path for path in tmp_path.glob("*.parquet")}
    push(server, files, tag="v1")
    assert len(uploads(server)) == n_uploads
    assert set(held(server, "v1")) == set(files)
    assert len(titles(server)) == 2


def test_peoples_own_text_survives(server):
    push(server, FIRST)
    card = CARD.replace(hub_card.YOURS, f"{hub_card.YOURS}\nWritten by a person.\n")
    push(server, {**FIRST, "README.md": card.encode()})
    assert b"Written by a person." in held(server)["README.md"]
    push(server, SECOND)
    text = held(server)["README.md"].decode()
    assert text.count("Written by a person.") == 1
    assert push(server, SECOND).sent == ()


@pytest.mark.parametrize(
    ("old", "own"),
    [
        ("", ""),
        ("---\nlicense: mit\n---\n", ""),
        ("---\na: b\n---\n# Mine\nall of it", "# Mine\nall of it"),
        (
            f"{hub_card.OURS} <!-- yours -->\r\none\r\n<!-- /yours --> x <!--yours-->two",
            "one\n\ntwo",
        ),
        (f"{hub_card.OURS}: made, nothing own", ""),
        (CARD, ""),
    ],
)
def test_own_text_is_what_stands_between_the_marks(old, own):
    assert hub_card.own_text(old) == own
    merged = hub_card.with_own_text(CARD, old)
    assert hub_card.own_text(merged) == own
    assert hub_card.with_own_text(CARD, merged) == merged
    assert (merged == CARD) == (own == "")


def test_the_token_is_in_no_log_message_or_error(server, caplog, capfd):
    caplog.set_level(logging.DEBUG)
    push(server, FIRST)
    server.faults.add("server_error", times=99)
    with pytest.raises(ServiceError) as caught:
        push(server, SECOND)
    assert TOKEN not in str(caught.value) + caplog.text + "".join(capfd.readouterr())
    assert all(TOKEN not in request.path for request in server.requests)
    assert not any(r.is_authorized for r in server.requests if r.route == "upload")
    assert TOKEN not in hub_retries.in_short(RuntimeError(f"Bearer {TOKEN} refused"))


def test_a_refused_token_says_what_to_do(server, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_wrong")
    waits = []
    with pytest.raises(ServiceError, match=r"refused the token for me/set .*HF_TOKEN") as caught:
        push(server, FIRST, waits)
    assert "hf_wrong" not in str(caught.value)
    assert waits == []


def test_a_server_that_is_no_hub_says_so(server):
    target = hub.Target(REPO, endpoint=f"{server.url}/elsewhere")
    with pytest.raises(ServiceError, match=r"knows no me/set.*check publish.endpoint"):
        hub.push(FIRST, target)


def test_a_name_that_the_hub_does_not_allow_is_refused(server):
    target = hub.Target("me/a--b", endpoint=server.url)
    with pytest.raises(ServiceError, match=r"refused me/a--b .*put that right"):
        hub.push(FIRST, target)


def test_xet_is_left_out_only_while_a_server_without_it_is_served(server, monkeypatch):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", False)
    seen = []
    server.faults.add("call", "upload", call=lambda: seen.append(constants.HF_HUB_DISABLE_XET))
    push(server, FIRST)
    assert seen == [True]
    assert constants.HF_HUB_DISABLE_XET is False


def test_no_hub_at_all_says_so():
    waits = []
    target = hub.Target(REPO, endpoint="http://127.0.0.1:9")
    with pytest.raises(ServiceError, match=r"http://127.0.0.1:9 did not take me/set"):
        hub.push(FIRST, target, waits.append)
    assert waits == list(hub.DELAYS)


def test_offline_mode_is_named(server, monkeypatch):
    from huggingface_hub import close_session

    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    close_session()
    with pytest.raises(ServiceError, match="unset HF_HUB_OFFLINE"):
        push(server, FIRST)
    close_session()


def test_the_address_is_as_given_or_as_the_environment_says(monkeypatch):
    monkeypatch.setenv("HF_ENDPOINT", "http://other/")
    assert hub.address("") == "http://other"
    assert hub.address("http://given") == "http://given"
    monkeypatch.delenv("HF_ENDPOINT")
    assert hub.address("").startswith("https://huggingface.co")


def error_with(status, **headers):
    response = SimpleNamespace(status_code=status, headers=headers)
    return type("Failed", (OSError,), {"response": response})("failed")


def test_the_server_says_how_long_to_wait_in_three_ways():
    assert hub_retries.seconds_to_wait(error_with(429, **{"Retry-After": "5"}), 1.0) == 5
    assert hub_retries.seconds_to_wait(error_with(429, ratelimit='"api";r=0;t=55'), 1.0) == 55
    past = {"Retry-After": "Wed, 21 Oct 2015 07:28:00 GMT"}
    assert hub_retries.seconds_to_wait(error_with(503, **past), 1.0) == 0
    assert hub_retries.seconds_to_wait(error_with(503, **{"Retry-After": "soon"}), 1.0) == 1
    assert hub_retries.seconds_to_wait(error_with(400), 1.0) is None
    assert hub_retries.seconds_to_wait(error_with(500), None) is None


def test_a_fingerprint_knows_rows_whatever_their_order_and_files():
    one = pa.table({"a": [1, 2, 3], "b": ["x", None, "z"]})
    assert hub_check.fingerprint([one]) == hub_check.fingerprint([one.slice(2), one.slice(0, 2)])
    for other in (one.slice(0, 2), pa.concat_tables([one, one.slice(0, 1)])):
        assert hub_check.fingerprint([one]) != hub_check.fingerprint([other])
    changed = pa.table({"a": [1, 2, 3], "b": ["x", "", "z"]})
    assert hub_check.fingerprint([one]) != hub_check.fingerprint([changed])


def test_rows_on_the_hub_that_are_not_those_written_are_an_error(monkeypatch, tmp_path):
    path = tmp_path / "train-a.parquet"
    path.write_bytes(next(iter(shard("a", 1, 2).values())))
    files = {"train": [path]}
    right = {"train": hub_check.fingerprint([pq.read_table(path)])}
    found = [right, {"train": (2, "0" * 32)}, {"train": (1, "0" * 32)}]
    monkeypatch.setattr(hub_check, "_loaded", lambda *words: found.pop(0))
    assert hub_check.check_loads(REPO, "v1", "http://x", files) == {"train": 2}
    with pytest.raises(ServiceError, match="at v1 of http://x loads back with other rows"):
        hub_check.check_loads(REPO, "v1", "http://x", files)
    with pytest.raises(ServiceError, match=r"loads back with rows \{'train': 1\}"):
        hub_check.check_loads(REPO, "v1", "http://x", files)


def test_a_set_that_does_not_load_is_an_error(server, tmp_path):
    push(server, {"data/train-a.parquet": b"no parquet"}, tag="v1")
    with pytest.raises(ServiceError, match=r"was sent to .* but does not load with datasets"):
        hub_check.check_loads(REPO, "v1", server.url, {})

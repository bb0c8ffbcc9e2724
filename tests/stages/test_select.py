import json

import pyarrow.parquet as pq
import pytest
from toys import write_jsonl


def read(folder):
    return [
        row for path in sorted(folder.glob("*.parquet")) for row in pq.read_table(path).to_pylist()
    ]


@pytest.fixture
def words(corpus, target, tmp_path):
    return [
        *("select", "--corpus", corpus, "--target", target, "--keep", "12"),
        *("--set", "embed.method=hashing", "--set", "select.method=nearest", "--workers", "1"),
        *("--out", tmp_path / "out"),
    ]


def set_(words, *settings):
    return [*words, *(part for setting in settings for part in ("--set", setting))]


def summary(out):
    (path,) = (out / "work" / "select").glob("[!.]*/summary.json")
    return json.loads(path.read_text())


def test_a_quota_caps_a_column_and_the_ledger_says_so(cli, words, tmp_path):
    assert cli(*set_(words, "select.quotas.topic.t1=0.25")).code == 0
    rows = read(tmp_path / "out" / "data")
    assert len(rows) == 12
    assert sum(row["topic"] == "t1" for row in rows) <= 3
    lines = read(tmp_path / "out" / "ledger")
    assert len(lines) == 120
    plain = {row["id"] for row in read(tmp_path / "out" / "data")}
    assert plain == {line["id"] for line in lines if line["decision"] == "kept"}


def test_quotas_that_leave_too_little_are_a_warning_and_no_error(cli, words, tmp_path):
    result = cli(*set_(words, "select.quotas.topic.*=0.1"))
    assert result.code == 0
    assert "kept 4 rows" in result.err
    assert "the quotas leave no more" in result.err
    assert summary(tmp_path / "out")["short"] == 8


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("select.quotas.colour.red=0.5", "corpus: no column 'colour'; allowed:"),
        ("select.quotas.topic.t9=0.5", "select.quotas.topic: no row has the value 't9'"),
        ("select.quotas.topic.t1=1.5", "a share of the budget, 0 to 1"),
        ("select.shares.law=1", "select.shares: no target file 'law'; allowed: target"),
        ("select.shares.target=0", "every share must be above 0"),
        ("select.diversity=leeder", "did you mean 'leader'"),
    ],
)
def test_settings_that_cannot_be_met_are_named(cli, words, setting, message):
    result = cli(*set_(words, setting))
    assert result.code in (2, 3)
    assert message in result.err


def test_targets_with_shares_are_scored_apart_and_get_their_parts(cli, words, tmp_path):
    other = write_jsonl(tmp_path / "sockets.jsonl", [{"text": "the socket and the thread"}])
    words = [*words, "--target", other]
    words = set_(words, "select.shares.target=2", "select.shares.sockets=1")
    assert cli(*words).code == 0
    assert summary(tmp_path / "out")["by_target"] == {"target": 8, "sockets": 4}
    before = sorted((tmp_path / "out" / "work" / "select").glob("*/done.json"))
    words[words.index("12")] = "30"
    assert cli(*words).code == 0
    after = sorted((tmp_path / "out" / "work" / "select").glob("*/done.json"))
    assert len(after) == len(before) + 1  # a new choice, no new scores
    assert summary_of(after, before) == {"target": 20, "sockets": 10}


def summary_of(after, before):
    (new,) = set(after) - set(before)
    return json.loads((new.parent / "summary.json").read_text())["by_target"]


def test_rows_like_the_unlike_rows_go_to_the_end(cli, words, tmp_path):
    assert cli(*words).code == 0
    best = read(tmp_path / "out" / "data")
    unlike = write_jsonl(tmp_path / "unlike.jsonl", [{"text": best[0]["text"]}])
    assert cli(*words, "--unlike", unlike).code == 0
    assert best[0]["id"] not in {row["id"] for row in read(tmp_path / "out" / "data")}
    assert cli(*set_([*words, "--unlike", unlike], "select.unlike_weight=0")).code == 0
    assert {row["id"] for row in read(tmp_path / "out" / "data")} == {row["id"] for row in best}


def test_a_draw_with_temperature_can_be_drawn_again(cli, words, tmp_path):
    words = set_(words, "select.temperature=0.5")
    found = []
    for more in ([], ["select.draw=1"], []):
        assert cli(*set_(words, *more)).code == 0
        found.append({row["id"] for row in read(tmp_path / "out" / "data")})
    assert found[0] == found[2] != found[1]


def test_diversity_says_which_chosen_row_a_row_is_too_much_like(cli, words, corpus, tmp_path):
    write_jsonl(
        corpus / "copies.jsonl", [{"id": f"c{i}", "text": "the mean of a sample"} for i in range(6)]
    )
    words = set_(words, "select.diversity=leader", "select.diversity_pool=20")
    assert cli(*words).code == 0
    kept = {row["id"] for row in read(tmp_path / "out" / "data")}
    alike = [line for line in read(tmp_path / "out" / "ledger") if line["duplicate_of"]]
    assert len(kept & {f"c{i}" for i in range(6)}) <= 1
    assert alike
    assert all(line["duplicate_of"] in kept for line in alike)
    assert alike[0]["reason"] == "leader: too much like a chosen row"
    story = cli("explain", alike[0]["id"], "--out", tmp_path / "out", "--json").json()
    assert story["duplicate_of_text"]


def test_a_threshold_keeps_what_reaches_it_and_nothing_is_exit_4(cli, words, tmp_path):
    words[words.index("12")] = ">=0.2"
    assert cli(*words).code == 0
    rows, lines = read(tmp_path / "out" / "data"), read(tmp_path / "out" / "ledger")
    assert {row["id"] for row in rows} == {line["id"] for line in lines if line["score"] >= 0.2}
    words[words.index(">=0.2")] = ">=2"
    result = cli(*words)
    assert result.code == 4
    assert "raise the budget" in result.err


def test_more_than_there_is_takes_all_and_says_so(cli, words):
    words[words.index("12")] = "5000"
    result = cli(*words)
    assert result.code == 0
    assert "asked for 5000, kept 120 rows" in result.err


def test_a_sample_of_the_pile_is_drawn_by_id(cli, words, tmp_path):
    words[words.index("12")] = "100%"
    assert cli(*set_(words, "ingest.sample=0.5")).code == 0
    some = {row["id"] for row in read(tmp_path / "out" / "data")}
    assert 30 < len(some) < 90
    assert cli(*set_(words, "ingest.sample=0.7")).code == 0
    assert some < {row["id"] for row in read(tmp_path / "out" / "data")}

import json
import shutil

import pyarrow.parquet as pq
import pytest
import toy_training as toy
from toys import write_jsonl

from lightadapt_data import influence, influence_check, recipe, run
from lightadapt_data.errors import InputError

STAGES = ("ingest", "augment", "curate", "train")
FILES = ("drops.jsonl", "next_target.jsonl", "rows.parquet", "totals.json", "weights.jsonl")


def run_of(folder, *more):
    """Run all stages on the toy's rows, with augmented ones among them."""
    base = toy.tiny_base(folder / "base")
    for split, first, n_rows in (("train", 0, 24), ("validation", 100, 12), ("test", 200, 6)):
        rows = [
            {name: row[name] for name in ("id", "text", "label")}
            for row in toy.rows(n_rows, split=split, first=first)
        ]
        # Without the number, texts of different splits would be the same.
        rows = [{**row, "text": f"{row['text']} {row['id']}"} for row in rows]
        write_jsonl(folder / f"{split}.jsonl", rows)
    files = [str(folder / f"{split}.jsonl") for split in ("train", "validation", "test")]
    overrides = [
        ("ingest.task", files),
        ("augment.methods", ["char_noise"]),
        ("augment.gates", ["changed"]),
        ("curate.filters", ["exact_duplicate"]),
        ("train.base_model", str(base)),
        ("train.steps", 6),
        ("train.batch_rows", 8),
        ("train.evaluations", 2),
        ("train.seeds", 2),
        ("train.keep_states", True),
        ("train.bottleneck.reduction_factor", 4),
        *more,
    ]
    run.run_stages(recipe.load(None, overrides, STAGES), folder / "run")
    return folder / "run"


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    return run_of(tmp_path_factory.mktemp("finished"))


@pytest.fixture
def copy(finished, tmp_path):
    return shutil.copytree(finished, tmp_path / "copy")


def lines(path):
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


def test_a_run_is_explained_row_by_row_and_in_totals(finished):
    found = influence.run_influence(finished)
    out = finished / "influence"
    assert sorted(path.name for path in out.iterdir()) == sorted(FILES)
    assert json.loads((out / "totals.json").read_text("utf-8")) == found
    rows = pq.read_table(out / "rows.parquet").to_pylist()
    curated = run_rows(finished)
    assert sorted((row["origin"], row["id"]) for row in rows) == curated
    assert found["n_rows"] == len(curated) > 24
    assert {row["origin"] for row in rows} == {"seed", "augmented"}
    assert [row["rank"] for row in rows] == list(range(1, len(rows) + 1))
    agreements = [row["agreement"] for row in rows]
    assert agreements == sorted(agreements, reverse=True)
    assert all(row["loss"] > 0 for row in rows)
    origins = {group["value"]: group for group in found["totals"]["origin"]}
    assert origins["seed"]["rows"] == 24
    expected = [row["tracin"] for row in rows if row["origin"] == "seed"]
    assert origins["seed"]["tracin"]["sum"] == pytest.approx(sum(expected))
    assert set(found["totals"]) >= {"origin", "method", "source", "label"}
    assert found["arm"] == "adapted"
    assert len(found["adapters"]) == 1
    dropped, weights = lines(out / "drops.jsonl"), lines(out / "weights.jsonl")
    assert len(dropped) == found["n_drops"]
    assert len(weights) == len(rows)
    assert {entry["id"] for entry in weights if entry["weight"] == 0} == {
        entry["id"] for entry in dropped
    }
    assert all(entry["text"] for entry in lines(out / "next_target.jsonl"))


def run_rows(folder):
    files = sorted((folder / "data").glob("train-*.parquet"))
    rows = [row for path in files for row in pq.read_table(path).to_pylist()]
    return sorted((row["origin"], row["id"]) for row in rows)


def test_running_again_gives_the_same_bytes(finished):
    influence.run_influence(finished)
    first = {name: (finished / "influence" / name).read_bytes() for name in FILES}
    influence.run_influence(finished)
    for name in set(FILES) - {"totals.json"}:  # which says how long it took
        assert (finished / "influence" / name).read_bytes() == first[name]


def test_all_adapters_of_the_arm_can_be_averaged(finished, copy):
    found = influence.run_influence(copy, influence.Settings(adapters="all", states=1))
    assert found["adapters"] == ["adapted-0", "adapted-1"]


def test_the_checks_are_shown_beside_the_scores(copy, monkeypatch):
    asked = []

    def planted(what, seeds):
        asked.append(list(seeds))
        return {"auc": 1}

    monkeypatch.setattr(influence_check, "check_planted", planted)
    monkeypatch.setattr(influence_check, "check_leave_out", lambda what, scored, seeds: {"n": 2})
    settings = influence.Settings(check=True, check_seeds=2, seed=4)
    found = influence.run_influence(copy, settings)
    assert found["check"] == {"planted": {"auc": 1}, "leave_out": {"n": 2}}
    assert asked == [[4, 5]]
    assert json.loads((copy / "influence" / "totals.json").read_text("utf-8")) == found


def test_a_folder_without_a_training_is_refused(tmp_path, copy):
    with pytest.raises(InputError, match="holds no run; name the folder of one that trained"):
        influence.run_influence(tmp_path)
    (copy / "work" / "train" / "manifest.json").unlink()
    with pytest.raises(InputError, match="nothing is trained there yet; run train with keep_stat"):
        influence.run_influence(copy)
    path = copy / "work" / "recipe.json"
    tables = json.loads(path.read_text("utf-8"))
    del tables["train"]
    path.write_text(json.dumps(tables), "utf-8")
    with pytest.raises(InputError, match="nothing is trained there yet"):
        influence.run_influence(copy)


def test_a_training_without_kept_states_is_refused(tmp_path):
    folder = run_of(tmp_path, ("train.keep_states", False), ("train.seeds", 1))
    with pytest.raises(
        InputError, match=r"no kept states.*set train.keep_states = true and run ag"
    ):
        influence.run_influence(folder)
    assert not (folder / "influence").exists()


def test_rows_that_changed_since_are_refused(copy):
    path = copy / "work" / "recipe.json"
    tables = json.loads(path.read_text("utf-8"))
    tables["train"]["steps"] = 7
    path.write_text(json.dumps(tables), "utf-8")
    with pytest.raises(InputError, match=r"have changed since train ran.*run train again"):
        influence.run_influence(copy)

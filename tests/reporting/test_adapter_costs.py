"""What adapters cost, as the report shows it."""

import json
import os
from types import SimpleNamespace

from lightadapt_data.reporting.adapter_costs import MEASURES, adapter_costs

ENTRY = dict.fromkeys(MEASURES, 4.0)


def workspace(folder, trained):
    done = [SimpleNamespace(args={"arm": arm, "seed": seed}) for arm, seed in trained]
    return SimpleNamespace(folder=folder, shards=lambda stage: done)


def put(folder, name, at, **changes):
    path = folder / "work" / "costs" / f"{name}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"adapter": "lora", **ENTRY, **changes}))
    os.utime(path, ns=(at, at))


def test_means_are_taken_over_the_seeds_that_the_run_holds(tmp_path):
    put(tmp_path, "a", 1, arm="seed", seed=0, train_seconds=2.0)
    put(tmp_path, "b", 2, arm="seed", seed=1, train_seconds=6.0, inference_overhead=None)
    put(tmp_path, "c", 3, arm="seed", seed=9, train_seconds=99.0)
    (found,) = adapter_costs(workspace(tmp_path, [("seed", 0), ("seed", 1)]))
    assert (found["arm"], found["adapter"], found["adapters"]) == ("seed", "lora", 2)
    assert found["train_seconds"] == 4.0
    assert found["inference_overhead"] == 4.0


def test_the_last_training_of_an_adapter_counts(tmp_path):
    put(tmp_path, "z", 1, arm="seed", seed=0, adapter="prefix", train_seconds=1.0)
    put(tmp_path, "a", 2, arm="seed", seed=0, train_seconds=3.0)
    (found,) = adapter_costs(workspace(tmp_path, [("seed", 0)]))
    assert (found["adapter"], found["train_seconds"]) == ("lora", 3.0)


def test_a_measure_that_was_never_taken_is_none_and_a_run_without_notes_shows_nothing(tmp_path):
    assert adapter_costs(workspace(tmp_path, [("seed", 0)])) == []
    put(tmp_path, "a", 1, arm="seed", seed=0, inference_overhead=None)
    (found,) = adapter_costs(workspace(tmp_path, [("seed", 0)]))
    assert found["inference_overhead"] is None

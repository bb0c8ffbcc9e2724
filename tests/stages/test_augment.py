import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pydantic import Field

from lightadapt_data import methods, rows, run, shards
from lightadapt_data.augmenters import Candidate, char_noise
from lightadapt_data.config import Config
from lightadapt_data.errors import InputError
from lightadapt_data.shards import Workspace
from lightadapt_data.stages import augment

TEXTS = (
    "The compiler warns you about variables that are never used.",
    "The authors thank the reviewers for their helpful comments.",
    "The survey was answered by 312 students in 4 countries.",
    "Users can reset their password from the settings page.",
    "The index is rebuilt every night to keep searches fast.",
    "The translation quality drops when sentences are very long.",
)


class Toy(Config):
    """Settings of a stage that is only read here."""


class Embed(Config):
    method: str = "hashing"
    options: dict[str, dict[str, object]] = Field(default_factory=dict)


def task_row(number, text, label="a", split="train", **more):
    return {
        "id": f"t{number:0>4}",
        "text": text,
        "label": label,
        "split": split,
        "source": "s",
        **more,
    }


TASK = [task_row(n, text, "ab"[n % 2]) for n, text in enumerate(TEXTS)]


def finish(folder, stage, found, result=None):
    """Write a finished stage by hand: shards by name as (args, files), and its result."""

    def write(files):
        def make(out):
            for name, table in files.items():
                pq.write_table(pa.Table.from_pylist(table), out / name)
            return {}

        return make

    entries = []
    for name, (args, files) in found.items():
        key = shards.digest_of([name, json.dumps(files)])
        shards.put_in_place(folder / "work" / stage / key, write(files))
        entries.append({"name": name, "key": key, "args": args})
    manifest = {"shards": entries, "result": None, "digest": "d"}
    if result is not None:
        key = shards.digest_of(json.dumps(result))
        shards.put_in_place(folder / "work" / stage / key, write(result))
        manifest["result"] = {"name": "result", "key": key, "args": {}}
    (folder / "work" / stage / "manifest.json").write_text(json.dumps(manifest))


def workspace(folder, task=TASK, selected=None, baseline=None, seed=0, **fields):
    folder.mkdir(exist_ok=True)
    files = {"rows-00000.parquet": task} if task else {}
    finish(folder, "ingest", {"task": ({"role": "task"}, files)})
    stages = {"ingest": Toy(), "embed": Embed()}
    if selected is not None:
        result = {"selected-00000.parquet": selected}
        if baseline is not None:
            result["baseline.parquet"] = baseline
        finish(folder, "select", {}, result)
        stages["select"] = Toy()
    return Workspace(folder, seed, {**stages, "augment": augment.Settings(**fields)})


def outcome(space, workers=1):
    """Run the stage; return its report, and accepted and rejected rows by shard name."""
    report = run.run_stage(space, "augment", workers)
    found = {
        name: [
            row
            for done in space.shards("augment")
            for row in pq.read_table(done.file(f"{name}.parquet")).to_pylist()
        ]
        for name in ("accepted", "rejected")
    }
    return report, found["accepted"], found["rejected"]


def noise(**options):
    return {"methods": ("char_noise",), "options": {"char_noise": {"share_of_rows": 1, **options}}}


def test_training_rows_get_children_with_provenance(tmp_path):
    report, accepted, rejected = outcome(
        workspace(tmp_path, methods=("back_translate",), options={"similarity": {"floor": 0.3}})
    )
    assert report.rows_in == 6
    assert report.rows_out == len(accepted) == report.counts["accepted.back_translate"] > 0
    assert report.counts["rejected"] == len(rejected) == report.counts["rejected.back_translate"]
    parents = {row["id"]: row for row in TASK}
    for row in accepted:
        parent = parents[row["parent_id"]]
        assert row["text"] != parent["text"]
        assert row["label"] == parent["label"]
        assert (row["origin"], row["split"], row["gate"]) == ("augmented", "train", "")
        assert (row["method"], row["source"]) == ("back_translate", "s")
        assert row["n_tokens"] == rows.count_tokens(row["text"])
        assert set(json.loads(row["scores"])) == {"length", "numbers", "negation", "similarity"}
    assert len({row["id"] for row in accepted}) == len(accepted)


def test_rejected_row_names_the_gate_and_the_evidence(tmp_path):
    text = "Water boils at 100 °C at sea level."
    _, accepted, (row,) = outcome(
        workspace(tmp_path, [task_row(0, text)], methods=("back_translate",))
    )
    assert accepted == []
    assert row["gate"] == "changed"
    assert row["reason"] == "changed: the child has the parent's words"


def test_held_out_and_unlabelled_rows_are_no_parents(tmp_path):
    task = [
        task_row(0, TEXTS[0]),
        task_row(1, TEXTS[1], split="test"),
        task_row(2, TEXTS[2], split="validation"),
        task_row(3, TEXTS[3], label=None),
    ]
    _, accepted, _ = outcome(workspace(tmp_path, task, **noise()))
    assert [row["parent_id"] for row in accepted] == ["t0000"]


def test_nothing_accepted_equals_a_held_out_row(tmp_path):
    _, (row,), _ = outcome(workspace(tmp_path / "a", [task_row(0, TEXTS[0])], **noise()))
    task = [task_row(0, TEXTS[0]), task_row(1, row["text"].upper(), split="test")]
    _, accepted, (refused,) = outcome(workspace(tmp_path / "b", task, **noise()))
    assert accepted == []
    assert (refused["gate"], refused["reason"]) == (
        "held_out",
        "held_out: the text has the words of test row t0001",
    )


def test_accepted_rows_per_parent_are_capped(tmp_path):
    _, accepted, rejected = outcome(workspace(tmp_path / "a", **noise(replicas=3)))
    assert len(accepted) == 6
    assert {row["gate"] for row in rejected} <= {"accepted_per_row", "sibling"}
    _, accepted, _ = outcome(workspace(tmp_path / "b", accepted_per_row=3, **noise(replicas=3)))
    assert len(accepted) > 12


def pile(n, animal):
    return [
        {
            "id": f"{animal}{i}",
            "text": f"{animal} {animal} {i}",
            "source": f"{animal}s",
            "score": 0.5,
        }
        for i in range(n)
    ]


ZOO = [
    {"id": f"{a}-{n}", "text": f"{a} {a} {n}", "label": a, "split": "train", "source": "s"}
    for a in ("cat", "dog")
    for n in range(15)
]


def test_selected_and_baseline_rows_get_labels_and_keep_their_own_columns(tmp_path):
    selected = [*pile(5, "cat"), *pile(5, "dog")]
    baseline = [*pile(3, "dog"), *pile(3, "newt")]
    space = workspace(tmp_path, ZOO, selected, baseline, methods=("pseudo_label",))
    report, accepted, rejected = outcome(space)
    assert report.rows_in == 16
    everything = accepted + rejected
    assert sum(row["origin"] == "selected" for row in everything) == 10
    assert sum(row["origin"] == "baseline" for row in everything) == 6
    assert accepted
    for row in accepted:
        assert row["id"].startswith(row["label"])
        assert (row["parent_id"], row["score"], row["source"]) == (None, 0.5, f"{row['label']}s")
        assert json.loads(row["scores"]).keys() == {"pseudo_label"}
    newts = [row for row in rejected if row["id"].startswith("newt")]
    assert len(newts) == 3
    assert all("below the class's threshold" in row["reason"] for row in newts)
    assert all(row["gate"] == "pseudo_label" for row in newts)


def test_methods_for_selected_rows_need_a_run_that_selects(tmp_path, caplog):
    report, accepted, _ = outcome(workspace(tmp_path, ZOO, methods=("pseudo_label",)))
    assert (report.n_shards, accepted) == (0, [])
    assert "pseudo_label needs selected rows and the run selects none" in caplog.text


def test_too_few_labels_stop_the_stage(tmp_path):
    space = workspace(tmp_path, ZOO[:15], pile(2, "cat"), methods=("pseudo_label",))
    with pytest.raises(InputError, match="1 labels have two or more"):
        run.run_stage(space, "augment")


def test_no_task_rows_or_no_methods_give_nothing(tmp_path):
    assert outcome(workspace(tmp_path / "a", []))[1:] == ([], [])
    assert outcome(workspace(tmp_path / "b", methods=()))[1:] == ([], [])


def keys(space):
    return {shard.name: key for shard, key in run.prepare(space, "augment").shards}


MANY = [task_row(n, f"ordinary sentence about subject number {n}", "ab"[n % 2]) for n in range(300)]


def test_one_row_more_leaves_most_shards_as_they_are(tmp_path):
    before = keys(workspace(tmp_path / "a", MANY, **noise()))
    after = keys(workspace(tmp_path / "b", [task_row("0150x", "a new row"), *MANY], **noise()))
    assert len(before) > 10
    assert len(set(before.values()) - set(after.values())) <= 2


def test_order_of_rows_changes_no_shard(tmp_path):
    before = keys(workspace(tmp_path / "a", MANY, **noise()))
    assert keys(workspace(tmp_path / "b", MANY[::-1], **noise())) == before


def test_what_decides_the_output_enters_the_key(tmp_path):
    before = keys(workspace(tmp_path / "a", **noise()))
    changed = {
        "seed": workspace(tmp_path / "b", seed=1, **noise()),
        "option": workspace(tmp_path / "c", **noise(share_of_words=0.5)),
        "gate": workspace(tmp_path / "d", gates=("changed",), **noise()),
        "cap": workspace(tmp_path / "e", accepted_per_row=2, **noise()),
        "held out": workspace(tmp_path / "f", [*TASK, task_row(9, "x", split="test")], **noise()),
        "label": workspace(tmp_path / "g", [{**row, "label": "c"} for row in TASK], **noise()),
    }
    encoder = workspace(tmp_path / "h", **noise())
    settings = {**encoder.settings, "embed": Embed(options={"hashing": {"dim": 32}})}
    changed["encoder"] = Workspace(encoder.folder, 0, settings)
    for name, space in changed.items():
        assert not set(keys(space).values()) & set(before.values()), name


def test_another_methods_options_leave_a_method_alone(tmp_path):
    before = keys(workspace(tmp_path / "a", **noise()))
    options = {"char_noise": {"share_of_rows": 1}, "back_translate": {"min_words": 2}}
    both = workspace(tmp_path / "b", methods=("back_translate", "char_noise"), options=options)
    assert before.items() <= keys(both).items()


def test_labelled_rows_decide_pseudo_labels_but_not_noise(tmp_path):
    fields = {"methods": ("pseudo_label",), "selected": pile(2, "cat")}
    before = keys(workspace(tmp_path / "a", ZOO, **fields))
    after = keys(workspace(tmp_path / "b", ZOO[1:], **fields))
    assert set(before) == set(after)
    assert not set(before.values()) & set(after.values())


def test_blocks_of_selected_rows_are_large(tmp_path):
    ids = [f"id{n}" for n in range(5000)]
    blocks = augment._blocks(ids, is_large=True)
    assert [i for block in blocks for i in block] == list(range(5000))
    assert len(blocks) < 60
    assert max(map(len, blocks)) <= augment.LARGE_BLOCK_ROWS
    assert max(map(len, augment._blocks(ids, is_large=False))) <= augment.BLOCK_ROWS


def test_workers_and_a_second_run_change_nothing(tmp_path):
    fields = {"task": MANY[:40], "methods": ("back_translate",)}
    alone, together = workspace(tmp_path / "a", **fields), workspace(tmp_path / "b", **fields)
    run.run_stage(alone, "augment", 1)
    run.run_stage(together, "augment", 2)
    digests = [
        {done.key: dict(done.files) for done in space.shards("augment")}
        for space in (alone, together)
    ]
    assert digests[0] == digests[1]
    assert run.run_stage(alone, "augment").is_hit


def test_encoder_is_not_loaded_without_need(tmp_path, monkeypatch):
    space = workspace(tmp_path, **noise())
    monkeypatch.setattr(methods.load("encoders", "hashing"), "load", lambda settings: 1 / 0)
    assert outcome(space)[1]


def test_odd_rows_never_crash(tmp_path):
    odd = ["", "word", "a" * 50_000, "😀😀", "مرحبا بالعالم", "for i in x: f(i)\n"]
    task = [task_row(n, text) for n, text in enumerate(odd)]
    fields = {"options": {"char_noise": {"share_of_rows": 1}}}
    report, _, _ = outcome(workspace(tmp_path, task, **fields))
    assert report.rows_in == 12


def test_candidates_of_a_training_method_see_no_other_row(tmp_path, monkeypatch):
    seen = []

    def spy(parents, settings, context):
        seen.append(context.labelled)
        return [Candidate(row["id"], "another text", row["label"]) for row in parents]

    monkeypatch.setattr(char_noise, "augment", spy)
    outcome(workspace(tmp_path, **noise()))
    assert [len(labelled) for labelled in seen] == [0]


def test_missing_model_is_found_before_any_work(tmp_path):
    space = workspace(tmp_path, options={"back_translate": {"pivots": ["de"]}})
    with pytest.raises(InputError, match="no model for 'en-de'"):
        augment.check(space.settings["augment"], space)


def test_vectors_for_gates_are_float32(tmp_path):
    found = augment._encode(workspace(tmp_path))(["a text"])
    assert found.dtype == np.float32

"""The stories of rows, on runs of all stages; mirrors lightadapt_data/story.py."""

import pyarrow.parquet as pq
import pytest

from lightadapt_data.reporting import story
from lightadapt_data.reporting.augmentation_view import acceptance, differing, examples


def lines(space):
    return [
        line
        for path in sorted((space.folder / "ledger").glob("*.parquet"))
        for line in pq.read_table(path).to_pylist()
    ]


def line_of(space, **wanted):
    return next(
        line for line in lines(space) if all(line[key] == value for key, value in wanted.items())
    )


def test_every_row_of_the_ledger_has_a_story_with_its_text(full_run, select_run):
    for space in (full_run, select_run):
        for line in lines(space):
            told = story.explain(space, line["id"])
            assert told["text"]
            assert told["decision"] in ("kept", "dropped")
            assert told["reason"]


def test_a_selected_row_is_told_with_rank_and_nearest_target(select_run):
    line = line_of(select_run, rank=1)
    told = story.explain(select_run, line["id"])
    assert told["rank"] == "1 of 62"
    assert told["nearest_text"] in ("the mean of a sample & <more>", "its variance")
    assert told["method"] == "nearest"
    assert (told["split"], told["stage"], told["label"]) == ("train", "select", None)


def test_a_row_below_the_cut_is_in_no_split(select_run):
    told = story.explain(select_run, line_of(select_run, decision="dropped")["id"])
    assert told["split"] is None
    assert told["reason"].startswith("below the cut")


def test_a_copy_is_told_with_the_text_of_the_row_kept_instead(full_run):
    told = story.explain(full_run, "copy")
    assert told["stage"] == "curate"
    assert told["duplicate_of_text"] == "how to take the mean of a sample"


def test_an_augmented_row_is_told_with_its_parent_and_verdicts(full_run):
    line = line_of(full_run, origin="augmented", decision="kept")
    told = story.explain(full_run, line["id"])
    assert told["parent_text"]
    assert told["nearest_id"] is None
    assert told["method"] == "char_noise"
    assert told["label"] in ("<b>statistics</b>", "code")
    assert list(told["verdicts"]) == ["changed", "length"]
    assert all(said.startswith("passed") for said in told["verdicts"].values())


def test_a_pseudo_labelled_row_names_both_methods(full_run):
    line = line_of(full_run, origin="selected", decision="kept")
    told = story.explain(full_run, line["id"])
    assert told["method"] == "nearest, label by pseudo_label"
    assert told["label"] in ("<b>statistics</b>", "code")


def test_a_given_row_has_no_method_and_keeps_its_label(full_run):
    told = story.explain(full_run, line_of(full_run, origin="seed")["id"])
    assert told["method"] is None
    assert told["label"]
    assert told["split"] in ("train", "validation", "test")


ROW = {"method": "char_noise", "scores": '{"length": 1.5}', "gate": "", "reason": ""}


@pytest.mark.parametrize(
    ("gate", "said"),
    [
        ("", {"changed": "passed", "length": "passed (1.500)"}),
        ("length", {"changed": "passed", "length": "refused: why"}),
        ("held_out", {"held_out": "refused: why"}),
        ("char_noise", {"char_noise": "refused: why"}),
        ("sibling", {"changed": "passed", "length": "passed (1.500)", "sibling": "refused: why"}),
    ],
)
def test_verdicts_end_at_the_gate_that_refused(full_run, gate, said):
    row = {**ROW, "gate": gate, "reason": "why" if gate else ""}
    assert story.verdicts(full_run, row) == said


def test_rows_are_found_by_id_in_any_role(full_run):
    assert list(story.find_rows(full_run, "corpus", ["c1", "none"], ("id", "text"))) == ["c1"]
    assert story.find_rows(full_run, "corpus", []) == {}
    assert story.texts_of(full_run, ["none"]) == {}


def test_acceptance_counts_are_those_of_the_files(full_run):
    found = acceptance(full_run)
    assert {entry["method"] for entry in found} == {"char_noise", "pseudo_label"}
    for entry in found:
        files = [
            done
            for done in full_run.shards("augment")
            if (done.args["method"], done.args["origin"]) == (entry["method"], entry["origin"])
        ]
        counts = [
            sum(pq.read_metadata(done.file(f"{name}.parquet")).num_rows for done in files)
            for name in ("accepted", "rejected")
        ]
        assert counts == [entry["accepted"], entry["rejected"]]
        assert sum(n for _, n in entry["refusals"]) <= entry["rejected"]


def test_examples_are_few_and_have_verdicts(full_run):
    found = examples(full_run, 4)
    assert 0 < len(found) <= 4
    assert all(row["verdicts"] for row in found)


def test_differing_words_are_marked_and_nothing_is_lost():
    before, after = differing("the red cat sat", "the blue cat sat down")
    assert "".join(text for text, _ in before) == "the red cat sat"
    assert "".join(text for text, _ in after) == "the blue cat sat down"
    assert [text for text, is_new in before if is_new] == ["red"]
    assert [text for text, is_new in after if is_new] == ["blue", " down"]
    assert differing("same", "same") == ([("same", False)], [("same", False)])
    assert differing("", "") == ([], [])

from dataclasses import replace

import numpy as np
import pytest
import toy_training as toy

from lightadapt_data import methods
from lightadapt_data.influence_scores import GradientSettings, of_training

NAMES = {"tracin", "cosine", "agreement", "loss"}


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return toy.tiny_base(tmp_path_factory.mktemp("base"))


def token_row(row):
    word = row["text"].split()[0]
    spans = [{"start": 0, "end": len(word), "label": row["label"]}]
    return {**row, "spans": spans, "label": None}


def question_row(row):
    context = " ".join([row["text"]] * 4)
    answers = {"text": [row["text"].split()[0]], "answer_start": [0]}
    return {**row, "context": context, "question": "is it", "answers": answers, "label": None}


TASKS = {
    "token_classification": (token_row, {}),
    "question_answering": (question_row, {"max_tokens": 16, "stride": 2}),
}


@pytest.mark.parametrize("task", sorted(TASKS))
def test_rows_of_other_tasks_are_scored_with_all_their_examples(base, tmp_path, task):
    change, options = TASKS[task]
    known = toy.curated(10, 5)
    train, validation = ([change(row) for row in rows] for rows in (known.train, known.validation))
    labels = methods.load("tasks", task).labels(train)
    what = replace(known, train=train, validation=validation, test=validation, labels=labels)
    changes = {"bottleneck": {"reduction_factor": 4}, task: options}
    own = toy.settings(base, task=task, steps=4, evaluations=1, options=changes)
    training = toy.finished(tmp_path / "run", own, what)
    found = of_training(training, GradientSettings())
    assert set(found) == NAMES
    for values in found.values():
        assert values.shape == (10,)
        assert np.isfinite(values).all()
    if task == "question_answering":
        assert len(training.job.train) > 10  # windows
    assert (found["loss"] > 0).all()


def test_scores_are_those_of_the_states_and_rows_that_are_asked_for(base, tmp_path):
    what = toy.finished(tmp_path / "run", toy.settings(base, steps=6), toy.curated(10, 8))
    found = of_training(what, GradientSettings())
    assert not np.array_equal(found["loss"], of_training(what, GradientSettings(states=1))["loss"])
    fewer = of_training(what, GradientSettings(validation_rows=3))
    np.testing.assert_array_equal(found["loss"], fewer["loss"])
    assert not np.array_equal(found["tracin"], fewer["tracin"])
    other = of_training(what, GradientSettings(include_head=False))
    assert not np.array_equal(found["agreement"], other["agreement"])


def test_selected_rows_are_no_judges_but_are_judged(base, tmp_path):
    own, known = toy.settings(base, steps=6), toy.curated(10, 5)
    first = toy.finished(tmp_path / "a", own, known)
    half = [
        {**row, "origin": "selected"} if place % 2 else row for place, row in enumerate(known.train)
    ]
    second = replace(first, rows=half)
    options = GradientSettings()
    assert not np.allclose(
        of_training(first, options)["agreement"], of_training(second, options)["agreement"]
    )
    # With none that a person labelled, all are judges.
    nobody = replace(first, rows=[{**row, "origin": "selected"} for row in known.train])
    np.testing.assert_array_equal(
        of_training(first, options)["agreement"], of_training(nobody, options)["agreement"]
    )

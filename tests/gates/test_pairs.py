"""Hand-made pairs that the gates together must keep or refuse, and which gate refuses."""

import numpy as np
import pytest

from lightadapt_data import methods

GATES = ("changed", "length", "numbers", "negation", "similarity")

KEPT = [
    (
        "The patient was given 40 mg of aspirin daily.",
        "Every day the patient received 40 mg of aspirin.",
    ),
    ("The engine failed to start after the update.", "The engine did not start after the update."),
    (
        "Users can reset their password in the settings.",
        "The password can be reset by users in the settings.",
    ),
    ("The survey was answered by 312 students.", "312 students answered the survey."),
    (
        "Contact support if the order has not arrived.",
        "Contact support if the order hasn't arrived.",
    ),
]

REFUSED = [
    (
        "The patient was given 40 mg of aspirin.",
        "The patient was given 400 mg of aspirin.",
        "numbers",
    ),
    (
        "The treatment did not help the patients.",
        "The treatment did help the patients.",
        "negation",
    ),
    (
        "The court found no evidence in the report.",
        "The court found evidence in the report.",
        "negation",
    ),
    ("The cat sat on the mat.", "the cat sat on the mat", "changed"),
    ("The cat sat on the mat and slept.", "The cat.", "length"),
    (
        "The cat sat on the mat today.",
        "Quarterly revenue beat all analyst forecasts.",
        "similarity",
    ),
    ("word", "the Word of the", "length"),
]


def bag_of_words(texts):
    """Toy encoder: unit vectors of word counts; enough to tell shared words from none."""
    words = sorted({word for text in texts for word in text.lower().strip(".").split()})
    counts = np.array(
        [[text.lower().strip(".").split().count(word) for word in words] for text in texts]
    )
    return (counts / np.linalg.norm(counts, axis=1, keepdims=True)).astype(np.float32)


def refusing_gate(parent, child):
    for name in GATES:
        gate = methods.load("gates", name)
        options = {"floor": 0.4, "short_floor": 0.4} if name == "similarity" else {}
        if not gate.judge([parent], [child], gate.Settings(**options), bag_of_words)[0].passed:
            return name
    return None


@pytest.mark.parametrize(("parent", "child"), KEPT)
def test_good_paraphrase_is_kept(parent, child):
    assert refusing_gate(parent, child) is None


@pytest.mark.parametrize(("parent", "child", "gate"), REFUSED)
def test_bad_child_is_refused_by_the_right_gate(parent, child, gate):
    assert refusing_gate(parent, child) == gate


ODD = ["", " ", "word", "😀😀", "مرحبا بالعالم", "x = f(a)[0]; `y`", "long " * 10_000, "\x00"]


@pytest.mark.parametrize("name", GATES)
def test_odd_texts_never_crash(name):
    gate = methods.load("gates", name)
    pairs = [(parent, child) for parent in ODD for child in ODD]
    parents, children = zip(*pairs, strict=True)
    found = gate.judge(
        parents, children, gate.Settings(), lambda texts: np.zeros((len(texts), 4), np.float32)
    )
    assert len(found) == len(pairs)
    assert all(one.passed or one.reason.startswith(f"{name}: ") for one in found)

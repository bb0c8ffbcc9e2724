import numpy as np

from lightadapt_data import judging
from lightadapt_data.augmenters import Candidate
from lightadapt_data.gates import changed, numbers

GATES = {"changed": changed.Settings(), "numbers": numbers.Settings()}


def no_encoder(texts):
    raise AssertionError("no gate here needs the encoder")


def judge(candidates, parents, held_out=None, gates=GATES, method="back_translate", most=1):
    return judging.judge(method, candidates, parents, held_out or {}, gates, no_encoder, most)


def test_first_refusal_is_kept_with_its_evidence():
    parents = {"a": "Take 40 mg.", "b": "Take it."}
    found = judge(
        [
            Candidate("a", "Take 400 mg.", "x"),
            Candidate("b", "take it", "x"),
            Candidate("b", "Swallow it.", "x"),
        ],
        parents,
    )
    assert [one.gate for one in found] == ["numbers", "changed", ""]
    assert found[0].reason == "numbers: 40 mg became 400 mg"
    assert found[2].scores == {"numbers": 1.0}


def test_methods_own_refusal_comes_first():
    (one,) = judge([Candidate("a", "Take 400 mg.", "x", refused="why")], {"a": "Take 40 mg."})
    assert (one.gate, one.reason, one.scores) == ("back_translate", "why", {})


def test_no_candidate_equals_a_validation_or_test_row():
    (one,) = judge(
        [Candidate("a", "Swallow IT!", "x")],
        {"a": "Take it."},
        {judging.words("swallow it"): "test row 7"},
    )
    assert one.gate == "held_out"
    assert one.reason == "held_out: the text has the words of test row 7"


def test_accepted_rows_of_a_parent_are_capped_and_differ():
    texts = ["Swallow it.", "swallow it", "Eat it.", "Drink it."]
    candidates = [Candidate("a", text, "x", number) for number, text in enumerate(texts)]
    gates = [one.gate for one in judge(candidates, {"a": "Take it."}, most=2)]
    assert gates == ["", "sibling", "", "accepted_per_row"]


def test_gates_that_a_method_skips_are_not_asked():
    parents = {"a": "Take the pill."}
    candidate = Candidate("a", "Take the pi11.", "x")
    assert judge([candidate], parents)[0].gate == "numbers"
    assert judge([candidate], parents, method="char_noise")[0].gate == ""


def test_no_candidates_give_no_verdicts():
    assert judge([], {}) == []


def test_verdict_does_not_depend_on_neighbours():
    parents = {str(i): f"Take {i} pills." for i in range(20)}
    candidates = [Candidate(str(i), f"Swallow {i * (i % 3)} pills.", "x") for i in range(20)]
    together = [(one.gate, one.reason) for one in judge(candidates, parents)]
    rng = np.random.default_rng(0)
    for i in rng.permutation(20):
        (alone,) = judge([candidates[i]], parents)
        assert (alone.gate, alone.reason) == together[i]

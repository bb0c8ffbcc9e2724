import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lightadapt_data import methods
from lightadapt_data.errors import InputError
from lightadapt_data.gates import antonyms


def verdict(parent, child, **options):
    return antonyms.judge([parent], [child], antonyms.Settings(**options), None)[0]


@pytest.mark.parametrize(
    ("parent", "child", "reason"),
    [
        ("sales increased in May", "sales decreased in May", "'increased' became 'decreased'"),
        ("Sales rose.", "Sales fell.", "'rose' became 'fell'"),
        ("a good film", "a terrible film", "'good' became 'terrible'"),
        ("this enables the cache", "this disables the cache", "'enables' became 'disables'"),
        ("it is safe", "it is dangerous", "'safe' became 'dangerous'"),
        ("good and cheap", "bad and expensive", "'good' became 'bad', 'cheap' became 'expensive'"),
    ],
)
def test_an_opposite_is_refused(parent, child, reason):
    found = verdict(parent, child)
    assert (found.passed, found.reason) == (False, f"antonyms: {reason}")


@pytest.mark.parametrize(
    ("parent", "child"),
    [
        ("it is not safe", "it is unsafe"),
        ("it is not safe", "it is dangerous"),
        ("it is not good", "it is bad"),
        ("prices rose and wages fell", "wages fell while prices rose"),
        ("a good film", "a fine film"),
        ("the treatment suppressed the virus", "the treatment supplied the virus"),
        ("", ""),
    ],
)
def test_other_changes_pass(parent, child):
    assert verdict(parent, child).passed


def test_pairs_can_be_added_and_count_in_both_directions():
    parent, child = "he toggles dark mode", "he toggles sepia mode"
    assert verdict(parent, child).passed
    assert not verdict(parent, child, pairs=[("sepia", "dark")]).passed
    assert not verdict("it zigs", "it zags", pairs=[("zig", "zag")]).passed


@given(st.text(max_size=80))
def test_a_text_passes_beside_itself(text):
    assert verdict(text, text).passed


def test_a_folder_without_wordnet_is_named(tmp_path):
    with pytest.raises(InputError, match=r"has no file 'index\.noun'"):
        verdict("increased", "decreased", wordnet=str(tmp_path))


GATES = ("changed", "length", "numbers", "negation", "repetition", "protected", "entities",
         "antonyms")  # fmt: skip
KNOWN = [
    ("The drug suppressed the growth by 40 mg.", "The drug suppressed the growth by 400 mg.",
     "numbers"),
    ("Costs were 1,000 euros in total.", "Costs were 1000 euros in total.", "protected"),
    ("The drug did not help them.", "The drug did help them.", "negation"),
    ("The pressure increased a lot.", "The pressure decreased a lot.", "antonyms"),
    ("They met Ana Silva in Lisbon.", "They met Ana Silva in Porto.", "entities"),
    ("It works on the small device.", "It works works works on the small device.", "repetition"),
    ("Every day the patient received 40 mg.", "The patient was given 40 mg every day.", None),
    ("The engine failed to start.", "The engine did not start.", None),
    # No gate on words sees these: they need a model of the label or of entailment.
    ("The drug suppressed the growth.", "The drug supplied the growth.", None),
    ("The dog chased the cat around.", "The cat chased the dog around.", None),
]  # fmt: skip


@pytest.mark.parametrize(("parent", "child", "gate"), KNOWN)
def test_each_known_error_is_refused_by_its_gate_and_some_by_none(parent, child, gate):
    found = None
    for name in GATES:
        module = methods.load("gates", name)
        if not module.judge([parent], [child], module.Settings(), None)[0].passed:
            found = name
            break
    assert found == gate


ODD = ["", " ", "word", "😀😀", "مرحبا بالعالم", "x = f(a)[0]; `y`", "long " * 10_000, "\x00",
       "a!" * 25_000, "A B " * 5_000, "http://" * 7_000, "`a" * 20_001]  # fmt: skip


@pytest.mark.parametrize("name", ["repetition", "protected", "entities", "antonyms"])
def test_odd_texts_never_crash(name):
    gate = methods.load("gates", name)
    pairs = [(text, ODD[i - 1]) for i, text in enumerate(ODD)]
    parents, children = zip(*pairs, strict=True)
    encode = lambda texts: np.zeros((len(texts), 4), np.float32)  # noqa: E731
    found = gate.judge(parents, children, gate.Settings(), encode)
    assert len(found) == len(pairs)
    assert all(one.passed or one.reason.startswith(f"{name}: ") for one in found)

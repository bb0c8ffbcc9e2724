import pytest

from lightadapt_data.gates import negation


def verdict(parent, child, **options):
    return negation.judge([parent], [child], negation.Settings(**options), None)[0]


@pytest.mark.parametrize(
    ("parent", "child"),
    [
        ("It did not work.", "It didn’t work."),
        ("It failed to start.", "It did not start."),
        ("It is impossible.", "It is not possible."),
        ("He left without a word.", "He left with no word."),
        ("Neither the cat nor the dog slept.", "The cat and the dog did not sleep."),
        ("Not only cats, dogs too.", "Cats and dogs."),
        ("See no. 5 for more.", "See number 5 for more."),
        ("It is a non-linear model.", "It is a nonlinear model."),
        ("None of them came.", "They never came."),
        ("It can't be unknown.", "It must be known."),
        ("Nonetheless it works.", "Still, it works."),
    ],
)
def test_one_negation_may_stand_for_another(parent, child):
    assert verdict(parent, child).reason == ""
    assert verdict(child, parent).reason == ""


@pytest.mark.parametrize(
    ("parent", "child"),
    [
        ("The drug did not help.", "The drug did help."),
        ("It won't start.", "It will start."),
        ("Toxic waste.", "Non-toxic waste."),
        ("There is no evidence.", "There is evidence."),
        ("She never smoked.", "She always smoked."),
        ("The input is valid.", "The input is invalid."),
    ],
)
def test_dropped_or_added_negation_is_refused(parent, child):
    assert not verdict(parent, child).passed
    assert not verdict(child, parent).passed


def test_reason_names_the_words():
    found = verdict("It did not help and never will, no, no.", "It helps, no.")
    assert found.reason == (
        "negation: 4 negations ('not', 'never', 'no', …) became 1 negation ('no')"
    )
    assert verdict("a", "not a").reason == "negation: 0 negations became 1 negation ('not')"


def test_words_of_another_language_take_the_lexicons_place():
    assert not verdict("Ele não veio.", "Ele veio.", words=("não",)).passed
    assert verdict("Ele não veio, no carro.", "Ele não veio.", words=("não",)).passed

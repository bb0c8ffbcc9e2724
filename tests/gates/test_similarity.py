import numpy as np
import pytest

from lightadapt_data.gates import similarity


def at_angle(cosine):
    """Encoder that puts "child" at the cosine from everything else."""

    def encode(texts):
        other = [cosine, np.sqrt(1 - cosine**2)]
        return np.array([other if "child" in t else [1, 0] for t in texts], np.float32)

    return encode


@pytest.mark.parametrize(
    ("parent", "cosine", "passed"),
    [
        ("a text of six words here", 0.76, True),
        ("a text of six words here", 0.74, False),
        ("only five words are here", 0.66, True),
        ("only five words are here", 0.64, False),
    ],
)
def test_floor_is_lower_for_short_parents(parent, cosine, passed):
    (found,) = similarity.judge([parent], ["child"], similarity.Settings(), at_angle(cosine))
    assert found.passed is passed
    assert found.score == pytest.approx(cosine, abs=1e-4)


def test_reason_holds_the_figures():
    (found,) = similarity.judge(["one"], ["child"], similarity.Settings(), at_angle(0.5))
    assert found.reason == "similarity: cosine 0.500, below the floor 0.65"


def test_each_text_is_encoded_once():
    seen = []

    def encode(texts):
        seen.extend(texts)
        return np.ones((len(texts), 1), np.float32)

    similarity.judge(["a", "a", "b"], ["b", "c", "a"], similarity.Settings(), encode)
    assert seen == ["a", "b", "c"]


def test_no_pairs_need_no_encoder():
    assert similarity.judge([], [], similarity.Settings(), None) == []

import numpy as np
import pytest

from lightadapt_data.style import CLIP, fit

FORMAL = ["The committee, which was established in 1990, is a body of the state."] * 5
CHATTY = ["omg i love it so much lol!!! you guys r the best"] * 5


def features(style, texts):
    blocks = list(style.of(texts))
    found = np.concatenate([block for _, block in blocks])
    assert [first for first, _ in blocks] == sorted(first for first, _ in blocks)
    return found


def test_registers_lie_apart_and_topics_do_not():
    style = fit(FORMAL + CHATTY, 50, 30)
    same, other, chat = features(
        style,
        [
            "The society, which was founded in 1850, is a club of the town.",
            "The hospital, which was opened in 1999, is a house of the church.",
            "omg i hate it so much lol!!! you r the worst",
        ],
    )
    assert np.linalg.norm(same - other) < 0.5 * np.linalg.norm(same - chat)


def test_the_order_of_texts_changes_nothing():
    texts = [f"row {i} of {i * i}, said {chr(97 + i)}!" for i in range(12)]
    first, second = fit(texts, 20, 10), fit(texts[::-1], 20, 10)
    assert np.array_equal(first.words, second.words)
    assert np.array_equal(first.mean, second.mean)
    assert np.array_equal(features(first, texts), features(second, texts))


def test_a_row_does_not_depend_on_the_others_of_its_block():
    style = fit(FORMAL + CHATTY, 50, 30)
    texts = [FORMAL[0], "", "x", "\U0001f600", CHATTY[0], "\u05e9\u05dc\u05d5\u05dd"]
    together = features(style, texts)
    alone = np.concatenate([features(style, [text]) for text in texts])
    assert np.allclose(together, alone)
    assert np.isfinite(together).all()
    assert np.abs(together).max() <= CLIP


def test_languages_without_spaces_have_a_style_too():
    texts = ["\u4eca\u5929\u5929\u6c14\u5f88\u597d\u3002"] * 3 + ["plain words here"] * 3
    style = fit(texts, 10, 20)
    chinese, english = features(style, [texts[0], texts[-1]])
    assert not np.allclose(chinese, english)


@pytest.mark.parametrize("texts", [[], [""], ["one"]])
def test_nothing_to_learn_from_is_no_fault(texts):
    style = fit(texts, 10, 10)
    found = features(style, ["some words", ""])
    assert np.isfinite(found).all()
    assert found.shape == (2, len(style.mean))


def test_counts_equal_a_plain_loop():
    texts = ["a b a c", "b b", "c"]
    style = fit(texts, 2, 0)  # b and c are in two texts each, a in one
    raw = features(style, texts) * np.sqrt(4) * style.spread + style.mean
    shares = {"b": [1 / 4, 1.0, 0.0], "c": [1 / 4, 0.0, 1.0]}
    found = {tuple(np.round(raw[:, column] ** 2, 4)) for column in range(2)}
    assert found == {tuple(np.round(values, 4)) for values in shares.values()}

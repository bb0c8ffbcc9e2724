import itertools
import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lightadapt_data import calibration
from lightadapt_data.calibration import CHANGES, GIVEN, LEVELS, calibrate
from lightadapt_data.encoders.hashing import Settings as Hashing
from lightadapt_data.encoders.hashing import load
from lightadapt_data.vectors import unit

encode = load(Hashing(dim=256)).encode
WORDS = [f"w{i}" for i in range(300)]


def corpus(count, seed=7):
    draw = np.random.default_rng(seed)
    return [" ".join(draw.choice(WORDS, 25)) for _ in range(count)]


def test_the_chosen_threshold_is_the_lowest_that_is_precise_enough():
    found = calibrate(corpus(200), encode, 0)
    precise = [level for level in found.table if level.precision >= 0.99]
    assert found.is_reached
    assert found.precision >= 0.99
    assert found.recall == precise[0].recall > 0.9
    # The highest of those that find as much.
    assert found.threshold == max(at.threshold for at in precise if at.recall == found.recall)
    assert 0.5 < found.threshold <= 0.95


def test_copies_and_neighbours_are_parted():
    texts = corpus(200)
    found = calibrate(texts, encode, 0)
    vectors = encode(texts)
    cosines = vectors @ vectors.T
    np.fill_diagonal(cosines, -1)
    assert cosines.max() < found.threshold


def test_the_order_of_texts_changes_nothing():
    texts = corpus(150)
    assert calibrate(texts, encode, 3) == calibrate(texts[::-1], encode, 3)


def test_another_seed_draws_other_rows():
    texts = corpus(150)
    first, second = (calibrate(texts, encode, seed, sample=20).table for seed in (0, 1))
    assert first != second


def test_known_vectors_save_encoding_and_change_little():
    texts = corpus(150)
    asked = []

    def counted(values):
        asked.append(len(values))
        return encode(values)

    found = calibrate(texts, counted, 0, sample=40, vectors=encode(texts))
    assert asked == [40]
    assert found.n_copies == 40
    assert found.n_neighbours == 150


def test_neighbours_of_other_words_raise_the_threshold():
    texts = corpus(100)
    draw = np.random.default_rng(0)
    # Each text again in other words, and about a quarter of it changed.
    reworded = [
        " ".join(
            word.replace("w", "v") if draw.random() < 0.75 else str(draw.choice(WORDS))
            for word in text.split()
        )
        for text in texts
    ]

    def blind_to_wording(values):
        return encode([value.replace("v", "w") for value in values])

    plain = calibrate(texts + reworded, encode, 0)
    hard = calibrate(texts + reworded, blind_to_wording, 0)
    assert hard.threshold > plain.threshold
    assert hard.threshold > 0.85
    assert hard.recall < plain.recall


def test_neighbours_that_share_most_words_are_not_held_against_a_threshold():
    texts = corpus(100)
    copies = [f"{text} w1" for text in texts]
    found = calibrate(texts + copies, encode, 0)
    assert found.threshold <= 0.95


def test_given_pairs_are_one_more_kind_of_copy():
    texts = corpus(100)
    pairs = [(texts[0], texts[0]), (texts[1], texts[2])]
    found = calibrate(texts, encode, 0, pairs=pairs)
    at = next(level for level in found.table if level.threshold == found.threshold)
    assert at.recall_of[GIVEN] == 0.5
    assert found.recall == pytest.approx(np.mean(list(at.recall_of.values())))
    assert f"{GIVEN} 0.50" in found.sentence


def test_the_table_falls_as_the_threshold_rises():
    table = calibrate(corpus(200), encode, 0).table
    assert tuple(level.threshold for level in table) == LEVELS
    for low, high in itertools.pairwise(table):
        assert low.recall >= high.recall
        assert low.false_rate >= high.false_rate
    for level in table:
        assert set(level.recall_of) == set(CHANGES)
        assert 0 <= level.precision <= 1


def test_precision_is_that_of_a_corpus_with_few_copies():
    found = calibrate(corpus(200), encode, 0, copies=0.2)
    for level in found.table:
        true = 0.2 * level.recall
        if true:
            assert level.precision == pytest.approx(true / (true + 0.8 * level.false_rate))


def test_where_no_threshold_will_do_the_most_precise_one_is_given_and_said():
    def one_direction(values):
        return np.tile(unit(np.ones((1, 4), np.float32)), (len(values), 1))

    found = calibrate(corpus(60), one_direction, 0)
    assert not found.is_reached
    assert "no threshold has the precision 0.99 asked for" in found.sentence


def test_the_sentence_and_the_json_say_what_was_chosen():
    found = calibrate(corpus(120), encode, 0)
    said = f"rows above cosine {found.threshold:.2f} count as copies: precision"
    assert found.sentence.startswith(said)
    values = json.loads(json.dumps(found.as_json()))
    assert values["threshold"] == found.threshold
    assert values["table"][0]["recall_of"].keys() == CHANGES.keys()


@given(st.lists(st.sampled_from(["A,", "b", "c.", "d-e", "--"]), min_size=4, max_size=60))
def test_every_change_is_small_and_leaves_words(words):
    for kind, change in CHANGES.items():
        before = list(words)
        changed = change(words, ["x", "y"], np.random.default_rng(0))
        assert words == before
        assert changed
        if kind != "case and punctuation":
            assert abs(len(changed) - len(words)) <= max(1, len(words) // 10)
    assert sorted(calibration._swapped(words, [], np.random.default_rng(1))) == sorted(words)


@pytest.mark.parametrize("texts", [[], ["too short"] * 9, ["one two three four"] * 9])
def test_too_few_texts_are_refused(texts):
    with pytest.raises(ValueError, match="fewer than two texts of four words; give more texts"):
        calibrate(texts, encode, 0)

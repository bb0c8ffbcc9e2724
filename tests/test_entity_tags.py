import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lightadapt_data import entity_tags

WORDS = [(0, 3), (4, 6), (6, 7), (8, 12)]


def test_names_are_in_the_order_of_the_numbers():
    assert entity_tags.names(["LOC", "PER"]) == ["O", "B-LOC", "I-LOC", "B-PER", "I-PER"]


@pytest.mark.parametrize(
    ("entities", "tags"),
    [
        ([], [0, 0, 0, 0]),
        ([(0, 3, 0)], [1, 0, 0, 0]),
        ([(0, 6, 1), (6, 7, 1)], [3, 4, 3, 0]),
        ([(1, 2, 0)], [1, 0, 0, 0]),  # inside a word
        ([(5, 10, 1)], [0, 3, 4, 4]),  # starts and ends inside words
        ([(8, 9, 0), (10, 12, 1)], [0, 0, 0, 1]),  # two in one word: the first has it
        ([(9, 10, 0), (12, 13, 1)], [0, 0, 0, 1]),  # no word at all
        ([(0, 3, -1), (4, 6, 0)], [0, 1, 0, 0]),  # a type that the model has not
    ],
)
def test_an_entity_takes_the_words_that_it_touches(entities, tags):
    assert entity_tags.tags_of(WORDS, entities) == tags


@given(st.lists(st.sampled_from([0, 1, 2, 3, 4]), min_size=4, max_size=4))
def test_valid_tags_come_back_from_their_entities(tags):
    before = [0, *tags]
    if any(t and t % 2 == 0 and b not in (t, t - 1) for b, t in itertools.pairwise(before)):
        return
    assert entity_tags.tags_of(WORDS, entity_tags.entities_of(WORDS, tags)) == tags


@settings(deadline=None)
@given(st.integers(1, 4), st.integers(0, 2), st.randoms(use_true_random=False))
def test_the_best_path_is_that_of_all_valid_ones(n_words, n_types, random):
    scores = np.array(
        [[random.gauss(0, 2) for _ in range(1 + 2 * n_types)] for _ in range(n_words)]
    )

    def is_valid(path):
        return all(
            tag == 0 or tag % 2 == 1 or before in (tag, tag - 1)
            for before, tag in itertools.pairwise((0, *path))
        )

    def total(path):
        return scores[np.arange(n_words), path].sum()

    every = itertools.product(range(1 + 2 * n_types), repeat=n_words)
    found = tuple(entity_tags.best_path(scores).tolist())
    assert is_valid(found)
    assert total(found) == pytest.approx(max(total(path) for path in every if is_valid(path)))


def test_a_text_without_words_has_an_empty_path():
    assert entity_tags.best_path(np.zeros((0, 5), np.float32)).tolist() == []


@st.composite
def entities(draw):
    edges = sorted(draw(st.sets(st.integers(0, 12), max_size=8)))
    return [
        (start, end, draw(st.integers(-1, 2)))
        for start, end in itertools.pairwise(edges)
        if draw(st.booleans())
    ]


@settings(deadline=None, max_examples=40)
@given(st.lists(st.tuples(entities(), entities()), min_size=1, max_size=4))
def test_strict_scores_equal_counting(rows):
    found = entity_tags.strict_scores([t for t, _ in rows], [f for _, f in rows])
    hits = sum(len(set(t) & set(f)) for t, f in rows)
    n_truth, n_found = sum(len(t) for t, _ in rows), sum(len(f) for _, f in rows)
    assert found["precision"] == pytest.approx(hits / n_found if n_found else 0.0)
    assert found["recall"] == pytest.approx(hits / n_truth if n_truth else 0.0)
    assert found["f1"] == pytest.approx(2 * hits / (n_truth + n_found) if hits else 0.0)

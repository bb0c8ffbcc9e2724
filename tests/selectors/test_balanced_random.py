from collections import Counter

import numpy as np

from lightadapt_data.selectors.balanced_random import Settings, score


class Toy:
    dim = 2

    def __init__(self, groups):
        self.groups = np.array(groups, np.int32)
        self.n_rows = len(groups)
        self.keys = np.arange(self.n_rows, dtype=np.uint64) * np.uint64(2654435761)

    def column(self, name):
        return self.groups


def test_every_source_gives_the_same_number_of_rows():
    corpus = Toy([0] * 500 + [1] * 50 + [2] * 20)
    order = np.argsort(-score(corpus, np.zeros((1, 2)), Settings(), seed=1).score, kind="stable")
    assert Counter(corpus.groups[order[:60]].tolist()) == {0: 20, 1: 20, 2: 20}


def test_a_source_that_runs_out_leaves_its_share_to_the_others():
    corpus = Toy([0] * 500 + [1] * 5)
    order = np.argsort(-score(corpus, np.zeros((1, 2)), Settings(), seed=1).score, kind="stable")
    assert Counter(corpus.groups[order[:30]].tolist()) == {0: 25, 1: 5}


def test_another_seed_draws_other_rows():
    corpus = Toy([0] * 100)
    first, second = (score(corpus, np.zeros((1, 2)), Settings(), seed).score for seed in (1, 2))
    assert set(np.argsort(-first)[:10]) != set(np.argsort(-second)[:10])

import numpy as np

from lightadapt_data.selectors.random import Settings, score


class Toy:
    dim = 2
    n_rows = 1000
    keys = np.arange(1000, dtype=np.uint64)


def test_every_row_has_the_same_chance():
    picked = np.zeros(1000)
    for seed in range(200):
        picked[np.argsort(-score(Toy(), np.zeros((0, 2)), Settings(), seed).score)[:100]] += 1
    assert abs(picked.mean() - 20) < 1e-9
    assert picked.min() > 3
    assert picked.max() < 45

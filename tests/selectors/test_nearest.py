import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from lightadapt_data.selectors.nearest import Settings, score


class Toy:
    """A corpus in memory."""

    def __init__(self, vectors, rows_per_block=3):
        self.vectors = np.asarray(vectors, np.float32)
        self.n_rows, self.dim = self.vectors.shape
        self.rows_per_block = rows_per_block

    def mean(self):
        return self.vectors.mean(axis=0)

    def blocks(self):
        for start in range(0, self.n_rows, self.rows_per_block):
            yield start, self.vectors[start : start + self.rows_per_block]


def cosine(left, right):
    lengths = np.linalg.norm(left) * np.linalg.norm(right)
    return float(left @ right / lengths) if lengths > 1e-9 else 0.0


@given(st.integers(1, 12), st.integers(1, 6), st.integers(1, 8), st.booleans(), st.integers(0, 99))
def test_scores_equal_a_plain_loop(n_rows, n_targets, k, centred, seed):
    rng = np.random.default_rng(seed)
    corpus = Toy(rng.normal(size=(n_rows, 5)))
    target = rng.normal(size=(n_targets, 5)).astype(np.float32)
    scores = score(corpus, target, Settings(k=k, centred=centred), seed=0)
    mean = corpus.mean() if centred else 0
    for row, (value, nearest) in enumerate(zip(scores.score, scores.nearest, strict=True)):
        cosines = [cosine(corpus.vectors[row] - mean, query - mean) for query in target]
        best = sorted(cosines, reverse=True)[:k]
        assert abs(value - np.mean(best)) < 1e-4
        assert cosines[nearest] >= max(cosines) - 1e-4


def test_centring_takes_out_what_all_rows_share():
    rng = np.random.default_rng(0)
    shared = np.array([10, 0, 0], np.float32)
    corpus = Toy(rng.normal(size=(50, 3)).astype(np.float32) + shared)
    target = corpus.vectors[:1]
    plain = score(corpus, target, Settings(k=1, centred=False), 0).score
    centred = score(corpus, target, Settings(k=1), 0).score
    assert plain[1:].min() > 0.9
    assert centred[1:].std() > 10 * plain[1:].std()

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from toys import ToyCorpus, target_of

from lightadapt_data.selectors.nearest import Settings, score


def cosine(left, right):
    lengths = np.linalg.norm(left) * np.linalg.norm(right)
    return float(left @ right / lengths) if lengths > 1e-9 else 0.0


@given(st.integers(1, 12), st.integers(1, 6), st.integers(1, 8), st.booleans(), st.integers(0, 99))
def test_scores_equal_a_plain_loop(n_rows, n_targets, k, centred, seed):
    rng = np.random.default_rng(seed)
    corpus = ToyCorpus(rng.normal(size=(n_rows, 5)), rows_per_block=3)
    target = rng.normal(size=(n_targets, 5)).astype(np.float32)
    scores = score(corpus, target_of(target), Settings(k=k, centred=centred), seed=0)
    mean = corpus.mean() if centred else 0
    for row, (value, nearest) in enumerate(zip(scores.score, scores.nearest, strict=True)):
        cosines = [cosine(corpus.vectors[row] - mean, query - mean) for query in target]
        best = sorted(cosines, reverse=True)[:k]
        assert abs(value - np.mean(best)) < 1e-4
        assert cosines[nearest] >= max(cosines) - 1e-4


def test_centring_takes_out_what_all_rows_share():
    rng = np.random.default_rng(0)
    shared = np.array([10, 0, 0], np.float32)
    corpus = ToyCorpus(rng.normal(size=(50, 3)).astype(np.float32) + shared)
    target = corpus.vectors[:1]
    plain = score(corpus, target_of(target), Settings(k=1, centred=False), 0).score
    centred = score(corpus, target_of(target), Settings(k=1), 0).score
    assert plain[1:].min() > 0.9
    assert centred[1:].std() > 10 * plain[1:].std()

import numpy as np
import pytest
from toys import ToyCorpus, target_of

from lightadapt_data.errors import InputError
from lightadapt_data.selectors import nearest
from lightadapt_data.selectors.graph import Settings, score


@pytest.fixture
def clusters():
    """Two clusters in 32 dimensions; the target stands at the edge of the first."""
    rng = np.random.default_rng(0)
    centres = rng.normal(size=(2, 32))
    rows = np.concatenate([centre + 0.8 * rng.normal(size=(200, 32)) for centre in centres])
    target = (centres[0] + 1.5 * rng.normal(size=(3, 32))).astype(np.float32)
    return ToyCorpus(rows, rows_per_block=100), target_of(target)


def precision(scores):
    return (np.argsort(-scores)[:200] < 200).mean()


def test_smoothing_finds_the_cluster_that_the_target_only_touches(clusters):
    corpus, target = clusters
    plain = nearest.score(corpus, target, nearest.Settings(), 0).score
    smooth = score(corpus, target, Settings(), 0).score
    assert precision(smooth) > precision(plain)
    assert precision(smooth) > 0.99


def test_probing_cells_changes_little(clusters):
    corpus, target = clusters
    exact = score(corpus, target, Settings(), 0).score
    probed = score(corpus, target, Settings(exact_rows=0), 0).score
    assert np.corrcoef(exact, probed)[0, 1] > 0.99


def test_alpha_zero_is_nearest(clusters):
    corpus, target = clusters
    plain = nearest.score(corpus, target, nearest.Settings(), 0).score
    assert np.allclose(score(corpus, target, Settings(alpha=0), 0).score, plain, atol=1e-6)


def test_a_corpus_too_large_is_refused_with_the_way_out(clusters):
    corpus, target = clusters
    with pytest.raises(InputError, match=r"400 corpus rows; allowed: at most 10.*use nearest"):
        score(corpus, target, Settings(most_rows=10), 0)

import numpy as np
import pytest
from toys import ToyCorpus, target_of

from lightadapt_data.selectors import nearest
from lightadapt_data.selectors.classifier import Settings, score

NEWS = "Police said on {} that the man, {}, was arrested in the city."
WIKI = "{} is a town in {}. It was founded by the Romans and has a castle."
WORDS = [a + b for a in ("Al", "Be", "Cor", "Dun", "Es") for b in ("mar", "ton", "wick", "by")]


@pytest.fixture(scope="module")
def registers():
    """Two registers about the same places: vectors carry the place, texts the register too."""
    rng = np.random.default_rng(0)
    places = rng.normal(size=(len(WORDS), 16))
    texts, vectors = [], []
    for number in range(800):
        first, second = rng.integers(0, len(WORDS), 2)
        texts.append((NEWS, WIKI)[number % 2].format(WORDS[first], WORDS[second]))
        vectors.append(places[first] + places[second] + rng.normal(size=16))
    texts, vectors = np.array(texts), np.array(vectors, np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    is_target = np.arange(800) < 32
    wanted = is_target & (np.arange(800) % 2 == 1)
    target = target_of(vectors[wanted], texts[wanted].tolist())
    rest = ~is_target
    corpus = ToyCorpus(vectors[rest], texts[rest].tolist())
    return corpus, target, (np.arange(800) % 2 == 1)[rest]


def precision(scores, truth):
    return truth[np.argsort(-scores, kind="stable")[: truth.sum()]].mean()


def test_style_tells_what_the_vectors_cannot(registers):
    corpus, target, truth = registers
    assert precision(nearest.score(corpus, target, nearest.Settings(), 0).score, truth) < 0.7
    assert precision(score(corpus, target, Settings(style=0), 0).score, truth) < 0.8
    assert precision(score(corpus, target, Settings(), 0).score, truth) > 0.98


def test_scores_are_likelihoods_and_the_facts_say_how_many_rows_belong(registers):
    corpus, target, truth = registers
    found = score(corpus, target, Settings(), 0)
    assert (found.score >= 0).all()
    assert (found.score <= 1).all()
    assert found.facts["separation"] > 0.7
    assert found.facts["relevant_rows"] == pytest.approx(truth.sum(), rel=0.6)
    likely = found.score > 0.5
    assert truth[likely].mean() > 0.9


def test_a_large_corpus_is_trained_and_smoothed_in_part(registers):
    corpus, target, truth = registers
    part = Settings(fit_rows=200, smooth_rows=500, negatives=100)
    found = score(corpus, target, part, 0).score
    assert np.isfinite(found).all()
    assert precision(found, truth) > 0.9
    unsmoothed = np.argsort(-found)[500:]
    assert found[unsmoothed].max() <= found[np.argsort(-found)[:500]].min()


def test_the_order_of_rows_changes_nothing_where_rows_are_drawn(registers):
    corpus, target, _ = registers
    turn = np.random.default_rng(3).permutation(corpus.n_rows)
    texts = [text for _, block in corpus.texts() for text in block]
    turned = ToyCorpus(corpus.vectors[turn], [texts[i] for i in turn], corpus.keys[turn])
    settings = Settings(fit_rows=200, smooth_rows=500, negatives=100)
    plain = score(corpus, target, settings, 0).score
    assert np.allclose(score(turned, target, settings, 0).score, plain[turn], atol=1e-5)


@pytest.mark.parametrize("n_targets", [1, 3])
def test_few_target_rows_are_enough_to_run(registers, n_targets):
    corpus, target, _ = registers
    few = target_of(target.vectors[:n_targets], list(target.texts[:n_targets]))
    assert np.isfinite(score(corpus, few, Settings(), 0).score).all()

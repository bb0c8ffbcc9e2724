import hashlib
import itertools
import json
import math
import random
import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from toys import WORDS, ToyCorpus, target_of

from lightadapt_data import methods
from lightadapt_data.errors import RecipeError
from lightadapt_data.hashed_ngrams import Features, count
from lightadapt_data.selectors.dsir import FOLDS, TRIED, Settings, chosen_smoothing, score, smoothed

TOKEN = re.compile(r"\w+|[^\w\s]+")
TEXTS = st.lists(
    st.lists(st.sampled_from([*WORDS[:5], "!"]), max_size=9).map(" ".join), min_size=1, max_size=8
)
TARGETS = st.lists(
    st.lists(st.sampled_from(WORDS[:4]), min_size=1, max_size=6).map(" ".join),
    min_size=1,
    max_size=4,
)


def corpus_of(texts, keys=None):
    return ToyCorpus(np.ones((len(texts), 2)), list(texts), keys)


def scored(texts, target, **options):
    return score(
        corpus_of(texts), target_of(np.ones((len(target), 2)), target), Settings(**options), 0
    )


def probabilities(counts, q, smoothing):
    """Return the target's smoothed probability of every bucket, by plain loops."""
    n = sum(counts)
    if smoothing:
        p = [b * (c + smoothing) / (n * b + smoothing) for c, b in zip(counts, q, strict=True)]
    else:
        p = list(counts)
    return [a / (sum(p) or 1) for a in p]


def log_ratios(texts, target, features, smoothing):
    """Return log(p + 1e-8) - log(q + 1e-8) of every bucket, by plain loops."""
    counts = count(texts, features).tolist()
    q = [number / max(sum(counts), 1) for number in counts]
    p = probabilities(count(target, features).tolist(), q, smoothing)
    return [math.log(a + 1e-8) - math.log(b + 1e-8) for a, b in zip(p, q, strict=True)]


def log_weight(text, ratios, features):
    """Return (log w, number of n-grams) of one text."""
    counts = count([text], features).tolist()
    return sum(n * ratio for n, ratio in zip(counts, ratios, strict=True)), sum(counts)


@settings(max_examples=60, deadline=None)
@given(TEXTS, TARGETS, st.integers(1, 3), st.sampled_from(["sum", "per_token"]), st.booleans())
def test_scores_are_the_formula_of_a_plain_loop(texts, target, n, mode, is_smooth):
    features, smoothing = Features(n, 97), 5.0 if is_smooth else 0.0
    ratios = log_ratios(texts, target, features, smoothing)
    expected = []
    for text in texts:
        weight, size = log_weight(text, ratios, features)
        expected.append(math.nan if not size else weight / size if mode == "per_token" else weight)
    lowest = min((value for value in expected if not math.isnan(value)), default=0.0)
    expected = [lowest if math.isnan(value) else value for value in expected]
    found = scored(texts, target, n=n, buckets=97, mode=mode, smoothing=smoothing).score
    assert np.allclose(found, expected, rtol=1e-5, atol=1e-5)


def best_windows(text, ratio_of, n, chunk_words, best_chunks):
    """Return the mean of a text's best windows; an n-gram counts where it begins."""
    found = TOKEN.findall(text.lower())
    n_windows = max(1, round(len(found) / chunk_words))
    sums, sizes = [0.0] * n_windows, [0] * n_windows
    for order in range(1, n + 1):
        for place in range(len(found) - order + 1):
            window = place * n_windows // len(found)
            sums[window] += ratio_of(" ".join(found[place : place + order]))
            sizes[window] += 1
    means = sorted((a / b for a, b in zip(sums, sizes, strict=True)), reverse=True)[:best_chunks]
    return sum(means) / len(means)


@settings(max_examples=60, deadline=None)
@given(TEXTS, TARGETS, st.integers(1, 4), st.integers(1, 3))
def test_chunked_is_the_mean_of_the_best_windows(texts, target, chunk_words, best_chunks):
    ratios = log_ratios(texts, target, Features(2, 89, compatible=False), 3.0)

    def ratio_of(gram):
        # The n-gram itself is the last thing counted: its words alone come off again.
        features = Features(gram.count(" ") + 1, 89)
        shorter = Features(features.n - 1, 89) if features.n > 1 else None
        counts = count([gram], features) - (count([gram], shorter) if shorter else 0)
        return ratios[int(counts.argmax())]

    texts = [text or "mean" for text in texts]
    ratios = log_ratios(texts, target, Features(2, 89), 3.0)
    expected = [best_windows(text, ratio_of, 2, chunk_words, best_chunks) for text in texts]
    found = scored(
        texts, target, buckets=89, mode="chunked", smoothing=3.0,
        chunk_words=chunk_words, best_chunks=best_chunks,
    ).score  # fmt: skip
    assert np.allclose(found, expected, rtol=1e-5, atol=1e-5)


def test_a_long_row_is_favoured_by_the_sum_but_not_by_mean_or_windows():
    row = "the mean of a sample is the variance of a queue"
    texts = [row, " ".join([row] * 60), *["open the socket of a thread"] * 50]
    short, long = scored(texts, [row], mode="sum").score[:2]
    assert long > 10 * short > 0
    for mode in ("per_token", "chunked"):
        short, long = scored(texts, [row], mode=mode).score[:2]
        assert long == pytest.approx(short, abs=0.15)


def test_a_row_partly_about_the_target_is_found_by_its_best_window():
    domain, rest = "mean variance sample matrix plot", "socket thread file parse queue"
    texts = [" ".join([rest] * 9 + [domain] * 3), " ".join([rest, rest, domain] * 4), rest, domain]
    options = {"mode": "chunked", "chunk_words": 15, "best_chunks": 1}
    assert scored(texts, [domain], **options).score[0] > scored(texts, [domain]).score[0]


def test_a_text_without_words_is_last_whatever_the_mode():
    texts = ["mean sample", "", "socket thread", " \n "]
    for mode in ("sum", "per_token", "chunked"):
        scores = scored(texts, ["mean sample"], mode=mode).score
        assert scores[1] == scores[3] == scores.min()
    assert scored(["", ""], ["mean"]).score.tolist() == [0, 0]
    assert np.isfinite(scored(texts, [""]).score).all()


def test_identical_rows_have_identical_scores_and_order_changes_none():
    texts = [" ".join(random.Random(i % 7).choices(WORDS, k=5 + i % 7)) for i in range(30)]
    target = texts[:5]
    first = scored(texts, target)
    assert all(first.score[i] == first.score[i % 7] for i in range(30))
    order = random.Random(1).sample(range(30), 30)
    turned = scored([texts[i] for i in order], target[::-1])
    assert np.array_equal(turned.score, first.score[order])
    assert (first.nearest == -1).all()


def test_held_out_rows_choose_the_smoothing():
    rng = random.Random(0)
    texts = [" ".join(rng.choices(WORDS, k=8)) for _ in range(23)]
    features = Features(2, 300)
    counts = count([*texts, *(" ".join(rng.choices(WORDS, k=8)) for _ in range(50))], features)
    in_corpus = counts / counts.sum()
    ordered, likelihoods = sorted(texts), []
    total = count(texts, features)
    for smoothing in TRIED:
        likelihood = 0.0
        for fold in range(FOLDS):
            held = count(ordered[fold::FOLDS], features)
            chances = probabilities((total - held).tolist(), in_corpus.tolist(), smoothing)
            likelihood += sum(held[b] * math.log(chances[b]) for b in np.flatnonzero(held))
        likelihoods.append(likelihood)
    best = float(TRIED[int(np.argmax(likelihoods))])
    assert chosen_smoothing(texts, in_corpus, features) == best
    assert chosen_smoothing(texts[::-1], in_corpus, features) == best


def test_rows_that_predict_each_other_need_less_smoothing_than_rows_that_do_not():
    rng = random.Random(0)
    features = Features(2, 300)
    alike = ["the mean of a sample"] * 12
    unlike = [" ".join(rng.choices(WORDS, k=5)) for _ in range(12)]
    counts = count([*alike, *unlike], features)
    in_corpus = counts / counts.sum()
    assert chosen_smoothing(alike, in_corpus, features) < chosen_smoothing(
        unlike, in_corpus, features
    )


def test_a_rare_ngram_seen_once_counts_less_than_one_seen_often():
    # Both are ten times as frequent as expected; one of them by chance, perhaps.
    in_corpus = np.array([0.001, 0.01, 0.989])
    p = smoothed(np.array([1, 10, 89]), in_corpus, 1.0)
    assert p.sum() == pytest.approx(1)
    ratios = p / in_corpus
    assert 1 < ratios[0] < ratios[1] < 10
    assert np.allclose(smoothed(np.array([1, 10, 89]), in_corpus, 0), [0.01, 0.1, 0.89])


def test_one_target_row_holds_nothing_out():
    facts = scored(["mean sample", "socket"], ["mean sample plot"]).facts
    assert facts["target_ngrams"] == 5
    assert facts["smoothing"] == 1


def test_the_facts_say_what_the_target_has_not_seen():
    facts = scored(["mean sample", "socket thread"], ["mean sample"], smoothing=0).facts
    assert facts["corpus_share_unseen_in_target"] == pytest.approx(0.5)
    assert json.dumps(dict(facts))


def test_smoothing_finds_rows_that_raw_shares_lose_among_penalties():
    rng = random.Random(3)
    topics = [[f"{topic}{i}" for i in range(30)] for topic in ("a", "b", "c")]
    # As frequent as words of natural text: most of them are in no row of a small target.
    general = [f"general{i}" for i in range(3000)]
    weights = [1 / (i + 1) for i in range(3000)]

    def row(topic):
        some = rng.choices(topic, weights[: len(topic)], k=3)
        return " ".join(some + rng.choices(general, weights, k=rng.randint(6, 60)))

    rows = [row(topic) for topic in topics * 60]
    target = [row(topics[0]) for _ in range(30)]
    truth = np.arange(len(rows)) % 3 == 0

    def share_found(**options):
        best = np.argsort(-scored(rows, target, **options).score, kind="stable")[: truth.sum()]
        return truth[best].mean()

    assert share_found() > 0.65
    assert share_found() > share_found(smoothing=0) + 0.1


def compatible_weights(texts, target, buckets=10_000):
    """Return the package's log weights with hashlib alone."""

    def features(text):
        found = TOKEN.findall(text.lower())
        grams = found + [" ".join(pair) for pair in itertools.pairwise(found)]
        counts = np.zeros(buckets, int)
        for gram in grams:
            counts[int(hashlib.sha256(gram.encode()).hexdigest(), 16) % buckets] += 1
        return counts

    rows = [features(text) for text in texts]
    q, p = sum(rows), sum(features(text) for text in target)
    ratio = np.log(p / p.sum() + 1e-8) - np.log(q / q.sum() + 1e-8)
    return np.array([row @ ratio for row in rows])


def test_compatible_weights_are_those_of_hashlib():
    texts = ["The mean!", "a socket, a thread", "mean of Größe", "x"]
    target = ["the mean of a sample", "THE MEAN!"]
    found = scored(texts, target, compatible=True).score
    assert np.allclose(found, compatible_weights(texts, target), rtol=1e-5)


def test_compatible_ranks_as_the_package_does(tmp_path):
    package = pytest.importorskip("data_selection")
    rng = random.Random(0)
    vocabulary = [f"word{i}" for i in range(300)]
    texts = [
        " ".join(rng.choices(vocabulary[i % 50 :], k=100 + i)) + ", so. (it) ends!"
        for i in range(200)
    ]
    target = [" ".join(rng.choices(vocabulary[:80], k=120)) for _ in range(8)]
    paths = {}
    for name, rows in (("corpus", texts), ("target", target)):
        paths[name] = tmp_path / f"{name}.jsonl"
        paths[name].write_text("".join(json.dumps({"text": row}) + "\n" for row in rows), "utf-8")
    peer = package.HashedNgramDSIR(
        [str(paths["corpus"])], [str(paths["target"])], str(tmp_path / "cache"), num_proc=1
    )
    peer.fit_importance_estimator(num_tokens_to_fit="all")
    peer.compute_importance_weights()
    expected = np.load(tmp_path / "cache" / "log_importance_weights" / "0.npy")
    found = scored(texts, target, compatible=True).score
    ranks = [np.argsort(np.argsort(values)) for values in (found, expected)]
    assert np.corrcoef(*ranks)[0, 1] >= 0.99
    assert np.allclose(found, expected, rtol=1e-5)


@pytest.mark.parametrize("options", [{"mode": "per_token"}, {"smoothing": 1.0}])
def test_compatible_refuses_what_the_package_does_not_do(options):
    with pytest.raises(RecipeError, match=r"allowed with it: .*; leave .* out"):
        methods.settings("selectors", "dsir", {"compatible": True, **options})
    fixed = Settings(compatible=True)
    assert (fixed.mode, fixed.smoothing) == ("sum", 0)


@pytest.mark.parametrize("options", [{"n": 4}, {"buckets": 1}, {"mode": "mean"}, {"smoothing": -1}])
def test_options_out_of_range_are_refused(options):
    with pytest.raises(RecipeError, match=next(iter(options))):
        methods.settings("selectors", "dsir", options)

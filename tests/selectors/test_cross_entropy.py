import json
import math
import random
import re
from collections import Counter, defaultdict

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from toys import WORDS, ToyCorpus, target_of

from lightadapt_data.errors import InputError
from lightadapt_data.hashed_ngrams import ngrams, words
from lightadapt_data.selectors import Target
from lightadapt_data.selectors.cross_entropy import (
    HIGHEST,
    Level,
    Settings,
    general_sample,
    score,
    trained,
)
from lightadapt_data.vectors import uniform

TOKEN = re.compile(r"\w+|[^\w\s]+")
TEXTS = st.lists(st.lists(st.sampled_from([*WORDS[:4], "!"]), max_size=8).map(" ".join), max_size=6)


class LoopModel:
    """Interpolated absolute discounting by its definition: dictionaries and recursion."""

    def __init__(self, texts, order, n_known):
        self.order, self.n_known = order, n_known
        self.counts, self.kinds = Counter(), defaultdict(set)
        for text in texts:
            found = TOKEN.findall(text.lower())
            for place in range(len(found)):
                for length in range(min(order, place + 1)):
                    context = tuple(found[place - length : place])
                    self.counts[context, found[place]] += 1
                    self.kinds[context].add(found[place])
        self.discounts = {}
        for length in range(order):
            found = [n for (context, _), n in self.counts.items() if len(context) == length]
            once, twice = found.count(1), found.count(2)
            self.discounts[length] = (once + 1) / (once + 2 * twice + 2)
        self.followers = Counter()
        for (context, _), number in self.counts.items():
            self.followers[context] += number

    def chance(self, context, word):
        if context is None:
            return 1 / self.n_known
        shorter = self.chance(context[1:] if context else None, word)
        kinds = len(self.kinds[context]) if context in self.kinds else 0
        if not kinds:
            return shorter
        discount = self.discounts[len(context)]
        kept = max(self.counts[context, word] - discount, 0)
        return (kept + discount * kinds * shorter) / self.followers[context]

    def bits(self, text):
        found = TOKEN.findall(text.lower())
        return [
            math.log2(self.chance(tuple(found[max(0, i - self.order + 1) : i]), word))
            for i, word in enumerate(found)
        ]


def corpus_of(texts, keys=None, columns=None):
    return ToyCorpus(np.ones((len(texts), 2)), list(texts), keys, columns)


def scored(texts, target, seed=0, keys=None, **options):
    corpus = corpus_of(texts, keys)
    return score(corpus, target_of(np.ones((len(target), 2)), target), Settings(**options), seed)


@settings(max_examples=80, deadline=None)
@given(TEXTS, TEXTS, st.integers(1, 4))
def test_a_model_gives_the_probabilities_of_a_plain_loop(known, texts, order):
    model, twin = trained(known, order, 9), LoopModel(known, order, 9)
    found = [bits for block in words(texts) for bits in model.bits(ngrams(block, order)).tolist()]
    assert np.allclose(found, [bits for text in texts for bits in twin.bits(text)])


@pytest.mark.parametrize("order", [1, 2, 3])
def test_the_probabilities_of_all_words_add_up_to_one(order):
    known = ["mean variance mean socket", "socket mean", "variance"]
    vocabulary = ["mean", "variance", "socket", "unknown"]
    model = trained(known, order, len(vocabulary))
    for context in ("", "mean", "mean variance", "socket mean", "unknown", "variance"):
        total = 0.0
        for word in vocabulary:
            (block,) = words([f"{context} {word}"])
            total += 2 ** model.bits(ngrams(block, order))[-1]
        assert total == pytest.approx(1)


def test_a_model_of_no_words_gives_every_word_the_same_probability():
    model = trained([""], 3, 8)
    (block,) = words(["any words at all"])
    assert model.bits(ngrams(block, 3)).tolist() == [-3.0] * 4


@given(
    st.lists(st.integers(0, (1 << 64) - 1), max_size=40), st.lists(st.integers(0, 9), max_size=9)
)
def test_a_level_finds_what_it_has_and_nothing_else(values, low):
    keys = np.unique(np.array([*values, *low], np.uint64))
    level = Level.of(keys, np.ones(len(keys), np.int64))
    asked = np.concatenate([keys, keys + np.uint64(1), np.array([0, HIGHEST], np.uint64)])
    place_of = {key: place for place, key in enumerate(keys.tolist())}
    found = level.counts[level.find(asked)]
    assert found.tolist() == [int(key in place_of) for key in asked.tolist()]
    expected = [place_of.get(key) for key in asked.tolist()]
    for place, wanted in zip(level.find(asked).tolist(), expected, strict=True):
        assert place == (len(keys) if wanted is None else wanted) or level.keys[place] == HIGHEST


def rows_of(n_rows, seed=0):
    rng = random.Random(seed)
    return [" ".join(rng.choices(WORDS, k=4 + i % 5)) + f" {i}" for i in range(n_rows)]


def test_scores_are_the_difference_of_the_cross_entropies_of_loop_models():
    texts, target = rows_of(60), [row + " plot the matrix" for row in rows_of(5, seed=9)]
    scores = scored(texts, target)
    n_words = sum(len(TOKEN.findall(row)) for row in target)
    longest = max(len(TOKEN.findall(row)) for row in target)
    drawn = general_sample(corpus_of(texts), "text", 2 * n_words, longest, 0)
    total = sum(row.n_words for row in drawn)
    first, second, seen = [], [], 0
    for row in drawn:
        (first if seen < total / 2 else second).append(row.text)
        seen += row.n_words
    known = {word for row in [*target, *first, *second] for word in TOKEN.findall(row)}
    models = [LoopModel(sample, 3, len(known) + 1) for sample in (target, first, second)]
    for text, found in zip(texts, scores.score.tolist(), strict=True):
        own, general = models[0].bits(text), models[2 if text in first else 1].bits(text)
        expected = (sum(own) - sum(general)) / len(own)
        assert found == pytest.approx(expected, abs=1e-5)
    facts = scores.facts["sides"]["text"]
    assert facts["vocabulary"] == len(known) + 1
    assert facts["target_words"] == n_words
    assert n_words <= facts["corpus_words"] <= n_words + longest
    assert json.dumps(dict(scores.facts))


def test_rows_of_the_target_domain_come_first_and_drawn_ones_among_them():
    rng = random.Random(2)
    topics = [[f"{topic}{i}" for i in range(50)] for topic in ("a", "b", "c")]

    def row(topic):
        return " ".join(rng.choices(topic, k=8) + rng.choices(WORDS, k=4))

    texts = [row(topic) for topic in topics * 30]
    target = [row(topics[0]) for _ in range(12)]
    scores = scored(texts, target)
    truth = np.arange(len(texts)) % 3 == 0
    best = np.argsort(-scores.score, kind="stable")[: truth.sum()]
    assert truth[best].mean() > 0.95
    corpus = corpus_of(texts)
    drawn = {row.text for row in general_sample(corpus, "text", 12 * 12, 12, 0)}
    places = [place for place, text in enumerate(texts) if text in drawn and truth[place]]
    assert places
    assert set(places) <= set(best.tolist())


@settings(max_examples=40, deadline=None)
@given(st.lists(st.sampled_from(["a b c", "d", "", "e f g h i j", "a a"]), max_size=20),
       st.integers(0, 30), st.integers(1, 4), st.integers(0, 3))  # fmt: skip
def test_the_sample_is_the_first_distinct_rows_by_draw(texts, n_words, longest, seed):
    corpus = corpus_of(texts) if texts else None
    if corpus is None:
        return
    draws = uniform(corpus.keys, seed)
    expected, total = [], 0
    for place in np.argsort(draws):
        size = min(len(texts[place].split()), longest)
        if total < n_words and size and texts[place] not in expected:
            expected.append(texts[place])
            total += size
    found = general_sample(corpus, "text", n_words, longest, seed)
    assert sum(row.n_words for row in found) == total
    for row, text in zip(found, expected, strict=True):
        assert row.text in text
        assert len(row.text.split()) == min(len(text.split()), longest)


def test_a_long_document_gives_a_drawn_window_and_not_the_whole_sample():
    book = " ".join(f"page{number}" for number in range(5000))
    texts = [book, *rows_of(40)]
    starts = set()
    for seed in range(8):
        drawn = general_sample(corpus_of(texts), "text", 10_000, 10, seed)
        (cut,) = [row for row in drawn if row.text.startswith("page")]
        assert cut.n_words == len(cut.text.split()) == 10
        assert cut.text in book
        starts.add(cut.text.split()[0])
    assert len(starts) > 4


def test_identical_rows_have_identical_scores_and_order_changes_none():
    texts = rows_of(20) * 2
    keys = np.arange(40, dtype=np.uint64) * np.uint64(7919)
    target = ["mean of a sample", "plot the matrix", "mean variance"]
    first = scored(texts, target, keys=keys)
    assert np.array_equal(first.score[:20], first.score[20:])
    order = random.Random(1).sample(range(40), 40)
    turned = scored([texts[i] for i in order], target[::-1], keys=keys[order])
    assert np.array_equal(turned.score, first.score[order])
    assert (first.nearest == -1).all()
    assert not np.array_equal(scored(texts, target, seed=1, keys=keys).score, first.score)


def test_texts_and_targets_without_words_are_borne():
    scores = scored(["mean sample", "", "socket thread", "\n"], ["mean sample"]).score
    assert scores[1] == scores[3] == scores.min()
    assert scored(["", ""], ["mean"]).score.tolist() == [0, 0]
    assert np.isfinite(scored(["mean", "x"], [""]).score).all()
    assert np.isfinite(scored(["mean"], ["mean"]).score).all()


def test_the_differences_of_both_sides_of_a_pair_are_added():
    source, other = rows_of(30), rows_of(30, seed=5)
    corpus = corpus_of(source, columns={"source": source, "target": other})
    columns = {"source": ["mean of a sample"] * 3, "target": ["plot the matrix"] * 3}
    target = Target(np.ones((3, 2), np.float32), ["unused"] * 3, columns)

    def of(*sides):
        return score(corpus, target, Settings(sides=sides), 0).score

    assert np.allclose(of("source", "target"), of("source") + of("target"), atol=1e-5)
    assert not np.allclose(of("source"), of("target"))


def test_a_row_with_one_empty_side_is_last():
    columns = {"source": ["mean sample", "mean sample"], "target": ["plot the matrix", ""]}
    corpus = corpus_of(["x", "y"], columns=columns)
    target = Target(
        np.ones((1, 2), np.float32), ["x"], {"source": ["mean sample"], "target": ["plot"]}
    )
    scores = score(corpus, target, Settings(sides=("source", "target")), 0).score
    assert scores[1] == scores.min()
    assert np.isfinite(scores).all()


def test_a_side_that_the_target_does_not_have_is_refused_by_name():
    with pytest.raises(InputError, match=r"no text column 'sorce'; allowed: source, text; did you"):
        score(
            corpus_of(["a"]),
            Target(np.ones((1, 2), np.float32), ["a"], {"source": ["b"]}),
            Settings(sides=("sorce",)),
            0,
        )


def of_sides(words, sides):
    method = ("--set", "select.method=cross_entropy")
    return [*words, *method, "--set", f"select.cross_entropy.sides={json.dumps(sides)}"]


@pytest.mark.parametrize("method", ["dsir", "cross_entropy"])
def test_a_run_selects_by_texts(cli, select_words, method, tmp_path):
    result = cli(*select_words, "--set", f"select.method={method}")
    assert result.code == 0, result.err
    assert list((tmp_path / "out").rglob("selected-*.parquet"))


def test_a_run_reads_the_columns_of_pairs(cli, select_words):
    result = cli(*of_sides(select_words, ["text", "source"]))
    assert result.code == 0, result.err


def test_a_run_refuses_a_side_that_corpus_or_target_do_not_have(cli, select_words, target):
    result = cli(*of_sides(select_words, ["topic"]))
    assert result.code == 3
    assert "the target has no text column 'topic'" in result.err
    rows = target.with_suffix(".jsonl")
    rows.write_text('{"text": "the mean", "other": "plot"}\n', "utf-8")
    words = [str(rows) if word == str(target) else word for word in select_words]
    result = cli(*of_sides(words, ["other"]))
    assert result.code == 3
    assert "corpus: no text column 'other'" in result.err

import hashlib
import math
import re
import tracemalloc
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lightadapt_data import hashed_ngrams
from lightadapt_data.hashed_ngrams import (
    Features,
    Ngrams,
    bucketed,
    count,
    joined,
    kl_reduction,
    mixed,
    ngrams,
    words,
)

TOKEN = re.compile(r"\w+|[^\w\s]+")
MASK = (1 << 64) - 1
TEXTS = st.lists(st.text(max_size=40), max_size=6)
SPOKEN = st.lists(
    st.lists(st.sampled_from(["a", "b", "cd", "Ünï", "!?", "\U0001f600"]), max_size=8).map(
        " ".join
    ),
    min_size=1,
    max_size=6,
)


def tokens(text):
    return TOKEN.findall(text.lower())


def words_of(texts):
    """Return [(text, word, hash)], rows counted over all blocks."""
    found = []
    for block in words(texts):
        for row, start, stop, value in zip(
            block.rows.tolist(), block.starts, block.stops, block.hashes.tolist(), strict=True
        ):
            found.append((block.first + row, block.text[start:stop], value))
    return found


def mixed_int(value):
    value = ((value ^ (value >> 30)) * 0xBF58476D1CE4E5B9) & MASK
    value = ((value ^ (value >> 27)) * 0x94D049BB133111EB) & MASK
    return value ^ (value >> 31)


def word_hash(word):
    """Return the hash by its definition, character by character."""
    total = 0
    for place, character in enumerate(word):
        total += mixed_int(ord(character) + 1) * pow(hashed_ngrams.BASE, place, 1 << 64)
    return mixed_int(total & MASK)


def gram_hash(gram):
    value = word_hash(gram[0])
    for word in gram[1:]:
        value = mixed_int((value * 0xD1342543DE82EF95 + word_hash(word)) & MASK)
    return value


def grams_of(text, n):
    found = tokens(text)
    return [
        tuple(found[place : place + order])
        for order in range(1, n + 1)
        for place in range(len(found) - order + 1)
    ]


def own_bucket(gram, buckets):
    return ((gram_hash(gram) >> 32) * buckets) >> 32


def sha_bucket(gram, buckets):
    text = " ".join(gram).encode("utf-8", "surrogatepass")
    return int(hashlib.sha256(text).hexdigest(), 16) % buckets


@given(TEXTS)
def test_words_are_those_of_the_pattern_in_lower_case(texts):
    expected = [(row, word) for row, text in enumerate(texts) for word in tokens(text)]
    assert [(row, word) for row, word, _ in words_of(texts)] == expected


@given(TEXTS)
def test_a_words_hash_is_the_polynomial_of_its_characters(texts):
    assert all(value == word_hash(word) for _, word, value in words_of(texts))


def test_every_character_is_of_the_kind_the_pattern_sees():
    characters = [chr(code) for code in range(0x110000) if code % 7 == 0 or code < 0x3000]
    kinds = hashed_ngrams._kinds(np.array([ord(c) for c in characters], np.uint32))
    word, space = re.compile(r"\w"), re.compile(r"\s")
    for character, kind in zip(characters, kinds.tolist(), strict=True):
        expected = 1 if word.match(character) else 0 if space.match(character) else 2
        assert kind == expected, hex(ord(character))


def test_lone_surrogates_and_the_highest_characters_are_hashed():
    texts = ["a \ud800 b", "\U0010fffe\U0010ffff x", "\U0010ffff\U0010fffe"]
    assert [word for _, word, _ in words_of(texts)] == [w for text in texts for w in tokens(text)]
    assert all(value == word_hash(word) for _, word, value in words_of(texts))
    assert count(texts, Features(compatible=True)).sum() == 3 + 2 + 2 + 1 + 1


def test_long_texts_are_hashed_like_short_ones():
    once = "The mean, of a 'sample' is x_1 + é! "
    long = "y" + once * 3000 + "z" * 70_000
    assert len(long) > 5 * hashed_ngrams.WINDOW
    found = words_of([long, "z" * 70_000])
    assert [word for _, word, _ in found] == [*tokens(long), "z" * 70_000]
    for _, word, value in found[: len(tokens(once)) * 2] + found[-40:-2]:
        assert value == word_hash(word)
    assert found[-2][2] == found[-1][2]


@pytest.mark.parametrize("block_chars", [1, 7, 50, 1 << 19])
def test_blocks_do_not_change_hashes_or_counts(block_chars, monkeypatch):
    texts = ["one two", "", "three", "Größe four " * 5, " ", "five"] * 3
    whole, counts = words_of(texts), count(texts, Features())
    monkeypatch.setattr(hashed_ngrams, "BLOCK_CHARS", block_chars)
    assert words_of(texts) == whole
    assert np.array_equal(count(iter(texts), Features()), counts)
    assert sum(block.n_rows for block in words(texts)) == len(texts)


def test_no_text_gives_no_block_and_empty_texts_give_no_words():
    assert list(words([])) == []
    (block,) = words(["", " \n", ""])
    assert block.n_rows == 3
    assert len(block.hashes) == len(block.rows) == 0
    assert count([""], Features(buckets=7)).tolist() == [0] * 7
    assert [len(grams.hashes) for grams in ngrams(block, 3)] == [0, 0, 0]


@given(SPOKEN, st.integers(1, 4))
def test_ngrams_are_joined_words_of_one_text(texts, n):
    found = Counter()
    for block in words(texts):
        for grams in ngrams(block, n):
            found.update(grams.hashes[grams.is_whole].tolist())
    assert found == Counter(gram_hash(gram) for text in texts for gram in grams_of(text, n))


@given(SPOKEN, st.integers(1, 3), st.integers(2, 50), st.booleans())
def test_counts_are_those_of_a_plain_loop(texts, n, buckets, compatible):
    bucket_of = sha_bucket if compatible else own_bucket
    expected = np.zeros(buckets, int)
    for text in texts:
        for gram in grams_of(text, n):
            expected[bucket_of(gram, buckets)] += 1
    assert np.array_equal(count(texts, Features(n, buckets, compatible)), expected)


@pytest.mark.parametrize("buckets", [2, 10_000, 9973, (1 << 32) - 1])
def test_compatible_buckets_are_sha_256_modulo_the_buckets(buckets):
    (block,) = words(["Ein Wort, zwei Wörter."])
    for grams in ngrams(block, 2):
        expected = [
            sha_bucket(tokens(block.text)[place : place + grams.order], buckets)
            for place in range(len(grams.hashes))
        ]
        assert bucketed(block, grams, Features(2, buckets, True)).tolist() == expected


def test_a_full_memory_of_buckets_changes_no_bucket(monkeypatch):
    texts = [f"word {number} of many {number % 5}" for number in range(40)]
    expected = count(texts, Features(compatible=True))
    monkeypatch.setattr(hashed_ngrams, "CACHED_NGRAMS", 8)
    monkeypatch.setattr(hashed_ngrams, "BLOCK_CHARS", 60)
    hashed_ngrams._known_buckets.cache_clear()
    assert np.array_equal(count(texts, Features(compatible=True)), expected)
    assert len(hashed_ngrams._known_buckets(10_000)) <= 60


def test_hashes_spread_evenly_over_buckets_and_do_not_collide():
    texts = [f"w{number}" for number in range(20_000)]
    (block,) = words(texts)
    assert len(set(block.hashes.tolist())) == 20_000
    buckets = bucketed(block, ngrams(block, 1)[0], Features(buckets=100))
    per_bucket = np.bincount(buckets, minlength=100)
    chi_square = ((per_bucket - 200) ** 2 / 200).sum()
    assert 50 < chi_square < 170


def test_order_counts_in_a_pair():
    left, right = mixed(np.array([1, 2], np.uint64)), mixed(np.array([2, 1], np.uint64))
    first, second = joined(left, right).tolist()
    assert first != second


def test_own_buckets_do_not_need_the_text():
    (block,) = words(["a b"])
    grams = Ngrams(1, block.hashes, np.ones(2, bool))
    blind = hashed_ngrams.Words(0, 1, block.hashes, block.rows, "", block.starts, block.stops)
    expected = bucketed(block, grams, Features())
    assert np.array_equal(bucketed(blind, grams, Features()), expected)


def test_memory_does_not_grow_with_the_number_of_texts(monkeypatch):
    monkeypatch.setattr(hashed_ngrams, "BLOCK_CHARS", 20_000)

    def peak(n_texts):
        tracemalloc.start()
        count((f"row {number} of a long corpus " * 8 for number in range(n_texts)), Features())
        _, highest = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return highest

    peak(10)
    assert peak(2000) < 1.2 * peak(400)


counts_of = st.lists(st.integers(0, 50), min_size=5, max_size=5).map(np.array)


@settings(max_examples=50)
@given(counts_of, counts_of, counts_of)
def test_kl_reduction_is_that_of_a_plain_loop(target, corpus, selected):
    def divergence(p, q):
        p_total, q_total = max(p.sum(), 1), max(q.sum(), 1)
        return sum(
            a / p_total * (math.log(a / p_total + 1e-8) - math.log(b / q_total + 1e-8))
            for a, b in zip(p.tolist(), q.tolist(), strict=True)
        )

    expected = divergence(target, corpus) - divergence(target, selected)
    assert kl_reduction(target, corpus, selected) == pytest.approx(expected, abs=1e-9)


def test_kl_reduction_is_positive_for_rows_like_the_target_and_zero_for_the_corpus():
    features = Features(buckets=500)
    target = count(["the patient had a fever", "the fever of the patient"], features)
    corpus = count(["the patient had a fever", "open the socket", "plot the file"], features)
    alike = count(["the patient had a fever"], features)
    assert kl_reduction(target, corpus, alike) > 0
    assert kl_reduction(target, corpus, corpus) == 0
    assert kl_reduction(target, corpus, count(["open the socket"], features)) < 0


def test_kl_reduction_refuses_counts_of_other_buckets():
    with pytest.raises(ValueError, match="one shape; count them with the same Features"):
        kl_reduction(np.ones(3), np.ones(3), np.ones(4))

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from lightadapt_data.vectors import StoredVectors, uniform, unit


def stored(folder, lengths, dim=8, seed=0):
    rng = np.random.default_rng(seed)
    paths = []
    for number, length in enumerate(lengths):
        vectors = rng.normal(size=(length, dim)).astype(np.float16)
        shard = folder / str(number)
        shard.mkdir()
        np.save(shard / "vectors.npy", vectors)
        np.save(shard / "sum.npy", vectors.astype(np.float64).sum(axis=0))
        paths.append(shard / "vectors.npy")
    return StoredVectors(paths)


def test_unit_rows_have_length_one_and_zeros_stay_zero():
    vectors = unit(np.array([[3, 4], [0, 0]], np.float32))
    assert np.allclose(vectors, [[0.6, 0.8], [0, 0]])


def test_blocks_give_all_rows_in_order_whatever_their_size(tmp_path):
    vectors = stored(tmp_path, [5, 1, 7])
    whole = vectors.read()
    for rows in (1, 2, 100):
        starts, blocks = zip(*vectors.blocks(rows), strict=True)
        assert np.array_equal(np.concatenate(blocks), whole)
        assert list(starts) == np.cumsum([0, *map(len, blocks)])[:-1].tolist()


def test_the_mean_does_not_depend_on_the_order_of_shards(tmp_path):
    vectors = stored(tmp_path, [5, 1, 7])
    turned = StoredVectors(vectors.paths[::-1])
    assert np.array_equal(vectors.mean(), turned.mean())
    assert np.allclose(vectors.mean(), vectors.read().mean(axis=0), atol=1e-5)


@given(st.lists(st.integers(0, 2**64 - 1), min_size=1, unique=True), st.integers(0, 1000))
def test_uniform_depends_on_key_and_seed_only(keys, seed):
    draws = uniform(np.array(keys, np.uint64), seed)
    turned = uniform(np.array(keys[::-1], np.uint64), seed)
    assert np.array_equal(draws, turned[::-1])
    assert ((draws >= 0) & (draws < 1)).all()


def test_uniform_is_spread_evenly():
    draws = uniform(np.arange(20_000, dtype=np.uint64), 3)
    counts = np.histogram(draws, bins=10, range=(0, 1))[0]
    assert counts.min() > 1800
    assert counts.max() < 2200

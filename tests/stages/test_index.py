import json

import numpy as np
import pytest

from lightadapt_data.stages import index
from lightadapt_data.vectors import StoredVectors, unit


def exact_neighbours(corpus, queries, k):
    """The twin: sort all inner products."""
    return np.argsort(-(queries @ corpus.T), axis=1, kind="stable")[:, :k]


@pytest.fixture
def stored(tmp_path):
    rng = np.random.default_rng(0)
    paths = []
    for number, length in enumerate((700, 300, 1000)):
        folder = tmp_path / str(number)
        folder.mkdir()
        vectors = unit(rng.normal(size=(length, 16)).astype(np.float32)).astype(np.float16)
        np.save(folder / "vectors.npy", vectors)
        paths.append(folder / "vectors.npy")
    return StoredVectors(paths)


def test_blockwise_neighbours_equal_those_of_the_whole(stored):
    queries = stored.read()[::100]
    found = index.exact_neighbours(stored, queries, 7)
    assert np.array_equal(found, exact_neighbours(stored.read(), queries, 7))


@pytest.mark.parametrize("kind", ["flat", "hnsw", "ivf"])
def test_an_index_scores_by_cosine_and_reaches_the_recall_it_writes_down(stored, kind):
    built = index._built(kind, stored)
    settings = index.Settings(kind=kind, recall=0.9, n_queries=100)
    report = {"recall": 1.0, "effort": None}
    if kind != "flat":
        report = index._tuned(settings, built, kind, stored)
    assert report["recall"] >= 0.9
    index._set_effort(built, kind, report["effort"])
    queries = index._sample(stored, 100)
    scores, places = built.search(queries, 10)
    truth = exact_neighbours(stored.read(), queries, 10)
    hits = [len(set(a) & set(b)) for a, b in zip(places.tolist(), truth.tolist(), strict=True)]
    assert np.isclose(sum(hits) / 1000, report["recall"])
    whole = stored.read()
    expected = (queries[:, None] * whole[places]).sum(axis=2)
    assert np.allclose(scores, expected, atol=1e-3)


@pytest.mark.parametrize(("n_rows", "kind"), [(10, "flat"), (20_001, "hnsw"), (500_001, "ivf")])
def test_the_kind_follows_the_number_of_rows(n_rows, kind):
    assert index._kind(index.Settings(), n_rows) == kind
    assert index._kind(index.Settings(kind="ivf"), n_rows) == "ivf"


def test_a_recall_under_the_target_is_said(cli, corpus, tmp_path, monkeypatch):
    monkeypatch.setattr(index, "_tuned", lambda *args: {"effort": 8, "recall": 0.5, "n_queries": 9})
    words = ("--corpus", corpus, "--set", "embed.method=hashing", "--set", "index.kind=hnsw")
    result = cli("index", *words, "--workers", 1, "--out", tmp_path / "out")
    assert result.code == 0
    assert "recall@10 is 0.500, under the 0.950 asked for" in result.err
    (path,) = (tmp_path / "out").rglob("index.json")
    assert json.loads(path.read_text())["recall"] == 0.5

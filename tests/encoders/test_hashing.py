import numpy as np

from lightadapt_data.encoders.hashing import Settings, fingerprint, load


def test_vectors_are_unit_and_depend_on_the_text_only():
    encoder = load(Settings(dim=32))
    together = encoder.encode(["the mean", "a socket", ""])
    alone = np.concatenate([encoder.encode([text]) for text in ("the mean", "a socket", "")])
    assert np.array_equal(together, alone)
    assert np.allclose(np.linalg.norm(together, axis=1), [1, 1, 0])


def test_common_words_bring_texts_closer():
    vectors = load(Settings()).encode(["sample mean value", "mean of a sample", "open a socket"])
    assert vectors[0] @ vectors[1] > vectors[0] @ vectors[2]


def test_nothing_is_cut_and_nothing_but_the_settings_names_the_output():
    assert load(Settings()).n_cut() == 0
    assert fingerprint(Settings()) == {}

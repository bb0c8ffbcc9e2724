from types import SimpleNamespace

import numpy as np
import pytest

from lightadapt_data import linear_teacher
from lightadapt_data.augmenters import Context, pseudo_label
from lightadapt_data.encoders import language_model
from lightadapt_data.errors import InputError

SETTINGS = pseudo_label.Settings()
PLACES = {"cat": (1.0, 0.0, 0.0), "dog": (0.0, 1.0, 0.0), "emu": (0.0, 0.0, 1.0)}


def encode(texts):
    """Place each text near its animals, moved a little by its number."""
    vectors = []
    for text in texts:
        place = np.sum([PLACES[word] for word in text.split() if word in PLACES] or [[0.0] * 3], 0)
        number = sum(int(word) for word in text.split() if word.isdigit())
        vectors.append(place + 0.2 * np.random.default_rng(number).normal(size=3))
    found = np.array(vectors, np.float32).reshape(-1, 3)
    return found / np.linalg.norm(found, axis=1, keepdims=True)


def labelled(**counts):
    return [
        {"id": f"{animal}-{n}", "text": f"{animal} {n}", "label": animal}
        for animal, count in counts.items()
        for n in range(count)
    ]


def rows(*texts):
    return [{"id": f"row-{n}", "text": text} for n, text in enumerate(texts)]


def label(texts, known, settings=SETTINGS, seed=0):
    return pseudo_label.augment(rows(*texts), settings, Context(seed, known, encode))


def test_rows_get_the_label_of_their_kind_and_keep_their_text():
    texts = ["cat 101", "dog 102", "emu 103"]
    found = label(texts, labelled(cat=20, dog=20, emu=20))
    assert [one.label for one in found] == ["cat", "dog", "emu"]
    assert [one.text for one in found] == texts
    assert all(0 < one.score <= 1 for one in found)


def test_row_between_classes_is_refused_with_the_figures():
    (found,) = label(["cat dog 7"], labelled(cat=20, dog=20, emu=20))
    assert found.refused.startswith(f"p('{found.label}') = 0.")
    assert "below the class's threshold 0." in found.refused


def test_threshold_is_the_mean_out_of_fold_probability_of_the_class():
    known = labelled(cat=12, dog=9)
    key = tuple(sorted((row["id"], row["text"], row["label"]) for row in known))
    teacher = pseudo_label._teacher(key, (), SETTINGS, encode, 0)
    vectors = encode([text for _, text, _ in key]).astype(float)
    names = np.array([name for _, _, name in key])
    every = np.searchsorted(["cat", "dog"], names)
    folds = linear_teacher.folds([row_id for row_id, _, _ in key], every, 5, 0)
    how = linear_teacher.Fit(SETTINGS.inverse_regularisation, vectors[:0])
    own = np.zeros(len(key))
    for fold in range(5):
        inside = folds == fold
        codes = np.searchsorted(["cat", "dog"], names[~inside])
        weights, bias = linear_teacher.fit(vectors[~inside], codes, 2, how)
        logits = (vectors[inside] @ weights.T + bias) / teacher.temperature
        chances = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
        own[inside] = chances[
            np.arange(inside.sum()), np.searchsorted(["cat", "dog"], names[inside])
        ]
    for name in ("cat", "dog"):
        assert teacher.thresholds[name] == pytest.approx(own[names == name].mean(), abs=1e-5)


def test_probabilities_are_calibrated_on_wrong_labels_too():
    known = [
        {**row, "label": "dog" if n % 5 == 0 else row["label"]}
        for n, row in enumerate(labelled(cat=60, dog=60))
    ]
    found = label([f"cat {n}" for n in range(200, 240)], known)
    assert np.mean([one.score for one in found]) == pytest.approx(0.8, abs=0.1)


def test_folds_give_every_class_a_row_outside_each():
    known = labelled(cat=2, dog=7, emu=11)
    names = np.array([row["label"] for row in known])
    codes = np.searchsorted(["cat", "dog", "emu"], names)
    folds = linear_teacher.folds([row["id"] for row in known], codes, 5, 3)
    for fold in np.unique(folds):
        assert set(names[folds != fold]) == {"cat", "dog", "emu"}


def test_result_does_not_depend_on_order_or_neighbours():
    known = labelled(cat=10, dog=10)
    texts = [f"{animal} {n}" for n in range(300, 310) for animal in ("cat", "dog", "cat dog")]
    together = label(texts, known)
    backwards = label(texts, known[::-1])
    assert together == backwards
    for number, text in enumerate(texts):
        (alone,) = label([text], known)
        assert (alone.label, alone.score, alone.refused) == (
            together[number].label,
            together[number].score,
            together[number].refused,
        )


def test_two_rows_of_each_class_are_enough():
    found = label(["cat 50", "dog 51"], labelled(cat=2, dog=2))
    assert [one.label for one in found] == ["cat", "dog"]


def test_class_with_one_row_is_never_given():
    found = label([f"emu {n}" for n in range(60, 70)], labelled(cat=20, dog=20, emu=1))
    given = [one for one in found if one.label == "emu"]
    assert given
    for one in given:
        assert one.refused == "'emu' has 1 labelled row; 2 are needed to measure its threshold"


@pytest.mark.parametrize(
    ("known", "said"),
    [
        ([], "0 labels have two or more labelled training rows (no labelled rows)"),
        (labelled(cat=5), "1 labels have two or more labelled training rows ('cat': 5)"),
        (
            labelled(cat=1, dog=1),
            "0 labels have two or more labelled training rows ('cat': 1, 'dog': 1)",
        ),
    ],
)
def test_too_few_labelled_rows_are_an_input_error(known, said):
    with pytest.raises(InputError) as caught:
        label(["cat 1"], known)
    assert said in str(caught.value)
    assert "label more rows" in str(caught.value)


def test_odd_rows_never_crash():
    odd = ["", "word", "a" * 50_000, "😀😀", "مرحبا", "f(x)[0]"]
    assert len(label(odd, labelled(cat=5, dog=5))) == len(odd)
    assert label([], labelled(cat=5, dog=5)) == []


def test_teacher_is_fitted_once_for_all_shards():
    calls = []

    def counting(texts):
        calls.append(len(texts))
        return encode(texts)

    known = labelled(cat=5, dog=5)
    for text in ("cat 1", "dog 2"):
        pseudo_label.augment(rows(text), SETTINGS, Context(0, known, counting))
    assert calls == [10, 1, 1]


def two_clouds(n, seed):
    """Return points of two clouds on a line, far in the first coordinate only, and their labels."""
    rng = np.random.default_rng(seed)
    codes = rng.integers(0, 2, n)
    points = rng.normal(size=(n, 40))
    points[:, 0] += codes * 6 - 3
    return points, codes


def test_self_training_learns_from_rows_without_labels():
    points, codes = two_clouds(400, 1)
    few = np.r_[np.flatnonzero(codes == 0)[:2], np.flatnonzero(codes == 1)[:2]]
    right = {}
    for rounds in (0, 6):
        how = linear_teacher.Fit(10.0, points, rounds)
        weights, bias = linear_teacher.fit(points[few], codes[few], 2, how)
        right[rounds] = ((points @ weights.T + bias).argmax(axis=1) == codes).mean()
    assert right[6] > right[0] + 0.02


def test_self_training_reads_the_selected_texts_and_changes_nothing_without_them():
    known = labelled(cat=10, dog=10)
    settings = pseudo_label.Settings(self_training=3)
    rows = [{"id": "x", "text": "cat 3 dog"}]
    plain = pseudo_label.augment(rows, settings, Context(0, known, encode))
    assert plain == pseudo_label.augment(rows, SETTINGS, Context(0, known, encode))
    texts = [f"{animal} {n}" for n in range(40) for animal in ("cat", "dog")]
    (taught,) = pseudo_label.augment(rows, settings, Context(0, known, encode, texts))
    assert taught.score != plain[0].score


def test_a_language_model_is_asked_beside_the_encoder(monkeypatch):
    asked = []

    def load(settings):
        asked.append(settings)
        return SimpleNamespace(encode=encode)

    monkeypatch.setattr(language_model, "load", load)
    settings = pseudo_label.Settings(language_model="any", template="Q: {text} A:")
    known = labelled(cat=10, dog=10)
    rows = [{"id": "x", "text": "cat 3"}]
    (found,) = pseudo_label.augment(rows, settings, Context(0, known, encode))
    assert found.label == "cat"
    assert (asked[0].model, asked[0].template) == ("any", "Q: {text} A:")
    assert (asked[0].pooling, asked[0].layers) == ("last", 0.75)


def test_a_language_model_that_is_not_there_is_said_before_any_work():
    settings = pseudo_label.Settings(language_model="no-such-model")
    with pytest.raises(InputError, match="no-such-model"):
        pseudo_label.reads(settings)
    assert pseudo_label.reads(pseudo_label.Settings()) == {}

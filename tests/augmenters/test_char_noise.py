import json
import os
import random
import re
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lightadapt_data.augmenters import Context, char_noise

CONTEXT = Context(0, (), None)
ALL = char_noise.Settings(share_of_rows=1)
OCR = char_noise.Settings(share_of_rows=1, kind="ocr", share_of_words=0.5)
TEXT = "  Patients  don't take $3.50 pills at 10:30; see https://a.b/c?d=e (forty times).\n"


def rows(*texts):
    return [{"id": f"row-{n}", "text": text, "label": "x"} for n, text in enumerate(texts)]


def noisy(text, options=ALL, seed=0):
    (found,) = char_noise.augment(rows(text), options, Context(seed, (), None))
    return found.text


@pytest.mark.parametrize("options", [ALL, OCR])
def test_protected_parts_and_spacing_survive(options):
    for seed in range(30):
        text = noisy(TEXT, options, seed)
        for part in ("don't", "$3.50", "10:30;", "https://a.b/c?d=e", "(forty times)"):
            assert part in text
        assert re.findall(r"\s+", text) == re.findall(r"\s+", TEXT)
        assert text != TEXT


def test_few_characters_change():
    text = "several ordinary words make this sentence long enough for counting changes " * 4
    found = noisy(text)
    n_words = sum(a != b for a, b in zip(text.split(), found.split(), strict=True))
    n_characters = sum(a != b for a, b in zip(text, found, strict=True))
    assert 1 <= n_words <= round(0.15 * len(text.split())) + 1
    assert n_characters <= 2 * n_words


def test_short_words_stay():
    found = char_noise.augment(rows("we do it at sea"), ALL, CONTEXT)
    assert found[0].refused == "no word that may be changed"


def test_replicas_differ_and_rows_are_independent():
    texts = [f"ordinary sentence about different subjects number {n}" for n in range(6)]
    options = char_noise.Settings(share_of_rows=1, replicas=3)
    together = char_noise.augment(rows(*texts), options, CONTEXT)
    assert len({one.text for one in together}) > 12
    backwards = char_noise.augment(rows(*texts)[::-1], options, CONTEXT)
    assert sorted(together, key=str) == sorted(backwards, key=str)
    assert [one.replica for one in together[:3]] == [0, 1, 2]


def test_share_of_rows_is_kept_and_chosen_by_id():
    many = rows(*["ordinary sentence"] * 2000)
    found = char_noise.augment(many, char_noise.Settings(), CONTEXT)
    assert 140 < len(found) < 260
    chosen = {one.parent_id for one in found}
    half = {
        one.parent_id for one in char_noise.augment(many[1000:], char_noise.Settings(), CONTEXT)
    }
    assert half == {name for name in chosen if int(name[4:]) >= 1000}


def test_generators_of_the_process_are_left_as_they_were():
    random.seed(1)
    np.random.seed(1)  # noqa: NPY002
    expected = random.random(), np.random.random()  # noqa: NPY002
    random.seed(1)
    np.random.seed(1)  # noqa: NPY002
    noisy(TEXT)
    assert (random.random(), np.random.random()) == expected  # noqa: NPY002


def test_result_does_not_depend_on_the_hash_seed():
    code = (
        "import json; from lightadapt_data.augmenters import Context, char_noise as c;"
        f"r = [{{'id': str(n), 'text': {TEXT!r}, 'label': 'x'}} for n in range(20)];"
        "s = [c.Settings(share_of_rows=1, kind=k) for k in ('keyboard', 'ocr')];"
        "print(json.dumps([o.text for x in s for o in c.augment(r, x, Context(0, (), None))]))"
    )
    here = os.environ.get("PYTHONHASHSEED", "")
    environment = {**os.environ, "PYTHONHASHSEED": "1" if here != "1" else "2"}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment
    )
    many = [{"id": str(n), "text": TEXT, "label": "x"} for n in range(20)]
    own = [
        one.text
        for kind in ("keyboard", "ocr")
        for one in char_noise.augment(
            many, char_noise.Settings(share_of_rows=1, kind=kind), CONTEXT
        )
    ]
    assert json.loads(done.stdout) == own


def test_noise_never_makes_a_number_word(monkeypatch):
    class Toy:
        def augment(self, text, n):
            return [text.replace("mine", "nine")]

    monkeypatch.setattr(char_noise, "_engine", lambda *options: Toy())
    assert noisy("the mine is deep") == "the mine is deep"


@settings(max_examples=60, deadline=None)
@given(st.text(max_size=80))
def test_any_text_gives_text_of_the_same_length(text):
    assert len(noisy(text)) == len(text)


def test_odd_rows_never_crash():
    odd = [
        "",
        "word",
        "a" * 50_000,
        "word " * 10_000,
        "😀😀",
        "مرحبا بالعالم",
        "for i in x: f(i)\n",
        "\x00",
    ]
    for options in (ALL, OCR):
        found = char_noise.augment(rows(*odd), options, CONTEXT)
        assert len(found) == len(odd)
    assert char_noise.augment([], ALL, CONTEXT) == []

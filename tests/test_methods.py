import pytest

from lightadapt_data import methods
from lightadapt_data.errors import RecipeError


def test_the_names_of_a_family_are_its_files():
    assert {"nearest", "random", "balanced_random"} <= set(methods.names("selectors"))


def test_an_unknown_method_names_the_allowed_ones_and_the_nearest():
    with pytest.raises(
        RecipeError, match=r"no method 'nearst' in selectors; .*did you mean 'nearest'"
    ):
        methods.load("selectors", "nearst")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"kk": 3}, r"\[nearest\] unknown key 'kk'; allowed: aggregate, centred, k"),
        ({"k": 0}, r"\[nearest\] k = 0: .*greater than or equal to 1"),
        ({"k": "many"}, r"\[nearest\] k = 'many'"),
    ],
)
def test_a_wrong_option_is_named_with_its_method(options, message):
    with pytest.raises(RecipeError, match=message):
        methods.settings("selectors", "nearest", options)


def test_a_method_added_as_one_file_is_found(tmp_path, monkeypatch):
    import lightadapt_data.selectors as family

    (tmp_path / "shortest.py").write_text(SHORTEST)
    monkeypatch.setattr(family, "__path__", [*family.__path__, str(tmp_path)])
    assert "shortest" in methods.names("selectors")
    assert methods.settings("selectors", "shortest", {}).key_fields() == {}


SHORTEST = '''"""shortest: rows with few tokens first.

Source: none, a test
"""

import numpy as np

from lightadapt_data.config import Config
from lightadapt_data.selectors import Scores

NEEDS_TARGET = False


class Settings(Config):
    """No settings."""


def score(corpus, target, settings, seed):
    """Return minus the number of tokens."""
    return Scores(-corpus.tokens.astype(np.float32), np.full(corpus.n_rows, -1, np.int32))
'''


def test_a_selector_added_as_one_file_selects(tmp_path, monkeypatch, cli, select_words):
    import lightadapt_data.selectors as family

    (tmp_path / "shortest.py").write_text(SHORTEST)
    monkeypatch.setattr(family, "__path__", [*family.__path__, str(tmp_path)])
    result = cli(*select_words, "--method", "shortest", "--json")
    assert result.code == 0, result.err
    assert result.json()["stages"][2]["rows_out"] == 10

import ast

import pytest

from lightadapt_data.readers import BadRow, Source
from lightadapt_data.readers.docstrings import Settings, prose, read, sources


@pytest.mark.parametrize(
    ("docstring", "text"),
    [
        ("Return the mean.\n\n    Args:\n        x: numbers.", "Return the mean."),
        ("Return the mean.\n\nParameters\n----------\nx : array", "Return the mean."),
        ("Use :func:`~a.mean` or ``sum``, **max**.", "Use a.mean or sum, max."),
        ("Mean.\n\n>>> mean([1])\n1", "Mean."),
        ("One two. Three four five. Six", "One two. Three four five."),
    ],
)
def test_prose_is_what_stands_before_the_first_section(docstring, text):
    assert prose(docstring, max_words=5) == text


def source(path, **extra):
    extra = {"package": "pack", "piece": 0, "n_pieces": 1, **extra}
    return Source("pack#0", path, 1, extra=extra)


def test_rows_come_from_public_definitions_without_importing(tmp_path):
    (tmp_path / "mod.py").write_text(
        '"""A module that raises when it is imported, and so must never be."""\n'
        "raise RuntimeError\n"
        'def public():\n    """Compute the arithmetic mean of a list of numbers."""\n'
        'def _private():\n    """Nobody should see this sentence in any row at all."""\n'
    )
    rows = list(read(source(tmp_path), Settings(min_words=5)))
    assert [row["object"] for row in rows] == ["mod", "mod.public"]
    assert {row["source"] for row in rows} == {"pack/mod"}


def test_a_file_that_does_not_parse_is_a_bad_row(tmp_path):
    (tmp_path / "bad.py").write_text("def (:\n")
    (row,) = read(source(tmp_path), Settings())
    assert isinstance(row, BadRow)
    assert row.reason.startswith("SyntaxError")


def test_pieces_of_a_package_share_its_files_out_without_loss(tmp_path):
    for number in range(20):
        text = ast.unparse(ast.Expr(ast.Constant("word " * 20 + str(number))))
        (tmp_path / f"m{number}.py").write_text(text)
    pieces = [source(tmp_path, piece=piece, n_pieces=3) for piece in range(3)]
    found = [row["object"] for piece in pieces for row in read(piece, Settings())]
    assert sorted(found) == sorted(f"m{number}" for number in range(20))


def test_the_environment_itself_is_found():
    names = [found.name for found in sources(["numpy", "stdlib"], Settings())]
    assert "numpy#0" in names
    assert "stdlib#0" in names
    assert len(names) == len(set(names))

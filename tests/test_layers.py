"""The shape of the package: names, sizes, one test per module."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
MODULES = sorted((ROOT / "lightadapt_data").rglob("*.py")) + sorted((ROOT / "flows").rglob("*.py"))
MOST_LINES = 320
MOST_FUNCTION_LINES = 55


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_modules_and_functions_stay_small_and_have_telling_names(path):
    assert path.stem not in {"utils", "common", "helpers", "base", "misc"}
    text = path.read_text("utf-8")
    assert len(text.splitlines()) <= MOST_LINES
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef):
            lines = node.end_lineno - node.lineno + 1
            assert lines <= MOST_FUNCTION_LINES, f"{node.name} has {lines} lines"


def test_no_file_of_the_repository_is_large():
    kept = [path for path in ROOT.rglob("*") if path.is_file()]
    skipped = {".venv", ".git", "runs", ".mypy_cache", ".ruff_cache", ".hypothesis", "build"}
    large = [
        p for p in kept if not skipped & set(p.relative_to(ROOT).parts) and p.stat().st_size > 1e6
    ]
    assert large == []

"""The README's commands run, and what it names exists."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from lightadapt_data import methods, stages

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text("utf-8")
COMMANDS = re.findall(r"^\$ (python -m lightadapt_data .*)$", README, re.MULTILINE)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("a folder with spaces")
    (path / "pipelines").symlink_to(ROOT / "pipelines")
    return path


def test_commands_were_found():
    verbs = {shlex.split(command)[3] for command in COMMANDS}
    assert {"select", "explain", "index", "search", "check", "plan"} <= verbs


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_runs_as_it_stands(folder, command):
    words = [sys.executable, *shlex.split(command)[1:]]
    done = subprocess.run(words, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_every_stage_and_family_is_named():
    for name in stages.STAGES:
        assert f"`{name}`" in README
    families = [path.name for path in (ROOT / "lightadapt_data").iterdir() if path.is_dir()]
    for family in set(families) - {
        "__pycache__",
        "stages",
        "engines",
        "networks",
        "reporting",
        "testing",
    }:
        assert f"`{family}/`" in README, family
        for name in methods.names(family):
            assert f"`{name}`" in README, f"{family}/{name}"


def test_the_method_that_readme_adds_works(tmp_path, monkeypatch, cli, select_words):
    import lightadapt_data.selectors as family

    (code,) = re.findall(r"```python\n(\"\"\"longest: .*?)```", README, re.DOTALL)
    (tmp_path / "longest.py").write_text(code, "utf-8")
    monkeypatch.setattr(family, "__path__", [*family.__path__, str(tmp_path)])
    result = cli(*select_words, "--method", "longest")
    assert result.code == 0, result.err

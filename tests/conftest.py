"""Fixtures: a tiny corpus, a target, labelled rows, and the command line in this process."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import hypothesis
import pytest
from toys import text, write_jsonl

from lightadapt_data.cli import main

pytest_plugins = ["finished_runs"]

# Times are no part of a claim, and a failure must come back on the next run.
hypothesis.settings.register_profile("tests", deadline=None, derandomize=True, max_examples=50)
hypothesis.settings.load_profile("tests")


def pytest_addoption(parser):
    parser.addoption("--slow", action="store_true", help="run slow and benchmark-data tests too")


def pytest_collection_modifyitems(config, items):
    if config.getoption("--slow"):
        return
    for item in items:
        for mark in ("slow", "shared"):
            if item.get_closest_marker(mark):
                item.add_marker(pytest.mark.skip(reason=f"marked {mark}: run with --slow"))


@dataclass(frozen=True)
class Result:
    """What a command left behind."""

    code: int
    out: str
    err: str

    def json(self):
        return json.loads(self.out)


@pytest.fixture
def cli(capsys) -> Callable[..., Result]:
    """Run the command line in this process."""

    def run(*words: object) -> Result:
        capsys.readouterr()
        try:
            code = main([str(word) for word in words])
        except SystemExit as stop:
            code = int(stop.code or 0)
        captured = capsys.readouterr()
        return Result(code, captured.out, captured.err)

    return run


@pytest.fixture
def corpus(tmp_path) -> Path:
    """A folder with three files of 40 rows each, with ids and a column of the user's."""
    folder = tmp_path / "corpus"
    for number in range(3):
        rows = [
            {"id": f"{number}-{i}", "text": text(100 * number + i), "topic": f"t{i % 4}"}
            for i in range(40)
        ]
        write_jsonl(folder / f"part-{number}.jsonl", rows)
    return folder


@pytest.fixture
def target(tmp_path) -> Path:
    path = tmp_path / "target.txt"
    path.write_text("the mean and the variance of a sample\nthe sample variance\n", "utf-8")
    return path


@pytest.fixture
def select_words(corpus, target, tmp_path) -> list[str]:
    """A select command on the tiny corpus that needs no model."""
    return [
        "select",
        *("--corpus", str(corpus), "--target", str(target), "--keep", "10"),
        *("--set", "embed.method=hashing", "--workers", "1", "--out", str(tmp_path / "out")),
    ]

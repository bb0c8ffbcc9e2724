"""docstrings: the documentation of this Python environment, read from source and never imported.

A row is the prose of one docstring of a module, public class or public function: the text before
its first section of parameters, results or examples.

Source: PEP 257 (what a docstring is); section names of the numpydoc and Google styles
"""

from __future__ import annotations

import ast
import csv
import inspect
import re
import sys
import sysconfig
import warnings
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from pydantic import Field

from lightadapt_data.config import Config
from lightadapt_data.readers import BadRow, Source
from lightadapt_data.shards import file_digest

SECTION = re.compile(
    r"^\s*(?:>>>|\.\. |:param|:return|@param|```|(?:args?|arguments|parameters?|params|returns?|"
    r"yields?|raises|examples?|attributes|usage|notes?|see also|references|keyword args|"
    r"shape|inputs?|outputs?|methods|warnings?|references):?\s*$)",
    re.IGNORECASE | re.MULTILINE,
)
MARKUP = re.compile(r":[a-z:]+:`~?([^`<]+?)(?:\s*<[^>]*>)?`|`{1,2}~?([^`]+)`{1,2}|\*\*([^*]+)\*\*")
FIELD_LIST = re.compile(r"^\w+ ?\(|^\w+ ?:")
"""Prose that begins like a list of parameters is none."""
SKIPPED_FOLDERS = frozenset(
    {"test", "tests", "testing", "_vendor", "vendor", "idlelib", "lib2to3", "site-packages", ".."}
)
PIECE_BYTES = 40_000
"""Bytes of RECORD that make one piece [bytes]."""


class Settings(Config):
    """Settings of the docstrings reader."""

    min_words: int = Field(default=14, ge=1)
    """Shorter docstrings are left out [words]."""
    max_words: int = Field(default=45, ge=1)
    """Longer prose is cut after the last sentence that fits [words]."""
    max_per_module: int = Field(default=3, ge=1)
    """Rows taken from one file at most, in the order of the file [rows]."""
    max_file_bytes: int = Field(default=50_000, ge=1)
    """Larger files are left out: mostly code, and parsing them is most of the time [bytes]."""


def sources(paths: Sequence[str], settings: Settings) -> list[Source]:
    """Return every installed package and the standard library, large ones in several pieces.

    A piece is named by the package's RECORD, which holds the hash of each of its files, so that
    nothing else has to be opened to know whether a package has changed.

    Args:
        paths: packages to read ("numpy", "stdlib"); empty reads all.
        settings: not used here.
    """
    wanted = {Path(path).name.lower().replace("-", "_") for path in paths}
    found: list[Source] = []
    for folder in dict.fromkeys((sysconfig.get_path("purelib"), sysconfig.get_path("platlib"))):
        for record in sorted(Path(folder).glob("*.dist-info/RECORD")):
            package = record.parent.name.split("-")[0].lower()
            if not wanted or package in wanted:
                found += _pieces(package, record, record.stat().st_size, file_digest(record))
    if not wanted or "stdlib" in wanted:
        version = ".".join(str(part) for part in sys.version_info[:3])
        found += _pieces("stdlib", Path(sysconfig.get_path("stdlib")), 160_000, version)
    return found


def read(source: Source, settings: Settings) -> Iterator[dict[str, Any] | BadRow]:
    """Yield the rows of one piece of a package."""
    for path, relative in _files(source, settings.max_file_bytes):
        try:
            data = path.read_bytes()
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # invalid escapes in other people's code
                tree = ast.parse(data)
        except (OSError, SyntaxError, ValueError, RecursionError) as error:
            yield BadRow(relative, f"{type(error).__name__}: {error}", "")
            continue
        yield from _rows(tree, source.extra["package"], relative, settings)


def _rows(
    tree: ast.Module, package: str, relative: str, settings: Settings
) -> Iterator[dict[str, Any]]:
    module = relative.removesuffix(".py").removesuffix("/__init__").replace("/", ".")
    n_rows = 0
    for name, docstring in _docstrings(tree):
        text = prose(docstring, settings.max_words)
        if len(text.split()) < settings.min_words or FIELD_LIST.match(text):
            continue
        yield {
            "text": text,
            "source": f"{package}/{module}",
            "package": package,
            "object": f"{module}.{name}" if name else module,
        }
        n_rows += 1
        if n_rows == settings.max_per_module:
            return


def prose(docstring: str, max_words: int) -> str:
    """Return a docstring's sentences before its first section, on one line, markup removed."""
    text = inspect.cleandoc(docstring)
    section = SECTION.search(text)
    text = text[: section.start()] if section else text
    # numpydoc underlines its titles; whatever stands above such a line is a title too.
    text = re.split(r"^.*\n\s*[-=~^]{3,}\s*$", text, maxsplit=1, flags=re.MULTILINE)[0]
    text = MARKUP.sub(lambda match: next(group for group in match.groups() if group), text)
    words = text.split()
    if len(words) <= max_words:
        return " ".join(words)
    cut = " ".join(words[:max_words])
    end = max(f"{cut} ".rfind(mark) for mark in (". ", "? ", "! "))
    return cut[: end + 1] if end > 0 else cut


def _docstrings(tree: ast.Module) -> Iterator[tuple[str, str]]:
    """Yield (name, docstring) of the module and of its public classes and functions."""
    text = ast.get_docstring(tree, clean=False)
    if text:
        yield "", text
    for node in tree.body:
        if not isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        if node.name.startswith("_"):
            continue
        text = ast.get_docstring(node, clean=False)
        if text:
            yield node.name, text


def _pieces(package: str, path: Path, record_bytes: int, signature: str) -> Iterator[Source]:
    """Yield a package as one source or several; a file's piece depends on its name alone."""
    n_pieces = 1 + record_bytes // PIECE_BYTES
    for piece in range(n_pieces):
        extra = {"package": package, "piece": piece, "n_pieces": n_pieces}
        # A line of RECORD is about 100 bytes and names a file of about 10 kB.
        size = 100 * record_bytes // n_pieces
        yield Source(f"{package}#{piece}", path, size, signature, extra)


def _files(source: Source, max_bytes: int) -> Iterator[tuple[Path, str]]:
    """Yield (path, name within the package's root) of the Python files of a piece, sorted."""
    if source.path.is_dir():
        root = source.path
        names = [path.relative_to(root).as_posix() for path in root.rglob("*.py")]
    else:
        root = source.path.parent.parent
        with source.path.open(encoding="utf-8", newline="") as file:
            names = [row[0] for row in csv.reader(file) if len(row) == 3]
    for name in sorted(names):
        piece = zlib.crc32(name.encode()) % source.extra["n_pieces"]
        if piece == source.extra["piece"] and _is_wanted(name):
            path = root / name
            if path.exists() and path.stat().st_size <= max_bytes:
                yield path, name


def _is_wanted(name: str) -> bool:
    *folders, file = name.split("/")
    return (
        file.endswith(".py")
        and not file.startswith(("test_", "conftest"))
        and not SKIPPED_FOLDERS.intersection(folders)
        and not any(folder.endswith((".data", ".dist-info")) for folder in folders)
    )

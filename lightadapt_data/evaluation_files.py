"""evaluation_files: the texts of evaluation files, which no training row may repeat."""

from __future__ import annotations

import csv
import gzip
import io
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from lightadapt_data.errors import InputError

SUFFIXES = (".jsonl", ".ndjson", ".csv", ".txt", ".parquet")


class Passage(NamedTuple):
    """One text of an evaluation file."""

    file: str
    row: int
    """Counted from 1; in .jsonl and .txt the line."""
    column: str
    text: str

    @property
    def name(self) -> str:
        """What a person calls its row."""
        return f"{self.file} row {self.row}"


def existing(given: str) -> Path:
    """Return the path of an evaluation file.

    Raises:
        InputError: there is no such file, or its kind is unknown.
    """
    path = Path(given)
    if not path.is_file():
        raise InputError(
            f"{path}: no such evaluation file; correct contamination.files or leave it out"
        )
    if _kind(path) not in SUFFIXES:
        raise InputError(
            f"{path}: unknown kind of evaluation file; allowed: {', '.join(SUFFIXES)}, "
            "all but .parquet also with .gz; convert it or leave it out of contamination.files"
        )
    return path


def passages(given: str, columns: Sequence[str]) -> list[Passage]:
    """Return the texts in the columns of an evaluation file, in its order.

    A column "answers.text" leads into a nested one, and lists give all their texts. A file with
    none of the columns is refused: it would compare nothing and look clean.

    Raises:
        InputError: the file is missing, broken, or holds no text in any of the columns.
    """
    path = existing(given)
    found: list[Passage] = []
    names: dict[str, None] = {}
    try:
        for number, row in _rows(path):
            names |= dict.fromkeys(row)
            for column in columns:
                texts = dict.fromkeys(_texts(row, column))
                found += [Passage(path.name, number, column, text) for text in texts]
    except (OSError, EOFError, ValueError, csv.Error) as error:
        # pyarrow's and orjson's errors are ValueErrors and OSErrors.
        reason = str(error).partition("\n")[0][:200]
        raise InputError(
            f"{path}: breaks off or is not what its name says ({reason}); fetch or write the "
            "file again, or leave it out of contamination.files"
        ) from None
    if not found:
        there = ", ".join(map(str, names)) or "none"
        raise InputError(
            f"{path}: no text in the columns {', '.join(columns)}; it has {there}; "
            "name those to compare in contamination.columns"
        )
    return found


def _kind(path: Path) -> str:
    name = path.name.lower()
    return "" if name.endswith(".parquet.gz") else Path(name.removesuffix(".gz")).suffix


def _rows(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield the number and the columns of each row."""
    if _kind(path) == ".parquet":
        yield from enumerate(_parquet_rows(path), start=1)
        return
    with gzip.open(path) if path.suffix.lower() == ".gz" else path.open("rb") as file:
        if _kind(path) == ".csv":
            csv.field_size_limit(1 << 30)
            text = io.TextIOWrapper(file, "utf-8-sig", newline="")
            yield from enumerate(csv.DictReader(text, strict=True), start=1)
        elif _kind(path) == ".txt":
            lines = io.TextIOWrapper(file, "utf-8-sig")
            yield from (
                (number, {"text": line.strip()}) for number, line in enumerate(lines, start=1)
            )
        else:
            yield from _json_rows(file)


def _parquet_rows(path: Path) -> Iterator[dict[str, Any]]:
    import pyarrow.parquet as pq

    with pq.ParquetFile(path) as table:
        for batch in table.iter_batches(4096):
            yield from batch.to_pylist()


def _json_rows(file: Any) -> Iterator[tuple[int, dict[str, Any]]]:
    import orjson

    for number, line in enumerate(file, start=1):
        if not line.strip():
            continue
        row = orjson.loads(line)
        if not isinstance(row, dict):
            raise ValueError(f"line {number} is no JSON object")
        yield number, row


def _texts(value: Any, column: str) -> Iterator[str]:
    """Yield the texts of a column, which may be nested and may hold lists."""
    if isinstance(value, list):
        for item in value:
            yield from _texts(item, column)
    elif isinstance(value, dict):
        head, _, rest = (column, "", "") if column in value else column.partition(".")
        yield from _texts(value.get(head), rest) if head else ()
    elif isinstance(value, str) and not column and value.strip():
        yield value

"""files: Parquet, JSON lines (plain, .gz, .zst), CSV and text; a file, a folder or a glob.

Source: https://jsonlines.org and RFC 4180 for what a row is; `.txt` holds one row per line
"""

from __future__ import annotations

import csv
import glob
import io
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, Any, cast

from pydantic import Field

from lightadapt_data.config import Config
from lightadapt_data.errors import InputError
from lightadapt_data.readers import BadRow, Source

SUFFIXES = (".parquet", ".jsonl", ".ndjson", ".csv", ".txt")
COMPRESSIONS = (".gz", ".zst")


class Settings(Config):
    """Settings of the files reader."""

    txt_rows: str = Field(default="line", pattern="^(line|paragraph|file)$")
    """What a row of a .txt file is: "line", "paragraph" or "file"."""


def sources(paths: Sequence[str], settings: Settings) -> list[Source]:
    """Return the files that the paths name, in a stable order.

    Raises:
        InputError: a path names nothing, or a file of an unknown kind.
    """
    found: list[Source] = []
    for given in paths:
        root = Path(given)
        if root.is_dir():
            files = [path for path in sorted(root.rglob("*")) if _kind(path) and path.is_file()]
            base = root
        elif root.is_file():
            files, base = [root], root.parent
        else:
            files = [Path(path) for path in sorted(glob.glob(given, recursive=True))]
            files = [path for path in files if path.is_file()]
            base = Path(given[: given.rfind("/", 0, _first_wildcard(given)) + 1])
        if not files:
            kinds = ", ".join(SUFFIXES)
            raise InputError(
                f"{given}: no such file, or a folder or glob without {kinds} "
                f"(the text kinds also as {', '.join(COMPRESSIONS)}); check the path"
            )
        for path in files:
            if not _kind(path):
                raise InputError(
                    f"{path}: unknown kind of file; allowed: {', '.join(SUFFIXES)}, "
                    f"the text kinds also with {' or '.join(COMPRESSIONS)}"
                )
            name = path.relative_to(base).as_posix() if path.is_relative_to(base) else path.name
            found.append(Source(name, path, path.stat().st_size))
    return found


def read(source: Source, settings: Settings) -> Iterator[dict[str, Any] | BadRow]:
    """Yield the rows of one file, or what is wrong with a row.

    Raises:
        InputError: the file cannot be opened, or breaks off in the middle.
    """
    readers = {".parquet": _read_parquet, ".jsonl": _read_jsonl, ".ndjson": _read_jsonl}
    readers |= {".csv": _read_csv}
    kind = _kind(source.path)
    if kind == ".txt":
        return _guarded(source.path, _read_txt(source.path, settings.txt_rows))
    return _guarded(source.path, readers[kind](source.path))


def _first_wildcard(pattern: str) -> int:
    return min((pattern.index(mark) for mark in "*?[" if mark in pattern), default=len(pattern))


def _kind(path: Path) -> str:
    """Return the suffix that decides how the file is read; empty when it is unknown."""
    suffixes = [suffix.lower() for suffix in path.suffixes]
    if suffixes and suffixes[-1] in COMPRESSIONS:
        suffixes.pop()
        if suffixes and suffixes[-1] == ".parquet":
            return ""
    return suffixes[-1] if suffixes and suffixes[-1] in SUFFIXES else ""


def _guarded(
    path: Path, rows: Iterator[dict[str, Any] | BadRow]
) -> Iterator[dict[str, Any] | BadRow]:
    """Yield the rows; turn every way in which a file can be broken into one clear error."""
    n_rows = 0
    try:
        for row in rows:
            n_rows += 1
            yield row
    except PermissionError:
        raise InputError(f"{path}: no permission to read; chmod it or run as its owner") from None
    except (OSError, EOFError, ValueError) as error:
        # pyarrow's errors are ValueErrors and OSErrors: bad magic bytes, truncated streams.
        reason = str(error).splitlines()[0][:200] if str(error) else type(error).__name__
        raise InputError(
            f"{path}: breaks off or is not what its name says, after {n_rows:,} rows ({reason}); "
            "fetch or write the file again, or leave it out"
        ) from None


def _open(path: Path) -> IO[bytes]:
    """Return the decompressed bytes as a stream."""
    if path.suffix.lower() == ".gz":
        import gzip

        return cast("IO[bytes]", gzip.open(path, "rb"))
    if path.suffix.lower() == ".zst":
        import pyarrow as pa

        stream = pa.CompressedInputStream(pa.OSFile(str(path), "rb"), "zstd")
        return cast("IO[bytes]", io.BufferedReader(stream, 1 << 20))
    return path.open("rb")


def _read_parquet(path: Path) -> Iterator[dict[str, Any] | BadRow]:
    import pyarrow.parquet as pq

    with pq.ParquetFile(path) as file:
        for batch in file.iter_batches(4096):
            yield from batch.to_pylist()


def _read_jsonl(path: Path) -> Iterator[dict[str, Any] | BadRow]:
    import orjson

    with _open(path) as file:
        for number, line in enumerate(file, start=1):
            if not line.strip():
                continue
            try:
                row = orjson.loads(line)
            except orjson.JSONDecodeError as error:
                reason = _utf8_fault(line) or f"not JSON: {error}"
                yield BadRow(str(number), reason, _shown(line))
                continue
            if isinstance(row, dict):
                yield row
            else:
                yield BadRow(str(number), "a JSON value that is no object", _shown(line))


def _read_csv(path: Path) -> Iterator[dict[str, Any] | BadRow]:
    csv.field_size_limit(1 << 30)
    with _open(path) as file:
        text = io.TextIOWrapper(file, "utf-8-sig", errors="surrogateescape", newline="")
        reader = csv.reader(text, strict=True)
        header = next(reader, None)
        if header is None:
            return
        while True:
            try:
                cells = next(reader)
            except StopIteration:
                return
            except csv.Error as error:
                yield BadRow(str(reader.line_num), f"not CSV: {error}", "")
                continue
            yield from _csv_row(header, cells, str(reader.line_num))


def _csv_row(header: list[str], cells: list[str], where: str) -> Iterator[dict[str, Any] | BadRow]:
    raw = ",".join(cells)
    if not cells:
        return
    if len(cells) != len(header):
        reason = f"{len(cells)} cells, but the header names {len(header)} columns"
        yield BadRow(where, reason, _printable(raw))
    elif any("\udc80" <= char <= "\udcff" for char in raw):
        yield BadRow(where, "not UTF-8", _printable(raw))
    else:
        yield dict(zip(header, cells, strict=True))


def _read_txt(path: Path, rows: str) -> Iterator[dict[str, Any] | BadRow]:
    with _open(path) as file:
        for number, block in _blocks(file, rows):
            fault = _utf8_fault(block)
            if fault:
                yield BadRow(str(number), fault, _shown(block))
            elif block.strip():
                yield {"text": block.decode("utf-8").removeprefix("\ufeff").strip()}


def _blocks(file: IO[bytes], rows: str) -> Iterator[tuple[int, bytes]]:
    """Yield (number of the first line, bytes) of each row of a text file."""
    if rows == "file":
        yield 1, file.read()
        return
    block, first = b"", 1
    for number, line in enumerate(file, start=1):
        if rows == "line":
            yield number, line
        elif line.strip():
            first = number if not block else first
            block += line
        elif block:
            yield first, block
            block = b""
    if block:
        yield first, block


def _utf8_fault(data: bytes) -> str:
    try:
        data.decode("utf-8")
    except UnicodeDecodeError as error:
        return f"not UTF-8: byte 0x{data[error.start]:02x} at byte {error.start} of the row"
    return ""


def _shown(data: bytes) -> str:
    return data[:500].decode("utf-8", "replace").strip()


def _printable(text: str) -> str:
    return text[:500].encode("utf-8", "replace").decode("utf-8")

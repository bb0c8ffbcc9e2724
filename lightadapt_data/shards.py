"""Shards: what a stage leaves on disk, put in place whole by one rename, and named by content.

A finished shard is a folder `WORK/<stage>/<key>/` that holds its files and `done.json` with their
digests and counts. `key` hashes everything that the content depends on, so a folder that exists
is right and is never looked into again. Nothing in it depends on the clock, the batch size or the
number of workers: two runs of the same work are equal to the byte.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import xxhash

if TYPE_CHECKING:
    import pyarrow as pa

    from lightadapt_data.config import Config

Counts = dict[str, int]


@dataclass(frozen=True)
class Shard:
    """One piece of a stage's work, before it is done."""

    name: str
    """What a person calls it; unique in its stage."""
    reads: Mapping[str, str]
    """Digest of everything, besides the settings, that the output depends on."""
    args: Mapping[str, Any] = field(default_factory=dict)
    """Where the work is found; never enters the key, so `reads` must cover it."""


@dataclass(frozen=True)
class Done:
    """One finished shard."""

    name: str
    key: str
    folder: Path
    counts: Counts
    digest: str
    """Hash of the digests of its files."""
    args: Mapping[str, Any]
    files: Mapping[str, str]
    """Digest by file name."""

    def file(self, name: str) -> Path:
        """Return the path of one of its files."""
        return self.folder / name


@dataclass(frozen=True)
class Workspace:
    """A run's folder as stages see it: settings of all stages, finished work of earlier ones."""

    folder: Path
    seed: int
    settings: Mapping[str, Config]
    """Settings by stage, for the stages of this run, in their order."""

    def has(self, stage: str) -> bool:
        """Return whether the stage belongs to this run."""
        return stage in self.settings

    def manifest(self, stage: str) -> dict[str, Any] | None:
        """Return what the stage wrote when it was finished, or None."""
        path = self.folder / "work" / stage / "manifest.json"
        return json.loads(path.read_text("utf-8")) if path.exists() else None

    def digest(self, stage: str) -> str:
        """Return the digest of a finished stage's content."""
        manifest = self.manifest(stage)
        return str(manifest["digest"]) if manifest else ""

    def shards(self, stage: str) -> list[Done]:
        """Return the finished shards of a finished stage, in the stage's order."""
        manifest = self.manifest(stage)
        return [self._done(stage, entry) for entry in manifest["shards"]] if manifest else []

    def result(self, stage: str) -> Done | None:
        """Return what the stage's `run` left, or None when it has none."""
        manifest = self.manifest(stage)
        entry = manifest["result"] if manifest else None
        return self._done(stage, entry) if entry else None

    def _done(self, stage: str, entry: dict[str, Any]) -> Done:
        folder = self.folder / "work" / stage / entry["key"]
        done = json.loads((folder / "done.json").read_text("utf-8"))
        return Done(
            entry["name"],
            entry["key"],
            folder,
            done["counts"],
            digest_of(done["files"]),
            entry["args"],
            done["files"],
        )


def digest_of(value: Any) -> str:
    """Return 32 hex digits that name a JSON value."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def file_digest(path: Path) -> str:
    """Return the xxh3-128 of a file's bytes as 32 hex digits."""
    digest = xxhash.xxh3_128()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


class StatDigests:
    """Digests of outside files, remembered by (path, size, mtime) so that each is hashed once."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / "work" / "digests.json"
        self._known: dict[str, str] = {}
        if self._path.exists():
            with contextlib.suppress(ValueError):
                self._known = json.loads(self._path.read_text("utf-8"))
        self._is_changed = False

    def digest(self, path: Path) -> str:
        """Return the digest of the file's bytes."""
        stat = path.stat()
        signature = f"{path}|{stat.st_size}|{stat.st_mtime_ns}"
        if signature not in self._known:
            self._known[signature] = file_digest(path)
            self._is_changed = True
        return self._known[signature]

    def save(self) -> None:
        """Write what was learnt, if the run's folder exists by now."""
        if self._is_changed and self._path.parent.parent.exists():
            self._path.parent.mkdir(exist_ok=True)
            write_text(self._path, json.dumps(self._known))


def cut(weights: Iterable[tuple[str, int]], most: int) -> Iterator[list[int]]:
    """Yield runs of neighbouring items, each run's weight at most `most` (or one item).

    A run also ends after an item whose name hashes to 0 modulo 16, so that an item more or less
    changes its own run only: the border depends on content, never on position.
    """
    run: list[int] = []
    total = 0
    for index, (name, weight) in enumerate(weights):
        if run and total + weight > most:
            yield run
            run, total = [], 0
        run.append(index)
        total += weight
        if xxhash.xxh3_64_intdigest(name.encode()) % 16 == 0:
            yield run
            run, total = [], 0
    if run:
        yield run


def write_text(path: Path, text: str) -> None:
    """Write a small file so that a reader sees the old content or the new, never a part."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    with temporary.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)


def write_parquet(path: Path, tables: Iterable[pa.Table], schema: pa.Schema) -> int:
    """Write tables to one Parquet file (zstd) as they come, and return the number of rows."""
    import pyarrow.parquet as pq

    n_rows = 0
    with pq.ParquetWriter(path, schema, compression="zstd") as writer:
        for table in tables:
            if len(table):
                writer.write_table(table)
            n_rows += len(table)
    return n_rows


def read_parquet(path: Path, columns: Sequence[str] | None = None) -> pa.Table:
    """Return a Parquet file, or some columns of it; unlike `read_table` it imports no pandas."""
    import pyarrow.parquet as pq

    with pq.ParquetFile(path) as file:
        return file.read(list(columns) if columns is not None else None)


def put_in_place(folder: Path, make: Callable[[Path], Counts]) -> Counts:
    """Let `make` fill a temporary folder, then rename it to `folder`; return the counts.

    On any error the temporary folder is removed and `folder` does not exist.
    """
    temporary = folder.with_name(f".{folder.name}.{os.getpid()}")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    try:
        counts = make(temporary)
        files = {
            path.relative_to(temporary).as_posix(): _synced_digest(path)
            for path in sorted(temporary.rglob("*"))
            if path.is_file()
        }
        write_text(
            temporary / "done.json", json.dumps({"counts": counts, "files": files}, indent=1)
        )
        try:
            os.rename(temporary, folder)
        except OSError:
            if not (folder / "done.json").exists():
                raise
            # Somebody else has put the same content there first.
            shutil.rmtree(temporary, ignore_errors=True)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    return counts


def _synced_digest(path: Path) -> str:
    with path.open("rb+") as file:
        os.fsync(file.fileno())
    return file_digest(path)


def read_done(folder: Path) -> tuple[Counts, str] | None:
    """Return counts and digest of the finished shard in `folder`, or None."""
    path = folder / "done.json"
    if not path.exists():
        return None
    done = json.loads(path.read_text("utf-8"))
    return done["counts"], digest_of(done["files"])


def remove_leftovers(stage_folder: Path) -> None:
    """Remove temporary folders that a killed run left behind."""
    for path in stage_folder.glob(".*"):
        shutil.rmtree(path, ignore_errors=True) if path.is_dir() else path.unlink()


def deliver(files: Mapping[str, Sequence[Path]], run_folder: Path) -> None:
    """Make `run_folder/<name>/` hold exactly the given files, as hard links where possible."""
    for name, paths in files.items():
        fresh, final, old = (run_folder / f"{prefix}{name}" for prefix in (".new-", "", ".old-"))
        for leftover in (fresh, old):
            shutil.rmtree(leftover, ignore_errors=True)
        fresh.mkdir(parents=True)
        for path in paths:
            try:
                os.link(path, fresh / path.name)
            except OSError:
                shutil.copyfile(path, fresh / path.name)
        if final.exists():
            os.rename(final, old)
        os.rename(fresh, final)
        shutil.rmtree(old, ignore_errors=True)

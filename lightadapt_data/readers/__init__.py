"""Readers find and read outside text. The family's contract:

- `sources(paths, settings) -> list[Source]`: what there is, found fast and without reading it;
- `read(source, settings) -> Iterator[dict | BadRow]`: rows as dictionaries of the input's own
  columns, one at a time, or what is wrong with a row. A source that cannot be read at all raises
  InputError.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Source:
    """One file, or one module of a package."""

    name: str
    """Name that becomes the row's `source`; the same on every machine."""
    path: Path
    size: int
    """Bytes, for sharing the work out."""
    signature: str = ""
    """What names the content when the reader knows it; empty: hash the file."""
    extra: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class BadRow:
    """A row that could not be read."""

    where: str
    """Line or row number, from 1."""
    reason: str
    raw: str
    """The first 500 characters."""

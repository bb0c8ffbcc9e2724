"""Filters drop rows from the curated set. The family's contract:

`duplicates(rows, settings) -> dict[int, Match]`: for each row to drop, the kept row it matches.
`rows` come in the order of who is kept first. A row is dropped only for being close to a row that
is kept, never for being close to a dropped one; a row and its augmented children are one family
and do not count as copies of each other.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Text:
    """A row as filters see it."""

    id: str
    family: str
    text: str


@dataclass(frozen=True)
class Match:
    """Why a row is dropped."""

    kept: int
    """Index of the kept row that it matches."""
    similarity: float
    """From 0 to 1."""

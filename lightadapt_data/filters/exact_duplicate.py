"""exact_duplicate: rows whose normalised text equals that of a kept row.

Source: Lee et al. 2022, arXiv 2107.06499 (duplicates in training data); NFKC of Unicode UAX #15
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence

from lightadapt_data.config import Config
from lightadapt_data.filters import Context, Finding, Text

SPACES = re.compile(r"\s+")


class Settings(Config):
    """The exact_duplicate filter has no settings."""


def examine(rows: Sequence[Text], settings: Settings, context: Context) -> dict[int, Finding]:
    """Return, for each row that equals an earlier kept row of another family, that row."""
    kept: dict[str, int] = {}
    found: dict[int, Finding] = {}
    for index, row in enumerate(rows):
        first = kept.setdefault(normalised(row.text), index)
        if first != index and rows[first].family != row.family and not row.is_settled:
            found[index] = Finding("same text", first, 1.0)
    return found


def normalised(text: str) -> str:
    """Return the text in NFKC and lower case with single spaces."""
    return SPACES.sub(" ", unicodedata.normalize("NFKC", text)).strip().casefold()

"""exact_duplicate: rows whose normalised text equals that of a kept row.

Source: Lee et al. 2022, arXiv 2107.06499 (duplicates in training data); NFKC of Unicode UAX #15
"""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence

from lightadapt_data.config import Config
from lightadapt_data.filters import Context, Finding, Text


class Settings(Config):
    """The exact_duplicate filter has no settings."""


def examine(rows: Sequence[Text], settings: Settings, context: Context) -> dict[int, Finding]:
    """Return, for each row that equals an earlier kept row of another family, the first such."""
    # One kept row is not enough: it may be of the row's own family while another is not. Two of
    # different families are: one of them is another family than the row's.
    kept: dict[bytes, list[int]] = {}
    found: dict[int, Finding] = {}
    for index, row in enumerate(rows):
        firsts = kept.setdefault(_digest(row.text), [])
        others = [first for first in firsts if rows[first].family != row.family]
        if others and not row.is_settled:
            found[index] = Finding("same text", others[0], 1.0)
        elif not firsts or (len(firsts) == 1 and others):
            firsts.append(index)
    return found


def normalised(text: str) -> str:
    """Return the text in NFKC and lower case with single spaces."""
    if not text.isascii():
        # Lower case can undo the form, so it is made twice.
        text = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold())
    return " ".join(text.split()).casefold()


def _digest(text: str) -> bytes:
    """Return 16 bytes for the normalised text, so that no second corpus is held in memory."""
    import xxhash

    return xxhash.xxh3_128_digest(normalised(text).encode("utf-8", "surrogatepass"))

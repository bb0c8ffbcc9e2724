"""near_duplicate: rows that share most of their word n-grams with a kept row.

MinHash with banding only proposes pairs; each pair is then verified by the true Jaccard index of
its n-gram sets. Rows are visited in the order of who is kept first, and compared with kept rows
only, so no chain of small changes can delete a row that is like no kept one.

Source: Broder 1997, "On the resemblance and containment of documents"; banding as in Leskovec,
Rajaraman and Ullman, "Mining of Massive Datasets", section 3.4
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Sequence

import numpy as np
from pydantic import Field, model_validator

from lightadapt_data.config import Config
from lightadapt_data.filters import Context, Finding, Text

WORD = re.compile(r"\w+|[^\w\s]")
SEED = 42


class Settings(Config):
    """Settings of the near_duplicate filter."""

    threshold: float = Field(default=0.7, gt=0, le=1)
    """Jaccard index from which a row counts as a copy [0 to 1]."""
    ngram: int = Field(default=3, ge=1)
    """Words in one n-gram; a shorter text is one n-gram [words]."""
    bands: int = Field(default=32, ge=1)
    """Bands of the MinHash signature; a pair that agrees on one whole band is verified."""
    rows_per_band: int = Field(default=4, ge=1)
    """Hash values in one band; a pair at Jaccard 0.7 agrees somewhere with 0.9998 by default."""

    @model_validator(mode="after")
    def _finds_pairs(self) -> Settings:
        missed = (1 - self.threshold**self.rows_per_band) ** self.bands
        if missed > 0.05:
            raise ValueError(
                f"{self.bands} bands of {self.rows_per_band} would miss {missed:.0%} of pairs at "
                f"the threshold {self.threshold}; use more bands or fewer rows per band"
            )
        return self


def examine(rows: Sequence[Text], settings: Settings, context: Context) -> dict[int, Finding]:
    """Return, for each row too close to an earlier kept row of another family, the closest one."""
    if not rows:
        return {}
    grams = [ngrams(row.text, settings.ngram) for row in rows]
    bands = _bands(grams, settings)
    buckets: dict[tuple[int, bytes], list[int]] = defaultdict(list)
    found: dict[int, Finding] = {}
    for index, row in enumerate(rows):
        keys = [(band, bands[index, band].tobytes()) for band in range(settings.bands)]
        candidates = {kept for key in keys for kept in buckets.get(key, ())}
        best, highest = -1, 0.0
        for kept in sorted(candidates):
            similarity = jaccard(grams[index], grams[kept])
            if similarity > highest and rows[kept].family != row.family:
                best, highest = kept, similarity
        if highest >= settings.threshold and not row.is_settled:
            found[index] = Finding(f"similarity {highest:.2f}", best, highest)
            continue
        for key in keys:
            buckets[key].append(index)
    return found


def ngrams(text: str, n: int) -> frozenset[str]:
    """Return the set of word n-grams of a text in lower case; never empty."""
    words = WORD.findall(text.casefold())
    return frozenset(" ".join(words[i : i + n]) for i in range(max(1, len(words) - n + 1)))


def jaccard(left: frozenset[str], right: frozenset[str]) -> float:
    """Return the share of common members among all members, from 0 to 1."""
    common = len(left & right)
    return common / (len(left) + len(right) - common)


def _bands(grams: Sequence[frozenset[str]], settings: Settings) -> np.ndarray:
    """Return MinHash values, uint32 [rows, bands, rows_per_band]."""
    from rensa import RMinHash

    n_values = settings.bands * settings.rows_per_band
    values = RMinHash.digests_from_token_sets([sorted(g) for g in grams], n_values, SEED)
    return np.asarray(values, np.uint32).reshape(-1, settings.bands, settings.rows_per_band)

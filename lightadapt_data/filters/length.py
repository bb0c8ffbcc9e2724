"""length: rows with too few or too many tokens or characters.

By default only rows of no or one character go; every other limit is off until it is set.

Source: the usual length limits of corpora, Koehn et al. 2007 (Moses, clean-corpus-n),
https://aclanthology.org/P07-2045
"""

from __future__ import annotations

from collections.abc import Sequence

from pydantic import Field, model_validator

from lightadapt_data.config import Config
from lightadapt_data.filters import Context, Finding, Text
from lightadapt_data.rows import count_tokens


class Settings(Config):
    """Settings of the length filter; a `most_` of 0 is no limit."""

    least_tokens: int = Field(default=1, ge=0)
    """Fewest tokens: words, punctuation marks, Chinese and Japanese signs [tokens]."""
    most_tokens: int = Field(default=0, ge=0)
    """Most tokens; 0 for no limit [tokens]."""
    least_characters: int = Field(default=2, ge=0)
    """Fewest characters, without spaces at both ends [characters]."""
    most_characters: int = Field(default=0, ge=0)
    """Most characters, without spaces at both ends; 0 for no limit [characters]."""

    @model_validator(mode="after")
    def _least_below_most(self) -> Settings:
        limits = (
            ("tokens", self.least_tokens, self.most_tokens),
            ("characters", self.least_characters, self.most_characters),
        )
        for unit, least, most in limits:
            if most and most < least:
                raise ValueError(
                    f"least_{unit} {least} is above most_{unit} {most}, so every row would go; "
                    f"lower least_{unit} or raise most_{unit}"
                )
        return self


def examine(rows: Sequence[Text], settings: Settings, context: Context) -> dict[int, Finding]:
    """Return a finding for each row outside the limits; settled rows are left alone."""
    found: dict[int, Finding] = {}
    for index, row in enumerate(rows):
        reason = "" if row.is_settled else _fault(row.text, settings)
        if reason:
            found[index] = Finding(f"length: {reason}")
    return found


def _fault(text: str, settings: Settings) -> str:
    n_characters = len(text.strip())
    fault = _outside(
        n_characters, settings.least_characters, settings.most_characters, "characters"
    )
    # Every text that is not blank has a token, so they are counted only where it matters.
    if fault or (settings.least_tokens <= 1 and not settings.most_tokens and n_characters):
        return fault
    return _outside(count_tokens(text), settings.least_tokens, settings.most_tokens, "tokens")


def _outside(value: int, least: int, most: int, unit: str) -> str:
    unit = unit.removesuffix("s") if value == 1 else unit
    if value < least:
        return f"{value:,} {unit}, least {least:,}"
    return f"{value:,} {unit}, most {most:,}" if most and value > most else ""

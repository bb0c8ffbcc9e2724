"""language: rows in another language than the allowed ones.

A row goes only where the identifier is sure of a language that is not allowed: code, lists, names
and short texts look like many languages a little, and stay.

Source: Lui and Baldwin 2012, https://aclanthology.org/P12-3005 (langid.py), as py3langid
"""

# ruff: noqa: SIM905 - a long list of codes reads better as text
from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

from pydantic import Field, field_validator

from lightadapt_data.config import Config
from lightadapt_data.errors import allowed
from lightadapt_data.filters import Context, Finding, Text

LANGUAGES = frozenset(
    "ace af am an ar ary arz as az ba bcl be bg bn br bs ca crh cs cy da de dz el en eo es et eu"
    " ext fa fi fo fr fuv fy ga gcf gcr gd gl gom grc gu gug guw ha hbo he hi hr ht hu hy id ig is"
    " it ja jv ka kab kik kk km kn ko ku ky la lb lg lij ln lo lt ltg lv mg mk ml mn mr ms mt my ne"
    " nl nn no nso oc om or pa pcm pl ps pt qu ro ru rw sa sdh se si sk sl sn so sq sr st sv sw ta"
    " te tg th tk tl tr tt ug uk ur uz uzs vec vi vo wa wuu xh yo yue zh zu".split()
)
"""Codes the identifier knows: ISO 639-1, or 639-3 where there is no shorter one."""

NO_LANGUAGE = "zxx"
"""What the identifier calls text without language, such as tables of numbers."""

JUDGED_CHARACTERS = 1000
"""Only the beginning of a long text is read: more changes no verdict and costs time."""


class Settings(Config):
    """Settings of the language filter."""

    languages: tuple[str, ...] = ()
    """Languages whose rows stay, as ISO 639-1 codes such as "en"; none: all rows stay."""
    least_probability: float = Field(default=0.8, gt=0, le=1)
    """A row goes where another language is at least this probable [0 to 1]."""
    least_characters: int = Field(default=20, ge=0)
    """Texts with fewer letters are not judged, and stay [letters]."""

    @field_validator("languages")
    @classmethod
    def _known(cls, codes: tuple[str, ...]) -> tuple[str, ...]:
        for code in codes:
            if code not in LANGUAGES:
                raise ValueError(f"no language '{code}'; {allowed(code, LANGUAGES)}")
        return codes


def examine(rows: Sequence[Text], settings: Settings, context: Context) -> dict[int, Finding]:
    """Return a finding for each row that is surely in a language that is not allowed."""
    found: dict[int, Finding] = {}
    if not settings.languages:
        return found
    names = ", ".join(settings.languages)
    for index, row in enumerate(rows):
        if row.is_settled or _n_letters(row.text) < max(settings.least_characters, 1):
            continue
        code, probability = identify(row.text)
        is_foreign = code not in settings.languages and code != NO_LANGUAGE
        if is_foreign and probability >= settings.least_probability:
            found[index] = Finding(f"language: {code} ({probability:.2f}), allowed: {names}")
    return found


def identify(text: str) -> tuple[str, float]:
    """Return the code of the most probable language of a text, and its probability (0 to 1)."""
    code, probability = _identifier().classify(text[:JUDGED_CHARACTERS])
    return str(code), min(float(probability), 1.0)


@lru_cache(maxsize=1)
def _identifier() -> Any:
    """Return the identifier; its model lies inside the package and is read once (a second)."""
    from py3langid.langid import (  # type: ignore[import-untyped]
        MODEL_FILE,
        LanguageIdentifier,
    )

    return LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)


def _n_letters(text: str) -> int:
    return sum(map(str.isalpha, text[:JUDGED_CHARACTERS]))

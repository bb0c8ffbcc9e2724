"""inflections: regular English endings, put on and taken off.

Words whose ending follows no clear rule ("photos" but "heroes") have none here, so that a caller
leaves them alone.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import lru_cache

KINDS = ("s", "ed", "ing")
"""Endings: plural or third person, past, present participle."""

_CLUSTER = re.compile(r"(?:qu|[^aeiouy])*[aeiou][^aeiouwxy]")
"""A word of one syllable that ends in one vowel and one consonant; the consonant is doubled."""

_STEMS = {
    "s": (("ies", "y"), ("es", ""), ("s", "")),
    "ed": (("ied", "y"), ("ed", ""), ("ed", "e")),
    "ing": (("ying", "ie"), ("ing", ""), ("ing", "e")),
}


def inflected(basic: str, kind: str) -> str | None:
    """Return a basic form with the ending of `kind` ("" for none), or None where rules differ."""
    if kind == "":
        return basic
    if len(basic) < 2 or not basic.isascii():
        return None
    return _with_s(basic) if kind == "s" else _with_vowel(basic, kind)


@lru_cache(maxsize=65536)
def regular(basic: str) -> frozenset[str]:
    """Return all regular forms of a basic form besides itself."""
    forms = (inflected(basic, kind) for kind in KINDS)
    return frozenset(form for form in forms if form)


def basics(word: str) -> Iterator[tuple[str, str]]:
    """Yield (basic form, kind) for every way to read a word; (word, "") comes first.

    Each basic form gives back the word when the ending is put on; it need not be a real word.
    """
    yield word, ""
    for kind in KINDS:
        for ending, instead in _STEMS[kind]:
            if not word.endswith(ending) or len(word) < len(ending) + 2:
                continue
            stem = word[: -len(ending)]
            candidates = [stem + instead]
            if kind != "s" and instead == "" and stem[-1:] == stem[-2:-1]:
                candidates.append(stem[:-1])
            for basic in candidates:
                if inflected(basic, kind) == word:
                    yield basic, kind


def _with_s(basic: str) -> str | None:
    is_after_vowel = basic[-2] in "aeiou"
    if basic.endswith(("s", "x", "z", "ch", "sh")):
        return basic + "es"
    if basic.endswith("o") and not is_after_vowel:
        return None
    if basic.endswith("y") and not is_after_vowel:
        return basic[:-1] + "ies"
    return basic + "s"


def _with_vowel(basic: str, kind: str) -> str | None:
    """Return the form in -ed or -ing."""
    if basic.endswith("c"):
        return None
    if basic.endswith("ie"):
        return basic[:-2] + "ying" if kind == "ing" else basic + "d"
    if basic.endswith("e"):
        keeps = kind == "ing" and basic.endswith(("ee", "oe", "ye"))
        return (basic if keeps else basic[:-1]) + kind
    if kind == "ed" and basic.endswith("y") and basic[-2] not in "aeiou":
        return basic[:-1] + "ied"
    if _CLUSTER.fullmatch(basic):
        return basic + basic[-1] + kind
    return basic + kind

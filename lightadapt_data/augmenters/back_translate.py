"""back_translate: a text goes to another language and comes back in other words.

Each sentence makes the journey alone, and a sentence that cannot (too short, too long, code) stays
as it is, so a text never comes back half in the other language.

Source: Sennrich et al. 2016, https://aclanthology.org/P16-1009; for classification
Xie et al. 2020 (UDA), section 2.2, https://arxiv.org/abs/1904.12848
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import Field, model_validator

from lightadapt_data import methods, sentences
from lightadapt_data.augmenters import Candidate, Context
from lightadapt_data.config import Config

FEEDS_ON = "train"
SKIPS_GATES: frozenset[str] = frozenset()


class Settings(Config):
    """Settings of back_translate."""

    language: str = "en"
    """Language of the rows, as the translator calls it."""
    pivots: tuple[str, ...] = Field(default=("pt",), min_length=1)
    """Languages to travel through; one candidate per row and pivot."""
    translator: str = "bergamot"
    """Method of the family `translators`."""
    translator_options: dict[str, Any] = Field(default_factory=dict)
    """Options of the translator."""
    min_words: int = Field(default=4, ge=1)
    """Shorter sentences stay as they are, because translators invent words for them [words]."""

    @model_validator(mode="after")
    def _check_translator(self) -> Settings:
        _options(self)
        return self

    def key_fields(self) -> dict[str, Any]:
        """Return the fields that decide the output, the translator's own among them."""
        return {**super().key_fields(), "translator_options": _options(self).key_fields()}


def augment(
    rows: Sequence[Mapping[str, Any]], settings: Settings, context: Context
) -> list[Candidate]:
    """Return one candidate per row and pivot, in row order; refused where nothing came back.

    Raises:
        InputError: the translator has no model for a language.
    """
    pieces = [sentences.split(str(row["text"])) for row in rows]
    wanted = {
        sentence: None
        for row_pieces in pieces
        for sentence, _ in row_pieces
        if len(sentence.split()) >= settings.min_words
    }
    by_pivot = [
        _round_trips(list(wanted), pivot, settings, context.seed) for pivot in settings.pivots
    ]
    candidates = []
    for row, row_pieces in zip(rows, pieces, strict=True):
        for replica, (pivot, back) in enumerate(zip(settings.pivots, by_pivot, strict=True)):
            text = "".join(back.get(sentence, sentence) + gap for sentence, gap in row_pieces)
            has_any = any(sentence in back for sentence, _ in row_pieces)
            refused = "" if has_any else f"no sentence could be translated to '{pivot}' and back"
            candidates.append(
                Candidate(str(row["id"]), text, row.get("label"), replica, refused=refused)
            )
    return candidates


def reads(settings: Settings) -> dict[str, str]:
    """Return fingerprints of the translation models that the output depends on.

    Raises:
        InputError: the translator has no model for a language.
    """
    translator = methods.load("translators", settings.translator)
    options = _options(settings)
    return {
        f"{source}-{target}": translator.fingerprint(source, target, options)
        for pivot in settings.pivots
        for source, target in ((settings.language, pivot), (pivot, settings.language))
    }


def _round_trips(wanted: list[str], pivot: str, settings: Settings, seed: int) -> dict[str, str]:
    """Return what came back, by sentence, for the sentences that made it there and back."""
    translator = methods.load("translators", settings.translator)
    options = _options(settings)
    there = translator.translate(wanted, settings.language, pivot, options, 1, seed)
    made_it = [(sentence, found[0]) for sentence, found in zip(wanted, there, strict=True) if found]
    foreign = [text for _, text in made_it]
    back = translator.translate(foreign, pivot, settings.language, options, 1, seed)
    return {
        sentence: found[0]
        for (sentence, _), found in zip(made_it, back, strict=True)
        if found and found[0].strip()
    }


def _options(settings: Settings) -> Any:
    return methods.settings("translators", settings.translator, settings.translator_options)

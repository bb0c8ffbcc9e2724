r"""repair: undoes broken encodings ("sÃ©ance") and removes control characters; drops no row.

Only damage is touched: quotes, ligatures, wide characters, line ends and leading spaces stay as
they are, and so do the marks of right-to-left text and of joined emoji.

Source: Speer 2019, ftfy, https://doi.org/10.5281/zenodo.2591652
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

from lightadapt_data.config import Config
from lightadapt_data.filters import Context, Finding, Text

if TYPE_CHECKING:
    import ftfy

_MAY_BE_DAMAGED = re.compile(r"[^\t\n\f\r -~]")
_NAMES = {
    "unescape_html": "HTML entities",
    "remove_terminal_escapes": "terminal escapes",
    "remove_control_chars": "control characters",
    "fix_surrogates": "surrogates",
}
"""What a person calls the fixers of ftfy; all others undo mojibake or set the Unicode form."""


class Settings(Config):
    """Settings of the repair filter."""

    mojibake: bool = True
    """Whether text that was decoded in the wrong encoding is decoded again."""
    control_characters: bool = True
    """Whether control characters, byte order marks and terminal escapes are removed."""
    html_entities: bool = False
    """Whether "&amp;" becomes "&" in texts without "<"; off, as entities mean something in code."""
    unicode_form: Literal["", "NFC", "NFKC"] = ""
    """Unicode normal form of all texts; empty: as it came."""


def examine(rows: Sequence[Text], settings: Settings, context: Context) -> dict[int, Finding]:
    """Return the repaired text of each row that was damaged; settled rows are left alone."""
    config = _config(settings)
    found: dict[int, Finding] = {}
    for index, row in enumerate(rows):
        is_plain = not _MAY_BE_DAMAGED.search(row.text)
        if row.is_settled or (is_plain and not (settings.html_entities and "&" in row.text)):
            continue
        text, what = _repaired(row.text, config)
        if text != row.text:
            found[index] = Finding(f"repair: {', '.join(what)}", text=text)
    return found


def _config(settings: Settings) -> ftfy.TextFixerConfig:
    import ftfy

    return ftfy.TextFixerConfig(
        unescape_html=settings.html_entities,
        remove_terminal_escapes=settings.control_characters,
        fix_encoding=settings.mojibake,
        fix_c1_controls=settings.mojibake,
        # A lost byte would become "\ufffd": not a repair.
        replace_lossy_sequences=False,
        fix_latin_ligatures=False,
        fix_character_width=False,
        uncurl_quotes=False,
        fix_line_breaks=False,
        remove_control_chars=settings.control_characters,
        normalization=settings.unicode_form or None,
    )


def _repaired(text: str, config: ftfy.TextFixerConfig) -> tuple[str, list[str]]:
    """Return the text and what was repaired, line by line, as lines may differ in their damage."""
    import ftfy

    if "<" in text:
        config = config._replace(unescape_html=False)
    lines = text.split("\n")
    done: dict[str, None] = {}
    for number, line in enumerate(lines):
        if not _MAY_BE_DAMAGED.search(line) and not (config.unescape_html and "&" in line):
            continue
        fixed = ftfy.fix_and_explain(line, config)
        if fixed.text != line:
            lines[number] = fixed.text
            done |= dict.fromkeys(map(_named, fixed.explanation or []))
    return "\n".join(lines), list(done)


def _named(step: ftfy.ExplanationStep) -> str:
    if step.action == "normalize":
        return f"Unicode form {step.parameter}"
    return _NAMES.get(step.parameter, "mojibake")

"""repetition: refuses a child that says the same again and again, as models in a loop do.

Two signs: an n-gram that is frequent in the child and was not in the parent, and a run of words
that follows itself several times.

Source: own; loops of neural text generators: Holtzman et al. 2020, section 4,
https://arxiv.org/abs/1904.09751; counts as in the repetition filter of NL-Augmenter,
https://arxiv.org/abs/2112.02721
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence

from pydantic import Field

from lightadapt_data.config import Config
from lightadapt_data.gates import Encode, Verdict

_WORD = re.compile("[\u3040-\u30ff\u3400-\u9fff]|[^\\W_\u3040-\u30ff\u3400-\u9fff]+")
"""A word, or one sign of a script without spaces."""


class Settings(Config):
    """Settings of repetition."""

    ngram: int = Field(default=2, ge=1)
    """Words that are counted together [words]."""
    most: int = Field(default=3, ge=1)
    """So often an n-gram may always stand in the child [times]."""
    growth: int = Field(default=2, ge=0)
    """An n-gram that stands there more often may do so if it has grown by at most this against
    the parent [times]."""
    in_a_row: int = Field(default=2, ge=1)
    """So often a run of words may follow itself at once, or as often as in the parent [times]."""
    longest_run: int = Field(default=8, ge=1)
    """Longest run of words that is looked for [words]."""


def judge(
    parents: Sequence[str], children: Sequence[str], settings: Settings, encode: Encode
) -> list[Verdict]:
    """Return a verdict per pair; the score is how often the child's commonest n-gram stands."""
    return [
        _verdict(_words(parent), _words(child), settings)
        for parent, child in zip(parents, children, strict=True)
    ]


def _verdict(parent: list[str], child: list[str], settings: Settings) -> Verdict:
    before, after = _ngrams(parent, settings.ngram), _ngrams(child, settings.ngram)
    score = float(max(after.values(), default=0))
    for ngram, count in sorted(after.items(), key=lambda item: (-item[1], item[0])):
        if count <= settings.most:
            break
        if count > before[ngram] + settings.growth:
            said = f"'{' '.join(ngram)[:60]}' stands {count} times, {before[ngram]} in the parent"
            return Verdict(False, f"repetition: {said}", score)
    times, run = _in_a_row(child, settings.longest_run)
    if times > settings.in_a_row and times > _in_a_row(parent, settings.longest_run)[0]:
        return Verdict(False, f"repetition: '{run[:60]}' {times} times in a row", score)
    return Verdict(True, score=score)


def _words(text: str) -> list[str]:
    return _WORD.findall(text.casefold())


def _ngrams(words: list[str], size: int) -> Counter[tuple[str, ...]]:
    return Counter(zip(*(words[i:] for i in range(size)), strict=False))


def _in_a_row(words: list[str], longest: int) -> tuple[int, str]:
    """Return the most times that a run of words follows itself at once, and the run."""
    best, found = 1, ""
    for size in range(1, longest + 1):
        same = 0
        for i in range(size, len(words)):
            same = same + 1 if words[i] == words[i - size] else 0
            if same // size + 1 > best:
                best, found = same // size + 1, " ".join(words[i - size + 1 : i + 1])
    return best, found

"""contamination: rows that share 13 words in a row with your evaluation files.

Case, punctuation and Unicode forms do not count. An evaluation text of fewer than `ngram` words is
looked for whole, and below `least_words` words only a row that equals it counts. An n-gram that
many different rows hold is common language, such as a licence, and accuses none of them.

Source: Brown et al. 2020, arXiv 2005.14165, appendix C (13-grams, and n-grams found in more than
10 documents are ignored)
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, repeat
from typing import ClassVar, NamedTuple

import numpy as np
import xxhash
from numpy.typing import NDArray
from pydantic import Field

from lightadapt_data import evaluation_files
from lightadapt_data.config import Config
from lightadapt_data.filters import Context, Finding, Text
from lightadapt_data.shards import file_digest

PATH_FIELDS = ("files",)
BATCH_ROWS = 4096
BLOCK_CELLS = 1 << 24
"""Cosines in memory at once."""
SHOWN_CHARACTERS = 60
"""Of an n-gram, in the reason."""
_BASE = np.uint64(0x9E3779B97F4A7C15)
_SIGN = r"\u3040-\u30ff\u3400-\u9fff"
_WORD = re.compile(rf"[{_SIGN}]|(?:[^\W_{_SIGN}]|[\u0900-\u0963\u0966-\u0dff])+")
_ASCII_WORD = re.compile(r"[a-z0-9]+")


class Settings(Config):
    """Settings of the contamination filter."""

    NOT_IN_KEY: ClassVar[frozenset[str]] = frozenset({"files"})

    files: tuple[str, ...] = ()
    """Evaluation files: .jsonl, .csv and .txt (also with .gz), .parquet; none: nothing is found."""
    columns: tuple[str, ...] = (
        *("text", "question", "answer", "answers.text", "context"),
        *("sentence", "premise", "hypothesis"),
    )
    """Columns that are compared, where a file has them; a dot leads into nested ones."""
    ngram: int = Field(default=13, ge=2)
    """Words in a row that must be the same [words]."""
    least_words: int = Field(default=8, ge=1)
    """Evaluation texts from this length on are found inside a row too [words]."""
    common_rows: int = Field(default=0, ge=0)
    """Found in more different rows, an n-gram is common; 0: 10, or 0.1 % of all rows [rows]."""
    review_cosine: float = Field(default=0.0, ge=0, le=1)
    """Rows this close to an evaluation text are reported, and stay; 0 for none [cosine]."""


class _Passage(NamedTuple):
    """A text of an evaluation file with its words."""

    of: evaluation_files.Passage
    words: list[str]


def reads(settings: Settings) -> dict[str, str]:
    """Return the digest of each evaluation file, by its place and name.

    Raises:
        InputError: a file is missing.
    """
    paths = [evaluation_files.existing(given) for given in settings.files]
    return {f"{place} {path.name}": file_digest(path) for place, path in enumerate(paths)}


def examine(rows: Sequence[Text], settings: Settings, context: Context) -> dict[int, Finding]:
    """Return a finding for each row that shares words with an evaluation text.

    With `review_cosine`, rows that are only close get a finding that holds their own text: they
    stay and are reported.

    Raises:
        InputError: a file is missing, broken, or has none of the columns; or the run has no
            encoder and `review_cosine` is set.
    """
    passages = list(_passages(settings))
    if not passages or not rows:
        return {}
    found = _shared(rows, passages, settings)
    if settings.review_cosine:
        found = _close(rows, passages, settings.review_cosine, context) | found
    return {index: found[index] for index in sorted(found) if not rows[index].is_settled}


def words_of(text: str) -> list[str]:
    """Return the words of a text in one notation; a Chinese or Japanese sign is a word."""
    if text.isascii():
        return _ASCII_WORD.findall(text.lower())
    return _WORD.findall(unicodedata.normalize("NFKC", text).casefold())


def _passages(settings: Settings) -> Iterator[_Passage]:
    """Yield the evaluation texts that are worth comparing."""
    for given in settings.files:
        for passage in evaluation_files.passages(given, settings.columns):
            words = words_of(passage.text)
            # "yes" and "Paris" answer much, so an answer alone has to be long.
            is_answer = passage.column.startswith("answer") and len(words) < settings.least_words
            if words and not is_answer:
                yield _Passage(passage, words)


def _shared(
    rows: Sequence[Text], passages: Sequence[_Passage], settings: Settings
) -> dict[int, Finding]:
    """Return a finding for each row that holds an n-gram or the whole of a passage."""
    index = _Index(passages, settings)
    found: dict[int, Finding] = {}
    keys: dict[int, int] = {}
    parts = [np.zeros((0, 2), np.int64)]
    for start in range(0, len(rows), BATCH_ROWS):
        words = [words_of(row.text) for row in rows[start : start + BATCH_ROWS]]
        for at, row_words in enumerate(words, start):
            passage = index.equal(row_words)
            if passage is not None:
                found[at] = Finding(
                    f"contamination: equals {passage.of.name} ({passage.of.column})"
                )
        part = index.matches(words)
        for at in np.unique(part[:, 0]).tolist():
            keys[start + at] = xxhash.xxh3_64_intdigest(" ".join(words[at]).encode())
        parts.append(part + np.array([start, 0]))
    matches = np.concatenate(parts)
    most = settings.common_rows or max(10, len(rows) // 1000)
    is_rare = _spread(matches, rows, keys) <= most
    for at, gram in matches[is_rare[matches[:, 1]]].tolist():
        if at not in found:
            found[at] = Finding(f"contamination: shares {index.described(gram)}")
    return found


def _spread(
    matches: NDArray[np.int64], rows: Sequence[Text], keys: dict[int, int]
) -> NDArray[np.int64]:
    """Return in how many rows each n-gram is; copies, and a row and its children, count once."""
    n_grams = int(matches[:, 1].max(initial=-1)) + 1
    counts = []
    for names in ({at: rows[at].family for at in keys}, keys):
        codes = {name: code for code, name in enumerate(dict.fromkeys(names.values()))}
        of_match = np.array([codes[names[at]] for at in matches[:, 0].tolist()], np.int64)
        pairs = np.unique(np.stack([matches[:, 1], of_match], axis=1), axis=0)
        counts.append(np.bincount(pairs[:, 0], minlength=n_grams))
    return np.minimum(*counts)


@dataclass(frozen=True)
class _Grams:
    """The different n-grams of all passages that are compared by n words."""

    n: int
    ids: NDArray[np.int64]
    """Words of the passages, as numbers, with a 0 after each passage."""
    owners: NDArray[np.int64]
    """Passage of each word."""
    hashes: NDArray[np.uint64]
    """Sorted, each once."""
    starts: NDArray[np.int64]
    """Where in `ids` each n-gram is first."""


class _Index:
    """All that rows are compared with."""

    def __init__(self, passages: Sequence[_Passage], settings: Settings) -> None:
        self._passages = passages
        self._number: dict[str, int] = {}
        self._wholes: dict[str, _Passage] = {}
        self._groups: list[_Grams] = []
        by_length: dict[int, list[int]] = {}
        for at, passage in enumerate(passages):
            n_words = min(len(passage.words), settings.ngram)
            if n_words == settings.ngram or n_words >= settings.least_words:
                by_length.setdefault(n_words, []).append(at)
            else:
                self._wholes.setdefault(" ".join(passage.words), passage)
        self._longest_whole = max(map(len, (p.words for p in self._wholes.values())), default=0)
        for n, members in sorted(by_length.items(), reverse=True):
            words = [passages[at].words for at in members]
            for word in chain.from_iterable(words):
                self._number.setdefault(word, len(self._number) + 1)
            ids = self._ids(words)
            owners = np.repeat(members, [len(one) + 1 for one in words])
            starts, hashes = _windows(ids, n)
            hashes, firsts = np.unique(hashes, return_index=True)
            self._groups.append(_Grams(n, ids, owners, hashes, starts[firsts]))

    def equal(self, words: list[str]) -> _Passage | None:
        """Return the short passage that consists of exactly these words."""
        if not 0 < len(words) <= self._longest_whole:
            return None
        return self._wholes.get(" ".join(words))

    def matches(self, words: Sequence[list[str]]) -> NDArray[np.int64]:
        """Return (row, number of the n-gram) of all that is shared, int64 [matches, 2]."""
        ids = self._ids(words)
        ends = np.cumsum([len(row) + 1 for row in words])
        parts = [np.zeros((0, 2), np.int64)]
        first = 0
        for group in self._groups:
            starts, hashes = _windows(ids, group.n)
            places = np.minimum(np.searchsorted(group.hashes, hashes), len(group.hashes) - 1)
            is_same = group.hashes[places] == hashes
            starts, places = starts[is_same], places[is_same]
            for step in range(group.n):  # two n-grams may have one hash
                is_same = ids[starts + step] == group.ids[group.starts[places] + step]
                starts, places = starts[is_same], places[is_same]
            owners = np.searchsorted(ends, starts, side="right")
            parts.append(np.stack([owners, places + first], axis=1))
            first += len(group.hashes)
        return np.concatenate(parts)

    def described(self, gram: int) -> str:
        """Return "13-gram 'a b ...' with exam.jsonl row 17 (question)"."""
        for group in self._groups:
            if gram < len(group.hashes):
                break
            gram -= len(group.hashes)
        start = int(group.starts[gram])
        at = int(group.owners[start])
        offset = start - int(np.searchsorted(group.owners, at))
        passage = self._passages[at]
        shown = " ".join(passage.words[offset : offset + group.n])
        shown = shown if len(shown) <= SHOWN_CHARACTERS else f"{shown[:SHOWN_CHARACTERS]}..."
        return f"{group.n}-gram '{shown}' with {passage.of.name} ({passage.of.column})"

    def _ids(self, words: Sequence[list[str]]) -> NDArray[np.int64]:
        """Return the words' numbers with a 0 after each text; 0 for words of no passage."""
        everything = chain.from_iterable(chain(row, ("",)) for row in words)
        return np.fromiter(map(self._number.get, everything, repeat(0)), np.int64)


def _windows(ids: NDArray[np.int64], n: int) -> tuple[NDArray[np.int64], NDArray[np.uint64]]:
    """Return where the runs of n numbers without a 0 start, and a hash of each."""
    if len(ids) < n:
        return np.zeros(0, np.int64), np.zeros(0, np.uint64)
    zeros = np.concatenate([[0], np.cumsum(ids == 0)])
    starts = np.flatnonzero(zeros[n:] == zeros[:-n])
    hashes = np.zeros(len(starts), np.uint64)
    for step in range(n):
        hashes = hashes * _BASE + ids[starts + step].astype(np.uint64)
    return starts, hashes


def _close(
    rows: Sequence[Text], passages: Sequence[_Passage], least: float, context: Context
) -> dict[int, Finding]:
    """Return a finding for each row whose cosine with a passage is at least `least`."""
    theirs = context.encode([passage.of.text for passage in passages])
    mine = context.vectors(rows)
    n_block = max(1, BLOCK_CELLS // len(theirs))
    found: dict[int, Finding] = {}
    for start in range(0, len(rows), n_block):
        cosines = mine[start : start + n_block] @ theirs.T
        nearest = cosines.argmax(axis=1)
        highest = cosines[np.arange(len(nearest)), nearest]
        for at in np.flatnonzero(highest >= least).tolist():
            cosine = min(float(highest[at]), 1.0)
            reason = f"review, cosine {cosine:.2f} with {passages[nearest[at]].of.name}"
            text = rows[start + at].text
            found[start + at] = Finding(f"contamination: {reason}", None, cosine, text)
    return found

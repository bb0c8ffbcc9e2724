"""wordnet: English synonyms and antonyms of the words whose meaning is hardly in doubt.

A table of a few thousand common words is part of the package; `wordnet.txt` holds it and WordNet's
licence. `read` makes a larger one from the files of WordNet itself, as they lie in the Debian
package `wordnet-base`; the shipped table is `write(read(FOLDER), PATH, NOTICE)` of WordNet 3.0.

A word has several meanings, and the wrong one's synonyms damage a text. So only the most frequent
meaning counts, only when it is the usual one, and only synonyms whose own first meaning it is.

Source: Fellbaum 1998, "WordNet: An Electronic Lexical Database"; Miller 1995,
https://doi.org/10.1145/219717.219748; file formats as in its manual page wndb(5WN)
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from lightadapt_data import inflections, word_edits
from lightadapt_data.errors import InputError

PATH = Path(__file__).with_name("wordnet.txt")
"""The shipped table."""

PARTS = {"n": "noun", "v": "verb", "a": "adj", "r": "adv"}
"""Parts of speech by WordNet's letters."""

LEAST_SHARE = 0.6
"""Share of a word's uses that its first meaning must have among those of one part of speech."""
LEAST_PART = 0.9
"""Share of a word's uses from which it is taken for one part of speech everywhere."""
LEAST_USES = 2
"""Uses of a word, and of its synonym, in the texts that WordNet's authors counted."""

_LETTERS = {"1": "n", "2": "v", "3": "a", "4": "r", "5": "a"}
"""Part of speech by the digit in a key of a meaning."""


@dataclass(frozen=True)
class Entry:
    """The synonyms of one word as one part of speech."""

    part: str
    """n, v, a or r."""
    is_sure: bool
    """Whether the word is nearly always this part of speech."""
    synonyms: tuple[str, ...]
    """Single lower-case words, sorted; empty when there are none."""


@dataclass(frozen=True)
class WordNet:
    """Entries and antonyms by basic form; all words are lower case."""

    entries: Mapping[str, tuple[Entry, ...]]
    antonyms: Mapping[str, frozenset[str]]
    irregular: frozenset[str]
    """Basic forms with another plural, past or participle than the rules give."""


@dataclass(frozen=True)
class _Meaning:
    """One line of a data file."""

    part: str
    place: str
    words: list[str]
    opposites: list[tuple[int, str, int]]
    """(number of the word here, place of the other meaning, number of the word there), from 1;
    a number 0 stands for all words."""


@lru_cache(maxsize=4)
def load(folder: str = "") -> WordNet:
    """Return the shipped table, or what `folder` with WordNet's own files gives.

    Raises:
        InputError: a file of WordNet is missing or cannot be read.
    """
    return read(Path(folder).expanduser()) if folder else _shipped(PATH)


def fingerprint(folder: str = "") -> str:
    """Return a digest of the files that `load` reads.

    Raises:
        InputError: a file of WordNet is missing.
    """
    from lightadapt_data.shards import digest_of, file_digest

    if not folder:
        return file_digest(PATH)
    return digest_of([file_digest(path) for path in _paths(Path(folder).expanduser()).values()])


def read(folder: Path) -> WordNet:
    """Return synonyms and antonyms from a folder with WordNet's `index`, `data` and other files.

    Raises:
        InputError: a file is missing or cannot be read.
    """
    paths = _paths(folder)
    try:
        senses = {
            (fields[0], letter): fields[-int(fields[2]) :]
            for letter, part in PARTS.items()
            for fields in map(str.split, _lines(paths[f"index.{part}"]))
        }
        uses = _uses(paths["cntlist.rev"])
        meanings = [
            _meaning(line, letter)
            for letter, part in PARTS.items()
            for line in _lines(paths[f"data.{part}"])
        ]
        exceptions = [
            (form, basic)
            for part in ("noun", "verb")
            for form, basic, *_ in map(str.split, _lines(paths[f"{part}.exc"]))
        ]
    except (ValueError, IndexError, KeyError) as error:
        raise InputError(
            f"wordnet: the files in {folder} are not those of WordNet 3 ({error}); "
            "give the folder of the Debian package wordnet-base, /usr/share/wordnet"
        ) from None
    forms = frozenset(form for form, basic in exceptions if form != basic)
    irregular = frozenset(
        basic for form, basic in exceptions if form not in inflections.regular(basic)
    )
    entries = _entries(meanings, senses, uses, forms)
    named = {word for word, found in entries.items() for one in found for word in one.synonyms}
    return WordNet(entries, _antonyms(meanings, uses), irregular & (named | set(entries)))


def write(found: WordNet, path: Path, notice: str) -> None:
    """Write a table that `load` reads, with WordNet's licence `notice` on top."""
    lines = [f"# {line}".rstrip() for line in notice.splitlines()]
    for word, entries in sorted(found.entries.items()):
        for entry in entries:
            sure = "!" if entry.is_sure else "?"
            lines.append(f"{word} {entry.part}{sure} {' '.join(entry.synonyms)}".rstrip())
    for word, others in sorted(found.antonyms.items()):
        later = sorted(other for other in others if other > word)
        if later:
            lines.append(f"{word} - {' '.join(later)}")
    lines.append(f"= {' '.join(sorted(found.irregular))}".rstrip())
    path.write_text("\n".join(lines) + "\n", "utf-8")


def _shipped(path: Path) -> WordNet:
    entries: dict[str, tuple[Entry, ...]] = {}
    antonyms: dict[str, set[str]] = {}
    irregular: frozenset[str] = frozenset()
    for line in path.read_text("utf-8").splitlines():
        word, *rest = line.split()
        if word == "#":
            continue
        if word == "=":
            irregular = frozenset(rest)
        elif rest[0] == "-":
            for other in rest[1:]:
                antonyms.setdefault(word, set()).add(other)
                antonyms.setdefault(other, set()).add(word)
        else:
            entry = Entry(rest[0][0], rest[0][1] == "!", tuple(rest[1:]))
            entries[word] = (*entries.get(word, ()), entry)
    return WordNet(entries, {word: frozenset(all_) for word, all_ in antonyms.items()}, irregular)


def _paths(folder: Path) -> dict[str, Path]:
    names = [f"{kind}.{part}" for part in PARTS.values() for kind in ("index", "data")]
    names += ["cntlist.rev", "noun.exc", "verb.exc"]
    for name in names:
        if not (folder / name).is_file():
            raise InputError(
                f"wordnet: {folder} has no file '{name}'; give the folder of WordNet 3 "
                "(apt install wordnet-base puts it at /usr/share/wordnet), "
                "or leave the folder empty to use the shipped table"
            )
    return {name: folder / name for name in names}


def _lines(path: Path) -> Iterator[str]:
    """Yield the lines of a file without the licence on top, which is indented."""
    with path.open(encoding="utf-8") as file:
        yield from (line for line in file if not line.startswith(" ") and line.strip())


def _uses(path: Path) -> dict[tuple[str, str], dict[int, int]]:
    """Return how often each meaning was counted, by (word, part) and number of the meaning."""
    found: dict[tuple[str, str], dict[int, int]] = {}
    for line in _lines(path):
        key, number, count = line.split()
        word, _, rest = key.partition("%")
        found.setdefault((word, _LETTERS[rest[0]]), {})[int(number)] = int(count)
    return found


def _meaning(line: str, part: str) -> _Meaning:
    fields = line.partition("|")[0].split()
    after = 4 + 2 * int(fields[3], 16)
    words = [word.partition("(")[0] for word in fields[4:after:2]]
    pointers = fields[after + 1 : after + 1 + 4 * int(fields[after])]
    opposites = [
        (int(both[:2], 16), place, int(both[2:], 16))
        for sign, place, _, both in zip(*[iter(pointers)] * 4, strict=True)
        if sign == "!"
    ]
    return _Meaning(part, fields[0], words, opposites)


def _entries(
    meanings: list[_Meaning],
    senses: Mapping[tuple[str, str], list[str]],
    uses: Mapping[tuple[str, str], dict[int, int]],
    forms: frozenset[str],
) -> dict[str, tuple[Entry, ...]]:
    """Return the entries of all common words that are no form of another, such as "men"."""
    totals: dict[str, dict[str, int]] = {}
    for (word, part), counts in uses.items():
        totals.setdefault(word, {})[part] = sum(counts.values())
    found: dict[str, list[Entry]] = {}
    for meaning in meanings:
        usual = []
        for word in dict.fromkeys(meaning.words):
            places = senses.get((word, meaning.part), [""])
            counts = uses.get((word, meaning.part), {})
            is_usual = counts.get(1, 0) >= max(LEAST_USES, LEAST_SHARE * sum(counts.values()))
            is_own = word not in forms and not _is_form(word, senses) and _is_plain(word)
            if places[0] == meaning.place and is_usual and is_own:
                usual.append(word)
        for word in usual:
            all_parts = totals[word]
            is_sure = all_parts[meaning.part] >= LEAST_PART * sum(all_parts.values())
            others = tuple(sorted(set(usual) - {word}))
            found.setdefault(word, []).append(Entry(meaning.part, is_sure, others))
    # A word without any synonym is of no use here.
    return {
        word: tuple(sorted(entries, key=lambda entry: entry.part))
        for word, entries in sorted(found.items())
        if any(entry.synonyms for entry in entries)
    }


def _antonyms(
    meanings: list[_Meaning], uses: Mapping[tuple[str, str], dict[int, int]]
) -> dict[str, frozenset[str]]:
    """Return the antonyms of counted words, in all their meanings."""
    words = {(meaning.part, meaning.place): meaning.words for meaning in meanings}
    found: dict[str, set[str]] = {}
    for meaning in meanings:
        for number, place, other_number in meaning.opposites:
            word = meaning.words[number - 1]
            other = words[meaning.part, place][other_number - 1]
            counted = (word, meaning.part) in uses and (other, meaning.part) in uses
            if counted and word.isalpha() and other.isalpha() and word.islower():
                found.setdefault(word, set()).add(other)
                found.setdefault(other, set()).add(word)
    return {word: frozenset(others) for word, others in sorted(found.items())}


def _is_form(word: str, senses: Mapping[tuple[str, str], list[str]]) -> bool:
    """Return whether a word is a regular form of a noun or verb, as "cows" and "meeting" are."""
    return any(
        (basic, part) in senses
        for basic, kind in inflections.basics(word)
        if kind
        for part in ("nv" if kind == "s" else "v")
    )


def _is_plain(word: str) -> bool:
    """Return whether a word may be replaced or put in: one lower-case word of content."""
    is_word = word.isascii() and word.isalpha() and word.islower() and len(word) > 2
    return is_word and not word_edits.is_function_word(word)

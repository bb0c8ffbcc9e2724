"""From which cosine on are two rows copies of each other? Measured on the corpus itself.

No cosine separates paraphrases from rows that merely speak of the same thing: with small encoders
both reach 0.76. What can be told apart are copies with small changes. So copies are made here, of
a seeded sample of rows and in several kinds, and held against what a wrong drop would look like:
each row's nearest neighbour with fewer than two thirds of its words in common, and a random row.

Precision is that of all drops in a corpus in which a share `copies` of rows are copies: a false
match of 1 row in 1,000 weighs little where half of the rows are copies, and much where few are.
A few hundred rows cannot show such a rate, so false matches are taken to be no fewer than in a
normal distribution of the neighbours' cosines after Fisher's z-transform (Fisher 1921, "On the
probable error of a coefficient of correlation"), which makes them nearly normal.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lightadapt_data.vectors import Floats, uniform

Encode = Callable[[Sequence[str]], Floats]

LEVELS = tuple(round(0.5 + step / 100, 2) for step in range(50))
NEIGHBOUR_ROWS = 20_000
"""Neighbours are looked for among so many rows, where all vectors are at hand."""
QUERY_ROWS = 2_000
N_NEIGHBOURS = 8
SHARED_WORDS = 2 / 3
"""Rows with a smaller share of common words are no copies, however high their cosine."""
BLOCK = 512
FARTHEST = 0.9999
"""Cosines beyond are taken as this one: the transform of 1 is infinite."""
WORD = re.compile(r"\w+")
GIVEN = "given pairs"


@dataclass(frozen=True, slots=True)
class Level:
    """What dropping rows above one cosine would do."""

    threshold: float
    precision: float
    """Share of true copies among all rows dropped, from 0 to 1; 0 where none is dropped."""
    recall: float
    """Share of copies that are dropped, from 0 to 1: the mean over all kinds."""
    recall_of: dict[str, float]
    """The same by kind of copy."""
    false_rate: float
    """Share of rows that would be dropped for a row that is no copy, from 0 to 1; counted, or from
    the tail of the distribution where that is more."""


@dataclass(frozen=True, slots=True)
class Calibration:
    """The chosen threshold and what it was chosen from."""

    threshold: float
    """Rows with a higher cosine are copies."""
    precision: float
    recall: float
    is_reached: bool
    """Whether any threshold has the precision asked for; if not, the most precise one is given."""
    sentence: str
    table: tuple[Level, ...]
    n_copies: int
    n_neighbours: int

    def as_json(self) -> dict[str, Any]:
        """Return all of it as JSON values."""
        return asdict(self)


def calibrate(
    texts: Sequence[str],
    encode: Encode,
    seed: int,
    pairs: Sequence[tuple[str, str]] = (),
    precision: float = 0.99,
    sample: int = 500,
    vectors: Floats | None = None,
    copies: float = 0.05,
) -> Calibration:
    """Return the lowest threshold with the precision asked for, and the table of all thresholds.

    Of several that find equally many copies, the highest.

    Args:
        texts: the corpus; at least two texts of four words.
        encode: gives unit vectors, float32 [texts, dim]. It is called for one planted copy per
            sampled row, for the sampled rows where `vectors` is None, and for `pairs`.
        seed: of the sample and of the changes; with the texts it decides all, their order nothing.
        pairs: further copies to be found, such as back-translated rows.
        precision: share of true copies among the rows dropped [0 to 1].
        sample: rows that get a planted copy, at most.
        vectors: unit vectors of all `texts`, where there are any; neighbours are then looked for
            in the corpus and not in the sample only, and are harder to tell from copies.
        copies: share of the corpus's rows that are taken to be copies [0 to 1].

    Raises:
        ValueError: fewer than two texts of four words.
    """
    order = _drawn(texts, seed)
    if len(order) < 2:
        raise ValueError("calibrate: fewer than two texts of four words; give more texts")
    chosen = order[:sample]
    if vectors is None:
        pool, own = chosen, encode([texts[row] for row in chosen])
    else:
        pool, own = order[:NEIGHBOUR_ROWS], vectors[order[:NEIGHBOUR_ROWS]]
    found = _planted(texts, chosen, own[: len(chosen)], encode, seed)
    if pairs:
        left, right = encode([pair[0] for pair in pairs]), encode([pair[1] for pair in pairs])
        found[GIVEN] = np.einsum("ij,ij->i", left, right)
    neighbours = _neighbours([texts[row] for row in pool], own)
    table = tuple(_level(level, found, neighbours, copies) for level in LEVELS)
    return _choice(table, precision, copies, sum(map(len, found.values())), len(neighbours))


def _drawn(texts: Sequence[str], seed: int) -> list[int]:
    """Return the rows of different texts of four words or more, in seeded random order."""
    import xxhash

    first: dict[int, int] = {}
    for row, text in enumerate(texts):
        if len(text.split(maxsplit=4)) >= 4:
            key = xxhash.xxh3_64_intdigest(text.encode("utf-8", "surrogatepass"))
            first.setdefault(key, row)
    keys = np.fromiter(first, np.uint64, len(first))
    rows = np.fromiter(first.values(), np.int64, len(first))
    result: list[int] = rows[np.lexsort((keys, uniform(keys, seed)))].tolist()
    return result


def _planted(
    texts: Sequence[str], rows: Sequence[int], own: Floats, encode: Encode, seed: int
) -> dict[str, NDArray[np.float32]]:
    """Return the cosines of rows with their planted copies, by kind; each row gets one kind."""
    kinds = list(CHANGES)
    copies = []
    for place, row in enumerate(rows):
        draw = np.random.default_rng([seed, place])
        other = texts[rows[place - 1]].split()
        words = CHANGES[kinds[place % len(kinds)]](texts[row].split(), other, draw)
        copies.append(" ".join(words))
    cosines = np.einsum("ij,ij->i", own, encode(copies))
    return {kind: cosines[place :: len(kinds)] for place, kind in enumerate(kinds[: len(rows)])}


Change = Callable[[list[str], list[str], np.random.Generator], list[str]]


def _few(words: list[str]) -> int:
    """Return how many words a small change touches: one in twenty, at least one."""
    return max(1, len(words) // 20)


def _without(words: list[str], other: list[str], draw: np.random.Generator) -> list[str]:
    gone = set(draw.choice(len(words), _few(words), replace=False).tolist())
    return [word for place, word in enumerate(words) if place not in gone]


def _swapped(words: list[str], other: list[str], draw: np.random.Generator) -> list[str]:
    result = list(words)
    for place in draw.choice(len(words) - 1, _few(words), replace=False).tolist():
        result[place], result[place + 1] = result[place + 1], result[place]
    return result


def _with_more(words: list[str], other: list[str], draw: np.random.Generator) -> list[str]:
    result = list(words)
    for _ in range(_few(words)):
        result.insert(int(draw.integers(len(result) + 1)), other[int(draw.integers(len(other)))])
    return result


def _respelled(words: list[str], other: list[str], draw: np.random.Generator) -> list[str]:
    plain = [re.sub(r"[^\w\s]", "", word).lower() for word in words]
    return [word for word in plain if word] or words


def _cut(words: list[str], other: list[str], draw: np.random.Generator) -> list[str]:
    return words[: len(words) - max(1, len(words) // 10)]


CHANGES: dict[str, Change] = {
    "words dropped": _without,
    "words swapped": _swapped,
    "words inserted": _with_more,
    "case and punctuation": _respelled,
    "cut short": _cut,
}


def _neighbours(texts: Sequence[str], vectors: Floats) -> NDArray[np.float32]:
    """Return for each of the first rows the highest cosine with a row of other words."""
    words: dict[int, frozenset[str]] = {}

    def words_of(row: int) -> frozenset[str]:
        if row not in words:
            words[row] = frozenset(WORD.findall(texts[row].casefold()))
        return words[row]

    n_queries = min(len(texts), QUERY_ROWS)
    highest = np.full(n_queries, -1, np.float32)
    for start in range(0, n_queries, BLOCK):
        queries = np.arange(start, min(start + BLOCK, n_queries))
        cosines = vectors[queries] @ vectors.T
        cosines[queries - start, queries] = -1
        n_near = min(N_NEIGHBOURS, len(texts) - 1)
        near = np.argpartition(-cosines, n_near - 1, axis=1)[:, :n_near]
        # The row before is a random one: rows come in random order.
        candidates = np.concatenate([near, queries[:, None] - 1], axis=1)
        order = np.argsort(-np.take_along_axis(cosines, candidates, axis=1), axis=1, kind="stable")
        candidates = np.take_along_axis(candidates, order, axis=1)
        for query, others in zip(queries.tolist(), candidates.tolist(), strict=True):
            for other in others:
                if _shared(words_of(query), words_of(other)) < SHARED_WORDS:
                    highest[query] = cosines[query - start, other]
                    break
    return highest


def _shared(left: frozenset[str], right: frozenset[str]) -> float:
    return len(left & right) / max(len(left | right), 1)


def _level(
    threshold: float,
    found: dict[str, NDArray[np.float32]],
    neighbours: NDArray[np.float32],
    copies: float,
) -> Level:
    recall_of = {kind: float((cosines > threshold).mean()) for kind, cosines in found.items()}
    recall = float(np.mean(list(recall_of.values())))
    scores = np.arctanh(np.clip(neighbours.astype(np.float64), -FARTHEST, FARTHEST))
    distance = (math.atanh(threshold) - scores.mean()) / max(scores.std(), 1e-6)
    tail = math.erfc(distance / math.sqrt(2)) / 2
    false_rate = max(float((neighbours > threshold).mean()), tail)
    true = copies * recall
    precision = true / (true + (1 - copies) * false_rate) if true else 0.0
    return Level(threshold, precision, recall, recall_of, false_rate)


def _choice(
    table: tuple[Level, ...], precision: float, copies: float, n_copies: int, n_neighbours: int
) -> Calibration:
    enough = [level for level in table if level.precision >= precision]
    best = enough[0] if enough else max(table, key=lambda level: level.precision)
    # A higher threshold that finds as many copies costs nothing and drops fewer other rows.
    best = [level for level in enough if level.recall == best.recall][-1] if enough else best
    kinds = ", ".join(f"{kind} {share:.2f}" for kind, share in best.recall_of.items())
    sentence = (
        f"rows above cosine {best.threshold:.2f} count as copies: precision {best.precision:.3f}, "
        f"recall {best.recall:.2f} ({kinds}), measured on {n_copies:,} planted copies and the "
        f"nearest neighbours of {n_neighbours:,} rows, if {copies:.0%} of rows are copies"
    )
    if not enough:
        sentence += f"; no threshold has the precision {precision:g} asked for"
    return Calibration(
        best.threshold,
        best.precision,
        best.recall,
        bool(enough),
        sentence,
        table,
        n_copies,
        n_neighbours,
    )

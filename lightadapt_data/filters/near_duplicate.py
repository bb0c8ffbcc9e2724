"""near_duplicate: rows that share most of their word n-grams with a kept row.

The Jaccard index of each pair is true, not estimated. N-grams are put in one order, rarest first:
two sets can only reach the threshold when the first few of each hold a common member, so only
rows that share a rare n-gram are compared, and no such pair is missed, but for one limit: a row
is compared with at most 1,024 kept rows, those first that share its rarest n-grams. Rows are
visited in the order of who is kept first, and compared with kept rows only, so no chain of small
changes can delete a row that is like no kept one.

A close row is no copy when it has other words or another number in the place of those of the kept
one: rows made from one template share most n-grams and differ in what they say. Words are compared
without case, punctuation and spacing.

Source: Bayardo, Ma and Srikant 2007, "Scaling Up All Pairs Similarity Search" (prefixes); Xiao et
al. 2008, "Efficient Similarity Joins for Near Duplicate Detection" (positions); threshold as in
Lee et al. 2022, arXiv 2107.06499
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from lightadapt_data import substitutions
from lightadapt_data.config import Config
from lightadapt_data.filters import Context, Finding, Text
from lightadapt_data.ngrams import Codes, Places, ngram_codes

MOST_COMPARED = 1024
"""A row is compared with at most so many kept rows, those first that share its rarest n-grams."""
MOST_READ = 8
"""Close kept rows whose words are compared with a row's, the closest ones."""
CROWD = 16
"""An n-gram that more texts hold is looked up among kept texts only, one text at a time."""
ROUNDS = 4
SLACK = 1e-9


class Settings(Config):
    """Settings of the near_duplicate filter."""

    threshold: float = Field(default=0.8, gt=0, le=1)
    """Jaccard index from which a row counts as a copy [0 to 1]."""
    ngram: int = Field(default=3, ge=1)
    """Words in one n-gram; a shorter text is one n-gram [words]."""
    substitutions: float = Field(default=0.01, ge=0, le=1)
    """Share of a copy's words that may stand in the place of others; spellings do not count, and
    no number may be another; 1 takes every close row for a copy [fraction]."""


def examine(rows: Sequence[Text], settings: Settings, context: Context) -> dict[int, Finding]:
    """Return, for each row too close to an earlier kept row of another family, the closest one.

    The similarity of a finding is the Jaccard index of both sets of n-grams, from the threshold
    to 1. Of equally close rows the first is named.
    """
    if not rows:
        return {}
    codes, bounds = ngram_codes([row.text for row in rows], settings.ngram)
    suspects, codes, bounds = _suspects(codes, bounds, settings.threshold)
    if not suspects:
        return {}
    leaders = _Leaders(*_ranked(codes, bounds), settings.threshold)
    found: dict[int, Finding] = {}
    families = [rows[index].family for index in suspects]
    for place, index in enumerate(suspects):
        copied = None
        if not rows[index].is_settled:
            close = leaders.closest(place, families)
            copied = next(
                (pair for pair in close if _is_copy(rows, index, suspects[pair[1]], settings)),
                None,
            )
        if copied is not None:
            similarity, kept = copied[0], suspects[copied[1]]
            found[index] = Finding(f"similarity {similarity:.2f}", kept, similarity)
        else:
            leaders.add(place)
    return found


def _is_copy(rows: Sequence[Text], index: int, kept: int, settings: Settings) -> bool:
    if settings.substitutions == 1:
        return True
    found = substitutions.between(rows[index].text, rows[kept].text)
    return found.share <= settings.substitutions and not found.has_number


def _prefix(sizes: Places, threshold: float) -> Places:
    """Return how many of a set's rarest members must hold one of any set that is close to it."""
    # Without the slack 0.1 * 30 would count as more than 3.
    least = np.ceil(threshold * sizes - SLACK).astype(np.int64)
    return np.asarray(sizes - least + 1)


def _suspects(codes: Codes, bounds: Places, threshold: float) -> tuple[list[int], Codes, Places]:
    """Return the texts that may be close to another, with their codes and bounds.

    A text whose unshared n-grams fill its prefix is close to none. What it shared is then unshared
    elsewhere, so a few rounds leave little besides copies. It may keep a text too many, never lose
    one: repeats within a text count as shared.
    """
    rows = np.arange(len(bounds) - 1)
    for _ in range(ROUNDS):
        sizes = np.diff(bounds)
        is_open = np.add.reduceat(~_shared(codes), bounds[:-1], dtype=np.int64) < _prefix(
            sizes, threshold
        )
        rows, codes = rows[is_open], codes[np.repeat(is_open, sizes)]
        bounds = np.concatenate([[0], np.cumsum(sizes[is_open])])
        if is_open.mean() > 0.9 or not len(rows):
            break
    return rows.tolist(), codes, bounds


def _shared(codes: Codes) -> NDArray[np.bool_]:
    """Return whether a code occurs more than once; by accident one may count as shared."""
    low = np.uint64((1 << max(len(codes) - 1, 1).bit_length()) - 1)
    # One plain sort is several times faster than an argsort, so the place rides in the low bits.
    keys = codes & ~low
    keys |= np.arange(len(codes), dtype=np.uint64)
    keys.sort()
    same = np.flatnonzero((keys[1:] ^ keys[:-1]) <= low)
    shared = np.zeros(len(codes), bool)
    shared[(keys[same] & low).astype(np.int64)] = True
    shared[(keys[same + 1] & low).astype(np.int64)] = True
    return shared


def _ranked(codes: Codes, bounds: Places) -> tuple[list[Places], int]:
    """Return the set of each text as ranks, rarest first, and the number of ranks."""
    order = np.argsort(codes)
    is_new = np.diff(codes[order], prepend=~codes[order[:1]]) != 0
    ids = np.empty(len(codes), np.int64)
    ids[order] = np.cumsum(is_new) - 1
    n_values = max(int(is_new.sum()), 1)
    owners = np.repeat(np.arange(len(bounds) - 1), np.diff(bounds))
    members = np.sort(owners * n_values + ids)
    members = members[np.diff(members, prepend=-1) > 0]
    owners, ids = members // n_values, members % n_values
    frequency = np.bincount(ids, minlength=n_values)
    by_rank = np.argsort(frequency, kind="stable")
    rank = np.empty(n_values, np.int64)
    rank[by_rank] = np.arange(n_values)
    ranks = np.sort(owners * n_values + rank[ids]) - owners * n_values
    cuts = np.cumsum(np.bincount(owners, minlength=len(bounds) - 1))[:-1]
    return np.split(ranks, cuts), n_values


class _Leaders:
    """The kept texts, to be found by the rare n-grams that they hold."""

    def __init__(self, members: list[Places], n_ranks: int, threshold: float) -> None:
        self._members = members
        self._threshold = threshold
        self._is_member = np.zeros(n_ranks, bool)
        self._is_kept = [False] * len(members)
        firsts = _firsts(members, threshold)
        self._earlier = _pairs(firsts, threshold)
        self._keys = _crowded_keys(firsts)
        self._index: dict[int, dict[tuple[int, int], list[int]]] = {}
        """Kept texts by a crowded n-gram, then by size and number of members from there on."""

    def add(self, place: int) -> None:
        """Keep a text."""
        self._is_kept[place] = True
        size = len(self._members[place])
        for rank, rest in self._keys[place]:
            self._index.setdefault(rank, {}).setdefault((size, rest), []).append(place)

    def closest(self, place: int, families: Sequence[str]) -> list[tuple[float, int]]:
        """Return the indices of the closest kept texts of other families, and these, best first."""
        found: list[tuple[float, int]] = []
        candidates = self._candidates(place)
        if not candidates:
            return found
        ranks = self._members[place]
        self._is_member[ranks] = True
        for kept in sorted(candidates):
            if families[kept] == families[place]:
                continue
            others = self._members[kept]
            common = int(np.count_nonzero(self._is_member[others]))
            similarity = common / (len(ranks) + len(others) - common)
            if similarity >= self._threshold:
                found.append((similarity, kept))
        self._is_member[ranks] = False
        return sorted(found, key=lambda pair: (-pair[0], pair[1]))[:MOST_READ]

    def _candidates(self, place: int) -> set[int]:
        """Return kept texts that may reach the threshold."""
        candidates = {other for other in self._earlier[place] if self._is_kept[other]}
        size = len(self._members[place])
        for rank, rest in self._keys[place]:
            for (other, others_rest), kept in self._index.get(rank, {}).items():
                if min(rest, others_rest) >= _needed(size + other, self._threshold):
                    candidates.update(kept)
            if len(candidates) >= MOST_COMPARED:
                return set(sorted(candidates)[:MOST_COMPARED])
        return candidates


def _needed(sizes: Any, threshold: float) -> Any:
    """Return how many common members two sets need, given the sum of their sizes.

    The first common member of two sets bounds how many there are: no more than follow in either.
    """
    return threshold / (1 + threshold) * sizes - SLACK


@dataclass(frozen=True)
class _Firsts:
    """The first members of all sets that are among the first of another, by rank, then by text."""

    ranks: Places
    owners: Places
    rests: Places
    """Members of the set from this one on."""
    sizes: Places
    """Members of each text's set."""
    is_crowded: NDArray[np.bool_]
    """Whether more than CROWD texts hold it."""


def _firsts(members: list[Places], threshold: float) -> _Firsts:
    sizes = np.array([len(ranks) for ranks in members], np.int64)
    lengths = _prefix(sizes, threshold)
    ranks = np.concatenate([own[:length] for own, length in zip(members, lengths, strict=True)])
    owners = np.repeat(np.arange(len(members)), lengths)
    rests = np.repeat(sizes + np.cumsum(lengths) - lengths, lengths) - np.arange(len(ranks))
    order = np.argsort(ranks, kind="stable")
    n_holders = np.bincount(ranks)[ranks[order]]
    order, n_holders = order[n_holders > 1], n_holders[n_holders > 1]
    return _Firsts(ranks[order], owners[order], rests[order], sizes, n_holders > CROWD)


def _pairs(firsts: _Firsts, threshold: float) -> list[list[int]]:
    """Return for each text the earlier ones that share one of its uncrowded first members."""
    picked = np.flatnonzero(~firsts.is_crowded)
    ranks, owners, rests = firsts.ranks[picked], firsts.owners[picked], firsts.rests[picked]
    n_texts = len(firsts.sizes)
    found = [np.zeros(0, np.int64)]
    for shift in range(1, CROWD):
        left = np.flatnonzero(ranks[shift:] == ranks[:-shift])
        right = left + shift
        sizes = firsts.sizes[owners[left]] + firsts.sizes[owners[right]]
        is_open = np.minimum(rests[left], rests[right]) >= _needed(sizes, threshold)
        found.append(owners[right[is_open]] * n_texts + owners[left[is_open]])
    pairs = np.sort(np.concatenate(found))
    pairs = pairs[np.diff(pairs, prepend=-1) > 0]
    return _by_owner((pairs % n_texts).tolist(), pairs // n_texts, n_texts)


def _crowded_keys(firsts: _Firsts) -> list[list[tuple[int, int]]]:
    """Return for each text (rank, members from there on) of its crowded first members."""
    picked = np.flatnonzero(firsts.is_crowded)
    picked = picked[np.lexsort((firsts.ranks[picked], firsts.owners[picked]))]
    keys = zip(firsts.ranks[picked].tolist(), firsts.rests[picked].tolist(), strict=True)
    return _by_owner(list(keys), firsts.owners[picked], len(firsts.sizes))


def _by_owner(values: list[Any], owners: Places, n_owners: int) -> list[list[Any]]:
    """Return the values of each owner; `owners` are sorted."""
    cuts = np.searchsorted(owners, np.arange(n_owners + 1)).tolist()
    return [values[start:end] for start, end in itertools.pairwise(cuts)]

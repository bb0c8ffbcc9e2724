"""What augmentation did: pairs of texts with the differing words marked, verdicts, acceptance."""

from __future__ import annotations

import difflib
import re
from collections import Counter
from collections.abc import Iterator
from typing import Any

from lightadapt_data.reporting import story
from lightadapt_data.shards import Workspace

PIECE = re.compile(r"\s+|\w+|[^\w\s]")
PAIR_CHARS = 1200
"""Characters of a text that are compared; the rest of a longer one is cut off."""
LOOK_INTO = 8
"""Shards per method and file from which examples are taken; their borders are drawn by hash."""

Pieces = list[tuple[str, bool]]
"""Neighbouring pieces of a text, and whether each one differs from the other text."""


def acceptance(workspace: Workspace) -> list[dict[str, Any]]:
    """Return per method and origin: parents, accepted, rejected, and the top refusal reasons."""
    import pyarrow.parquet as pq

    totals: dict[tuple[str, str], Counter[str]] = {}
    refusals: dict[tuple[str, str], Counter[str]] = {}
    for done in story.augment_shards(workspace):
        key = (done.args["method"], done.args["origin"])
        totals.setdefault(key, Counter()).update(done.counts)
        gates = pq.read_table(done.file("rejected.parquet"), columns=["gate"])["gate"]
        refusals.setdefault(key, Counter()).update(gates.to_pylist())
    return [
        {
            "method": key[0],
            "origin": key[1],
            "parents": counts["rows_in"],
            "accepted": counts["rows_out"],
            "rejected": counts["rejected"],
            "share": counts["rows_out"] / max(1, counts["rows_out"] + counts["rejected"]),
            "refusals": refusals[key].most_common(3),
        }
        for key, counts in sorted(totals.items())
    ]


def examples(workspace: Workspace, most: int) -> list[dict[str, Any]]:
    """Return accepted and rejected rows of every method, at most about `most` in all.

    Keys: the row's own, `verdicts` by gate, and for a new text `before` and `after`: the pieces
    of parent and child, or None where the text stayed as it was.
    """
    methods = sorted({done.args["method"] for done in story.augment_shards(workspace)})
    found = []
    for method in methods:
        for file in ("accepted", "rejected"):
            wanted = max(1, most // (2 * len(methods)))
            found += _varied(list(_first_rows(workspace, method, file)), wanted)
    parents = story.texts_of(workspace, {row["parent_id"] for row in found if row["parent_id"]})
    for row in found:
        parent = parents.get(row["parent_id"] or "")
        pair = None if parent is None else differing(parent, row["text"])
        row["before"], row["after"] = pair or (None, None)
        row["verdicts"] = story.verdicts(workspace, row)
    return found


def differing(before: str, after: str) -> tuple[Pieces, Pieces]:
    """Return both texts cut into pieces, the words that only one of them has marked."""
    a, b = (PIECE.findall(text[:PAIR_CHARS]) for text in (before, after))
    left: Pieces = []
    right: Pieces = []
    matcher = difflib.SequenceMatcher(None, a, b, autojunk=False)
    for kind, a0, a1, b0, b1 in matcher.get_opcodes():
        for pieces, words in ((left, a[a0:a1]), (right, b[b0:b1])):
            if words:
                pieces.append(("".join(words), kind != "equal"))
    return left, right


def _first_rows(workspace: Workspace, method: str, file: str) -> Iterator[dict[str, Any]]:
    """Yield rows of the first few shards of a method; those of the baseline are left out."""
    import pyarrow.parquet as pq

    n_looked = 0
    for done in story.augment_shards(workspace):
        if done.args["method"] == method and done.args["origin"] != "baseline":
            n_looked += 1
            yield from pq.read_table(done.file(f"{file}.parquet")).slice(0, 64).to_pylist()
        if n_looked == LOOK_INTO:
            return


def _varied(candidates: list[dict[str, Any]], wanted: int) -> list[dict[str, Any]]:
    """Return `wanted` rows, taking turns between the gates that refused, in a stable order."""
    turn: Counter[str] = Counter()
    keyed = []
    for number, row in enumerate(candidates):
        keyed.append((turn[row["gate"]], number))
        turn[row["gate"]] += 1
    return [candidates[number] for _, number in sorted(keyed)[:wanted]]

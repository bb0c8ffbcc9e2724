"""judging: ask the gates about an augmenter's candidates, and cap what one parent may add."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from lightadapt_data import methods, sentences
from lightadapt_data.augmenters import Candidate, Encode


@dataclass
class Judged:
    """A candidate, and what was said of it."""

    candidate: Candidate
    gate: str = ""
    """Who refused it: a gate, the method, "held_out", "sibling" or "accepted_per_row"; empty when
    it is accepted."""
    reason: str = ""
    """Why, with the evidence; empty when it is accepted."""
    scores: dict[str, float] = field(default_factory=dict)
    """Score by gate, for the gates that were asked and give one; the method's own among them."""

    def refuse(self, gate: str, reason: str) -> None:
        """Note who refuses it and why."""
        self.gate, self.reason = gate, reason


def words(text: str) -> str:
    """Return what two texts are compared by: their words, or all of a text that has none."""
    return sentences.normalised(text) or text.strip()


def judge(
    method: str,
    candidates: Sequence[Candidate],
    parents: Mapping[str, str],
    held_out: Mapping[str, str],
    gates: Mapping[str, Any],
    encode: Encode,
    most: int,
) -> list[Judged]:
    """Return every candidate with the verdict on it, in their order.

    Args:
        method: the augmenter; gates in its `SKIPS_GATES` are not asked.
        candidates: what it offers.
        parents: text by id of the parent.
        held_out: name of a validation or test row by its `words`; no candidate may equal one.
        gates: settings by gate, in the order of asking; the first that refuses ends it.
        encode: texts to unit vectors, for the gates that want it.
        most: accepted candidates per parent.
    """
    judged = [Judged(candidate) for candidate in candidates]
    for one in judged:
        if one.candidate.score is not None:
            one.scores[method] = one.candidate.score
        held = held_out.get(words(one.candidate.text))
        if one.candidate.refused:
            one.refuse(method, one.candidate.refused)
        elif held is not None:
            one.refuse("held_out", f"held_out: the text has the words of {held}")
    skipped = methods.load("augmenters", method).SKIPS_GATES
    for gate, settings in gates.items():
        waiting = [one for one in judged if not one.gate]
        if gate not in skipped and waiting:
            _ask(gate, settings, waiting, parents, encode)
    _cap(judged, most)
    return judged


def _ask(
    gate: str,
    settings: Any,
    waiting: Sequence[Judged],
    parents: Mapping[str, str],
    encode: Encode,
) -> None:
    before = [parents[one.candidate.parent_id] for one in waiting]
    after = [one.candidate.text for one in waiting]
    verdicts = methods.load("gates", gate).judge(before, after, settings, encode)
    for one, verdict in zip(waiting, verdicts, strict=True):
        if verdict.score is not None:
            one.scores[gate] = verdict.score
        if not verdict.passed:
            one.refuse(gate, verdict.reason)


def _cap(judged: Sequence[Judged], most: int) -> None:
    """Refuse repeats among a parent's candidates, and those beyond `most`."""
    accepted: dict[str, list[str]] = {}
    for one in judged:
        if one.gate:
            continue
        siblings = accepted.setdefault(one.candidate.parent_id, [])
        own = words(one.candidate.text)
        if own in siblings:
            one.refuse("sibling", "sibling: the words of another accepted candidate")
        elif len(siblings) >= most:
            one.refuse("accepted_per_row", f"accepted_per_row: the row has {most} accepted already")
        else:
            siblings.append(own)

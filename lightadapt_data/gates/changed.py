"""changed: refuses a child that says the parent's words again.

Source: own; a fifth of round trips through a translator come back as they left, and a copy adds
weight to a row but no information.
"""

from __future__ import annotations

from collections.abc import Sequence

from lightadapt_data import sentences
from lightadapt_data.config import Config
from lightadapt_data.gates import Encode, Verdict


class Settings(Config):
    """Settings of changed; it has none."""


def judge(
    parents: Sequence[str], children: Sequence[str], settings: Settings, encode: Encode
) -> list[Verdict]:
    """Return a verdict per pair; case, punctuation and spacing are no change."""
    return [_verdict(parent, child) for parent, child in zip(parents, children, strict=True)]


def _verdict(parent: str, child: str) -> Verdict:
    if not child.strip():
        return Verdict(False, "changed: the child is empty")
    if sentences.normalised(child) == sentences.normalised(parent):
        return Verdict(False, "changed: the child has the parent's words")
    return Verdict(True)

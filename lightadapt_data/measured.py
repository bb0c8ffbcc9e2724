"""What a run measures on its own corpus: the cosine from which on two rows are copies."""

from __future__ import annotations

import numpy as np

from lightadapt_data import methods
from lightadapt_data.augmenters import Context
from lightadapt_data.calibration import Calibration, calibrate
from lightadapt_data.corpus import Corpus, rows_at
from lightadapt_data.errors import InputError
from lightadapt_data.filtering import RunContext
from lightadapt_data.shards import Workspace
from lightadapt_data.vectors import uniform

MOST_ROWS = 20_000
"""Rows that take part, drawn by key [rows]."""


def copies(workspace: Workspace, n_pairs: int) -> Calibration:
    """Return precision and recall of cosine thresholds on the embedded corpus of a run.

    Args:
        workspace: of a run whose embed stage is finished.
        n_pairs: rows that are translated to Portuguese and back as a further kind of copy; they
            should be English. 0 for none.

    Raises:
        InputError: the corpus has fewer than two texts of four words.
    """
    corpus = Corpus(workspace)
    drawn = np.lexsort((corpus.keys, uniform(corpus.keys, workspace.seed)))[:MOST_ROWS]
    places = np.sort(drawn)
    texts = [row["text"] for row in rows_at(workspace, places.tolist(), ("text",))]
    context = RunContext(workspace)
    pairs = _translated(texts[:n_pairs], context) if n_pairs else []
    try:
        return calibrate(
            texts, context.encode, workspace.seed, pairs, vectors=corpus.vectors_at(places)
        )
    except ValueError as error:
        raise InputError(f"corpus: {error}") from None


def _translated(texts: list[str], context: RunContext) -> list[tuple[str, str]]:
    """Return each text with what comes back from Portuguese, where something else does."""
    module, options = methods.chosen("augmenters", "back_translate", {})
    rows = [{"id": str(number), "text": text} for number, text in enumerate(texts)]
    found = module.augment(rows, options, Context(context.seed, rows, context.encode))
    return [
        (texts[int(candidate.parent_id)], candidate.text)
        for candidate in found
        if not candidate.refused and candidate.text != texts[int(candidate.parent_id)]
    ]

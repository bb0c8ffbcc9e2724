"""Extractive answers: check given ones, find the best among scores, compare by SQuAD's rules.

Source: Devlin et al. 2019, https://arxiv.org/abs/1810.04805 sections 4.2 and 4.3 (score of a span,
threshold of no answer); Rajpurkar et al. 2016 and 2018, https://arxiv.org/abs/1606.05250 section
6.1, https://arxiv.org/abs/1806.03822 (exact match and F1, with and without answers)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

FORM = "{text: [...], answer_start: [...]}, or a list of {text, answer_start}"


@dataclass(frozen=True)
class Reading:
    """What a model says of one window of a context; scores are sums of a start and an end logit."""

    start: int
    """Where the best answer starts [characters of the context]."""
    end: int
    """Where it ends [characters]; equal to `start` where the window has no token."""
    score: float
    """Of the best answer; minus infinity where the window has no token."""
    null_score: float
    """Of no answer."""
    log_sum: float
    """Log of the sum of exp(score) over all answers in the window."""
    loss: float
    """Mean cross-entropy of the true start and end, among the context's tokens and the place of no
    answer; not a number where they are not known [nats]."""


@dataclass(frozen=True)
class Answer:
    """What a model answers; `start` and `end` are -1 when it says that there is no answer."""

    start: int
    end: int
    probability: float
    """Of this answer, among all answers in all windows and no answer [0 to 1]."""


def checked(given: Any, context: str) -> dict[str, list[Any]] | None:
    """Return a row's answers as `text` and `answer_start`, lists of equal length.

    None means that nobody has looked for an answer, empty lists that the context has none.

    Raises:
        ValueError: the answers have another form, or do not stand where they should.
    """
    if given is None:
        return None
    texts, starts = _columns(given)
    for number, (text, start) in enumerate(zip(texts, starts, strict=True)):
        _check(f"answers[{number}]", text, start, context)
    return {"text": texts, "answer_start": starts}


def _columns(given: Any) -> tuple[list[Any], list[Any]]:
    """Return texts and starts of either form."""
    if isinstance(given, Mapping):
        texts, starts = given.get("text"), given.get("answer_start")
        if isinstance(texts, list) and isinstance(starts, list):
            if len(texts) == len(starts):
                return list(texts), list(starts)
            raise ValueError(
                f"answers have {len(texts)} text and {len(starts)} answer_start; allowed: as many"
            )
    elif isinstance(given, list) and all(isinstance(answer, Mapping) for answer in given):
        return [a.get("text") for a in given], [a.get("answer_start") for a in given]
    raise ValueError(f"answers are {str(given)[:80]!r}; allowed: {FORM}; no answer: empty lists")


def _check(where: str, text: Any, start: Any, context: str) -> None:
    if not isinstance(text, str) or not text.strip():
        raise ValueError(f"{where}: text is {text!r}; allowed: text; no answer: empty lists")
    if not isinstance(start, int) or isinstance(start, bool) or start < 0:
        raise ValueError(f"{where}: answer_start is {start!r}; allowed: a whole number from 0")
    found = context[start : start + len(text)]
    if found == text:
        return
    at = context.find(text)
    remedy = "it is nowhere in the context" if at < 0 else f"it is at character {at}"
    raise ValueError(
        f"{where}: {text[:40]!r} is not at character {start} of the context, which has "
        f"{found[:40]!r} there; {remedy}"
    )


def read_scores(
    scores: NDArray[np.floating[Any]],
    tokens: NDArray[np.int32],
    null_place: int,
    true: tuple[int, int],
    longest: int,
) -> Reading:
    """Return the best answer in a window, and what is needed to compare it with other windows.

    Args:
        scores: logits of start and end, [2, places].
        tokens: of each token of the context its place, first character, end; int32 [tokens, 3].
        null_place: the place whose logits say that there is no answer.
        true: places of the true start and end; negative where they are not known.
        longest: most tokens of an answer.
    """
    starts, ends = scores.astype(np.float64)
    null_score = float(starts[null_place] + ends[null_place])
    loss = float("nan")
    if min(true) >= 0:
        known = np.append(tokens[:, 0], null_place)
        loss = float(
            np.logaddexp.reduce(starts[known])
            - starts[true[0]]
            + np.logaddexp.reduce(ends[known])
            - ends[true[1]]
        )
    if not len(tokens):
        return Reading(0, 0, -np.inf, null_score, -np.inf, loss / 2)
    width = min(longest, len(tokens))
    later = np.concatenate([ends[tokens[:, 0]], np.full(width - 1, -np.inf)])
    # Row i, column j: the answer from token i to token i + j.
    sums = starts[tokens[:, 0], None] + np.lib.stride_tricks.sliding_window_view(later, width)
    first, more = divmod(int(sums.argmax()), width)
    return Reading(
        start=int(tokens[first, 1]),
        end=int(tokens[first + more, 2]),
        score=float(sums[first, more]),
        null_score=null_score,
        log_sum=float(np.logaddexp.reduce(sums, axis=None)),
        loss=loss / 2,
    )


def chosen(readings: Sequence[Reading], null_threshold: float) -> Answer:
    """Return the answer to a question, of the readings of all windows of its context.

    There is no answer when no window says otherwise: the lowest score of no answer counts. What two
    windows share counts twice below the line of the probability, which is a little low then.
    """
    best = max(readings, key=lambda reading: reading.score)
    null_score = min(reading.null_score for reading in readings)
    total = float(np.logaddexp.reduce([null_score, *(reading.log_sum for reading in readings)]))
    if best.score == -np.inf or null_score - best.score > null_threshold:
        return Answer(-1, -1, float(np.exp(null_score - total)))
    return Answer(best.start, best.end, float(np.exp(best.score - total)))


def exact_match_and_f1(
    predicted: Sequence[str], references: Sequence[Sequence[str]]
) -> tuple[float, float]:
    """Return SQuAD's exact match and F1 [0 to 1], means over questions.

    A question without references has no answer: "" is right then, and everything else wrong.

    Args:
        predicted: an answer to each question, "" for none; at least one.
        references: the true answers to each question; the best of them counts.
    """
    from torchmetrics.functional.text.squad import squad

    found = squad(
        [{"id": str(i), "prediction_text": text} for i, text in enumerate(predicted)],
        [
            {"id": str(i), "answers": {"text": list(texts) or [""], "answer_start": [0]}}
            for i, texts in enumerate(references)
        ],
    )
    return float(found["exact_match"]) / 100, float(found["f1"]) / 100

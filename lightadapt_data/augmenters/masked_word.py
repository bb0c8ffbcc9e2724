"""masked_word: a masked language model puts other words in place of a few.

The words fit their sentence, but need not mean the same ("great" may become "bad"), so the gates
and a check of the label belong with it. Capitalised words, numbers, negations, addresses, code and
words of grammar stay; no word is replaced by a part of a word, its own form or its antonym.

Source: Kobayashi 2018, "Contextual Augmentation", https://aclanthology.org/N18-2072; without the
label, as in Kumar et al. 2020, https://aclanthology.org/2020.lifelongnlp-1.3
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from lightadapt_data import inflections, model_files, sentences, word_edits, wordnet
from lightadapt_data.augmenters import Candidate, Context, generator
from lightadapt_data.errors import InputError
from lightadapt_data.word_edits import EditSettings

FEEDS_ON = "train"
SKIPS_GATES: frozenset[str] = frozenset()

_NO_MODEL = (
    "masked_word: no model is set; set model = NAME in [augment.masked_word] to a folder "
    "or a Hub id of a model with a masked-LM head, such as google-bert/bert-base-uncased"
)
_WINDOW = 100
"""Longer sentences are shown to the model in parts of so many tokens [tokens of `word_edits`]."""


class Settings(EditSettings):
    """Settings of masked_word."""

    NOT_IN_KEY: ClassVar[frozenset[str]] = frozenset({"batch", "device"})

    model: str = ""
    """Folder, installed package or Hub id of a model with a masked-LM head; must be set."""
    share_of_words: float = Field(default=0.15, gt=0, le=1)
    """Part of the row's words that are replaced, at least one; fewer if fewer can be [0-1]."""
    top: int = Field(default=20, ge=1)
    """The model's best words for a place, among which one is drawn [words]."""
    temperature: float = Field(default=1.0, gt=0)
    """Above 1 draws rarer words, below 1 more usual ones."""
    batch: int = Field(default=32, ge=1)
    """Sentences that the model reads at once [rows]."""
    device: str = "cpu"
    """Device of the model, as torch calls it."""


@dataclass(frozen=True)
class _Model:
    model: Any
    tokenizer: Any
    words: dict[int, str]
    """Whole lower-case words by id, in the order of ids."""
    ids: NDArray[np.int64]
    most_tokens: int


@dataclass
class _Draft:
    """A candidate on its way."""

    row: Mapping[str, Any]
    replica: int
    own: random.Random
    tokens: list[str]
    places: list[int]
    """Places of the words to replace, in order."""


@dataclass(frozen=True)
class _Task:
    """A part of a draft as the model sees it."""

    draft: int
    places: list[int]
    ids: list[int]


def augment(
    rows: Sequence[Mapping[str, Any]], settings: Settings, context: Context
) -> list[Candidate]:
    """Return `replicas` candidates per row, in row order; refused where no word could be replaced.

    Without a model, every candidate is refused with the setting that is missing.

    Raises:
        InputError: the model cannot be found or has no masked-LM head.
    """
    drafts = [
        _draft(row, replica, settings, context.seed)
        for row in rows
        for replica in range(settings.replicas)
    ]
    if not settings.model:
        return [_candidate(draft, _NO_MODEL) for draft in drafts]
    engine = _engine(model_files.find(settings.model), settings.device, settings.model)
    tasks = [task for number, draft in enumerate(drafts) for task in _tasks(number, draft, engine)]
    # Equal lengths only: padding would let neighbours touch a row's last bits.
    order = sorted(range(len(tasks)), key=lambda i: (len(tasks[i].ids), i))
    found: dict[int, NDArray[np.float32]] = {}
    for group in _groups(order, tasks, settings.batch):
        scores = _scores([tasks[i] for i in group], engine)
        found.update(zip(group, scores, strict=True))
    for i, task in enumerate(tasks):
        _fill(drafts[task.draft], task, found[i], engine, settings)
    refused = "no word that the model could replace"
    return [
        _candidate(draft, refused if "".join(draft.tokens) == str(draft.row["text"]) else "")
        for draft in drafts
    ]


def reads(settings: Settings) -> dict[str, str]:
    """Return the fingerprints of the model and the antonyms that the output depends on.

    Raises:
        InputError: no model is set, or it cannot be found or has no masked-LM head.
    """
    if not settings.model:
        raise InputError(_NO_MODEL)
    folder = model_files.find(settings.model)
    _check_head(folder, settings.model)
    return {"model": model_files.fingerprint(folder), "wordnet": wordnet.fingerprint()}


def _draft(row: Mapping[str, Any], replica: int, settings: Settings, seed: int) -> _Draft:
    own = generator(seed, "masked_word", str(row["id"]), replica)
    pieces = word_edits.cut(str(row["text"]), settings.keep)
    places = word_edits.content(pieces)
    n_words = len(pieces.editable) + len(pieces.kept)
    wanted = max(1, round(settings.share_of_words * n_words))
    chosen = sorted(own.sample(places, min(wanted, len(places))))
    return _Draft(row, replica, own, pieces.tokens, chosen)


def _candidate(draft: _Draft, refused: str) -> Candidate:
    row = draft.row
    text = "".join(draft.tokens)
    return Candidate(str(row["id"]), text, row.get("label"), draft.replica, refused=refused)


def _tasks(number: int, draft: _Draft, engine: _Model) -> Iterator[_Task]:
    """Yield the sentences with words to replace; those that the model cannot read are left out."""
    mask = engine.tokenizer.mask_token
    if not draft.places:
        return
    masked = set(draft.places)
    for start, stop in _windows(draft.tokens):
        places = [place for place in range(start, stop) if place in masked]
        if not places:
            continue
        text = "".join(mask if i in masked else draft.tokens[i] for i in range(start, stop))
        ids = engine.tokenizer(text)["input_ids"]
        is_clear = ids.count(engine.tokenizer.mask_token_id) == len(places)
        if is_clear and len(ids) <= engine.most_tokens:
            yield _Task(number, places, ids)


def _windows(tokens: Sequence[str]) -> Iterator[tuple[int, int]]:
    """Yield the places of the sentences, cut where they are long."""
    ends, length = [], 0
    for sentence, gap in sentences.split("".join(tokens)):
        length += len(sentence) + len(gap)
        ends.append(length)
    start = position = 0
    borders = iter(ends)
    border = next(borders, 0)
    for i, token in enumerate(tokens):
        position += len(token)
        if position >= border or i - start >= _WINDOW:
            yield start, i + 1
            start = i + 1
        while border <= position and (following := next(borders, None)) is not None:
            border = following
    if start < len(tokens):
        yield start, len(tokens)


def _groups(order: Sequence[int], tasks: Sequence[_Task], batch: int) -> Iterator[list[int]]:
    group: list[int] = []
    for i in order:
        if group and (len(group) == batch or len(tasks[group[0]].ids) != len(tasks[i].ids)):
            yield group
            group = []
        group.append(i)
    if group:
        yield group


def _scores(tasks: Sequence[_Task], engine: _Model) -> list[NDArray[np.float32]]:
    """Return, for each task, the scores of all whole words at its masks [masks, words]."""
    import torch

    ids = torch.tensor([task.ids for task in tasks], device=engine.model.device)
    with torch.inference_mode():
        logits = engine.model(input_ids=ids, attention_mask=torch.ones_like(ids)).logits
    is_mask = ids == engine.tokenizer.mask_token_id
    return [logits[i, is_mask[i]].float().cpu().numpy()[:, engine.ids] for i in range(len(tasks))]


def _fill(
    draft: _Draft, task: _Task, scores: NDArray[np.float32], engine: _Model, settings: Settings
) -> None:
    """Draw a word for each place of a task, in place."""
    for place, row in zip(task.places, scores, strict=True):
        barred = _barred(draft.tokens[place])
        best = np.argsort(-row, kind="stable")[: settings.top + len(barred)]
        ids = [int(engine.ids[i]) for i in best]
        allowed = [n for n, i in enumerate(ids) if engine.words[i] not in barred][: settings.top]
        if not allowed:
            continue
        # In the order of ids: two words that change ranks by a rounding error draw the same.
        allowed.sort(key=lambda n: ids[n])
        weights = np.exp((row[best[allowed]] - row[best[allowed]].max()) / settings.temperature)
        drawn = draft.own.choices(allowed, weights.astype(float).tolist())[0]
        draft.tokens[place] = engine.words[ids[drawn]]
        word_edits.fix_article(draft.tokens, place)


@lru_cache(maxsize=65536)
def _barred(word: str) -> frozenset[str]:
    """Return a word, its forms and its antonyms."""
    antonyms = wordnet.load().antonyms
    basics = {basic for basic, _ in inflections.basics(word)}
    own = basics.union(*(inflections.regular(basic) for basic in basics))
    others = {other for basic in basics for other in antonyms.get(basic, ())}
    return frozenset(own | others).union(*(inflections.regular(other) for other in others))


@lru_cache(maxsize=1)
def _engine(folder: Path, device: str, name: str) -> _Model:
    from transformers import AutoModelForMaskedLM, AutoTokenizer

    _check_head(folder, name)
    model, info = AutoModelForMaskedLM.from_pretrained(
        folder, output_loading_info=True, local_files_only=True
    )
    if info["missing_keys"]:
        raise InputError(_no_head(name, f"its files lack {sorted(info['missing_keys'])[0]}"))
    tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    if tokenizer.mask_token_id is None:
        raise InputError(_no_head(name, "its tokenizer has no mask token"))
    words = _whole_words(tokenizer)
    most = min(tokenizer.model_max_length, getattr(model.config, "max_position_embeddings", 512))
    # RoBERTa counts positions from 2.
    return _Model(model.eval().to(device), tokenizer, words, np.array(list(words)), most - 2)


def _whole_words(tokenizer: Any) -> dict[int, str]:
    """Return the vocabulary's whole lower-case words of content, by id."""
    pieces = sorted((number, piece) for piece, number in tokenizer.get_vocab().items())
    firsts = {piece[:1] for _, piece in pieces}
    # A vocabulary of word pieces may hold the other signs as plain characters.
    is_word_piece = any(piece.startswith("##") for _, piece in pieces)
    starts = "" if is_word_piece else next((sign for sign in "Ġ▁" if sign in firsts), "")
    special = set(tokenizer.all_special_ids)
    found = {}
    for number, piece in pieces:
        word = piece.removeprefix(starts)
        is_whole = piece.startswith(starts) and word.isalpha() and len(word) > 1
        is_plain = word == word.lower() and not word_edits.is_function_word(word)
        if number not in special and is_whole and is_plain:
            found[number] = word
    return found


def _check_head(folder: Path, name: str) -> None:
    """Raise InputError when a model's configuration names no masked-LM head."""
    path = folder / "config.json"
    config = json.loads(path.read_text("utf-8")) if path.exists() else {}
    architectures = config.get("architectures") or []
    if not any(str(one).endswith(("ForMaskedLM", "ForPreTraining")) for one in architectures):
        raise InputError(_no_head(name, f"it is a {', '.join(architectures) or 'model'}"))


def _no_head(name: str, reason: str) -> str:
    return (
        f"masked_word: model '{name}' has no masked-LM head ({reason}); allowed: models of a class "
        "...ForMaskedLM; set model in [augment.masked_word] to one, such as "
        "google-bert/bert-base-uncased"
    )

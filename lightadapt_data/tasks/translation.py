"""translation: write a second text for a first one; columns `source` and `target`.

Any rows of two texts will do: translation, summaries, questions to be made of answers. Rows without
a target cannot be trained on, but the model can write one for them.

Encoder-decoders (T5, BART, Marian, M2M100, NLLB) read the source and learn the target. Decoders
read it inside a template and go on with the target; only the target's tokens count in the loss.
Models of many languages need `source_language` and `target_language`, in their own codes.

BLEU and chrF are sacrebleu's, over all rows and from 0 to 100; their signatures are logged, for
figures without one cannot be compared. BLEU splits words in the way of European languages, so for
Chinese or Japanese read chrF.

Source: Sutskever et al. 2014, https://arxiv.org/abs/1409.3215 section 2; Radford et al. 2019,
"Language Models are Unsupervised Multitask Learners", section 3.7 (decoders); Popovic 2015,
https://aclanthology.org/W15-3049 (chrF); Post 2018, https://arxiv.org/abs/1804.08771 (signatures)
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pydantic import Field, field_validator

from lightadapt_data import base_models, token_losses, writing
from lightadapt_data.config import Config
from lightadapt_data.errors import InputError
from lightadapt_data.tasks import Built, Columns, text_in
from lightadapt_data.token_losses import IGNORED

logger = logging.getLogger(__name__)

NEEDS = ("source", "target")
MAIN_METRIC = "chrf"
GOAL = "max"
SCALE = "0 to 100"
LEAST_LABELS = 0
HEADS = {"next": "AutoModelForCausalLM", "sequence": "AutoModelForSeq2SeqLM"}
PLACE = "{source}"


class Settings(Config):
    """Settings of translation."""

    max_tokens: int = Field(default=128, ge=4)
    """Longer sources are cut to this length, with what stands around them [tokens]."""
    max_target_tokens: int = Field(default=128, ge=2)
    """Longer targets are cut to this length in training, and no longer one is written [tokens]."""
    prefix: str = ""
    """Put before every source; T5 was trained with "translate English to German: "."""
    source_language: str = ""
    """The source's language in the model's own code: NLLB "eng_Latn", M2M100 "en"."""
    target_language: str = ""
    """The target's, likewise; the model is made to begin with it."""
    beams: int = Field(default=1, ge=1)
    """Candidates that are followed when a target is written; 1: the likeliest token each time."""
    template: str = "{source}\n=>\n"
    """What a decoder reads before it writes; encoder-decoders do not use it."""

    @field_validator("template")
    @classmethod
    def _has_one_place(cls, template: str) -> str:
        """Check that the source has a place in the template."""
        if template.count(PLACE) != 1:
            raise ValueError(
                f"it has {template.count(PLACE)} places for the source; allowed: one {PLACE}"
            )
        return template


@dataclass(frozen=True)
class Example:
    """Two texts as numbers."""

    token_ids: tuple[int, ...]
    """The source; of a decoder with the target behind it."""
    n_read: int
    """How many of these the model reads before it writes."""
    target_ids: tuple[int, ...]
    """What it has to write, its end included; empty where that is not known."""
    target: str | None
    is_decoder: bool


@dataclass(frozen=True)
class Written:
    """What a model wrote, and how it takes the target that it had to write."""

    text: str
    loss_sum: float
    """Sum of the negative log-likelihoods of the target's tokens, each after the true ones before
    it [nats]."""
    n_tokens: int


def labels(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return nothing: there are no names to tell apart."""
    return []


def row(raw: Mapping[str, Any], columns: Columns) -> dict[str, Any]:
    """Return `text`, which is the source, and `target`, None where there is none.

    Raises:
        ValueError: there is no source, or the target is not text.
    """
    target = raw.get("target") or ""
    if not isinstance(target, str):
        raise ValueError(f"column 'target' is {type(target).__name__}, not text")
    return {"text": text_in(raw, "source"), "target": target if target.strip() else None}


def columns() -> list[tuple[str, Any]]:
    """Return `target`."""
    import pyarrow as pa

    return [("target", pa.string())]


def is_labelled(row: Mapping[str, Any]) -> bool:
    """Return whether the row has a target."""
    return bool(row.get("target"))


def tokenizer(folder: Path) -> Any:
    """Return the model's tokenizer.

    Raises:
        InputError: there is none in the folder.
    """
    return base_models.tokenizer(folder)


def build(folder: Path, name: str, labels: Sequence[str], settings: Settings) -> Built:
    """Return the model in `folder` with the head that it was trained with; none is put on it.

    Raises:
        InputError: transformers cannot load a model that writes text, its files lack weights, or
            it does not know the target's language.
    """
    kind = _kind(folder)
    network, lacking = base_models.load(HEADS[kind], folder, name)
    if lacking:
        raise InputError(
            f"base model {folder}: its files lack {', '.join(lacking[:3])}; allowed: models that "
            "were saved with the head that writes text; choose another base_model"
        )
    token_losses.only_at_labels(network, kind)
    writing.set_up(network, settings.beams, settings.max_target_tokens)
    if settings.target_language:
        language = writing.language_id(tokenizer(folder), settings.target_language)
        network.generation_config.forced_bos_token_id = language
    return Built(network, ())


def examples(
    rows: Sequence[Mapping[str, Any]], labels: Sequence[str], tokenizer: Any, settings: Settings
) -> list[Example]:
    """Return the rows as token ids; without a target they can be written for, not trained on.

    Raises:
        InputError: there is no room for the source, or the model has no such languages.
    """
    if not rows:
        return []
    sources = [settings.prefix + str(row["text"]) for row in rows]
    targets = [row.get("target") or None for row in rows]
    given = [target or "" for target in targets]
    is_decoder = _kind(Path(tokenizer.name_or_path)) == "next"
    if is_decoder:
        read = _in_template(sources, tokenizer, settings)
        ids = token_losses.plain_ids(tokenizer, given)
    else:
        writing.set_languages(tokenizer, settings.source_language, settings.target_language)
        longest = min(settings.max_tokens, tokenizer.model_max_length)
        read = tokenizer(sources, truncation=True, max_length=longest)["input_ids"]
        ids = tokenizer(text_target=given, verbose=False)["input_ids"]
    most = min(settings.max_target_tokens, tokenizer.model_max_length)
    found = []
    for source, own, target in zip(read, ids, targets, strict=True):
        written = _ended(own, most, tokenizer.eos_token_id) if target else ()
        token_ids = (*source, *written) if is_decoder else tuple(source)
        found.append(Example(token_ids, len(source), written, target, is_decoder))
    return found


def prompted(example: Example, ids: Sequence[int], at: int) -> Example:
    """Return the example with the ids of a soft prompt at place `at` of the source."""
    return replace(
        example,
        token_ids=(*example.token_ids[:at], *ids, *example.token_ids[at:]),
        n_read=example.n_read + len(ids),
    )


def collate(examples: Sequence[Example], tokenizer: Any) -> dict[str, Any]:
    """Return `input_ids`, `attention_mask` and `labels`, int64 [rows, longest].

    A decoder reads source and target as one row; the labels of the source are IGNORED.
    """
    read = [example.token_ids for example in examples]
    labels = [
        ((IGNORED,) * example.n_read if example.is_decoder else ()) + example.target_ids
        for example in examples
    ]
    return {
        "input_ids": token_losses.padded(read, tokenizer.pad_token_id or 0),
        "attention_mask": token_losses.padded([(1,) * len(ids) for ids in read], 0),
        "labels": token_losses.padded(labels, IGNORED),
    }


def outputs(
    model: Any, batch: Mapping[str, Any], examples: Sequence[Example], tokenizer: Any
) -> list[Written]:
    """Return the text that the model writes for each example, and the loss of its target."""
    if examples[0].is_decoder:
        read = [example.token_ids[: example.n_read] for example in examples]
        texts = writing.go_on(model, read, tokenizer)
    else:
        texts = writing.write(model, batch["input_ids"], batch["attention_mask"], tokenizer)
    return [
        Written(text, score.loss_sum, score.n_tokens)
        for text, score in zip(texts, token_losses.scores(model, batch), strict=True)
    ]


def metrics(outputs: Sequence[Written], examples: Sequence[Example]) -> dict[str, float]:
    """Return `chrf` and `bleu` (0 to 100) and `loss`, the mean over the targets' tokens [nats].

    Examples without a target are left out; one has to be left.
    """
    import sacrebleu

    pairs = [(o.text, e.target) for o, e in zip(outputs, examples, strict=True) if e.target]
    texts, targets = [text for text, _ in pairs], [[target for _, target in pairs]]
    found: dict[str, float] = {}
    for name, metric in (("chrf", sacrebleu.CHRF()), ("bleu", sacrebleu.BLEU())):
        found[name] = float(metric.corpus_score(texts, targets).score)
        logger.debug("translation: %s is %s", name, metric.get_signature())
    n_tokens = max(1, sum(output.n_tokens for output in outputs))
    found["loss"] = sum(output.loss_sum for output in outputs) / n_tokens
    return found


def predictions(
    outputs: Sequence[Written], examples: Sequence[Example], labels: Sequence[str]
) -> list[str]:
    """Return the text that the model writes for each row."""
    return [output.text for output in outputs]


def _kind(folder: Path) -> token_losses.Kind:
    """Return whether the model writes a second text or goes on with the first.

    Raises:
        InputError: it does neither.
    """
    kind = token_losses.kind_of(folder)
    if kind == "masked":
        raise InputError(
            f"base model {folder}: it is an encoder, which writes no text; allowed: "
            "encoder-decoders such as t5, bart or marian and decoders such as llama or gpt2; "
            "choose another base_model"
        )
    return kind


def _in_template(
    sources: Sequence[str], tokenizer: Any, settings: Settings
) -> list[tuple[int, ...]]:
    """Return the template's tokens with each source in it; only the source is cut."""
    start, _ = token_losses.specials(tokenizer)
    before, behind = token_losses.plain_ids(tokenizer, settings.template.split(PLACE))
    # What the model reads and what it writes share its positions.
    positions = tokenizer.model_max_length - settings.max_target_tokens
    n_fixed = len(start) + len(before) + len(behind)
    room = min(settings.max_tokens, positions) - n_fixed
    if room < 1:
        raise InputError(
            f"translation.max_tokens = {settings.max_tokens}, max_target_tokens = "
            f"{settings.max_target_tokens}: no token of the source fits in, as the template takes "
            f"{n_fixed} and the model has room for {tokenizer.model_max_length} in all; lower "
            "max_target_tokens, raise max_tokens, or shorten the template"
        )
    return [
        (*start, *before, *ids[:room], *behind)
        for ids in token_losses.plain_ids(tokenizer, sources)
    ]


def _ended(ids: Sequence[int], most: int, end: int | None) -> tuple[int, ...]:
    """Return at most so many tokens with the end among them, which the model has to learn."""
    cut = list(ids[:most])
    if end is None or end in cut:
        return tuple(cut)
    return (*cut[: most - 1], end)

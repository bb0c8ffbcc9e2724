"""language_modeling: predict the tokens of the text itself; only `text` is needed.

Decoders predict every token from those before it; a text's first token only where the tokenizer
puts a start token before it. Encoders predict masked tokens. Longer texts are cut into consecutive
pieces and no token is lost: every piece of a decoder but the first starts with the last token of
the one before, which is not predicted twice.

Which tokens are masked is drawn from the text, so dev has the same places at every evaluation. All
drawn tokens become the mask token: the 80/10/10 of the paper prepares for later use without masks,
and makes the loss of two models harder to compare. A text comes `masks_per_text` times, each time
with other places, as one mask would never train most of a small text's tokens.

An encoder without a head for tokens (most sentence encoders) gets the one that transformers has for
its family, with the input embeddings as output matrix. Only the layers before that matrix are
trained and saved; the matrix stays as it is, and the bias of the vocabulary stays 0.

Loss and perplexity are those of tokens, so they compare models of one tokenizer; bits per byte
compares decoders of any. Perplexity of masked tokens is a pseudo value: it sees both sides.

Source: Radford et al. 2019, "Language Models are Unsupervised Multitask Learners", section 2
(causal); Devlin et al. 2019, https://arxiv.org/abs/1810.04805 section 3.1 and appendix A.1
(masked); Liu et al. 2019, https://arxiv.org/abs/1907.11692 section 4.1 (several masks per text);
Salazar et al. 2020, https://arxiv.org/abs/1910.14659 section 2 (pseudo perplexity)
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from lightadapt_data import base_models, token_losses
from lightadapt_data.config import Config
from lightadapt_data.errors import InputError
from lightadapt_data.rows import key_of
from lightadapt_data.tasks import Built, Columns, text_in
from lightadapt_data.text_pieces import Frame, Piece, masked_pieces, pieces, with_prompt
from lightadapt_data.token_losses import IGNORED, TokenScores

MAIN_METRIC = "perplexity"
GOAL = "min"
SCALE = "1 or more, lower is better"
LEAST_LABELS = 0
HEADS = {"next": "AutoModelForCausalLM", "masked": "AutoModelForMaskedLM"}


class Settings(Config):
    """Settings of language modelling."""

    objective: Literal["auto", "causal", "masked"] = "auto"
    """What is predicted: the next token or masked ones; auto: what the model was made for."""
    max_tokens: int = Field(default=128, ge=8)
    """Longer texts are cut into pieces of this length, special tokens included [tokens]."""
    mask_share: float = Field(default=0.15, gt=0, lt=1)
    """Share of an encoder's tokens that are masked, at least one of a piece [ratio]."""
    masks_per_text: int = Field(default=4, ge=1)
    """How often an encoder sees each text, every time with other tokens masked [times]."""
    mask_seed: int = Field(default=0, ge=0)
    """With the text it decides which tokens are masked."""


def labels(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return nothing: there are no names to tell apart."""
    return []


def row(raw: Mapping[str, Any], columns: Columns) -> dict[str, Any]:
    """Return `text`.

    Raises:
        ValueError: there is none.
    """
    return {"text": text_in(raw, columns.text_column)}


def columns() -> list[tuple[str, Any]]:
    """Return nothing: there are no fields besides `text`."""
    return []


def is_labelled(row: Mapping[str, Any]) -> bool:
    """Return True: a text is its own label."""
    return True


def tokenizer(folder: Path) -> Any:
    """Return the model's tokenizer.

    Raises:
        InputError: there is none in the folder.
    """
    return base_models.tokenizer(folder)


def build(folder: Path, name: str, labels: Sequence[str], settings: Settings) -> Built:
    """Return the model in `folder` with its head for tokens; `name` is noted as its origin.

    Raises:
        InputError: transformers cannot load such a model, or its files lack weights that cannot be
            trained anew.
    """
    kind = _kind(folder, settings)
    network, lacking = base_models.load(HEADS[kind], folder, name)
    head = _new_head(network, lacking)
    found = {key.rpartition(".")[0] for key in lacking}
    unusable = sorted(key for key in lacking if key.startswith(f"{network.base_model_prefix}."))
    if unusable or (lacking and (kind == "next" or not head)):
        raise InputError(
            f"base model {folder}: its files lack {', '.join((unusable or lacking)[:3])}; allowed: "
            "decoders with their head, and encoders with or without it; choose a model that was "
            "saved whole"
        )
    token_losses.only_at_labels(network, kind)
    return Built(network, tuple(sorted(found & head)))


def examples(
    rows: Sequence[Mapping[str, Any]], labels: Sequence[str], tokenizer: Any, settings: Settings
) -> list[Piece]:
    """Return the pieces of the rows' texts, row after row; each row has one at least.

    Raises:
        InputError: the tokenizer of an encoder has no mask token, or no token fits into a piece.
    """
    kind = _kind(Path(tokenizer.name_or_path), settings)
    frame = _frame(tokenizer, kind, settings)
    texts = [str(row["text"]) for row in rows]
    encoded = token_losses.plain_ids(tokenizer, texts)
    found: list[Piece] = []
    for number, (text, ids) in enumerate(zip(texts, encoded, strict=True)):
        if not ids:  # a text of nothing that the tokenizer knows
            filler = () if frame.before or frame.behind else (tokenizer.pad_token_id or 0,)
            found.append(frame.around(filler, (IGNORED,) * len(filler), number, 0))
        elif kind == "next":
            unpredicted = "" if frame.before else tokenizer.decode(ids[:1])
            n_bytes = max(0, len(text.encode()) - len(unpredicted.encode()))
            found += pieces(ids, number, n_bytes, frame)
        else:
            found += masked_pieces(
                ids,
                number,
                frame,
                mask_id=int(tokenizer.mask_token_id),
                share=settings.mask_share,
                n_masks=settings.masks_per_text,
                seed=(settings.mask_seed, key_of(text)),
            )
    return found


def prompted(example: Piece, ids: Sequence[int], at: int) -> Piece:
    """Return the piece with the ids of a soft prompt at place `at`; they are not predicted."""
    return with_prompt(example, ids, at)


def collate(examples: Sequence[Piece], tokenizer: Any) -> dict[str, Any]:
    """Return `input_ids`, `attention_mask` and `labels`, int64 [rows, longest]."""
    return {
        "input_ids": token_losses.padded(
            [example.token_ids for example in examples], tokenizer.pad_token_id or 0
        ),
        "attention_mask": token_losses.padded([(1,) * len(e.token_ids) for e in examples], 0),
        "labels": token_losses.padded([example.labels for example in examples], IGNORED),
    }


def outputs(
    model: Any, batch: Mapping[str, Any], examples: Sequence[Piece], tokenizer: Any
) -> list[TokenScores]:
    """Return how well the model predicts each example's tokens."""
    return token_losses.scores(model, batch)


def metrics(outputs: Sequence[TokenScores], examples: Sequence[Piece]) -> dict[str, float]:
    """Return what is found over all predicted tokens, long texts counting for more than short ones.

    `loss` is the mean negative log-likelihood of a token [nats], `perplexity` its exponential
    (1 or more), `token_accuracy` the share of tokens that the model holds for the likeliest, and
    `bits_per_byte`, of decoders only, the sum of the losses over the bytes of the predicted text
    [bits per UTF-8 byte].

    Args:
        outputs: what `outputs` gives.
        examples: as many; at least one predicted token among them.
    """
    loss_sum = sum(output.loss_sum for output in outputs)
    n_tokens = max(1, sum(output.n_tokens for output in outputs))
    n_bytes = sum(example.n_bytes for example in examples)
    found = {
        "loss": loss_sum / n_tokens,
        "perplexity": _perplexity(loss_sum, n_tokens),
        "token_accuracy": sum(output.n_right for output in outputs) / n_tokens,
    }
    if n_bytes:
        found["bits_per_byte"] = loss_sum / math.log(2) / n_bytes
    return found


def predictions(
    outputs: Sequence[TokenScores], examples: Sequence[Piece], labels: Sequence[str]
) -> list[float | None]:
    """Return the perplexity of each row; None where it has no token to predict."""
    sums: dict[int, tuple[float, int]] = {}
    for output, example in zip(outputs, examples, strict=True):
        loss_sum, n_tokens = sums.get(example.row, (0.0, 0))
        sums[example.row] = (loss_sum + output.loss_sum, n_tokens + output.n_tokens)
    return [_perplexity(loss_sum, n) if n else None for loss_sum, n in sums.values()]


def _perplexity(loss_sum: float, n_tokens: int) -> float:
    return math.exp(min(700.0, loss_sum / n_tokens))  # beyond, it is no number any more


def _kind(folder: Path, settings: Settings) -> Literal["next", "masked"]:
    """Return what is predicted.

    Raises:
        InputError: with objective auto, the model is an encoder-decoder.
    """
    if settings.objective != "auto":
        return "next" if settings.objective == "causal" else "masked"
    kind = token_losses.kind_of(folder)
    if kind == "sequence":
        raise InputError(
            f"base model {folder}: it is an encoder-decoder, which has no loss of a text alone; "
            "allowed: an encoder or a decoder; choose another base_model, or task = 'translation'"
        )
    return kind


def _new_head(network: Any, lacking: Sequence[str]) -> set[str]:
    """Return the names of all modules that stand before the output matrix and not around it.

    Nothing where the matrix is not that of the input embeddings and was not in the files.
    """
    output = network.get_output_embeddings()
    is_tied = output.weight is network.get_input_embeddings().weight
    names = {name for name, part in network.named_modules() if part is output}
    if not is_tied and any(f"{name}.weight" in lacking for name in names):
        return set()
    return {
        name
        for name, part in network.named_modules()
        if all(inner is not output for inner in part.modules())
    }


def _frame(tokenizer: Any, kind: str, settings: Settings) -> Frame:
    """Return how texts are cut.

    Raises:
        InputError: the tokenizer of an encoder has no mask token, or no token fits into a piece.
    """
    if kind == "masked" and tokenizer.mask_token_id is None:
        raise InputError(
            f"base model {tokenizer.name_or_path}: its tokenizer has no mask token, which masked "
            "language modelling needs; allowed: an encoder's; choose another base_model"
        )
    before, behind = token_losses.specials(tokenizer)
    n_special = len(before) + len(behind)
    longest = min(settings.max_tokens, tokenizer.model_max_length)
    if longest - n_special < 2:
        raise InputError(
            f"language_modeling.max_tokens = {settings.max_tokens}: a piece holds {longest} tokens,"
            f" {n_special} of them special; allowed: {n_special + 2} or more; raise max_tokens, or "
            "choose another base_model"
        )
    return Frame(before, behind, longest - n_special)

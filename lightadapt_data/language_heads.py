"""Which language model fills a blank, and how."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from lightadapt_data import base_models
from lightadapt_data.errors import InputError

GAP = "<extra_id_0>"
"""T5's word for the first gap in a text."""

Kind = Literal["masked", "causal", "paired"]
"""Fills a mask in the text; writes on; or is given a text with a gap and writes what is in it."""


def load(folder: Path, name: str, tokenizer: Any) -> Any:
    """Return the language model in `folder` with its head; `name` is noted as its origin.

    Raises:
        InputError: there is no head over words for such a model, or this one was saved without.
    """
    head = class_of(base_models.config_of(folder), tokenizer, str(folder))
    model, lacking = base_models.load(head, folder, name)
    if lacking:
        raise InputError(
            f"base model {name}: it was saved without a language-model head "
            f"({', '.join(lacking[:3])}{', ...' if len(lacking) > 3 else ''}); allowed: a model "
            "that was trained to fill masks or to write on; choose another base_model, or task = "
            "'text_classification'"
        )
    return model


def class_of(config: Mapping[str, Any], tokenizer: Any, name: str) -> str:
    """Return the class of transformers that has a head over words for such a model.

    Raises:
        InputError: there is none that fills a blank.
    """
    from transformers.models.auto import modeling_auto as auto

    model_type = str(config.get("model_type"))
    is_pair = bool(config.get("is_encoder_decoder"))
    if is_pair and GAP in tokenizer.get_vocab():
        return "AutoModelForSeq2SeqLM"
    if model_type in auto.MODEL_FOR_MASKED_LM_MAPPING_NAMES and tokenizer.mask_token is not None:
        return "AutoModelForMaskedLM"
    is_masked = model_type in auto.MODEL_FOR_MASKED_LM_MAPPING_NAMES
    if model_type in auto.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES and not is_pair and not is_masked:
        return "AutoModelForCausalLM"
    reason = "its tokenizer has no mask" if is_masked else "it neither fills masks nor writes on"
    raise InputError(
        f"base model {name}: model_type '{model_type}' cannot fill a blank: {reason}; allowed: "
        "masked language models such as BERT, RoBERTa or BART, decoders such as GPT-2 or Llama, "
        "and T5; choose another base_model, or task = 'text_classification'"
    )


def kind(tokenizer: Any) -> Kind:
    """Return how the tokenizer's model fills a blank; a decoder's must have no mask."""
    if GAP in tokenizer.get_vocab():
        return "paired"
    return "causal" if tokenizer.mask_token is None else "masked"

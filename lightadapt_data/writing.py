"""Models that write text: how they are set to write, and between which languages."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from lightadapt_data import token_losses
from lightadapt_data.errors import InputError


def set_up(network: Any, beams: int, max_tokens: int) -> None:
    """Let the network write the same text each time, of at most `max_tokens` tokens.

    Args:
        network: a transformers model; what else its own settings say stays (minimum length,
            forbidden words).
        beams: candidates that are followed; 1: the likeliest token each time.
        max_tokens: of what is written, its end included [tokens].
    """
    writing = network.generation_config
    writing.do_sample = False
    # Of sampling or of several beams; kept, they would bring a warning each time.
    writing.temperature = writing.top_k = writing.top_p = None
    if beams == 1:
        writing.early_stopping, writing.length_penalty = False, 1.0
    writing.num_beams = beams
    writing.max_length, writing.max_new_tokens = None, max_tokens
    writing.pad_token_id = network.config.pad_token_id


def write(model: Any, ids: Any, mask: Any, tokenizer: Any) -> list[str]:
    """Return what an encoder-decoder writes for each row, without special tokens.

    Args:
        model: the network, or an adapter over it.
        ids: what it reads, int64 [rows, tokens].
        mask: 1 where it reads, int64 [rows, tokens].
        tokenizer: the model's.
    """
    return _decoded(model.generate(input_ids=ids, attention_mask=mask), tokenizer)


def go_on(model: Any, texts: Sequence[Sequence[int]], tokenizer: Any) -> list[str]:
    """Return what a decoder writes behind each text of token ids, without special tokens."""
    # Padded at the start, so that all rows end where the model goes on.
    ids = token_losses.padded(texts, tokenizer.pad_token_id or 0, at_end=False)
    mask = token_losses.padded([(1,) * len(text) for text in texts], 0, at_end=False)
    device = next(model.parameters()).device
    written = model.generate(input_ids=ids.to(device), attention_mask=mask.to(device))
    return _decoded(written[:, ids.shape[1] :], tokenizer)


def _decoded(ids: Any, tokenizer: Any) -> list[str]:
    texts: list[str] = tokenizer.batch_decode(ids, skip_special_tokens=True)
    return [text.strip() for text in texts]


def set_languages(tokenizer: Any, source: str, target: str) -> None:
    """Tell the tokenizer between which languages it stands.

    Args:
        tokenizer: of an encoder-decoder; changed in place.
        source: as the model calls it; empty for models without names of languages.
        target: likewise.

    Raises:
        InputError: it needs both and has not got them, or knows of none.
    """
    for attribute, name, language in (
        ("src_lang", "source_language", source),
        ("tgt_lang", "target_language", target),
    ):
        has_names = hasattr(tokenizer, attribute)
        if has_names and not language:
            raise InputError(
                f"translation.{name} = '': the base model is one of many languages; allowed: one "
                "of its codes, such as eng_Latn (NLLB), en (M2M100) or en_XX (mBART); name it"
            )
        if language and not has_names:
            raise InputError(
                f"translation.{name} = '{language}': the base model has no names of languages; "
                "allowed: nothing; leave it empty, or choose another base_model"
            )
        if has_names:
            language_id(tokenizer, language)
            setattr(tokenizer, attribute, language)


def language_id(tokenizer: Any, language: str) -> int:
    """Return the token that stands for a language.

    Raises:
        InputError: the tokenizer has none.
    """
    try:
        if hasattr(tokenizer, "get_lang_id"):
            found = tokenizer.get_lang_id(language)
        else:
            found = tokenizer.convert_tokens_to_ids(language)
    except KeyError:
        found = None
    if found is None or found == tokenizer.unk_token_id:
        raise InputError(
            f"translation: the base model knows no language '{language}'; allowed: its own codes, "
            "such as eng_Latn (NLLB), en (M2M100) or en_XX (mBART); correct source_language or "
            "target_language"
        )
    return int(found)

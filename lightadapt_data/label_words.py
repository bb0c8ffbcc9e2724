"""Label words: which tokens say a label in a blank."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from lightadapt_data.errors import InputError, allowed


def token_ids(
    labels: Sequence[str],
    words: Mapping[str, Sequence[str]],
    tokenizer: Any,
    has_space: bool,
) -> list[list[int]]:
    """Return the tokens of each label's words, each once.

    Args:
        labels: the labels.
        words: by label; if it is empty, a label is said by its own name.
        tokenizer: the model's.
        has_space: the blank comes after a space. Many tokenizers have one token for a word after a
            space and another, or several, for the same word without.

    Raises:
        InputError: a label has no words; a word is not one token; or it stands for two labels.
    """
    found = [_of_label(label, words, tokenizer, has_space) for label in labels]
    owner: dict[int, str] = {}
    for label, ids in zip(labels, found, strict=True):
        for token in ids:
            if token in owner:
                raise InputError(
                    f"[cloze] words: '{tokenizer.decode([token]).strip()}' stands for the labels "
                    f"'{owner[token]}' and '{label}'; allowed: a word for one label only"
                )
            owner[token] = label
    return found


def _of_label(
    label: str, words: Mapping[str, Sequence[str]], tokenizer: Any, has_space: bool
) -> list[int]:
    chosen = words.get(label, () if words else (label,))
    if not chosen:
        raise InputError(
            f"[cloze] words: there are none for the label '{label}'; {allowed(label, words)}; give "
            "words for every label; with prompt_source, list the labels in label_order as its "
            "answer choices are"
        )
    return list(dict.fromkeys(_of_word(word, label, tokenizer, has_space) for word in chosen))


def _of_word(word: str, label: str, tokenizer: Any, has_space: bool) -> int:
    ids: list[int] = tokenizer((" " if has_space else "") + word.strip(), add_special_tokens=False)[
        "input_ids"
    ]
    if len(ids) == 1 and ids[0] != tokenizer.unk_token_id:
        return ids[0]
    pieces = ", ".join(f"'{piece}'" for piece in tokenizer.convert_ids_to_tokens(ids))
    raise InputError(
        f"[cloze] label '{label}': its word '{word}' is not one token but {len(ids)} here "
        f"({pieces or 'none'}); allowed: words of one known token, as a blank is one; give others, "
        f'such as words = {{"{label}" = ["..."]}}'
    )

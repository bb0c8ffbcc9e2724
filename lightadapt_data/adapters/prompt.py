"""prompt: trained rows among the rows of the input's tokens; the model itself stays as it is.

X' = [P; X], with `length` rows P as wide as the table of tokens: length times width parameters, a
few kB per task. The rows stand behind what begins every text, such as [CLS], so that heads read
what they always read; the task `cloze` puts them where its template says. They take places of the
text: as many tokens fewer fit in.

It learns slowly and falls behind other adapters on models below a billion parameters or so; how the
rows start decides much. Here they start from rows of real tokens, never from unit normal noise,
which lies far off.

`mlp_width` lets a small network change the rows while they are trained. Only what it gives is
saved.

Source: Lester et al. 2021, https://arxiv.org/abs/2104.08691 section 2 (method) and 3.2 (start from
the 5,000 most common tokens or from the labels); Liu et al. 2021, https://arxiv.org/abs/2103.10385
(rows anywhere in a template); Razdaibiedina et al. 2023, https://arxiv.org/abs/2305.03937 section 3
(network with a residual)
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from lightadapt_data import base_models
from lightadapt_data.config import Config
from lightadapt_data.errors import InputError

COMMON = 5_000
"""Tokens that a row may start from: the lowest ids, which vocabularies give to frequent words."""


class Settings(Config):
    """Settings of prompt tuning."""

    length: int = Field(default=20, ge=1)
    """Rows of the prompt, each in a token's place [tokens]."""
    init: Literal["vocabulary", "text", "labels"] = "vocabulary"
    """Start from common tokens drawn at random, from the tokens of `init_text`, over and over, or
    from the names of the labels and, for the rest, from common tokens."""
    init_text: str = ""
    """Text to start from, such as a description of the task; only with init = "text"."""
    mlp_width: int = Field(default=0, ge=0)
    """Inner width of the network that changes the rows in training; 0: none [dimensions]."""
    learning_rate: float = Field(default=1e-2, gt=0, le=1)
    """Highest learning rate of AdamW [per step]."""


def check(config: Mapping[str, Any], settings: Settings) -> None:
    """Check that the prompt leaves room for a text, and that it is clear what it starts from.

    Raises:
        InputError: it does not, it is not, or the model reads no tokens.
    """
    if not config.get("vocab_size"):
        raise InputError(
            f"base model: model_type '{config.get('model_type')}' has no vocab_size in its "
            "config.json, so it reads no tokens; allowed: a model of text; choose another "
            "base_model"
        )
    if (settings.init == "text") != bool(settings.init_text.strip()):
        raise InputError(
            f"prompt.init = '{settings.init}' with init_text = '{settings.init_text[:40]}'; "
            "allowed: init_text with init = 'text', and nowhere else"
        )
    positions = config.get("max_position_embeddings") or config.get("n_positions")
    if positions and settings.length >= positions // 2:
        raise InputError(
            f"prompt.length = {settings.length}: the base model has room for {positions} tokens; "
            f"allowed: 1 to {positions // 2 - 1}, so that half is left for the text"
        )


def room(settings: Settings) -> int:
    """Return how many of the model's places the prompt takes [tokens]."""
    return settings.length


def soft_ids(model: Any) -> list[int]:
    """Return the ids that stand for the rows of the prompt that is switched on, in their order."""
    from lightadapt_data.networks.soft_prompt import layers

    layer = layers(model)[0]
    length = layer.lengths[layer.active_adapters[0]]
    return list(range(layer.n_words, layer.n_words + length))


def attach(model: Any, settings: Settings, head_modules: Sequence[str]) -> Any:
    """Return the model with a prompt that batches can name by `soft_ids`, as a PeftModel.

    Trainable are the prompt and the head modules; everything else is frozen in place. Without soft
    ids it gives the same output as before.

    Raises:
        InputError: as `check` does; or there is no token to start from.
    """
    import peft
    import torch

    from lightadapt_data.networks import soft_prompt as network

    check(model.config.to_dict(), settings)
    tables = network.token_tables(model)
    if not tables:
        raise InputError(
            f"prompt: in {type(model).__name__} (model_type '{model.config.model_type}') no table "
            "of the input's tokens was found; allowed: a model with get_input_embeddings(); choose "
            "adapter = 'prefix' or 'lora'"
        )
    table = next(iter(tables.values()))
    start = _start_ids(model, settings, table.num_embeddings)
    with torch.no_grad():
        rows = torch.stack(
            [table(torch.tensor(ids, device=table.weight.device)).mean(0) for ids in start]
        )
    config = network.SoftPromptConfig(
        length=settings.length,
        model_type=str(model.config.model_type),
        target_modules="|".join(re.escape(name) for name in tables),
        modules_to_save=list(head_modules),
    )
    adapted = peft.get_peft_model(model, config)
    made: Any = network.layers(adapted)[0].softprompt_embeddings["default"]
    with torch.no_grad():
        made.weight.copy_(rows)
    if settings.mlp_width:
        network.reparametrise(adapted, settings.mlp_width)
    return adapted


def load(model: Any, folder: Path) -> Any:
    """Return a fresh base model with the prompt and head that were saved in `folder`."""
    import peft

    import lightadapt_data.networks.soft_prompt  # noqa: F401  makes PEFT know the type

    return peft.PeftModel.from_pretrained(model, str(folder))


def _start_ids(model: Any, settings: Settings, n_words: int) -> list[list[int]]:
    """Return for each row the tokens of which it is to be the mean at the start."""
    import torch

    tokenizer = _tokenizer(model)
    if settings.init == "text":
        ids = _ids(tokenizer, settings.init_text, n_words)
        if not ids:
            raise InputError(
                f"prompt.init_text = '{settings.init_text[:40]}': no token came of it (base model "
                f"'{model.config.name_or_path}'); allowed: a text of one token or more, with a "
                "base model in a folder that holds its tokenizer; or init = 'vocabulary'"
            )
        return [[token] for token in (ids * settings.length)[: settings.length]]
    first = _label_ids(model, tokenizer, n_words) if settings.init == "labels" else []
    common = _common(tokenizer, n_words)
    drawn = torch.randint(len(common), (settings.length,)).tolist()
    return [*first, *([common[place]] for place in drawn)][: settings.length]


def _tokenizer(model: Any) -> Any:
    """Return the base model's tokenizer; None where its folder is not known."""
    folder = model.config.name_or_path
    return base_models.tokenizer(Path(folder)) if folder and Path(folder).is_dir() else None


def _ids(tokenizer: Any, text: str, n_words: int) -> list[int]:
    """Return the text's tokens, without those that the model has no row for."""
    if tokenizer is None:
        return []
    found = tokenizer(text, add_special_tokens=False)["input_ids"]
    return [token for token in found if token < n_words]


def _label_ids(model: Any, tokenizer: Any, n_words: int) -> list[list[int]]:
    """Return the tokens of each label's name.

    Raises:
        InputError: the model does not know the names, or no token comes of one.
    """
    names = [str(name) for _, name in sorted((model.config.id2label or {}).items())]
    found = [_ids(tokenizer, name, n_words) for name in names]
    is_unnamed = all(re.fullmatch(r"LABEL_\d+", name) for name in names)
    if is_unnamed or not all(found):
        known = "no names" if is_unnamed else f"the labels {', '.join(names)} and no tokens of them"
        raise InputError(
            f"prompt.init = 'labels': the model has {known}; allowed: a head of transformers for "
            "named labels, or task = 'cloze', and a base model in a folder with its tokenizer; or "
            "init = 'text' with the labels in init_text"
        )
    return found


def _common(tokenizer: Any, n_words: int) -> list[int]:
    """Return the COMMON lowest ids of words; without a tokenizer, of anything."""
    if tokenizer is None:
        return list(range(min(COMMON, n_words)))
    # Words have a letter; [unused5] and <extra_id_0> are none.
    words = (
        place
        for place, token in sorted((i, t) for t, i in tokenizer.get_vocab().items() if i < n_words)
        if re.search(r"[^\W\d_]{2}", token) and not re.fullmatch(r"\[.*\]|<.*>", token)
    )
    return [place for place, _ in zip(words, range(COMMON), strict=False)] or [0]

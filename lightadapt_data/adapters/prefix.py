"""prefix: trained keys and values before those of the text, in every attention of a frozen model.

Attention(Q, [P_k; K], [P_v; V]): every token sees the prefix, padded or not, and the prefix takes
no position and no place in a cache, so a text may be as long as before. Rows before the *input* are
another method, prompt tuning. An attention with H heads of keys of width d gets 2 length H d
parameters; an encoder-decoder has three attentions per pair of layers: of the encoder, of the
decoder, and from the decoder to the encoder.

In the papers' form a prefix changes the output from the first step on, as it takes part of the
attention. With `is_gated`, the default, the prefix has a softmax of its own and adds tanh(gate)
times what is found in it, with one gate per head that starts at 0: training starts from exactly the
base model, and a head that was fitted to it stays fitting.

`mlp_width` lets a small network, one for all layers, give the prefix while it is trained; it
steadies some tasks and does not help others. Only the prefix it gives is saved.

Source: Li and Liang 2021, https://arxiv.org/abs/2101.00190 section 4 (method, all three attentions,
`mlp_width` 512) and 7.4 (start from words); Liu et al. 2022, https://arxiv.org/abs/2110.07602
section 3 (flat, for encoders), its scripts (learning rates of 5e-3 to 1e-2, lengths of 8 to 40);
Zhang et al. 2023, https://arxiv.org/abs/2303.16199 section 3.2 (gate)
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import Field

from lightadapt_data import base_models
from lightadapt_data.config import Config
from lightadapt_data.errors import InputError, allowed

SWITCHES = ("encoder", "decoder", "cross")
"""Settings that say which attentions get a prefix."""

_BERT = {"encoder": "layer.#.attention.self"}
_LLAMA = {"decoder": "layers.#.self_attn"}
_BART = {
    "encoder": "encoder.layers.#.self_attn",
    "decoder": "decoder.layers.#.self_attn",
    "cross": "decoder.layers.#.encoder_attn",
}
_T5 = {
    "encoder": "encoder.block.#.layer.#.SelfAttention",
    "decoder": "decoder.block.#.layer.#.SelfAttention",
    "cross": "decoder.block.#.layer.#.EncDecAttention",
}

ATTENTIONS: dict[str, dict[str, str]] = {
    **dict.fromkeys(
        ("bert", "camembert", "deberta-v2", "electra", "roberta", "xlm-roberta"), _BERT
    ),
    "distilbert": {"encoder": "layer.#.attention"},
    "modernbert": {"encoder": "layers.#.attn"},
    "mpnet": {"encoder": "layer.#.attention.attn"},
    "gpt2": {"decoder": "h.#.attn"},
    **dict.fromkeys(
        ("gemma", "gemma2", "gemma3_text", "llama", "mistral", "opt", "qwen2", "qwen3"), _LLAMA
    ),
    **dict.fromkeys(("bart", "m2m_100", "marian", "mbart", "pegasus"), _BART),
    **dict.fromkeys(("mt5", "t5"), _T5),
}
"""By the `model_type` of config.json: the switch in the settings, and the name of the attention in
the model, where # is a number."""


class Settings(Config):
    """Settings of prefix tuning."""

    length: int = Field(default=20, ge=1)
    """Keys and values before the text, in each layer [rows]."""
    encoder: bool = True
    """Put prefixes into the self-attention of the encoder."""
    decoder: bool = True
    """Put prefixes into the self-attention of the decoder."""
    cross: bool = True
    """Put prefixes into the attention from the decoder to the encoder."""
    is_gated: bool = True
    """Start as exactly the base model, with a softmax of the prefix's own and a gate per head."""
    mlp_width: int = Field(default=0, ge=0)
    """Inner width of the network that gives the prefix in training; 0: none [dimensions]."""
    init_text: str = ""
    """Start from the base model's keys and values of this text, repeated or cut to `length`; empty:
    from small random numbers. A description of the task is a good one. With `is_gated` it is found
    only as the gates open."""
    learning_rate: float = Field(default=7e-3, gt=0, le=1)
    """Highest learning rate of AdamW; with `mlp_width` a tenth of it [per step]."""


def check(config: Mapping[str, Any], settings: Settings) -> None:
    """Check that the attention of a model with this config.json can take a prefix.

    Raises:
        InputError: unknown family of models, or all attentions it has are switched off.
    """
    _places(config, settings)


def attach(model: Any, settings: Settings, head_modules: Sequence[str]) -> Any:
    """Return the model with a prefix in every layer, as a PeftModel.

    Trainable are the prefixes, their gates and the head modules; everything else is frozen in
    place. With `is_gated` it gives the same output as before.

    Raises:
        InputError: as `check` does; `init_text` cannot be made into tokens; or the model lacks all
            attentions that are switched on.
    """
    import peft

    from lightadapt_data.networks import prefix as network
    from lightadapt_data.networks.prefix_from_text import start_from_text

    pattern = _pattern(_places(model.config.to_dict(), settings))
    if not any(re.fullmatch(pattern, name) for name, _ in model.named_modules()):
        raise InputError(
            f"prefix: {type(model).__name__} has none of the attentions that are switched on; "
            f"allowed: one of {', '.join(SWITCHES)} that the model has; set it to true"
        )
    token_ids = _token_ids(model, settings) if settings.init_text else None
    config = network.PrefixConfig(
        length=settings.length,
        is_gated=settings.is_gated,
        model_type=str(model.config.model_type),
        target_modules=pattern,
        modules_to_save=list(head_modules),
    )
    adapted = peft.get_peft_model(model, config)
    if token_ids is not None:
        start_from_text(adapted, token_ids)
    if settings.mlp_width:
        network.reparametrise(adapted, settings.mlp_width)
    return adapted


def load(model: Any, folder: Path) -> Any:
    """Return a fresh base model with the prefixes and head that were saved in `folder`."""
    import peft

    import lightadapt_data.networks.prefix  # noqa: F401  makes PEFT know the type

    return peft.PeftModel.from_pretrained(model, str(folder))


def _places(config: Mapping[str, Any], settings: Settings) -> list[str]:
    """Return the names of the attentions that get a prefix, as ATTENTIONS has them."""
    model_type = str(config.get("model_type"))
    if model_type not in ATTENTIONS:
        raise InputError(
            f"base model: model_type '{model_type}' cannot take a prefix: its attention is not "
            f"known here; {allowed(model_type, ATTENTIONS)}; choose another base_model or adapter "
            "= 'bottleneck' or 'lora'"
        )
    places = ATTENTIONS[model_type]
    if config.get("is_decoder") and not config.get("is_encoder_decoder"):
        # An encoder that sees only what is before, or the decoder of a pair alone: its cross
        # attention is there, and nothing goes through it.
        places = {"decoder": places.get("decoder", next(iter(places.values())))}
    chosen = [name for switch, name in places.items() if getattr(settings, switch)]
    if not chosen:
        given = ", ".join(f"{switch} = false" for switch in SWITCHES if switch in places)
        raise InputError(
            f"prefix: with {given} no attention of a model of model_type '{model_type}' is left; "
            f"allowed: true for one of {', '.join(places)}"
        )
    return chosen


def _pattern(places: Sequence[str]) -> str:
    """Return the regular expression of the full names of these attentions."""
    inside = "|".join(re.escape(name).replace(r"\#", r"\d+") for name in places)
    return rf"(?:.*\.)?(?:{inside})"


def _token_ids(model: Any, settings: Settings) -> list[int]:
    """Return `length` tokens: the text's, over and over."""
    folder = model.config.name_or_path
    ids: list[int] = []
    if folder and Path(folder).is_dir():
        tokenizer = base_models.tokenizer(Path(folder))
        ids = tokenizer(settings.init_text, add_special_tokens=False)["input_ids"]
    if not ids:
        raise InputError(
            f"prefix.init_text = '{settings.init_text[:40]}': no token came of it (base model "
            f"'{folder}'); allowed: a text of one token or more, with a base model in a folder "
            "that holds its tokenizer; or leave init_text empty"
        )
    return (ids * settings.length)[: settings.length]

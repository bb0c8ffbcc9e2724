"""prefix: trained keys and values before those of the text, in every attention of a frozen model.

Attention(Q, [P_k; K], [P_v; V]): every token sees the prefix, padded or not, and the prefix takes
no position, so a text may be as long as before. Rows before the *input* are another method, prompt
tuning. `length` rows in each of L layers of width d make 2 L length d parameters.

In the papers' form a prefix changes the output from the first step on, as it takes part of the
attention. With `is_gated`, the default, the prefix has a softmax of its own and adds tanh(gate)
times what is found in it, with one gate per head that starts at 0: training starts from exactly the
base model, and a head that was fitted to it stays fitting.

`mlp_width` lets a small network give the prefix while it is trained; it steadies some tasks and
does not help others. Only the prefix it gives is saved.

Source: Li and Liang 2021, https://arxiv.org/abs/2101.00190 section 4 (method, `mlp_width` 512) and
7.4 (start from words); Liu et al. 2022, https://arxiv.org/abs/2110.07602 section 3 (flat, for
encoders), its scripts (learning rates of 5e-3 to 1e-2, lengths of 8 to 40); Zhang et al. 2023,
https://arxiv.org/abs/2303.16199 section 3.2 (gate)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import Field

from lightadapt_data.config import Config
from lightadapt_data.errors import InputError, allowed

ATTENTIONS = {
    **dict.fromkeys(("bert", "camembert", "electra", "roberta", "xlm-roberta"), "attention.self"),
    "distilbert": "attention",
    "modernbert": "attn",
    "mpnet": "attention.attn",
}
"""By the `model_type` of config.json: the attention inside one layer."""

REASONS = {
    "deberta-v2": "its attention adds a score of the distance between any two tokens, and a prefix "
    "has no place in the text"
}


class Settings(Config):
    """Settings of prefix tuning."""

    length: int = Field(default=20, ge=1)
    """Keys and values before the text, in each layer [rows]."""
    is_gated: bool = True
    """Start as exactly the base model, with a softmax of the prefix's own and a gate per head."""
    mlp_width: int = Field(default=0, ge=0)
    """Inner width of the network that gives the prefix in training; 0: none [dimensions]."""
    init_text: str = ""
    """Start from the base model's keys and values of this text, repeated or cut to `length`; empty:
    from small random numbers. A description of the task is a good one."""
    learning_rate: float = Field(default=7e-3, gt=0, le=1)
    """Highest learning rate of AdamW; with `mlp_width` a tenth of it [per step]."""


def check(config: Mapping[str, Any], settings: Settings) -> None:
    """Check that the attention of a model with this config.json can take a prefix.

    Raises:
        InputError: unknown family of models, one that cannot take it, or a decoder.
    """
    model_type = str(config.get("model_type"))
    if model_type not in ATTENTIONS:
        reason = REASONS.get(model_type, "its attention is not known here")
        raise InputError(
            f"base model: model_type '{model_type}' cannot take a prefix: {reason}; "
            f"{allowed(model_type, ATTENTIONS)}; choose another base_model or adapter = "
            "'bottleneck' or 'lora'"
        )
    if config.get("is_decoder"):
        raise InputError(
            "base model: its config.json says is_decoder = true, and the prefix is made for "
            "encoders; allowed: false; choose adapter = 'lora'"
        )


def attach(model: Any, settings: Settings, head_modules: Sequence[str]) -> Any:
    """Return the model with a prefix in every layer, as a PeftModel.

    Trainable are the prefixes, their gates and the head modules; everything else is frozen in
    place. With `is_gated` it gives the same output as before.

    Raises:
        InputError: as `check` does; or `init_text` cannot be made into tokens.
    """
    import peft

    from lightadapt_data.networks import prefix as network

    check(model.config.to_dict(), settings)
    token_ids = _token_ids(model, settings) if settings.init_text else None
    model_type = str(model.config.model_type)
    inside = ATTENTIONS[model_type].replace(".", r"\.")
    config = network.PrefixConfig(
        length=settings.length,
        is_gated=settings.is_gated,
        model_type=model_type,
        target_modules=rf"(?:.*\.)?layers?\.\d+\.{inside}",
        modules_to_save=list(head_modules),
    )
    adapted = peft.get_peft_model(model, config)
    if token_ids is not None:
        network.start_from_text(adapted, token_ids)
    if settings.mlp_width:
        network.reparametrise(adapted, settings.mlp_width)
    return adapted


def load(model: Any, folder: Path) -> Any:
    """Return a fresh base model with the prefixes and head that were saved in `folder`."""
    import peft

    import lightadapt_data.networks.prefix  # noqa: F401  makes PEFT know the type

    return peft.PeftModel.from_pretrained(model, str(folder))


def _token_ids(model: Any, settings: Settings) -> list[int]:
    """Return `length` tokens: the text's, over and over."""
    from transformers import AutoTokenizer

    folder = model.config.name_or_path
    ids: list[int] = []
    if folder and Path(folder).is_dir():
        tokenizer = AutoTokenizer.from_pretrained(folder)
        ids = tokenizer(settings.init_text, add_special_tokens=False)["input_ids"]
    if not ids:
        raise InputError(
            f"prefix.init_text = '{settings.init_text[:40]}': no token came of it (base model "
            f"'{folder}'); allowed: a text of one token or more, with a base model in a folder "
            "that holds its tokenizer; or leave init_text empty"
        )
    return (ids * settings.length)[: settings.length]

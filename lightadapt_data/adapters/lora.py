"""lora: low-rank changes of the weights of a frozen model, and the family around it; all from PEFT.

LoRA adds (alpha / rank) B A to a weight W, with B = 0 at the start. `kind` names the relatives:

- lora: as the paper has it; rslora: with alpha / sqrt(rank), for high ranks;
- dora: the length of each column of W is trained as well;
- ia3: keys, values and the feed-forward's inner part are scaled by trained vectors; has no rank;
- loha, lokr: the change is a Hadamard or a Kronecker product of small matrices;
- vera: A and B are random, frozen and shared by all layers, only vectors between them are trained;
- oft: W is turned by block-diagonal rotations; `rank` is the size of a block.

All start at what the model gave before; with dora and oft, up to rounding.

Only layers inside the model's blocks are changed, in models with an encoder and a decoder those of
both: PEFT's own `all-linear` also takes a head that is trained whole, and its names (`dense`) also
match layers of a head. GPT-2's layers are of a type that loha, lokr and oft cannot change.

Source: Hu et al. 2022, https://arxiv.org/abs/2106.09685 section 4 (query and value), appendix D
(learning rate); Kalajdzievski 2023, https://arxiv.org/abs/2312.03732 (rslora); Liu et al. 2024,
https://arxiv.org/abs/2402.09353 (dora); Liu et al. 2022, https://arxiv.org/abs/2205.05638 (ia3);
Hyeon-Woo et al. 2022, https://arxiv.org/abs/2108.06098 (loha); Yeh et al. 2024,
https://arxiv.org/abs/2309.14859 (lokr); Kopiczko et al. 2024, https://arxiv.org/abs/2310.11454
(vera); Qiu et al. 2023, https://arxiv.org/abs/2306.07280 (oft)
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, get_args

from pydantic import Field, field_validator

from lightadapt_data.config import Config
from lightadapt_data.errors import InputError, allowed
from lightadapt_data.networks.linear_layers import LINEAR, TRANSPOSED, layers

REFUSED = {
    "adalora": "it moves rank between layers in a call after every step, which this training has "
    "not; without it, it is a slower lora"
}

ALL_LINEAR = "all-linear"

Kind = Literal["lora", "rslora", "dora", "ia3", "loha", "lokr", "vera", "oft"]
KINDS = get_args(Kind)

NOT_TRANSPOSED = ("loha", "lokr", "oft")
"""Kinds that PEFT offers for plain linear layers, and not for Conv1D, GPT-2's type of them."""

WIDTHS = (
    "hidden_size",
    "dim",
    "d_model",
    "n_embd",
    "intermediate_size",
    "hidden_dim",
    "ffn_dim",
    "d_ff",
    "n_inner",
    "encoder_ffn_dim",
    "decoder_ffn_dim",
)
"""Names in config.json of what the linear layers' inputs are as wide as."""


class Settings(Config):
    """Settings of LoRA and its relatives."""

    kind: Kind = "lora"
    """Which one of the family."""
    rank: int = Field(default=8, ge=1)
    """Inner width of the change; with oft, the width of a block; ia3 has none [dimensions]."""
    alpha: float = Field(default=16.0, gt=0)
    """The change is scaled by alpha / rank; ia3, vera and oft have none [dimensions]."""
    dropout: float = Field(default=0.0, ge=0, lt=1)
    """Share of what goes into the change that is dropped, when training uses dropout; with loha and
    lokr of the ranks, with oft of the blocks; ia3 has none [ratio]."""
    targets: tuple[str, ...] = ()
    """Linear layers to change, by the end of their names; ["all-linear"]: all in the model's
    blocks; empty: query and value (ia3: key, value and the feed-forward's second layer)."""
    learning_rate: float = Field(default=5e-4, gt=0, le=1)
    """Highest learning rate of AdamW; vera and ia3 need about ten times more [per step]."""

    @field_validator("kind", mode="before")
    @classmethod
    def _is_not_refused(cls, kind: Any) -> Any:
        """Say why, where PEFT has the kind and this package does not."""
        if kind in REFUSED:
            raise ValueError(f"{kind} is not offered: {REFUSED[kind]}; take lora or rslora")
        return kind


def check(config: Mapping[str, Any], settings: Settings) -> None:
    """Check that the model with this config.json has the layers that are to be changed.

    Raises:
        InputError: no layer is named and none is known; a name fits no layer; the kind cannot
            change layers of their type; or blocks of `rank` do not fill the layers.
    """
    model_type = str(config.get("model_type"))
    if model_type in TRANSPOSED:
        _check_transposed(model_type, settings.kind)
    if settings.kind == "oft":
        _check_blocks(config, settings.rank)
    if model_type in LINEAR:
        _chosen(layers(model_type), settings.targets, model_type)
    elif not settings.targets or ALL_LINEAR in settings.targets:
        raise InputError(
            f"lora.targets = {list(settings.targets)}: no layer names are known for model_type "
            f"'{model_type}'; {allowed(model_type, LINEAR)}; name the linear layers in "
            "lora.targets"
        )


def _check_transposed(model_type: str, kind: str) -> None:
    """Check that the kind can change layers that hold their weights transposed."""
    if kind in NOT_TRANSPOSED:
        kinds = [name for name in KINDS if name not in NOT_TRANSPOSED]
        raise InputError(
            f"lora.kind = '{kind}': the linear layers of model_type '{model_type}' are of the type "
            f"Conv1D, which PEFT's {kind} cannot change; allowed: {', '.join(kinds)}"
        )


def _check_blocks(config: Mapping[str, Any], size: int) -> None:
    """Check what PEFT would only warn of: it takes another size, and size 1 trains nothing."""
    widths = {name: config[name] for name in WIDTHS if config.get(name)}
    heads = config.get("num_attention_heads") or config.get("num_heads")
    for name in ("head_dim", "d_kv"):  # where all heads together are not as wide as the model
        if heads and config.get(name):
            widths[f"heads times {name}"] = heads * config[name]
    if size == 1 or any(width % size for width in widths.values()):
        known = ", ".join(f"{name} {width}" for name, width in widths.items())
        raise InputError(
            f"lora.rank = {size}: with kind 'oft' it is the size of a block; allowed: 2 or more, "
            f"and what divides the widths of the base model ({known})"
        )


def attach(model: Any, settings: Settings, head_modules: Sequence[str]) -> Any:
    """Return the model with low-rank changes in it, as a PeftModel.

    Trainable are the changes and the head modules; everything else is frozen in place.

    Raises:
        InputError: as `check` does; or no linear layer of the model has a name of `targets`.
    """
    import peft
    from torch import nn
    from transformers.pytorch_utils import Conv1D

    check(model.config.to_dict(), settings)
    model_type = str(model.config.model_type)
    wanted, feedforward = _patterns(model_type, settings)
    parts = dict(model.named_modules())
    linear = [name for name, part in parts.items() if isinstance(part, nn.Linear | Conv1D)]
    found = [parts[name] for name in linear if re.fullmatch(wanted, name)]
    if not found:
        raise InputError(
            f"lora.targets = {list(settings.targets)}: no linear layer in the model's blocks has "
            f"such a name; allowed: {', '.join(dict.fromkeys(_inside(linear))) or 'nothing'}"
        )
    config = _config(settings, wanted, feedforward, list(head_modules))
    if any(isinstance(part, Conv1D) for part in found):
        _check_transposed(model_type, settings.kind)
        config.fan_in_fan_out = True
    return peft.get_peft_model(model, config)


def load(model: Any, folder: Path) -> Any:
    """Return a fresh base model with the changes and the head that were saved in `folder`."""
    import peft

    return peft.PeftModel.from_pretrained(model, str(folder))


def _config(settings: Settings, wanted: str, feedforward: str, heads: list[str]) -> Any:
    """Return PEFT's configuration of the kind.

    Targets are patterns, not lists: PEFT keeps a list as a set, and writes it in another order in
    every process.
    """
    import peft

    shared: dict[str, Any] = {"target_modules": wanted, "modules_to_save": heads}
    rank, alpha, dropout = settings.rank, settings.alpha, settings.dropout
    match settings.kind:
        case "ia3":
            return peft.IA3Config(feedforward_modules=feedforward, **shared)
        case "loha":
            return peft.LoHaConfig(r=rank, alpha=alpha, rank_dropout=dropout, **shared)
        case "lokr":
            return peft.LoKrConfig(r=rank, alpha=alpha, rank_dropout=dropout, **shared)
        case "vera":
            return peft.VeraConfig(r=rank, vera_dropout=dropout, **shared)
        case "oft":
            return peft.OFTConfig(r=0, oft_block_size=rank, module_dropout=dropout, **shared)
        case _:
            return peft.LoraConfig(
                r=rank,
                lora_alpha=alpha,
                lora_dropout=dropout,
                use_dora=settings.kind == "dora",
                use_rslora=settings.kind == "rslora",
                **shared,
            )


def _patterns(model_type: str, settings: Settings) -> tuple[str, str]:
    """Return what matches the full names of the layers to change, and of those that come last."""
    if settings.targets and model_type not in LINEAR:
        return _inside_blocks(settings.targets, ends=True), "-"
    if settings.targets:
        names = _chosen(layers(model_type), settings.targets, model_type)
    else:
        uses = ("key", "value", "feedforward") if settings.kind == "ia3" else ("query", "value")
        names = layers(model_type, *uses)
    return _inside_blocks(names), _inside_blocks(layers(model_type, "feedforward"))


def _inside_blocks(names: Sequence[str], ends: bool = False) -> str:
    """Return the regular expression of layers in the model's blocks; a head is in none of them.

    What T5 calls `layer` inside its blocks counts as a block, so that its names need no number.

    Args:
        names: names inside a block.
        ends: take them as the ends of such names.
    """
    inside = "|".join(re.escape(name) for name in dict.fromkeys(names))
    return rf"(?:.*\.)?(?:layers?|h|blocks?)\.\d+\.{'(?:.*[.])?' if ends else ''}(?:{inside})"


def _inside(names: Sequence[str]) -> list[str]:
    """Return the parts after the number of the block, of the names that are in a block."""
    found = [re.fullmatch(r"(?:.*\.)?(?:layers?|h|blocks?)\.\d+\.(.+)", name) for name in names]
    return [match[1] for match in found if match]


def _chosen(names: Sequence[str], targets: Sequence[str], model_type: str) -> list[str]:
    """Return the names that end in one of the targets.

    Raises:
        InputError: a target ends no name.
    """
    if ALL_LINEAR in targets:
        return list(names)
    for target in targets:
        if not any(f".{name}".endswith(f".{target}") for name in names):
            raise InputError(
                f"lora.targets holds '{target}': no linear layer in a block of model_type "
                f"'{model_type}' has a name that ends so; "
                f"{allowed(target, [*names, ALL_LINEAR])}"
            )
    return [name for name in names if any(f".{name}".endswith(f".{end}") for end in targets)]

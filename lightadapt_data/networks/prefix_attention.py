"""Attention with keys and values before those of the text, in place of a model's own.

Models call transformers' attention interface after they have turned keys by their positions,
normalised them and put them into the cache. A function that is registered there under a name of its
own adds the prefix, so that the prefix has no position and is in no cache. Importing this module
registers the function. prefix_written_out is for the models that do not call the interface.
"""

from __future__ import annotations

import copy
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AttentionInterface
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

INTERFACE = "lightadapt_prefix"

Attend = Callable[..., tuple[Tensor, Tensor | None]]
"""What transformers calls an attention function."""

IMPLEMENTATIONS = ("eager", "sdpa")
"""Attention functions whose mask is a matrix, so that columns can be put before it."""


@dataclass(frozen=True)
class Prefix:
    """The prefix of one attention, for all rows of a batch."""

    keys: Tensor
    """Float [heads of keys, length, width of a head]."""
    values: Tensor
    gate: Tensor | None
    """Float [heads]: how much of the prefix's own attention is added; None: one softmax for all."""


@dataclass
class Seen:
    """Handed over in a prefix's place, it takes the keys and values of the text itself."""

    keys: Tensor | None = None
    """Float [rows, heads of keys, tokens, width of a head]."""
    values: Tensor | None = None


@dataclass(frozen=True)
class Sizes:
    """The sizes of one attention."""

    n_heads: int
    n_key_heads: int
    """Fewer than `n_heads` where heads share keys and values."""
    head_width: int


def sizes(attention: Any) -> Sizes:
    """Return the sizes of an attention of the base model, by the names that families give them."""
    n_heads = _first(attention, "num_heads", "n_heads", "num_attention_heads")
    if n_heads is None:
        n_heads = attention.config.num_attention_heads
    width = _first(attention, "head_dim", "attention_head_size", "key_value_proj_dim")
    groups = getattr(attention, "num_key_value_groups", 1)
    return Sizes(int(n_heads), int(n_heads) // groups, int(width))


def _first(part: Any, *names: str) -> Any:
    return next((getattr(part, name) for name in names if hasattr(part, name)), None)


def attention_with_prefix(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    **kwargs: Any,
) -> tuple[Tensor, Tensor | None]:
    """Do what the model's own attention function does, with the prefix that was handed over."""
    prefix: Prefix | Seen | None = kwargs.pop(INTERFACE, None)
    config: Any = module.config
    implementation = config.before_prefix._attn_implementation
    attend = _own_function(module, implementation)
    if isinstance(prefix, Seen):
        prefix.keys, prefix.values = key, value
        prefix = None
    if prefix is None:
        return attend(module, query, key, value, attention_mask, **kwargs)
    keys, values = (
        part.to(key.dtype).expand(key.shape[0], -1, -1, -1) for part in (prefix.keys, prefix.values)
    )
    if prefix.gate is not None:
        output, shares = attend(module, query, key, value, attention_mask, **kwargs)
        # All see the prefix, and it has no place in the text.
        free = {**kwargs, "is_causal": False, "position_bias": None}
        added, _ = attend(module, query, keys, values, None, **free)
        gate = torch.tanh(prefix.gate).to(output.dtype)[:, None]
        return output + gate * added, shares  # [rows, tokens, heads, width of a head]
    if attention_mask is None and implementation == "sdpa":
        attention_mask = _implied_mask(module, query, key, kwargs.get("is_causal"))
    bias = kwargs.pop("position_bias", None)
    if bias is not None:
        kwargs["position_bias"] = _widened(bias, keys.shape[2])
    return attend(
        module,
        query,
        torch.cat([keys, key], dim=2),
        torch.cat([values, value], dim=2),
        _widened(attention_mask, keys.shape[2]),
        **{**kwargs, "is_causal": False},
    )


def _implied_mask(
    module: nn.Module, query: Tensor, key: Tensor, is_causal: bool | None
) -> Tensor | None:
    """Return the mask that sdpa makes by itself when it is given none; None: all see all.

    It counts columns from the left, so columns put before them would shift it.
    """
    causal = getattr(module, "is_causal", True) if is_causal is None else is_causal
    n_queries, n_keys = query.shape[2], key.shape[2]
    if not causal or n_queries == 1:
        return None
    return query.new_ones(1, 1, n_queries, n_keys, dtype=torch.bool).tril()


def _widened(mask: Tensor | None, n_columns: int) -> Tensor | None:
    """Return the mask with columns before it that all tokens see: True, or 0 where it is added."""
    if mask is None:
        return None
    shown = mask.new_ones if mask.dtype == torch.bool else mask.new_zeros
    return torch.cat([shown((*mask.shape[:-1], n_columns)), mask], dim=-1)


def _own_function(module: nn.Module, implementation: str) -> Attend:
    if implementation not in IMPLEMENTATIONS:
        raise ValueError(
            f"a prefix cannot be used with attn_implementation '{implementation}'; allowed: "
            f"{', '.join(IMPLEMENTATIONS)}; give it when the base model is loaded"
        )
    eager = getattr(sys.modules[type(module).__module__], "eager_attention_forward", None)
    own: Attend = ALL_ATTENTION_FUNCTIONS.get_interface(implementation, eager)
    return own


def with_interface(config: Any) -> Any:
    """Return a copy of the model's config that leads the attention to `attention_with_prefix`."""
    changed = copy.copy(config)
    changed._attn_implementation_internal = INTERFACE
    changed.before_prefix = config  # read at every call: the user may change the function later
    return changed


AttentionInterface.register(INTERFACE, attention_with_prefix)

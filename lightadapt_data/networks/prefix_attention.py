"""Attention with keys and values before those of the text, in place of a model's own.

Where a model calls transformers' attention interface, by a function that is registered there under
a name of its own; for MPNet, which does not call it, the attention is written out. Importing this
module registers the function.
"""

from __future__ import annotations

import copy
import math
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
    """Float [heads, length, width of a head]."""
    values: Tensor
    gate: Tensor | None
    """Float [heads]: how much of the prefix's own attention is added; None: one softmax for all."""


@dataclass
class Seen:
    """Handed over in a prefix's place, it takes the keys and values of the text itself."""

    keys: Tensor | None = None
    """Float [rows, heads, tokens, width of a head]."""
    values: Tensor | None = None


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
    attend = _own_function(module, config.before_prefix._attn_implementation)
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
        added, _ = attend(module, query, keys, values, None, **kwargs)
        gate = torch.tanh(prefix.gate).to(output.dtype)[:, None]
        return output + gate * added, shares  # [rows, tokens, heads, width of a head]
    return attend(
        module,
        query,
        torch.cat([keys, key], dim=2),
        torch.cat([values, value], dim=2),
        _widened(attention_mask, keys.shape[2]),
        **kwargs,
    )


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


def mpnet_attention(
    attention: Any,
    prefix: Prefix | Seen,
    hidden: Tensor,
    attention_mask: Tensor | None = None,
    position_bias: Tensor | None = None,
    output_attentions: bool = False,
    **kwargs: Any,
) -> tuple[Tensor, ...]:
    """Return what MPNetSelfAttention returns; the prefix has no position, so no bias either."""
    size = attention.attention_head_size
    query, key, value = (
        part(hidden).view(*hidden.shape[:-1], -1, size).transpose(1, 2)
        for part in (attention.q, attention.k, attention.v)
    )
    if isinstance(prefix, Seen):
        prefix.keys, prefix.values = key, value
        plain: tuple[Tensor, ...] = attention(
            hidden, attention_mask, position_bias, output_attentions, **kwargs
        )
        return plain
    keys, values = prefix.keys.to(key.dtype), prefix.values.to(key.dtype)
    scores = query @ key.transpose(-1, -2) / math.sqrt(size)
    for added in (position_bias, attention_mask):
        scores = scores if added is None else scores + added
    before = query @ keys.transpose(-1, -2) / math.sqrt(size)
    n_before = keys.shape[1]
    if prefix.gate is None:
        shares = torch.cat([before, scores], dim=-1).softmax(dim=-1)
        shares = attention.dropout(shares)
        context = shares[..., :n_before] @ values + shares[..., n_before:] @ value
    else:
        shares = attention.dropout(scores.softmax(dim=-1))
        gate = torch.tanh(prefix.gate).to(value.dtype)[:, None, None]
        context = shares @ value + gate * (attention.dropout(before.softmax(dim=-1)) @ values)
    output = attention.o(context.transpose(1, 2).flatten(2))
    return (output, shares) if output_attentions else (output,)


AttentionInterface.register(INTERFACE, attention_with_prefix)

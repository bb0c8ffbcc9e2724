"""Attention with a prefix, written out for models that do not call transformers' interface.

Both add to the scores what they know of the distance between two tokens. The prefix has no place in
the text, so nothing is added to its scores. The steps are those of transformers in the same order,
so that a gate of 0 gives exactly what the model gave.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from transformers.models.deberta_v2.modeling_deberta_v2 import DisentangledSelfAttention
from transformers.models.mpnet.modeling_mpnet import MPNetSelfAttention

from lightadapt_data.networks.prefix_attention import Prefix, Seen


def mpnet_attention(
    attention: Any,
    prefix: Prefix | Seen,
    hidden: Tensor,
    attention_mask: Tensor | None = None,
    position_bias: Tensor | None = None,
    output_attentions: bool = False,
    **kwargs: Any,
) -> tuple[Tensor, ...]:
    """Return what MPNetSelfAttention returns."""
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
    scores = query @ key.transpose(-1, -2) / math.sqrt(size)
    for added in (position_bias, attention_mask):
        scores = scores if added is None else scores + added
    before = query @ prefix.keys.to(key.dtype).transpose(-1, -2) / math.sqrt(size)
    context, shares = _context(before, scores, prefix, value, attention.dropout)
    output = attention.o(context.transpose(1, 2).flatten(2))
    return (output, shares) if output_attentions else (output,)


def deberta_attention(
    attention: Any,
    prefix: Prefix | Seen,
    hidden: Tensor,
    attention_mask: Tensor,
    output_attentions: bool = False,
    query_states: Tensor | None = None,
    relative_pos: Tensor | None = None,
    rel_embeddings: Tensor | None = None,
) -> tuple[Tensor, Tensor | None]:
    """Return what DisentangledSelfAttention of DeBERTa-v2 and v3 returns."""
    n_heads = attention.num_attention_heads
    asking = hidden if query_states is None else query_states
    query, key, value = (  # [rows * heads, tokens, width of a head]
        attention.transpose_for_scores(part(states), n_heads)
        for part, states in (
            (attention.query_proj, asking),
            (attention.key_proj, hidden),
            (attention.value_proj, hidden),
        )
    )
    factor = 1 + sum(kind in attention.pos_att_type for kind in ("c2p", "p2c"))
    scale = torch.tensor(query.shape[-1] * factor, dtype=torch.float).sqrt().to(query.dtype)
    scores = torch.bmm(query, key.transpose(-1, -2) / scale)
    if attention.relative_attention:
        places = attention.pos_dropout(rel_embeddings)
        scores = scores + attention.disentangled_attention_bias(
            query, key, relative_pos, places, factor
        )
    query, key, value, scores = (
        part.view(-1, n_heads, *part.shape[1:]) for part in (query, key, value, scores)
    )
    if isinstance(prefix, Seen):
        prefix.keys, prefix.values = key, value
        plain: tuple[Tensor, Tensor | None] = attention(
            hidden, attention_mask, output_attentions, query_states, relative_pos, rel_embeddings
        )
        return plain
    scores = scores.masked_fill(~attention_mask.bool(), torch.finfo(query.dtype).min)
    before = query @ (prefix.keys.to(key.dtype).transpose(-1, -2) / scale)
    context, shares = _context(before, scores, prefix, value, attention.dropout)
    output = context.transpose(1, 2).flatten(2)
    return output, shares if output_attentions else None


def _context(
    before: Tensor, scores: Tensor, prefix: Prefix, value: Tensor, dropout: nn.Module
) -> tuple[Tensor, Tensor]:
    """Return what the heads found, and the shares of the attention; with no gate those of both.

    Args:
        before: the scores of the prefix, [rows, heads, tokens, length].
        scores: those of the text, [rows, heads, tokens, tokens].
        prefix: its values are [heads, length, width of a head].
        value: [rows, heads, tokens, width of a head].
        dropout: on the shares.
    """
    values, n_before = prefix.values.to(value.dtype), before.shape[-1]
    if prefix.gate is None:
        shares = dropout(torch.cat([before, scores], dim=-1).softmax(dim=-1))
        return shares[..., :n_before] @ values + shares[..., n_before:] @ value, shares
    shares = dropout(scores.softmax(dim=-1))
    gate = torch.tanh(prefix.gate).to(value.dtype)[:, None, None]
    return shares @ value + gate * (dropout(before.softmax(dim=-1)) @ values), shares


WRITTEN_OUT: dict[type[nn.Module], Callable[..., tuple[Tensor | None, ...]]] = {
    DisentangledSelfAttention: deberta_attention,
    MPNetSelfAttention: mpnet_attention,
}
"""By the class of the base model's attention."""

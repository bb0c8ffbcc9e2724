"""Tiny models of every family that can take a prefix, with one in them."""

from unittest import mock

import tiny_models
import torch
from tiny_models import (
    CAUSAL,
    DECODER_CONFIGS,
    DECODERS,
    ENCODER_DECODER_CONFIGS,
    ENCODER_DECODERS,
    ENCODERS,
    IDS,
    ROTARY,
    SEQ2SEQ,
    SEQUENCE,
    batch,
    tiny,
)
from torch import nn

from lightadapt_data.adapters import prefix
from lightadapt_data.networks.prefix import layers

ALL_DECODERS = {**DECODER_CONFIGS, "gemma": ("GemmaConfig", ROTARY)}
FAMILIES = (*ENCODERS, *DECODERS, *ENCODER_DECODERS)
RELATIVES = sorted(set(prefix.ATTENTIONS) - set(FAMILIES))
ROTATED = ("gemma", "gemma3_text", "llama", "mistral", "qwen2", "qwen3")
WRITING = (*DECODERS, *ENCODER_DECODERS)
SIZES = {
    # A window shorter than the text, so that local attention meets the prefix.
    "modernbert": {"local_attention": 4},
    "mistral": {"sliding_window": 4},
    "deberta-v2": {"relative_attention": True, "pos_att_type": ["c2p", "p2c"]}
    | {"position_buckets": 4},
    "qwen3": {"num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 6},
}
WHOLE = {"sliding_window": 64}
"""For those that compare with a text and not a prefix before the text."""


def head_of(model_type):
    if model_type in ALL_DECODERS:
        return CAUSAL
    return SEQ2SEQ if model_type in ENCODER_DECODER_CONFIGS else SEQUENCE


def fresh(model_type, auto=None, sizes=None, **options):
    with mock.patch.dict(tiny_models.DECODER_CONFIGS, ALL_DECODERS):
        return tiny(
            model_type,
            sizes=SIZES.get(model_type, {}) | (sizes or {}),
            auto=auto or head_of(model_type),
            **options,
        )


def heads(model):
    if not hasattr(model.config, "num_labels") or "Classification" not in type(model).__name__:
        return []
    named = model.named_children()
    return [n for n, m in named if n != model.base_model_prefix and list(m.parameters())]


def logits(model, ids=IDS, mask=None, **more):
    """Of a text; an encoder-decoder gets it as both texts."""
    mask = torch.ones_like(ids) if mask is None else mask
    if model.config.is_encoder_decoder:
        more = {"decoder_input_ids": ids[:, :6], **more}
    with torch.no_grad():
        return model(input_ids=ids, attention_mask=mask, **more).logits


def attached(model, **options):
    torch.manual_seed(1)
    return prefix.attach(model, prefix.Settings(**{"length": 4, **options}), heads(model)).eval()


def shaken(model, **options):
    """Return the model with a prefix of large random rows and open gates."""
    model = attached(model, **options)
    for layer in layers(model):
        for table in (*layer.kvprefix_rows.values(), *layer.kvprefix_gate.values()):
            nn.init.normal_(table.weight)
    return model


def step(model):
    model(**batch(head_of(model.config.model_type))).loss.backward()


def trained(model, steps=2):
    parameters = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=0.05)
    for _ in range(steps):
        step(model)
        assert all(p.grad is not None for p in parameters)
        optimizer.step()
        optimizer.zero_grad()
    return model


def reloaded(model, model_type, folder):
    model.save_pretrained(folder, save_embedding_layers=False)
    other = fresh(model_type)
    for name in heads(other):  # a head that is not in the file would show
        for parameter in getattr(other, name).parameters():
            nn.init.normal_(parameter)
    return prefix.load(other, folder).eval()

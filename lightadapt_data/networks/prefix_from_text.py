"""Let a prefix start from the keys and values that the base model has for a text."""

from __future__ import annotations

import inspect
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedModel

from lightadapt_data.networks.prefix import layers
from lightadapt_data.networks.prefix_attention import Seen


def start_from_text(model: nn.Module, token_ids: list[int], adapter_name: str = "default") -> None:
    """Set the prefixes to the keys and values that the base model has for the first tokens.

    The encoder and the decoder of an encoder-decoder both read the text; the cross attention takes
    what the encoder makes of it. Where keys are turned by their positions, the text stands at the
    places before the first: without a gate a decoder then gives what it gives behind that text.

    Args:
        model: a PeftModel of this type; changed in place.
        token_ids: at least as many as the prefix is long.
        adapter_name: the prefix to be set.
    """
    found = layers(model)
    table: Any = found[0].kvprefix_rows[adapter_name]
    length, device = table.weight.shape[0], table.weight.device
    modes = [(part, part.training) for part in model.modules()]
    model.eval()  # no dropout
    for layer in found:
        layer.seen = Seen()
    try:
        with torch.no_grad():
            _read(model, torch.tensor([token_ids[:length]], device=device))
            for layer in found:
                seen: Any = layer.seen
                table = layer.kvprefix_rows[adapter_name]
                rows = torch.stack([seen.keys[0], seen.values[0]])
                table.weight.copy_(rows.permute(2, 0, 1, 3))
    finally:
        for layer in found:
            layer.seen = None
        for part, was_training in modes:
            part.training = was_training


def _read(model: nn.Module, ids: torch.Tensor) -> None:
    """Run the base without its head: BART's counts end tokens, of which the text may have none."""
    whole: Any = next(part for part in model.modules() if isinstance(part, PreTrainedModel))
    base = whole.base_model
    inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    if "decoder_input_ids" in inspect.signature(base.forward).parameters:
        inputs["decoder_input_ids"] = ids
    if any(name.endswith("rotary_emb") for name, _ in base.named_modules()):
        inputs["position_ids"] = torch.arange(-ids.shape[1], 0, device=ids.device)[None]
    base(**inputs)

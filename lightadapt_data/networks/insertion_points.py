"""Where bottleneck adapters go in each family of models; no torch here, so a check is quick.

Names are those of modules inside one layer ("" is the layer itself). How a module is changed, with
D(h) = scaling * (W_up s(W_down h + b_down) + b_up):

- `after`: its output y becomes y + D(y);
- `beside`: its output becomes module(x) + D(x);
- `beside NAME`: its output y becomes y + D(x), where x went into the module NAME next to it: some
  feed-forward parts are no module of their own;
- `around_norm`: a LayerNorm on the sum z becomes LN(z + D(LN(z))), so the residual stays outside;
- `residual_input`: a module called with (hidden, residual) gets residual + D(residual): as it ends
  in LN(... + residual) and the residual is the feed-forward's input, this is the parallel adapter.

In models with an encoder and a decoder both get adapters, and the cross attention gets none: two
adapters per layer, as in the paper, and what other libraries take. Where dropout is no module, the
adapter stands before it. What transformers records as `output_hidden_states` is taken inside a
layer, so before an adapter on the layer itself.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from lightadapt_data.errors import InputError, allowed

Points = dict[str, dict[str, str]]
"""By variant: module inside a layer -> how it is changed."""


def _post_norm(attention_dropout: str) -> Points:
    return {
        "pfeiffer": {"output.LayerNorm": "around_norm"},
        "houlsby": {attention_dropout: "after", "output.dropout": "after"},
        "parallel": {"output": "residual_input"},
    }


def _pre_norm(attention: str, feedforward: str) -> Points:
    return {
        "pfeiffer": {"": "after"},
        "houlsby": {attention: "after", feedforward: "after"},
        "parallel": {feedforward: "beside"},
    }


_BERT = _post_norm("attention.output.dropout")
_LLAMA = _pre_norm("self_attn.o_proj", "mlp")
_MBART: Points = {
    "pfeiffer": {"": "after"},
    "houlsby": {"self_attn.out_proj": "after", "fc2": "after"},
    "parallel": {"fc2": "beside fc1"},
}
_BART = _MBART | {"pfeiffer": {"final_layer_norm": "around_norm"}}
_GEMMA2: Points = {  # it normalises what a part gives, before it adds it
    "pfeiffer": {"": "after"},
    "houlsby": {"post_attention_layernorm": "after", "post_feedforward_layernorm": "after"},
    "parallel": {"post_feedforward_layernorm": "beside mlp"},
}
_T5: Points = {  # the feed-forward is part 1 of an encoder's block and part 2 of a decoder's
    "pfeiffer": {"": "after"},
    "houlsby": {
        "layer.0.dropout": "after",
        "layer.1.DenseReluDense": "after",
        "layer.2.DenseReluDense": "after",
    },
    "parallel": {"layer.1.DenseReluDense": "beside", "layer.2.DenseReluDense": "beside"},
}

POINTS: dict[str, Points] = {
    "bart": _BART,
    "bert": _BERT,
    "camembert": _BERT,
    "deberta-v2": _BERT,
    "distilbert": {
        "pfeiffer": {"output_layer_norm": "around_norm"},
        "houlsby": {"attention.out_lin": "after", "ffn": "after"},
        "parallel": {"ffn": "beside"},
    },
    "electra": _BERT,
    "gemma": _LLAMA,
    "gemma2": _GEMMA2,
    "gemma3_text": _GEMMA2,
    "gpt2": _pre_norm("attn.resid_dropout", "mlp"),
    "llama": _LLAMA,
    "m2m_100": _MBART,
    "marian": _BART,
    "mbart": _MBART,
    "mistral": _LLAMA,
    "modernbert": _pre_norm("attn.out_drop", "mlp"),
    "mpnet": _post_norm("attention.dropout"),
    "mt5": _T5,
    "opt": _MBART,
    "pegasus": _MBART,
    "qwen2": _LLAMA,
    "qwen3": _LLAMA,
    "roberta": _BERT,
    "t5": _T5,
    "xlm-roberta": _BERT,
}
"""By the `model_type` of the model's config.json."""

BLOCKS = {"gpt2": "h", "mt5": "block", "t5": "block"}
"""What the list of layers is called, where it is not `layer` or `layers`."""

N_LAYERS = (
    "num_hidden_layers",
    "n_layers",
    "n_layer",
    "num_layers",
    "num_decoder_layers",
    "encoder_layers",
    "decoder_layers",
)
WIDTHS = ("hidden_size", "dim", "d_model", "n_embd")


def points(model_type: str, variant: str) -> dict[str, str]:
    """Return module inside a layer -> how it is changed.

    Raises:
        InputError: the family of models is not in the table.
    """
    if model_type not in POINTS:
        raise InputError(
            f"base model: no insertion points for model_type '{model_type}'; "
            f"{allowed(model_type, POINTS)}; choose another base_model or adapter = 'head_only'"
        )
    return POINTS[model_type][variant]


def n_layers(config: Mapping[str, Any]) -> int | None:
    """Return the number of layers by a config.json; None where it does not say.

    With an encoder and a decoder it is that of the one with fewer layers.
    """
    return min((int(config[name]) for name in N_LAYERS if config.get(name)), default=None)


def hidden_size(config: Mapping[str, Any]) -> int | None:
    """Return the width of a token's vector by a config.json; None where it does not say."""
    return next((int(config[name]) for name in WIDTHS if config.get(name)), None)


def target_pattern(model_type: str, variant: str, skip_layers: int) -> str:
    """Return the regular expression that matches the full names of all modules to change.

    Args:
        model_type: as in config.json.
        variant: of the adapter.
        skip_layers: lowest layers to leave out, of the encoder and of the decoder.
    """
    inside = "|".join(
        (r"\." + name.replace(".", r"\.")) if name else "" for name in points(model_type, variant)
    )
    numbers = "|".join(str(number) for number in range(skip_layers))
    skipped = rf"(?!(?:{numbers})(?:\.|$))" if skip_layers else ""
    return rf"{_blocks(model_type)}{skipped}\d+(?:{inside})"


def how_to_change(model_type: str, variant: str, module_name: str) -> str:
    """Return how the module of that full name is changed."""
    inside = re.sub(rf"{_blocks(model_type)}\d+\.?", "", module_name, count=1)
    return points(model_type, variant)[inside]


def _blocks(model_type: str) -> str:
    """Return the regular expression of a full name up to the number of the layer.

    T5's blocks hold lists called `layer`, so that each family has its own.
    """
    return rf"(?:.*\.)?{BLOCKS.get(model_type, 'layers?')}\."

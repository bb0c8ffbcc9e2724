"""Where bottleneck adapters go in each family of models; no torch here, so a check is quick.

Names are those of modules inside one layer ("" is the layer itself). How a module is changed, with
D(h) = scaling * (W_up s(W_down h + b_down) + b_up):

- `after`: its output y becomes y + D(y);
- `beside`: its output becomes module(x) + D(x);
- `around_norm`: a LayerNorm on the sum z becomes LN(z + D(LN(z))), so the residual stays outside;
- `residual_input`: a module called with (hidden, residual) gets residual + D(residual): as it ends
  in LN(... + residual) and the residual is the feed-forward's input, this is the parallel adapter.
"""

from __future__ import annotations

from lightadapt_data.errors import InputError, allowed

Points = dict[str, dict[str, str]]
"""By variant: module inside a layer -> how it is changed."""


def _post_norm(attention_dropout: str) -> Points:
    return {
        "pfeiffer": {"output.LayerNorm": "around_norm"},
        "houlsby": {attention_dropout: "after", "output.dropout": "after"},
        "parallel": {"output": "residual_input"},
    }


_BERT = _post_norm("attention.output.dropout")

POINTS: dict[str, Points] = {
    "bert": _BERT,
    "camembert": _BERT,
    "deberta-v2": _BERT,
    "distilbert": {
        "pfeiffer": {"output_layer_norm": "around_norm"},
        "houlsby": {"attention.out_lin": "after", "ffn": "after"},
        "parallel": {"ffn": "beside"},
    },
    "electra": _BERT,
    "modernbert": {
        "pfeiffer": {"": "after"},
        "houlsby": {"attn.out_drop": "after", "mlp": "after"},
        "parallel": {"mlp": "beside"},
    },
    "mpnet": _post_norm("attention.dropout"),
    "roberta": _BERT,
    "xlm-roberta": _BERT,
}
"""By the `model_type` of the model's config.json."""


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


def target_pattern(model_type: str, variant: str, skip_layers: int) -> str:
    """Return the regular expression that matches the full names of all modules to change."""
    inside = "|".join(
        (r"\." + name.replace(".", r"\.")) if name else "" for name in points(model_type, variant)
    )
    numbers = "|".join(str(number) for number in range(skip_layers))
    skipped = rf"(?!(?:{numbers})(?:\.|$))" if skip_layers else ""
    return rf"(?:.*\.)?layers?\.{skipped}\d+(?:{inside})"


def how_to_change(model_type: str, variant: str, module_name: str) -> str:
    """Return how the module of that full name is changed."""
    parts = module_name.split(".")
    layer_at = max(place for place, part in enumerate(parts) if part.isdigit())
    return points(model_type, variant)[".".join(parts[layer_at + 1 :])]

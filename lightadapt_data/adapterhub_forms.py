"""The forms of AdapterHub's bottlenecks, and which of ours they are."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lightadapt_data.adapterhub_files import DEFAULTS
from lightadapt_data.errors import InputError, allowed
from lightadapt_data.layer_names import layer_of, number_of, numbered
from lightadapt_data.networks.insertion_points import BLOCKS, n_layers

_IN_MODULES = ("attention.output", "output", "output")
_BESIDE = ("attention_adapters", "output_adapters", "output_adapters")
PLACES = {
    **dict.fromkeys(("bert", "deberta-v2", "electra", "roberta", "xlm-roberta"), _IN_MODULES),
    **dict.fromkeys(("bart", "distilbert", "gpt2", "llama", "mbart", "mistral"), _BESIDE),
    "t5": ("layer.0", "layer.1", "layer.2"),
}
"""By model_type: what holds the adapter after attention, and after the feed-forward part of an
encoder's and of a decoder's layer."""

_LLAMA = {r"layers\.\d+\.mlp": "beside post_attention_layernorm"}
BEFORE_NORM: dict[str, dict[str, str]] = {
    "gpt2": {r"h\.\d+\.mlp": "beside ln_2"},
    "llama": _LLAMA,
    "mbart": {r"layers\.\d+\.fc2": "beside final_layer_norm"},
    "mistral": _LLAMA,
    "t5": {r"encoder\.block\.\d+\.layer\.1": "beside", r"decoder\.block\.\d+\.layer\.2": "beside"},
}
"""Where par_bn reads what stands before a norm: end of a module's name -> how it is changed."""

ENCODER_DECODERS = ("bart", "mbart", "t5")
NON_LINEARITIES = {"swish": "silu", "leakyrelu": "leaky_relu"}
"""Names of that library -> ours, where they differ."""

VARIANTS: dict[str, dict[str, Any]] = {
    "pfeiffer": {"mh_adapter": False, "original_ln_before": True, "is_parallel": False},
    "houlsby": {"mh_adapter": True, "original_ln_before": False, "is_parallel": False},
    "parallel": {"mh_adapter": False, "original_ln_before": False, "is_parallel": True},
}
UNSAID = {"mh_adapter": False, "original_ln_before": False, "is_parallel": False, "scaling": 1.0}
"""What holds where an older configuration does not say."""
_FIXED = (
    *("inv_adapter", "ln_after", "ln_before", "original_ln_after", "phm_layer", "use_gating"),
    *("cross_adapter", "residual_before_ln"),
)
"""What an adapter must have as in DEFAULTS to be one of ours."""


def variant_of(own: Mapping[str, Any], folder: Path) -> str:
    """Return our name of the adapter's form.

    Raises:
        InputError: there is none.
    """
    others = {key: own[key] for key in _FIXED if own[key] != DEFAULTS[key]}
    for key in ("reduction_factor", "scaling"):
        if not isinstance(own[key], int | float):
            others[key] = own[key]
    if not own.get("output_adapter"):
        others["output_adapter"] = False
    form = {key: own[key] for key in VARIANTS["pfeiffer"]}
    for variant, known in VARIANTS.items():
        if not others and form == known:
            return variant
    named = ", ".join(f"{key} = {value}" for key, value in (form | others).items())
    raise InputError(
        f"{folder}: this package has no adapter with {named}; allowed: the forms seq_bn, "
        "double_seq_bn and par_bn with one number as reduction_factor and as scaling"
    )


def non_linearity_of(name: str, content: Mapping[str, Any], folder: Path) -> str:
    """Return our name of the function between down and up.

    Raises:
        InputError: there is none.
    """
    from lightadapt_data.networks.non_linearities import NON_LINEARITIES as KNOWN

    if "version" not in content:  # what was "gelu" before versions were noted
        name = {"gelu": "gelu_new"}.get(name, name)
    found = NON_LINEARITIES.get(name.lower(), name.lower())
    if found not in KNOWN:
        raise InputError(f"{folder}: non_linearity = '{name}'; {allowed(found, KNOWN)}")
    return found


def ways_of(model_type: str) -> dict[str, str] | None:
    """Return how a par_bn changes which modules, where our own parallel does otherwise."""
    ways = BEFORE_NORM.get(model_type)
    return ways and {rf"(?:.*\.)?{end}": how for end, how in ways.items()}


def without(left_out: Sequence[int], pattern: str, network: Any) -> str:
    """Return the pattern without the layers of these numbers."""
    numbers = numbered({name for name, _ in network.named_modules()})
    layers = {layer_of(name) for name, number in numbers.items() if number in left_out}
    block = BLOCKS.get(network.config.model_type, "layers?")
    end = re.compile(rf"(?:(?:en|de)coder\.)?{block}\.\d+$")
    ends = {found[0] for layer in layers if layer and (found := end.search(layer))}
    if not ends:
        return pattern
    names = "|".join(re.escape(end) for end in sorted(ends))
    return rf"(?!(?:.*\.)?(?:{names})(?:\.|$))(?:{pattern})"


def place(module: str, model_type: str) -> str:
    """Return what holds the adapter of that module in AdapterHub's library."""
    layer = str(layer_of(module))
    inside = module.removeprefix(layer).lstrip(".")
    attention, encoder, decoder = PLACES[model_type]
    if inside.startswith(("attention", "attn", "self_attn", "layer.0")):
        return f"{layer}.{attention}"
    return f"{layer}.{decoder if 'decoder.' in layer else encoder}"


def exported(config: Any, places: Sequence[str], base: Mapping[str, Any]) -> dict[str, Any]:
    """Return what describes the adapter in that library."""
    n_encoder = n_layers(base) or 0
    n_all = n_encoder
    if config.model_type in ENCODER_DECODERS:
        n_encoder = int(base.get("encoder_layers") or base["num_layers"])
        n_all = n_encoder + int(
            base.get("decoder_layers") or base.get("num_decoder_layers") or n_encoder
        )
    taken = {int(number_of(at) or 0) + n_encoder * ("decoder." in at) for at in places}
    ours_to_theirs = {ours: theirs for theirs, ours in NON_LINEARITIES.items()}
    ratio = config.reduction_factor
    return DEFAULTS | {
        **VARIANTS[config.variant],
        "init_weights": "mam_adapter" if config.variant == "parallel" else "bert",
        "leave_out": sorted(set(range(n_all)) - taken),
        "non_linearity": ours_to_theirs.get(config.non_linearity, config.non_linearity),
        "output_adapter": True,
        "reduction_factor": int(ratio) if ratio == int(ratio) else ratio,
        "scaling": float(config.scaling),
    }

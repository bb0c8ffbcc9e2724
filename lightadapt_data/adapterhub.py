"""Bottleneck adapters to and from AdapterHub's format, for use with its library and back.

A folder of that format holds adapter_config.json, the tensors (adapter.safetensors, or
pytorch_adapter.bin, which that library writes unless told otherwise) and the same two for a head.
Its seq_bn is our pfeiffer, its double_seq_bn our houlsby, its par_bn our parallel. Outputs are
equal: tests/adapterhub holds what adapters 1.3.0 answers.

In models that normalise before the feed-forward part, par_bn reads what stands before that norm,
and our parallel what comes out of it. So such adapters come in, and only those go out again.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lightadapt_data import adapterhub_forms as forms
from lightadapt_data import adapterhub_heads, base_models, model_files
from lightadapt_data.adapterhub_files import CONFIG, DEFAULTS, read_tensors, write_tensors
from lightadapt_data.errors import InputError, allowed
from lightadapt_data.layer_names import layer_of, moved, moving
from lightadapt_data.networks.insertion_points import hidden_size, target_pattern

VERSION = "adapters.1.3.0"
"""The library whose format is written."""

_KEY = re.compile(r"(.+)\.adapters\.[^.]+\.adapter_(down\.0|up)\.(weight|bias)")


def read(folder: Path, network: Any, head_modules: Sequence[str] = ()) -> Any:
    """Return the network with the adapter of a folder in AdapterHub's format, as a PeftModel.

    Args:
        folder: with adapter_config.json and the tensors.
        network: a model of the same family and size; changed in place.
        head_modules: names of its head, as in tasks.Built; filled where the folder holds a head
            that the network can have, else left as it is, with a warning.

    Raises:
        InputError: the folder cannot be read, or holds no adapter that this package has, or one of
            another model.
    """
    import peft

    from lightadapt_data.networks.bottleneck import BottleneckConfig, BottleneckModel

    content = _config(folder)
    own = content["config"]
    model_type = network.config.model_type
    width = hidden_size(network.config.to_dict())
    found = (content.get("model_type"), content.get("hidden_size"))
    if found != (model_type, width) or model_type not in forms.PLACES:
        raise InputError(
            f"{folder}: holds an adapter for model_type '{found[0]}' of width {found[1]}, and the "
            f"base model has '{model_type}' and {width}; both have to be the same; "
            f"{allowed(str(model_type), forms.PLACES)}"
        )
    variant = forms.variant_of(own, folder)
    ways = forms.ways_of(model_type) if variant == "parallel" else None
    pattern = "|".join(ways) if ways else target_pattern(model_type, variant, 0)
    saved_heads = adapterhub_heads.put_in(folder, network, head_modules)
    config = BottleneckConfig(
        variant=variant,
        reduction_factor=float(own["reduction_factor"]),
        non_linearity=forms.non_linearity_of(own["non_linearity"], content, folder),
        scaling=float(own["scaling"]),
        model_type=model_type,
        target_modules=forms.without(own.get("leave_out") or [], pattern, network),
        ways=ways,
        modules_to_save=saved_heads,
    )
    model = peft.get_peft_model(network, config)
    tuner: BottleneckModel = model.base_model
    _put_in(folder, tuner, model_type)
    return model.eval()


def export(
    folder: Path, out: Path, name: str = "lightadapt", base_model: str | None = None
) -> Path:
    """Write a trained bottleneck adapter in AdapterHub's format, with its head; return `out`.

    A head that no class of that library has is left out, with a warning. An adapter that stands
    under this one is exported on its own; use Stack there.

    Args:
        folder: the run's `adapter/`.
        out: where to write; made when it is missing.
        name: what the adapter is called there.
        base_model: where the base model is, when not where it was in training.

    Raises:
        InputError: the adapter is none that the format can hold.
    """
    from lightadapt_data.networks.bottleneck import BottleneckConfig

    how = _how(folder)
    config = BottleneckConfig.from_pretrained(str(folder))
    base = base_models.config_of(model_files.find(base_model or how["base_model"]))
    _check_export(config, folder)
    tensors = read_tensors(folder, "adapter_model")
    adapters, is_mean = {}, False
    for key, tensor in tensors.items():
        module, mark, part = key.removeprefix("base_model.model.").rpartition(".bottleneck_")
        if mark:
            is_mean = module != _as_there(module)
            at = forms.place(_as_there(module), config.model_type)
            inner = part.replace("down.", "adapter_down.0.").replace("up.", "adapter_up.")
            adapters[f"{at}.adapters.{name}.{inner}"] = tensor
    shared = {
        "model_type": config.model_type,
        "hidden_size": hidden_size(base),
        "model_name": how["base_model"],
        "version": VERSION,
    }
    out.mkdir(parents=True, exist_ok=True)
    content = shared | {
        "config": forms.exported(config, list(adapters), base),
        "name": name,
        "model_class": adapterhub_heads.class_name(how, config.model_type),
    }
    (out / CONFIG).write_text(json.dumps(content, indent=2, sort_keys=True), "utf-8")
    write_tensors(out, "adapter", adapters)
    adapterhub_heads.export(out, how, shared, tensors, None if is_mean else name)
    return out


def labels(folder: Path) -> list[str]:
    """Return the labels of the head in a folder of AdapterHub's format; empty: it has none.

    Raises:
        InputError: the folder's head cannot be read.
    """
    return adapterhub_heads.labels(folder)


def _config(folder: Path) -> dict[str, Any]:
    path = folder / CONFIG
    try:
        content: dict[str, Any] = json.loads(path.read_text("utf-8"))
        own = content["config"]
        missing = {"reduction_factor", "non_linearity"} - own.keys()
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise InputError(f"{path}: is no configuration of AdapterHub: {error!r}") from None
    if own.get("architecture") is not None or missing:
        raise InputError(
            f"{path}: holds an adapter of the kind '{own.get('architecture')}'; allowed: a "
            "bottleneck (seq_bn, double_seq_bn, par_bn)"
        )
    content["config"] = forms.UNSAID | DEFAULTS | own
    return content


def _put_in(folder: Path, model: Any, model_type: str) -> None:
    """Set the adapters of the model to the tensors in the folder.

    Raises:
        InputError: one of them has no place or another shape, or a place has none.
    """
    import torch

    from lightadapt_data.networks.bottleneck import BottleneckLayer

    layers = {
        name: part
        for name, part in model.model.named_modules()
        if isinstance(part, BottleneckLayer)
    }
    own = {
        f"{forms.place(name, model_type)}.{part}.{parameter}": tensor
        for name, layer in layers.items()
        for part, linear in (
            ("down.0", layer.bottleneck_down["default"]),
            ("up", layer.bottleneck_up["default"]),
        )
        for parameter, tensor in linear.named_parameters()
    }
    saved = read_tensors(folder, "adapter")
    found = {key: match for key in saved if (match := _KEY.fullmatch(_today(key)))}
    names = {key: f"{match[1]}.{match[2]}.{match[3]}" for key, match in found.items()}
    # Layers are those of the plain model, for ours may be wrapped.
    here = {layer for name in layers if (layer := layer_of(name))}
    move = moving(names.values(), {*here, *(name.partition(".")[0] for name in here)})
    given = {moved(name, move or ("", "")): saved[key] for key, name in names.items()}
    shapes = {name: tuple(tensor.shape) for name, tensor in own.items()}
    if shapes != {name: tuple(tensor.shape) for name, tensor in given.items()}:
        wrong = sorted(
            name
            for name in shapes.keys() | given.keys()
            if name not in given or shapes.get(name) != tuple(given[name].shape)
        )
        raise InputError(
            f"{folder}: {len(wrong)} of {len(shapes)} tensors are missing, too many or of another "
            f"shape, such as {wrong[0]}; allowed: an adapter of this base model, written whole"
        )
    with torch.no_grad():
        for name, tensor in own.items():
            tensor.copy_(given[name])


def _today(key: str) -> str:
    """Return a key of the library's first versions as it is today."""
    return re.sub(r"(?:attention|layer)_text_(?:task|lang)_adapters", "adapters", key)


def _as_there(module: str) -> str:
    """Return the name without what our mean head calls the encoder, for it has no class there."""
    return re.sub(r"^encoder\.(?=(?:encoder|decoder|transformer)\.|h\.)", "", module)


def _how(folder: Path) -> dict[str, Any]:
    path = folder / "labels.json"
    if not path.exists():
        raise InputError(
            f"{folder}: holds no labels.json; allowed: the folder adapter/ of a run that trained"
        )
    how: dict[str, Any] = json.loads(path.read_text("utf-8"))
    if how["adapter"] != "bottleneck":
        raise InputError(
            f"{folder}: holds an adapter of the method '{how['adapter']}'; allowed in AdapterHub's "
            "format: bottleneck"
        )
    return how


def _check_export(config: Any, folder: Path) -> None:
    """Check that the library can hold the adapter.

    Raises:
        InputError: it cannot.
    """
    reason = ""
    if config.model_type not in forms.PLACES:
        reason = (
            f"model_type '{config.model_type}' is unknown there; allowed: {', '.join(forms.PLACES)}"
        )
    elif config.train_layer_norm:
        reason = "trained norms have no place in it; allowed: train_layer_norm = false"
    elif (
        config.variant == "parallel" and config.model_type in forms.BEFORE_NORM and not config.ways
    ):
        reason = (
            "its par_bn reads what stands before the norm in this family, and this adapter what "
            "comes out of it; allowed: the variants pfeiffer and houlsby"
        )
    if reason:
        raise InputError(f"{folder}: cannot go out in AdapterHub's format: {reason}")

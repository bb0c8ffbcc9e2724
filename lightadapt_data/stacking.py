"""Put an adapter of an earlier run under the one that is trained: one of the language, say.

The adapter below is frozen and becomes part of the base model: what comes over it neither trains
nor saves it, so both folders are needed to load. Its head is left out.

- bottleneck: the one below works first, then the one above, in the same place, as in AdapterHub's
  Stack; both parallel ones read the same input;
- lora and its relatives, full: the weights are changed for good;
- prefix: its keys and values stay before those of the text; nothing but a second prefix can come
  over it.

Source: Pfeiffer et al. 2020, MAD-X, https://arxiv.org/abs/2005.00052 section 3 (a language adapter
under a task adapter)
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from lightadapt_data import model_files
from lightadapt_data.errors import InputError
from lightadapt_data.layer_names import layer_of, moved, moving

METHODS = ("bottleneck", "full", "lora", "prefix")
"""What can stand under another adapter."""
WEIGHTS = "adapter_model.safetensors"

_ROOT = "base_model.model."
"""What PEFT puts before the names of the model."""


def check(folder: Path, base_model: str, above: str) -> None:
    """Check, before any training, that the adapter in `folder` can stand under a new one.

    Args:
        folder: the run's `adapter/`, with labels.json and PEFT's two files.
        base_model: of the new adapter; the one below has to have the same.
        above: method of the new adapter.

    Raises:
        InputError: it cannot, with the reason.
    """
    how = _how(folder)
    method = how["adapter"]
    if method not in METHODS:
        raise InputError(
            f"under = {folder}: holds an adapter of the method '{method}', of which nothing stays "
            f"in the model without its inputs or its head; allowed: {', '.join(METHODS)}"
        )
    if (method, above) == ("prefix", "prefix"):
        raise InputError(
            f"under = {folder}: holds a prefix, and adapter = 'prefix' would put a second one in "
            "the same place; allowed over a prefix: bottleneck, lora, prompt, head_only"
        )
    own, other = (model_files.find(name) for name in (how["base_model"], base_model))
    if model_files.fingerprint(own) != model_files.fingerprint(other):
        raise InputError(
            f"under = {folder}: was trained on base model '{how['base_model']}', and this run has "
            f"base_model = '{base_model}'; allowed: the same model"
        )


def load_under(network: Any, folder: Path, head_modules: Sequence[str] = ()) -> Any:
    """Return the network with the adapter in `folder` in it, frozen; the head is left as it is.

    Args:
        network: what a task builds, with nothing in it; changed in place.
        folder: the run's `adapter/`.
        head_modules: names of the network's head, as in tasks.Built.

    Raises:
        InputError: the folder holds no adapter that can be put there, or one of another model.
    """
    method = _how(folder)["adapter"]
    if method not in METHODS:
        raise InputError(
            f"under = {folder}: an adapter of the method '{method}' cannot stand under another; "
            f"allowed: {', '.join(METHODS)}"
        )
    tensors = _in_place(_tensors(folder), network, folder)
    if method == "full":
        _full(network, folder, tensors, head_modules)
    else:
        {"bottleneck": _bottleneck, "lora": _lora, "prefix": _prefix}[method](
            network, folder, tensors
        )
    return network


def _how(folder: Path) -> dict[str, Any]:
    path = folder / "labels.json"
    if not path.exists():
        raise InputError(
            f"under = {folder}: holds no labels.json; allowed: the folder adapter/ of a run that "
            "trained"
        )
    how: dict[str, Any] = json.loads(path.read_text("utf-8"))
    return how


def _tensors(folder: Path) -> dict[str, Any]:
    from safetensors import SafetensorError, safe_open

    found = {}
    try:
        with safe_open(folder / WEIGHTS, "pt") as file:
            found = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118  no mapping
            tied = file.metadata() or {}
    except (OSError, SafetensorError) as error:
        raise InputError(f"under = {folder}: {WEIGHTS} cannot be read: {error}") from None
    # Of weights that a model uses twice the file holds one, and names the other.
    return found | {name: found[kept] for name, kept in tied.items() if kept in found}


def _in_place(tensors: Mapping[str, Any], network: Any, folder: Path) -> dict[str, Any]:
    """Return the tensors under the names that they have in this network."""
    names = {key: key.removeprefix(_ROOT) for key in tensors}
    move = moving(names.values(), {name for name, _ in network.named_modules()})
    if move is None:
        layers = sorted({layer for layer in map(layer_of, names.values()) if layer})
        raise InputError(
            f"under = {folder}: its layers are called {', '.join(layers[:2]) or 'nothing'}, and "
            "this model has none of that kind; allowed: an adapter of the same base model"
        )
    # What all layers share (of vera) has PEFT's name, and stands in none of them.
    shared = {key for key, name in names.items() if name.startswith("base_model.")}
    return {key: tensors[key] for key in shared} | {
        f"{_ROOT if key.startswith(_ROOT) else ''}{moved(name, move)}": tensors[key]
        for key, name in names.items()
        if key not in shared
    }


def _bottleneck(network: Any, folder: Path, tensors: Mapping[str, Any]) -> None:
    """Hang the adapters on their modules, and set the norms that were trained with them."""
    from torch import nn

    from lightadapt_data.networks.bottleneck import BottleneckConfig
    from lightadapt_data.networks.under import Under

    config = BottleneckConfig.from_pretrained(str(folder))
    modules = dict(network.named_modules())
    device = next(network.parameters()).device
    places = _by_module(tensors, "bottleneck_")
    if places.keys() - modules.keys():
        raise _misfit(folder, places.keys() - modules.keys())
    for name, parts in places.items():
        module = modules[name]
        if "norm" in parts:
            module.load_state_dict(parts["norm"])
        if "down" in parts:
            down, up = (
                nn.Linear(*reversed(parts[part]["weight"].shape)) for part in ("down", "up")
            )
            down.load_state_dict(parts["down"])
            up.load_state_dict(parts["up"])
            added = Under(config.how(name), down, up, config.non_linearity, config.scaling)
            added.to(device).hang_on(module, modules[name.rpartition(".")[0]])


def _lora(network: Any, folder: Path, tensors: Mapping[str, Any]) -> None:
    """Change the weights."""
    import peft

    config = peft.PeftConfig.from_pretrained(str(folder))
    config.modules_to_save = None  # the head
    model = peft.get_peft_model(network, config)
    known = set(peft.get_peft_model_state_dict(model, save_embedding_layers=False))
    changes = {key: tensor for key, tensor in tensors.items() if key in known}
    if changes.keys() != known:
        raise _misfit(folder, known - changes.keys())
    peft.set_peft_model_state_dict(model, changes)
    model.merge_and_unload()


def _full(
    network: Any, folder: Path, tensors: Mapping[str, Any], head_modules: Sequence[str]
) -> None:
    """Set the weights of everything but the head."""
    heads = tuple(f"{name}." for name in head_modules)
    own = {key for key in network.state_dict() if not key.startswith(heads)}
    missing = {key for key in own - tensors.keys() if layer_of(key)}
    if missing:
        raise _misfit(folder, missing)
    network.load_state_dict({key: tensors[key] for key in own & tensors.keys()}, strict=False)


def _prefix(network: Any, folder: Path, tensors: Mapping[str, Any]) -> None:
    """Hand the keys and values to their attentions at every call."""
    from lightadapt_data.networks.prefix_written_out import WRITTEN_OUT
    from lightadapt_data.networks.under import UnderPrefix

    modules = dict(network.named_modules())
    device = next(network.parameters()).device
    for name, parts in _by_module(tensors, "kvprefix_").items():
        if type(modules[name]) in WRITTEN_OUT:
            raise InputError(
                f"under = {folder}: holds a prefix, and the attention of model_type "
                f"'{network.config.model_type}' takes one only while it is trained or used alone; "
                "allowed under another adapter: bottleneck, full, lora"
            )
        gate = parts["gate"]["weight"] if "gate" in parts else None
        UnderPrefix(parts["rows"]["weight"], gate).to(device).hang_on(modules[name])


def _misfit(folder: Path, missing: Collection[str]) -> InputError:
    return InputError(
        f"under = {folder}: it and this model differ in {len(missing)} places, such as "
        f"{min(missing)}; allowed: a whole adapter of the same base model"
    )


def _by_module(tensors: Mapping[str, Any], prefix: str) -> dict[str, dict[str, dict[str, Any]]]:
    """Return module -> part -> parameter -> tensor, of keys such as MODULE.bottleneck_down.bias."""
    found: dict[str, dict[str, dict[str, Any]]] = {}
    for key, tensor in tensors.items():
        plain = key.removeprefix(_ROOT).replace(".base_layer.", ".")
        name, mark, part = plain.rpartition(f".{prefix}")
        if mark:
            part, _, parameter = part.partition(".")
            found.setdefault(name, {}).setdefault(part, {})[parameter] = tensor
    return found

"""The files of a folder in AdapterHub's format."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lightadapt_data.errors import InputError

CONFIG = "adapter_config.json"
HEAD_CONFIG = "head_config.json"
OLD_NAMES = {"adapter": "pytorch_adapter.bin", "model_head": "pytorch_model_head.bin"}
"""What that library reads and writes unless it is told to use safetensors."""

DEFAULTS: dict[str, Any] = {
    "adapter_residual_before_ln": False,
    "cross_adapter": False,
    "dropout": 0.0,
    "factorized_phm_W": True,
    "factorized_phm_rule": False,
    "hypercomplex_nonlinearity": "glorot-uniform",
    "init_weights_seed": None,
    "inv_adapter": None,
    "inv_adapter_reduction_factor": None,
    "learn_phm": True,
    "ln_after": False,
    "ln_before": False,
    "original_ln_after": True,
    "phm_bias": True,
    "phm_c_init": "normal",
    "phm_dim": 4,
    "phm_init_range": 0.0001,
    "phm_layer": False,
    "phm_rank": 1,
    "residual_before_ln": True,
    "shared_W_phm": False,
    "shared_phm_rule": True,
    "stochastic_depth": 0.0,
    "use_gating": False,
}
"""What describes a bottleneck there and is the same for all of ours."""


def has_tensors(folder: Path, name: str) -> bool:
    """Return whether the folder holds tensors of that name."""
    files = (f"{name}.safetensors", OLD_NAMES.get(name, ""))
    return any((folder / file).is_file() for file in files)


def read_tensors(folder: Path, name: str) -> dict[str, Any]:
    """Return the tensors of that name by key; nothing but tensors is ever unpickled.

    Raises:
        InputError: there are none, or they cannot be read.
    """
    import pickle

    import torch
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    path = folder / f"{name}.safetensors"
    try:
        if path.exists():
            found: dict[str, Any] = load_file(path)
            return found
        path = folder / OLD_NAMES.get(name, path.name)
        found = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, EOFError, RuntimeError, SafetensorError, pickle.UnpicklingError) as error:
        reason = str(error).splitlines()[0][:200] if str(error) else type(error).__name__
        raise InputError(f"{path}: cannot be read: {reason}; allowed: a file of tensors") from None
    if not isinstance(found, dict) or not all(map(torch.is_tensor, found.values())):
        raise InputError(f"{path}: holds no tensors by name; allowed: a file of tensors")
    return found


def write_tensors(folder: Path, name: str, tensors: Mapping[str, Any]) -> None:
    """Write the tensors in both forms, for that library looks for the older one by itself."""
    import torch
    from safetensors.torch import save_file

    whole = {key: tensor.contiguous() for key, tensor in tensors.items()}
    save_file(whole, folder / f"{name}.safetensors", metadata={"format": "pt"})
    torch.save(whole, folder / OLD_NAMES[name])

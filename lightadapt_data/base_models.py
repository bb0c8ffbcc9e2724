"""Base models: read their configuration, tokenizer and weights from a folder, with plain errors.

A folder holds either config.json with weights, or one GGUF file, which transformers reads into
float32 weights of its own.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any

from lightadapt_data.errors import InputError

VOCABULARIES = ("tokenizer.json", "vocab.txt", "vocab.json")


def config_of(folder: Path) -> dict[str, Any]:
    """Return the model's configuration as the content of a config.json.

    Raises:
        InputError: the folder holds none, or one that cannot be read.
    """
    if gguf_file(folder) is not None:
        return dict(_gguf_config(folder))
    path = folder / "config.json"
    if not path.exists():
        raise InputError(
            f"base model {folder}: it holds no config.json; give the folder of a transformers model"
        )
    config: dict[str, Any] = json.loads(path.read_text("utf-8"))
    return config


@lru_cache(maxsize=8)
def _gguf_config(folder: Path) -> dict[str, Any]:
    """Return what transformers reads from a GGUF file; remembered, as that takes seconds."""
    from transformers import AutoConfig

    with plain_errors(folder):
        config = AutoConfig.from_pretrained(str(folder), **load_options(folder))
    found: dict[str, Any] = config.to_dict()
    return found


def gguf_file(folder: Path) -> str | None:
    """Return the name of the folder's GGUF file; None where the folder has a config.json."""
    if (folder / "config.json").exists():
        return None
    return next((path.name for path in sorted(folder.glob("*.gguf"))), None)


def load_options(folder: Path) -> dict[str, Any]:
    """Return the arguments with which transformers loads anything from the folder."""
    # Code from the model's folder is never run, and nobody is asked whether it may.
    options: dict[str, Any] = {"local_files_only": True, "trust_remote_code": False}
    name = gguf_file(folder)
    return options if name is None else options | {"gguf_file": name}


def load(auto_class: str, folder: Path, name: str, **options: Any) -> tuple[Any, list[str]]:
    """Return a model in float32, and the names of its weights that the folder lacks.

    Args:
        auto_class: a class of transformers, such as AutoModelForTokenClassification.
        folder: where the model is.
        name: what it is called; noted in the model, so that no path of this machine is saved.
        options: further arguments of `from_pretrained`.

    Raises:
        InputError: transformers cannot make such a model of what is in the folder.
    """
    import torch
    import transformers

    with plain_errors(folder), quiet_loading():
        network, loading = getattr(transformers, auto_class).from_pretrained(
            str(folder),
            dtype=torch.float32,
            output_loading_info=True,
            ignore_mismatched_sizes=True,
            **load_options(folder),
            **options,
        )
    if network.config.pad_token_id is None:  # decoders find a row's last token by it
        network.config.pad_token_id = tokenizer(folder).pad_token_id
    lacking = {*loading["missing_keys"], *(key for key, *_ in loading["mismatched_keys"])}
    network.name_or_path = name
    return network, sorted(lacking)


def head_modules(network: Any, lacking: list[str]) -> tuple[str, ...]:
    """Return the modules to train and save whole: the head, and what the checkpoint lacks.

    What the checkpoint lacks inside the base (BERT's pooler, after training as a masked model)
    starts at random as well, so it has to be trained too.
    """
    base = {network.base_model_prefix}
    if not hasattr(network, network.base_model_prefix):  # T5's parts stand beside its head
        base = {"shared", "encoder", "decoder"}
    heads = [
        name
        for name, module in network.named_children()
        if name not in base and any(True for _ in module.parameters())
    ]
    found = {key.rpartition(".")[0] for key in lacking}
    heads += sorted(key for key in found if key.split(".")[0] not in heads)
    return tuple(heads)


def tokenizer(folder: Path) -> Any:
    """Return the model's tokenizer; one without a padding token pads with its end token.

    Raises:
        InputError: there is none in the folder.
    """
    from transformers import AutoTokenizer

    # Without any of these, transformers makes a tokenizer of an empty vocabulary and says nothing.
    names = [path.name for path in folder.iterdir()]
    endings = (".model", ".spm", ".gguf")
    if not any(name in VOCABULARIES or name.endswith(endings) for name in names):
        raise InputError(
            f"base model {folder}: it has no tokenizer; allowed: a folder with one of "
            f"{', '.join(VOCABULARIES)} or a *.model file"
        )
    with plain_errors(folder):
        found = AutoTokenizer.from_pretrained(str(folder), **load_options(folder))
    if found.pad_token is None and found.eos_token is not None:
        found.pad_token = found.eos_token
    found.model_max_length = min(found.model_max_length, _positions(config_of(folder)))
    return found


def _positions(config: Mapping[str, Any]) -> int:
    """Return how many tokens the model's table of positions has room for."""
    positions = int(config.get("max_position_embeddings") or config.get("n_positions") or 10**9)
    # RoBERTa and its kin number positions from the padding's id on.
    is_shifted = re.search("roberta|camembert|mpnet", str(config.get("model_type"))) is not None
    return positions - 2 if is_shifted else positions


@contextmanager
def plain_errors(folder: Path) -> Iterator[None]:
    """Turn what transformers raises while it reads a folder into one line.

    Raises:
        InputError: with the reason.
    """
    try:
        yield
    except (OSError, ValueError, KeyError, ImportError, RuntimeError) as error:
        reason = str(error).splitlines()[0][:200] if str(error) else type(error).__name__
        raise InputError(
            f"base model {folder}: cannot be loaded: {reason}; give the folder of a transformers "
            "model of a kind that the task can use, with config.json and model.safetensors"
        ) from None


@contextmanager
def quiet_loading() -> Iterator[None]:
    """Keep transformers from printing a progress bar and a table of weights for every load."""
    from transformers.utils import logging

    verbosity, has_bar = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if has_bar:
            logging.enable_progress_bar()

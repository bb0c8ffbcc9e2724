"""Merge a trained adapter into its base model: a plain folder that needs nothing of this package.

A model with a head of transformers becomes a folder for `AutoModelFor...from_pretrained`. A
sentence encoder with the mean head becomes a folder for sentence-transformers, whose vectors are
the logits: `SentenceTransformer(folder).encode(texts).argmax(axis=1)`, with the names of the labels
in config.json under `id2label`.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lightadapt_data import trained
from lightadapt_data.errors import InputError

REASONS = {
    "bottleneck": "it has a non-linear function inside, which no weight of the base model has",
    "prefix": "its keys and values stand beside those of the text, and are in no weight",
    "prompt": "its rows stand in the input, not in a weight",
}
"""Methods that cannot be merged."""


def merge(folder: Path, out: Path, base_model: str | None = None) -> Path:
    """Write the base model with the adapter's change in its weights, and its head; return `out`.

    Args:
        folder: the run's `adapter/`.
        out: where to write; must not exist.
        base_model: where the base model is, when not where it was in training.

    Raises:
        InputError: the method cannot be merged, or `out` exists.
    """
    from lightadapt_data.networks.mean_pooling import MeanPoolingClassifier

    loaded = trained.load_trained(folder, base_model)
    method = loaded.how["adapter"]
    if method in REASONS:
        raise InputError(
            f"{folder}: an adapter of the method '{method}' cannot be merged: {REASONS[method]}; "
            "allowed: lora and its relatives, full, head_only; use it with load_trained, or export "
            "a bottleneck to AdapterHub's format"
        )
    if _has_under(loaded.model):
        raise InputError(
            f"{folder}: the adapter under it ('{loaded.how['under']}') cannot be merged; allowed: "
            "lora and its relatives, full; use it with load_trained"
        )
    if out.exists():
        raise InputError(f"merge: {out} exists; allowed: a folder that is still to be made")
    network = loaded.model.network if method == "full" else _merged(loaded.model)
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out.parent) as temporary:
        unfinished = Path(temporary, "model")
        if isinstance(network, MeanPoolingClassifier):
            longest = getattr(loaded.options, "max_tokens", loaded.tokenizer.model_max_length)
            _save_sentence_encoder(network, loaded.labels, longest, unfinished)
        else:
            network.save_pretrained(unfinished)
        loaded.tokenizer.save_pretrained(unfinished)
        shutil.copyfile(folder / "labels.json", unfinished / "labels.json")
        os.replace(unfinished, out)
    return out


def _merged(model: Any) -> Any:
    """Return the network with the change in its weights and the trained head in its place.

    PEFT's own way fails on a head of several layers: it looks for one weight.
    """
    from peft.utils.other import ModulesToSaveWrapper

    heads = [
        (name, part)
        for name, part in model.named_modules()
        if isinstance(part, ModulesToSaveWrapper)
    ]
    for name, part in heads:
        parent, _, last = name.rpartition(".")
        setattr(model.get_submodule(parent), last, part.modules_to_save[part.active_adapter])
    return model.merge_and_unload()


def _has_under(model: Any) -> bool:
    from lightadapt_data.networks.under import NAME

    return any(name.endswith(f".{NAME}") for name, _ in model.named_modules())


def _save_sentence_encoder(network: Any, labels: Sequence[str], longest: int, folder: Path) -> None:
    """Write encoder, mean and linear layer as sentence-transformers has them."""
    from safetensors.torch import save_file

    encoder, head = network.encoder, network.classifier
    encoder.config.id2label = dict(enumerate(labels))
    encoder.config.label2id = {label: index for index, label in enumerate(labels)}
    encoder.save_pretrained(folder)
    width = head.in_features
    modules = "sentence_transformers.models"
    files: dict[str, Any] = {
        "modules.json": [
            {"idx": 0, "name": "0", "path": "", "type": f"{modules}.Transformer"},
            {"idx": 1, "name": "1", "path": "1_Pooling", "type": f"{modules}.Pooling"},
            {"idx": 2, "name": "2", "path": "2_Dense", "type": f"{modules}.Dense"},
        ],
        "sentence_bert_config.json": {"max_seq_length": longest, "do_lower_case": False},
        "1_Pooling/config.json": {"word_embedding_dimension": width, "pooling_mode": "mean"},
        "2_Dense/config.json": {
            "in_features": width,
            "out_features": head.out_features,
            "bias": True,
            "activation_function": "torch.nn.modules.linear.Identity",
        },
    }
    for name, content in files.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(json.dumps(content, indent=1), "utf-8")
    weights = {f"linear.{name}": tensor for name, tensor in head.state_dict().items()}
    save_file(weights, folder / "2_Dense" / "model.safetensors", metadata={"format": "pt"})

"""A model that is trained whole, with the part of a PeftModel's interface that training uses."""

from __future__ import annotations

import inspect
import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_model, save_model
from torch import nn

from lightadapt_data.errors import InputError

WEIGHTS = "adapter_model.safetensors"
CONFIG = "adapter_config.json"
KIND = "full"


class FullModel(nn.Module):
    """A network of which every part that reaches the output is trainable."""

    def __init__(self, network: Any) -> None:
        super().__init__()
        self.network = network
        self.config = network.config

    def forward(self, **batch: Any) -> Any:
        """Return what the network returns."""
        return self.network(**batch)

    def generate(self, **batch: Any) -> Any:
        """Return the token ids that the network writes."""
        return self.network.generate(**batch)

    def save_pretrained(self, folder: str, **kwargs: Any) -> None:
        """Write all weights, under the names of PEFT's files; PEFT itself cannot read them.

        Args:
            folder: where to write; it is made when it is missing.
            kwargs: what PEFT's function takes; it has no meaning here.
        """
        Path(folder).mkdir(parents=True, exist_ok=True)
        save_model(self.network, str(Path(folder) / WEIGHTS), metadata={"format": "pt"})
        content = {
            "kind": KIND,
            "model_type": self.config.model_type,
            "base_model_name_or_path": getattr(self.network, "name_or_path", None),
        }
        (Path(folder) / CONFIG).write_text(json.dumps(content, indent=1) + "\n", "utf-8")


def trainable_whole(network: Any) -> FullModel:
    """Return the network with every parameter trainable that reaches its output, found by a try.

    The others stay as they are: BERT's pooler, for one, under a head on the mean of the tokens, and
    positions that are a fixed function (Marian's), which never were to be trained.
    """
    network.requires_grad_(True)
    for part in network.modules():
        if "Sinusoidal" in type(part).__name__:
            part.requires_grad_(False)
    modes = [(part, part.training) for part in network.modules()]
    network.eval()  # no dropout
    device = next(network.parameters()).device
    # More than one token, and none that is a padding token in the families that are known.
    ids = torch.tensor([[2, 3, 4]], device=device)
    batch = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    if "decoder_input_ids" in inspect.signature(network.forward).parameters:
        batch["decoder_input_ids"] = ids
    with torch.enable_grad():
        output = network(**batch)
        # A model of extractive answers gives what it says in two parts.
        names = ("logits",) if hasattr(output, "logits") else ("start_logits", "end_logits")
        scores: Any = [output[name].float().sum() for name in names]
        sum(scores).backward()
    for parameter in network.parameters():
        parameter.requires_grad_(parameter.grad is not None)
        parameter.grad = None
    for part, was_training in modes:
        part.training = was_training
    return FullModel(network)


def read_whole(network: Any, folder: Path) -> FullModel:
    """Return the network with the weights in `folder`.

    Raises:
        InputError: the folder holds no model that was trained whole, or one of another shape.
    """
    path = folder / CONFIG
    kind = json.loads(path.read_text("utf-8")).get("kind") if path.exists() else None
    if kind != KIND or not (folder / WEIGHTS).exists():
        raise InputError(
            f"{folder}: holds no fully trained model (kind = {kind!r}); allowed: a folder with "
            f"{WEIGHTS} and a {CONFIG} of kind '{KIND}'"
        )
    try:
        load_model(network, str(folder / WEIGHTS))
    except RuntimeError as error:
        reason = str(error).splitlines()[-1].strip()[:200]
        raise InputError(
            f"{folder}: its weights do not fit the base model: {reason}; "
            "give the base model and the labels that it was trained with"
        ) from None
    return FullModel(network)

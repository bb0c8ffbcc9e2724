"""Write a trained adapter, and compare what reads back with what was trained."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lightadapt_data.errors import LightadaptError


def save(model: Any, folder: Path) -> None:
    """Write the adapter and the head in PEFT's format."""
    # Embeddings are frozen; PEFT's "auto" would ask the Hub whether they were resized.
    model.save_pretrained(str(folder), save_embedding_layers=False)
    # PEFT's card is a form left empty, with the path of the base model on this machine.
    (folder / "README.md").unlink(missing_ok=True)


def check(model: Any, fresh: Any, batch: Mapping[str, Any], folder: Path) -> None:
    """Compare the logits of a trained model and of a fresh one that has read the adapter back.

    The fresh model's head has other start weights, so a head that was not saved shows up.

    Raises:
        LightadaptError: they differ.
    """
    import torch

    with torch.inference_mode():
        expected, found = (_logits(network.eval()(**batch)) for network in (model, fresh))
    if not torch.allclose(expected, found, atol=1e-4, equal_nan=True):
        raise LightadaptError(
            f"{folder}: the saved adapter gives other outputs than the trained one (largest "
            f"difference {(expected - found).abs().max():.3g}); something that was trained is not "
            "saved; check that the base model's files did not change, and report this with the "
            "versions of peft and transformers"
        )


def _logits(output: Any) -> Any:
    """Return what the model says; a model of extractive answers says it in two parts."""
    import torch

    if hasattr(output, "logits"):
        return output.logits
    return torch.stack([output.start_logits, output.end_logits])

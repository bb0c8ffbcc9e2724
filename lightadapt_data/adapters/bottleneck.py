"""bottleneck: a small down-up network in every layer of a frozen model, always with a residual.

D(h) = scaling * (W_up s(W_down h + b_down) + b_up) is added to h. W_up and b_up start at zero, so
before training the model gives exactly what it gave without the adapter. Variants:

- pfeiffer: one adapter per layer, after the feed-forward part;
- houlsby: two, after attention and after the feed-forward part; the paper also trains all
  LayerNorms, which `train_layer_norm` does;
- parallel: one beside the feed-forward part; the paper takes scaling 4 and reduction_factor 2.

Source: Pfeiffer et al. 2021, https://arxiv.org/abs/2005.00247 section 3.1 (pfeiffer);
Houlsby et al. 2019, https://arxiv.org/abs/1902.00751 section 2 (houlsby);
He et al. 2022, https://arxiv.org/abs/2110.04366 section 4 (parallel);
Rücklé et al. 2021, https://arxiv.org/abs/2010.11918 (skip_layers)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from lightadapt_data.config import Config
from lightadapt_data.errors import InputError
from lightadapt_data.networks.insertion_points import n_layers, points


class Settings(Config):
    """Settings of bottleneck adapters."""

    variant: Literal["pfeiffer", "houlsby", "parallel"] = "pfeiffer"
    """Where the adapters stand."""
    reduction_factor: int = Field(default=16, ge=1)
    """The model's width divided by the adapter's inner width [ratio]."""
    non_linearity: Literal["relu", "gelu", "silu", "tanh"] = "relu"
    """The function s between down and up."""
    scaling: float = Field(default=1.0, gt=0)
    """Factor on what the adapter adds [ratio]."""
    skip_layers: int = Field(default=0, ge=0)
    """Lowest layers that get no adapter, which makes training faster [layers]."""
    train_layer_norm: bool = False
    """Train the base model's norms too, from the lowest layer with an adapter on; they are saved
    with the adapter and switched off with it."""
    learning_rate: float = Field(default=1e-3, gt=0, le=1)
    """Highest learning rate of AdamW [per step]."""


def check(config: Mapping[str, Any], settings: Settings) -> None:
    """Check that adapters can be put into a model with this config.json.

    Raises:
        InputError: unknown family of models, or no layer is left after `skip_layers`.
    """
    points(str(config.get("model_type")), settings.variant)
    known = n_layers(config)
    if known is not None and settings.skip_layers >= known:
        raise InputError(
            f"bottleneck.skip_layers = {settings.skip_layers}: the base model has {known} "
            f"layers; allowed: 0 to {known - 1}"
        )


def attach(model: Any, settings: Settings, head_modules: Sequence[str]) -> Any:
    """Return the model with adapters in it, as a PeftModel that gives the same output as before.

    Trainable are the adapters and the head modules; everything else is frozen in place.

    Raises:
        InputError: as `check` does.
    """
    import peft

    from lightadapt_data.networks.bottleneck import BottleneckConfig

    check(model.config.to_dict(), settings)
    config = BottleneckConfig(
        variant=settings.variant,
        reduction_factor=settings.reduction_factor,
        non_linearity=settings.non_linearity,
        scaling=settings.scaling,
        skip_layers=settings.skip_layers,
        train_layer_norm=settings.train_layer_norm,
        modules_to_save=list(head_modules),
    )
    return peft.get_peft_model(model, config)


def load(model: Any, folder: Path) -> Any:
    """Return a fresh base model with the adapter and head that were saved in `folder`."""
    import peft

    import lightadapt_data.networks.bottleneck  # noqa: F401  makes PEFT know the type

    return peft.PeftModel.from_pretrained(model, str(folder))

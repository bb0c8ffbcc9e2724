"""head_only: no adapter; the base model stays frozen and only the task's head is trained.

The plain baseline that any adapter has to beat. It is saved as a PEFT folder without a target.

Source: Peters et al. 2019, "To Tune or Not to Tune?", https://arxiv.org/abs/1903.05987 section 3
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import Field

from lightadapt_data.config import Config
from lightadapt_data.errors import InputError


class Settings(Config):
    """Settings of training the head alone."""

    learning_rate: float = Field(default=5e-3, gt=0, le=1)
    """Highest learning rate of AdamW [per step]."""


def check(config: Mapping[str, Any], settings: Settings) -> None:
    """Every model can be frozen; there is nothing to check."""


def attach(model: Any, settings: Settings, head_modules: Sequence[str]) -> Any:
    """Return the frozen model as a PeftModel; trainable are only the head modules.

    Raises:
        InputError: there are none.
    """
    import peft
    from peft.utils.constants import DUMMY_TARGET_MODULES

    if not head_modules:
        raise InputError(
            f"head_only: {type(model).__name__} has no head of its own to train: a language "
            "model's is part of what was trained before; allowed: any other adapter"
        )
    config = peft.LoraConfig(
        target_modules=DUMMY_TARGET_MODULES, modules_to_save=list(head_modules)
    )
    return peft.get_peft_model(model, config)


def load(model: Any, folder: Path) -> Any:
    """Return a fresh base model with the head that was saved in `folder`."""
    import peft

    return peft.PeftModel.from_pretrained(model, str(folder))

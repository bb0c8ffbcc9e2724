"""full: no adapter; every weight of the base model is trained, and all are saved.

The yardstick for what an adapter gives up. It takes as much disk as the base model, and on few rows
it forgets faster than it learns. Weights that never reach the output (BERT's pooler under a head on
the mean of the tokens) stay as they were. There is no switching off: the base model is gone.

Source: Devlin et al. 2019, https://arxiv.org/abs/1810.04805 section 4.1 and appendix A.3 (learning
rates of 5e-5, 3e-5 and 2e-5)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import Field

from lightadapt_data.config import Config


class Settings(Config):
    """Settings of training the whole model."""

    learning_rate: float = Field(default=5e-5, gt=0, le=1)
    """Highest learning rate of AdamW, on base model and head [per step]."""


def check(config: Mapping[str, Any], settings: Settings) -> None:
    """Every model can be trained whole; there is nothing to check."""


def attach(model: Any, settings: Settings, head_modules: Sequence[str]) -> Any:
    """Return the model, trainable as a whole; it is changed in place.

    It is no PeftModel: it has `save_pretrained`, and no `disable_adapter`.
    """
    from lightadapt_data.networks.full import trainable_whole

    return trainable_whole(model)


def load(model: Any, folder: Path) -> Any:
    """Return a fresh base model with all weights that were saved in `folder` put into it.

    Raises:
        InputError: the folder holds no fully trained model, or one of another shape.
    """
    from lightadapt_data.networks.full import read_whole

    return read_whole(model, folder)

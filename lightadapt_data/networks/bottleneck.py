"""A bottleneck adapter as a PEFT tuner: saving, loading, switching and heads come from PEFT.

PEFT has no adapter of this kind. Importing this module makes PEFT know the type
LIGHTADAPT_BOTTLENECK, so that `PeftModel.from_pretrained` can read what was saved.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

import peft
import torch
from peft.tuners.tuners_utils import BaseTuner, BaseTunerLayer
from torch import Tensor, nn
from torch.nn import functional

from lightadapt_data.networks.insertion_points import how_to_change, target_pattern

NON_LINEARITIES: dict[str, Callable[[Tensor], Tensor]] = {
    "relu": functional.relu,
    "gelu": functional.gelu,
    "silu": functional.silu,
    "tanh": torch.tanh,
}


class AdapterType(str, Enum):  # noqa: UP042  PEFT's own types are of this kind, and it compares them
    """Our adapter types, named so that no later PEFT type can collide."""

    LIGHTADAPT_BOTTLENECK = "LIGHTADAPT_BOTTLENECK"


@dataclass
class BottleneckConfig(peft.PeftConfig):  # type: ignore[misc]
    """What `adapter_config.json` holds; the fields mean what they mean in the recipe."""

    variant: str = "pfeiffer"
    reduction_factor: int = 16
    non_linearity: str = "relu"
    scaling: float = 1.0
    skip_layers: int = 0
    model_type: str | None = field(default=None)
    target_modules: str | None = field(default=None)
    modules_to_save: list[str] | None = field(default=None)

    def __post_init__(self) -> None:
        """Set the type; PEFT reads it when it saves and loads."""
        super().__post_init__()
        self.peft_type = AdapterType.LIGHTADAPT_BOTTLENECK


class BottleneckLayer(nn.Module, BaseTunerLayer):  # type: ignore[misc]
    """One module of the base model with an adapter in it; for `how` see insertion_points."""

    adapter_layer_names = ("bottleneck_down", "bottleneck_up")

    def __init__(self, base_layer: nn.Module, how: str, hidden_size: int) -> None:
        super().__init__()
        self.base_layer = base_layer
        self.how = how
        self.hidden_size = hidden_size
        # Two dictionaries of plain linear layers: PEFT finds the adapter's name in a key only
        # directly before `weight`, and leaves it out of the file.
        self.bottleneck_down = nn.ModuleDict({})
        self.bottleneck_up = nn.ModuleDict({})
        self._configs: dict[str, BottleneckConfig] = {}
        self._active_adapter: list[str] = []
        self.merged_adapters: list[str] = []

    def update_layer(self, adapter_name: str, config: BottleneckConfig) -> None:
        """Add an adapter that starts as an exact no-op: what goes up is zero."""
        width = max(1, self.hidden_size // config.reduction_factor)
        self.bottleneck_down[adapter_name] = nn.Linear(self.hidden_size, width)
        up = nn.Linear(width, self.hidden_size)
        nn.init.zeros_(up.weight)
        nn.init.zeros_(up.bias)
        self.bottleneck_up[adapter_name] = up
        self._configs[adapter_name] = config
        self._move_adapter_to_device_of_base_layer(adapter_name)
        self.set_adapter(self.active_adapters or adapter_name, config.inference_mode)

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Return what the base module returns, with the active adapter's part in it."""
        if self.disable_adapters or not self.active_adapters:
            return self.base_layer(*args, **kwargs)
        if len(self.active_adapters) > 1:
            raise ValueError(
                f"{len(self.active_adapters)} bottleneck adapters are active; allowed: one at a "
                "time; choose it with set_adapter(name)"
            )
        first, *rest = args
        if self.how == "around_norm":
            return self.base_layer(first + self._delta(self.base_layer(first)))
        if self.how == "residual_input":
            return self.base_layer(first, rest[0] + self._delta(rest[0]), *rest[1:], **kwargs)
        output = self.base_layer(*args, **kwargs)
        main = output[0] if isinstance(output, tuple) else output
        main = main + self._delta(first if self.how == "beside" else main)
        return (main, *output[1:]) if isinstance(output, tuple) else main

    def _delta(self, hidden: Tensor) -> Tensor:
        name = self.active_adapters[0]
        config = self._configs[name]
        down: Any = self.bottleneck_down[name]
        up: Any = self.bottleneck_up[name]
        inner = NON_LINEARITIES[config.non_linearity](down(hidden.to(down.weight.dtype)))
        delta: Tensor = up(inner) * config.scaling
        return delta.to(hidden.dtype)

    def __getattr__(self, name: str) -> Any:
        """Hand on what some models read from their layers (ModernBERT: `attention_type`)."""
        try:
            return super().__getattr__(name)
        except AttributeError:
            if name == "base_layer":
                raise
            return getattr(self.base_layer, name)


class BottleneckModel(BaseTuner):  # type: ignore[misc]
    """Puts a BottleneckLayer in place of every module that the table of points names."""

    prefix = "bottleneck_"
    tuner_layer_cls = BottleneckLayer

    def _prepare_adapter_config(
        self, peft_config: BottleneckConfig, model_config: dict[str, Any]
    ) -> BottleneckConfig:
        if peft_config.target_modules is None:
            model_type = str(model_config.get("model_type"))
            peft_config.model_type = model_type
            peft_config.target_modules = target_pattern(
                model_type, peft_config.variant, peft_config.skip_layers
            )
        return peft_config

    def _create_and_replace(
        self,
        peft_config: BottleneckConfig,
        adapter_name: str,
        target: nn.Module,
        target_name: str,
        parent: nn.Module,
        current_key: str,
        parameter_name: str | None = None,
    ) -> None:
        if not isinstance(target, BottleneckLayer):
            how = how_to_change(str(peft_config.model_type), peft_config.variant, current_key)
            layer = BottleneckLayer(target, how, self.model.config.hidden_size)
            self._replace_module(parent, target_name, layer, target)
            target = layer
        target.update_layer(adapter_name, peft_config)
        if adapter_name not in self.active_adapters:
            for parameters in (target.bottleneck_down, target.bottleneck_up):
                parameters[adapter_name].requires_grad_(False)

    def _replace_module(
        self, parent: nn.Module, child_name: str, new_module: nn.Module, child: nn.Module
    ) -> None:
        # PEFT's own would copy weights of `child` about; ours wraps it whole.
        setattr(parent, child_name, new_module)


def _register() -> None:
    """Fill PEFT's mappings; its `register_peft_method` refuses names that are not its own."""
    kind = AdapterType.LIGHTADAPT_BOTTLENECK
    peft.mapping.PEFT_TYPE_TO_CONFIG_MAPPING[kind] = BottleneckConfig
    peft.mapping.PEFT_TYPE_TO_TUNER_MAPPING[kind] = BottleneckModel
    peft.mapping.PEFT_TYPE_TO_PREFIX_MAPPING[kind] = BottleneckModel.prefix


_register()

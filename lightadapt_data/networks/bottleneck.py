"""A bottleneck adapter as a PEFT tuner: saving, loading, switching and heads come from PEFT.

PEFT has no adapter of this kind. Importing this module makes PEFT know the type
LIGHTADAPT_BOTTLENECK, so that `PeftModel.from_pretrained` can read what was saved.
"""

from __future__ import annotations

import copy
import re
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

import peft
import torch
from peft.tuners.tuners_utils import BaseTuner, BaseTunerLayer
from torch import Tensor, nn

from lightadapt_data.layer_names import number_of
from lightadapt_data.networks.insertion_points import hidden_size, how_to_change, target_pattern
from lightadapt_data.networks.non_linearities import NON_LINEARITIES
from lightadapt_data.networks.under import NAME as UNDER
from lightadapt_data.networks.under import under

NORM = "norm"
"""How a LayerNorm is changed that is only trained: by another one in its place."""


class AdapterType(str, Enum):  # noqa: UP042  PEFT's own types are of this kind, and it compares them
    """Our adapter types, named so that no later PEFT type can collide."""

    LIGHTADAPT_BOTTLENECK = "LIGHTADAPT_BOTTLENECK"


@dataclass
class BottleneckConfig(peft.PeftConfig):  # type: ignore[misc]
    """What `adapter_config.json` holds; the fields mean what they mean in the recipe."""

    variant: str = "pfeiffer"
    reduction_factor: float = 16
    non_linearity: str = "relu"
    scaling: float = 1.0
    skip_layers: int = 0
    train_layer_norm: bool = False
    model_type: str | None = field(default=None)
    target_modules: str | None = field(default=None)
    ways: dict[str, str] | None = field(default=None)
    """Pattern of full names -> how such modules are changed; None: what insertion_points says."""
    norm_modules: list[str] | None = field(default=None)
    """Full names of the norms that are trained."""
    modules_to_save: list[str] | None = field(default=None)

    def __post_init__(self) -> None:
        """Set the type; PEFT reads it when it saves and loads."""
        super().__post_init__()
        self.peft_type = AdapterType.LIGHTADAPT_BOTTLENECK

    def how(self, name: str) -> str:
        """Return how the module of that full name is changed."""
        if re.fullmatch(str(self.target_modules), name) is None:
            return NORM
        if self.ways is None:
            return how_to_change(str(self.model_type), self.variant, name)
        return next(how for pattern, how in self.ways.items() if re.fullmatch(pattern, name))


class BottleneckLayer(nn.Module, BaseTunerLayer):  # type: ignore[misc]
    """One module of the base model with an adapter in it; for `how` see insertion_points.

    A LayerNorm may have a trained twin here, with an adapter around it or without one.
    """

    adapter_layer_names = ("bottleneck_down", "bottleneck_up", "bottleneck_norm")

    def __init__(self, base_layer: nn.Module, how: str, hidden_size: int) -> None:
        super().__init__()
        self.base_layer = base_layer
        self.how = how
        self.hidden_size = hidden_size
        self.strength = 1.0
        # Dictionaries of plain layers: PEFT finds the adapter's name in a key only directly before
        # `weight`, and leaves it out of the file.
        self.bottleneck_down = nn.ModuleDict({})
        self.bottleneck_up = nn.ModuleDict({})
        self.bottleneck_norm = nn.ModuleDict({})
        self._configs: dict[str, BottleneckConfig] = {}
        self._active_adapter: list[str] = []
        self.merged_adapters: list[str] = []
        self._noted: Any = None

    def update_layer(
        self, adapter_name: str, config: BottleneckConfig, how: str, has_norm: bool
    ) -> None:
        """Add an adapter that starts as an exact no-op: what goes up is zero."""
        if how != NORM:
            width = max(1, int(self.hidden_size // config.reduction_factor))
            self.bottleneck_down[adapter_name] = nn.Linear(self.hidden_size, width)
            up = nn.Linear(width, self.hidden_size)
            nn.init.zeros_(up.weight)
            nn.init.zeros_(up.bias)
            self.bottleneck_up[adapter_name] = up
        if has_norm:
            self.bottleneck_norm[adapter_name] = _twin(self.base_layer)
        self._configs[adapter_name] = config
        self._move_adapter_to_device_of_base_layer(adapter_name)
        self.set_adapter(self.active_adapters or adapter_name, config.inference_mode)

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Return what the base module returns, with the active adapter's part in it."""
        name = self._active()
        if name is None:
            return self.base_layer(*args, **kwargs)
        first, *rest = args
        if self.how == NORM:
            return self._norm(name, self._above_under(first))
        if self.how == "around_norm":
            total = self._above_under(first)
            return self._norm(name, total + self._delta(name, self._norm(name, total)))
        if self.how == "residual_input":
            below = under(self.base_layer)
            residual = rest[0] + self._delta(name, rest[0])
            if below is None:
                return self.base_layer(first, residual, *rest[1:], **kwargs)
            # Both read the same: the one below shall not see what this one adds.
            residual = residual + below(rest[0])
            return self.base_layer.forward(first, residual, *rest[1:], **kwargs)
        output = self.base_layer(*args, **kwargs)
        main = output[0] if isinstance(output, tuple) else output
        if self.how.startswith("beside "):
            first, self._noted = self._noted, None  # kept no longer than this pass
        main = main + self._delta(name, first if self.how.startswith("beside") else main)
        return (main, *output[1:]) if isinstance(output, tuple) else main

    def note_input(self, _: nn.Module, args: tuple[Any, ...]) -> None:
        """Keep what goes into the first part of a feed-forward that is no module of its own."""
        self._noted = None if self.disable_adapters else args[0]

    def _active(self) -> str | None:
        """Return the adapter in use; None: the module gives what it gives without any."""
        if self.disable_adapters or not self.active_adapters or self.strength == 0:
            return None
        if len(self.active_adapters) > 1:
            raise ValueError(
                f"{len(self.active_adapters)} bottleneck adapters are active; allowed: one at a "
                "time; choose it with set_adapter(name)"
            )
        name: str = self.active_adapters[0]
        return name if name in self._configs else None  # another adapter's place

    def _above_under(self, total: Tensor) -> Tensor:
        """Return what goes into the norm when an adapter hangs on it that comes before this one."""
        below = under(self.base_layer)
        return total if below is None else below.shifted(self.base_layer, total)

    def _norm(self, name: str, hidden: Tensor) -> Tensor:
        """Return the norm's output, without what hangs on it."""
        if name in self.bottleneck_norm and self.strength == 1:
            return _in_its_type(self.bottleneck_norm[name], hidden)
        plain: Tensor = self.base_layer.forward(hidden)
        if name not in self.bottleneck_norm:
            return plain
        trained = _in_its_type(self.bottleneck_norm[name], hidden)
        return plain + self.strength * (trained - plain)

    def _delta(self, name: str, hidden: Tensor) -> Tensor:
        if name not in self.bottleneck_down:
            return torch.zeros_like(hidden)
        config = self._configs[name]
        down: Any = self.bottleneck_down[name]
        up: Any = self.bottleneck_up[name]
        inner = NON_LINEARITIES[config.non_linearity](down(hidden.to(down.weight.dtype)))
        delta: Tensor = up(inner) * (config.scaling * self.strength)
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
        if peft_config.train_layer_norm and peft_config.norm_modules is None:
            peft_config.norm_modules = _norm_modules(self.model, peft_config)
        return peft_config

    @staticmethod
    def _check_target_module_exists(peft_config: BottleneckConfig, key: str) -> bool:
        is_point = re.fullmatch(str(peft_config.target_modules), key) is not None
        return is_point or key in (peft_config.norm_modules or ())

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
        how = peft_config.how(current_key)
        if isinstance(parent, BottleneckLayer):  # put around the layer a moment ago
            parent = parent.base_layer
        if not isinstance(target, BottleneckLayer):
            width = hidden_size(self.model.config.to_dict())
            layer = BottleneckLayer(target, how, int(width or 0))
            if how.startswith("beside "):
                parent.get_submodule(how.split()[1]).register_forward_pre_hook(layer.note_input)
            self._replace_module(parent, target_name, layer, target)
            target = layer
        elif {how, target.how} == {NORM, "around_norm"}:
            target.how = "around_norm"
        elif how != target.how:
            raise ValueError(
                f"adapter '{adapter_name}' changes {current_key} in the way '{how}', and another "
                f"adapter of this model in the way '{target.how}'; allowed: the same variant; load "
                "it into a base model of its own"
            )
        has_norm = current_key in (peft_config.norm_modules or ())
        target.update_layer(adapter_name, peft_config, how, has_norm)
        if adapter_name not in self.active_adapters:
            for parameters in (getattr(target, name) for name in target.adapter_layer_names):
                if adapter_name in parameters:
                    parameters[adapter_name].requires_grad_(False)

    def _replace_module(
        self, parent: nn.Module, child_name: str, new_module: nn.Module, child: nn.Module
    ) -> None:
        # PEFT's own would copy weights of `child` about; ours wraps it whole.
        setattr(parent, child_name, new_module)


def _norm_modules(model: nn.Module, config: BottleneckConfig) -> list[str]:
    """Return the norms of the base model that are worked on when the lowest layers are skipped."""
    found = []
    for name, module in model.named_modules():
        is_norm = type(module).__name__.endswith("Norm") and hasattr(module, "weight")
        heads = config.modules_to_save or []
        in_head = any(f"{name}.".startswith(f"{head}.") for head in heads)
        number = number_of(name)
        if number is not None:
            is_skipped = number < config.skip_layers
        else:
            is_skipped = config.skip_layers > 0 and "embed" in name.lower()
        if is_norm and not in_head and not is_skipped:
            found.append(name)
    return found


def _twin(norm: nn.Module) -> nn.Module:
    """Return a copy of a norm, without what hangs on it."""
    found = copy.deepcopy(norm)
    if under(found) is not None:
        delattr(found, UNDER)
        found._forward_pre_hooks.clear()
    return found.requires_grad_(True)


def _in_its_type(norm: Any, hidden: Tensor) -> Tensor:
    """Return the norm of what may have another type than its weights, as the adapters' have."""
    output: Tensor = norm(hidden.to(norm.weight.dtype))
    return output.to(hidden.dtype)


def _register() -> None:
    """Fill PEFT's mappings; its `register_peft_method` refuses names that are not its own."""
    kind = AdapterType.LIGHTADAPT_BOTTLENECK
    peft.mapping.PEFT_TYPE_TO_CONFIG_MAPPING[kind] = BottleneckConfig
    peft.mapping.PEFT_TYPE_TO_TUNER_MAPPING[kind] = BottleneckModel
    peft.mapping.PEFT_TYPE_TO_PREFIX_MAPPING[kind] = BottleneckModel.prefix


_register()

"""A key-value prefix as a PEFT tuner: saving, loading, switching and heads come from PEFT.

PEFT's own prefix tuning goes through a cache, which encoders lack or use wrongly: it takes position
numbers from the text and fails on half of the families. Here keys and values are put before those
of the text inside the attention itself; see prefix_attention.

Importing this module makes PEFT know the type LIGHTADAPT_KV_PREFIX.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import Any

import peft
import torch
from peft.tuners.tuners_utils import BaseTuner, BaseTunerLayer
from torch import Tensor, nn

from lightadapt_data.networks.prefix_attention import (
    INTERFACE,
    Prefix,
    Seen,
    sizes,
    with_interface,
)
from lightadapt_data.networks.prefix_written_out import WRITTEN_OUT


class PrefixType(str, Enum):  # noqa: UP042  PEFT's own types are of this kind, and it compares them
    """Our type, named so that no later PEFT type can collide."""

    LIGHTADAPT_KV_PREFIX = "LIGHTADAPT_KV_PREFIX"


@dataclass
class PrefixConfig(peft.PeftConfig):  # type: ignore[misc]
    """What `adapter_config.json` holds; the fields mean what they mean in the recipe."""

    length: int = 20
    is_gated: bool = False
    model_type: str | None = field(default=None)
    target_modules: str | None = field(default=None)
    modules_to_save: list[str] | None = field(default=None)

    def __post_init__(self) -> None:
        """Set the type; PEFT reads it when it saves and loads."""
        super().__post_init__()
        self.peft_type = PrefixType.LIGHTADAPT_KV_PREFIX


class Table(nn.Module):
    """A parameter as a module: PEFT finds the adapter's name in a key only before `weight`."""

    def __init__(self, value: Tensor) -> None:
        super().__init__()
        self.weight = nn.Parameter(value)

    def forward(self) -> Tensor:
        """Return the parameter."""
        return self.weight


class Reparametrised(nn.Module):
    """A table that a small network changes; in a state_dict stands only the table that it gives.

    `trunk` is one for all layers of the model. The network's last layer starts at zero, so that
    training starts from the same table with it and without.
    """

    def __init__(self, trunk: nn.Sequential, width: int, start: Tensor) -> None:
        super().__init__()
        self.trunk = trunk
        self.out = nn.Linear(width, start[0].numel())
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)
        self.start: Tensor
        self.register_buffer("start", start.detach().clone())
        add_hook: Any = self.register_state_dict_post_hook  # torch gives it no types
        add_hook(_keep_only_the_table)

    def forward(self) -> Tensor:
        """Return keys and values, float [length, 2, heads, width of a head]."""
        rows = torch.arange(self.start.shape[0], device=self.start.device)
        change: Tensor = self.out(self.trunk(rows))
        return self.start + change.view(self.start.shape)


def _keep_only_the_table(
    module: Reparametrised, state: dict[str, Any], prefix: str, metadata: Any
) -> None:
    for key in [key for key in state if key.startswith(prefix)]:
        del state[key]
    with torch.no_grad():
        state[f"{prefix}weight"] = module()


class PrefixLayer(nn.Module, BaseTunerLayer):  # type: ignore[misc]
    """One attention of the base model with a prefix in it."""

    adapter_layer_names = ("kvprefix_rows", "kvprefix_gate")

    def __init__(self, base_layer: nn.Module) -> None:
        super().__init__()
        self.base_layer = base_layer
        self.sizes = sizes(base_layer)
        self.kvprefix_rows = nn.ModuleDict({})
        self.kvprefix_gate = nn.ModuleDict({})
        self._active_adapter: list[str] = []
        self.merged_adapters: list[str] = []
        self.own_config: Any = None
        self.seen: Seen | None = None
        self.written_out = WRITTEN_OUT.get(type(base_layer))
        if self.written_out is None:
            # A copy for this module alone: the model's own one still decides how masks are made.
            self.own_config = base_layer.config
            base_layer.config = with_interface(base_layer.config)

    def update_layer(self, adapter_name: str, config: PrefixConfig) -> None:
        """Add a prefix of small random keys and values."""
        shape = (config.length, 2, self.sizes.n_key_heads, self.sizes.head_width)
        self.kvprefix_rows[adapter_name] = Table(torch.randn(shape) * 0.02)
        if config.is_gated:
            self.kvprefix_gate[adapter_name] = Table(torch.zeros(self.sizes.n_heads))
        self._move_adapter_to_device_of_base_layer(adapter_name)
        self.set_adapter(self.active_adapters or adapter_name, config.inference_mode)

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Return what the attention returns, with the active prefix before its keys and values."""
        prefix = self.seen or self._active_prefix()
        if prefix is not None and self.written_out is not None:
            return self.written_out(self.base_layer, prefix, *args, **kwargs)
        if prefix is not None:
            kwargs[INTERFACE] = prefix
        return self.base_layer(*args, **kwargs)

    def _active_prefix(self) -> Prefix | None:
        if self.disable_adapters or not self.active_adapters:
            return None
        if len(self.active_adapters) > 1:
            raise ValueError(
                f"{len(self.active_adapters)} prefixes are active; allowed: one at a time; choose "
                "it with set_adapter(name)"
            )
        name = self.active_adapters[0]
        keys, values = self.kvprefix_rows[name]().permute(1, 2, 0, 3)
        gate = self.kvprefix_gate[name]() if name in self.kvprefix_gate else None
        return Prefix(keys, values, gate)

    def restored(self) -> nn.Module:
        """Return the attention as it was before it got a prefix."""
        base: Any = self.base_layer
        if self.own_config is not None:
            base.config = self.own_config
        attention: nn.Module = base
        return attention

    def __getattr__(self, name: str) -> Any:
        """Hand on what some models read from their attention."""
        try:
            return super().__getattr__(name)
        except AttributeError:
            if name == "base_layer":
                raise
            return getattr(self.base_layer, name)


class PrefixModel(BaseTuner):  # type: ignore[misc]
    """Puts a PrefixLayer around every attention that the pattern names."""

    prefix = "kvprefix_"
    tuner_layer_cls = PrefixLayer

    def _prepare_adapter_config(
        self, peft_config: PrefixConfig, model_config: dict[str, Any]
    ) -> PrefixConfig:
        return peft_config

    def _create_and_replace(
        self,
        peft_config: PrefixConfig,
        adapter_name: str,
        target: nn.Module,
        target_name: str,
        parent: nn.Module,
        current_key: str,
        parameter_name: str | None = None,
    ) -> None:
        if not isinstance(target, PrefixLayer):
            layer = PrefixLayer(target)
            self._replace_module(parent, target_name, layer, target)
            target = layer
        target.update_layer(adapter_name, peft_config)
        if adapter_name not in self.active_adapters:
            for parameters in (target.kvprefix_rows, target.kvprefix_gate):
                if adapter_name in parameters:
                    parameters[adapter_name].requires_grad_(False)

    def _replace_module(
        self, parent: nn.Module, child_name: str, new_module: nn.Module, child: nn.Module
    ) -> None:
        # PEFT's own would copy weights of `child` about; ours wraps it whole.
        new = child.restored() if isinstance(child, PrefixLayer) else new_module
        setattr(parent, child_name, new)


def layers(model: nn.Module) -> list[PrefixLayer]:
    """Return the attentions that have a prefix, the lowest first."""
    return [part for part in model.modules() if isinstance(part, PrefixLayer)]


def reparametrise(model: nn.Module, width: int, adapter_name: str = "default") -> None:
    """Let one small network give all layers' prefixes; it is trained in their place, not saved.

    Args:
        model: a PeftModel of this type; changed in place.
        width: the network's inner width [dimensions].
        adapter_name: the prefix to be changed.
    """
    found = layers(model)
    first: Any = found[0].kvprefix_rows[adapter_name]
    rows = nn.Embedding(first.weight.shape[0], width)
    trunk = nn.Sequential(rows, nn.Linear(width, width), nn.Tanh()).to(first.weight)
    for layer in found:
        before: Any = layer.kvprefix_rows[adapter_name]
        made = Reparametrised(trunk, width, before.weight)
        layer.kvprefix_rows[adapter_name] = made.to(before.weight)


def _register() -> None:
    """Fill PEFT's mappings; its `register_peft_method` refuses names that are not its own."""
    kind = PrefixType.LIGHTADAPT_KV_PREFIX
    peft.mapping.PEFT_TYPE_TO_CONFIG_MAPPING[kind] = PrefixConfig
    peft.mapping.PEFT_TYPE_TO_TUNER_MAPPING[kind] = PrefixModel
    peft.mapping.PEFT_TYPE_TO_PREFIX_MAPPING[kind] = PrefixModel.prefix


_register()

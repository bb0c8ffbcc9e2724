"""A frozen bottleneck adapter under whatever is trained next; PEFT does not know of it.

It hangs on the module that it changes, by hooks, so that no module gets another name: what comes
over it finds its places as in the plain model, and saves nothing of what is under it.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from lightadapt_data.networks.non_linearities import NON_LINEARITIES
from lightadapt_data.networks.prefix_attention import INTERFACE, Prefix, with_interface

NAME = "under_adapter"
"""What it is called inside the module that it hangs on."""


class Under(nn.Module):
    """Down, non-linearity, up, scaled; never trained."""

    def __init__(
        self, how: str, down: nn.Linear, up: nn.Linear, non_linearity: str, scaling: float
    ) -> None:
        super().__init__()
        self.how = how
        self.down, self.up = down, up
        self.non_linearity, self.scaling = non_linearity, scaling
        self._noted: Any = None
        self.requires_grad_(False)

    def forward(self, hidden: Tensor) -> Tensor:
        """Return what is added, of the shape of `hidden`."""
        inner = NON_LINEARITIES[self.non_linearity](self.down(hidden.to(self.down.weight.dtype)))
        added: Tensor = self.up(inner) * self.scaling
        return added.to(hidden.dtype)

    def hang_on(self, module: nn.Module, parent: nn.Module) -> None:
        """Change what the module takes or gives from now on; for `how` see insertion_points."""
        module.add_module(NAME, self)
        if self.how in ("around_norm", "residual_input"):
            module.register_forward_pre_hook(self._change_input)
            return
        if self.how.startswith("beside "):
            parent.get_submodule(self.how.split()[1]).register_forward_pre_hook(self._note_input)
        module.register_forward_hook(self._change_output)

    def shifted(self, norm: nn.Module, total: Tensor) -> Tensor:
        """Return what goes into the norm, with the adapter's part in it."""
        added: Tensor = self(norm.forward(total))  # not norm(...), which would come here again
        return total + added

    def _change_input(self, module: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...]:
        first, *rest = args
        if self.how == "around_norm":
            return (self.shifted(module, first), *rest)
        return (first, rest[0] + self(rest[0]), *rest[1:])

    def _note_input(self, module: nn.Module, args: tuple[Any, ...]) -> None:
        self._noted = args[0]

    def _change_output(self, module: nn.Module, args: tuple[Any, ...], output: Any) -> Any:
        if module.__dict__.get("is_recalled"):  # frozen_layers has kept what came out of here
            return output
        main = output[0] if isinstance(output, tuple) else output
        read = main
        if self.how == "beside":
            read = args[0]
        elif self.how.startswith("beside "):
            read, self._noted = self._noted, None  # kept no longer than this pass
        main = main + self(read)
        return (main, *output[1:]) if isinstance(output, tuple) else main


class UnderPrefix(nn.Module):
    """A frozen prefix under whatever is trained next; it goes into the attention at every call."""

    keys: Tensor
    values: Tensor
    gate: Tensor | None

    def __init__(self, rows: Tensor, gate: Tensor | None) -> None:
        super().__init__()
        keys, values = rows.permute(1, 2, 0, 3)
        self.register_buffer("keys", keys.contiguous())
        self.register_buffer("values", values.contiguous())
        self.register_buffer("gate", gate)

    def hang_on(self, attention: Any) -> None:
        """Change what the attention sees from now on."""
        attention.add_module(NAME, self)
        attention.config = with_interface(attention.config)
        attention.register_forward_pre_hook(self._hand_over, with_kwargs=True)

    def _hand_over(
        self, _: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        return args, kwargs | {INTERFACE: Prefix(self.keys, self.values, self.gate)}


def under(module: nn.Module) -> Under | None:
    """Return the adapter that hangs on the module, if there is one."""
    found = module._modules.get(NAME)
    return found if isinstance(found, Under) else None

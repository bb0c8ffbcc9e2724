"""Turn an adapter up and down while it is used: 0 is the base model, 1 the adapter as trained.

Between them what the adapter adds is scaled, layer by layer; the head stays as it was trained. For
LoRA and its relatives that is the same as weights between the base's and the adapted ones.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from lightadapt_data.errors import InputError
from lightadapt_data.layer_names import numbered

if TYPE_CHECKING:
    from torch import Tensor

_HOOKS = "strength_hooks"
_STRENGTH = "adapter_strength"


def set_strength(model: Any, strength: float, layers: Sequence[int] | None = None) -> None:
    """Set how much an adapter counts, from now on, until it is set again.

    Of several adapters in one model it holds for whichever is in use.

    Args:
        model: what an adapter's `attach` or `load` gave; changed in place.
        strength: 0 (exactly the base model) to 1 (exactly as trained) [ratio].
        layers: numbers of the layers to set, others stay as they are; None: the whole adapter. A
            decoder's layers are numbered on from the encoder's.

    Raises:
        InputError: the strength is out of range, there is no such layer, or the adapter has nothing
            that can be scaled.
    """
    if not 0 <= strength <= 1:
        raise InputError(f"strength = {strength}: allowed: 0 (the base model) to 1 (as trained)")
    parts = _parts(model)
    if not parts:
        raise InputError(
            f"strength = {strength}: {type(model).__name__} has no adapter whose part could be "
            "scaled: with head_only nothing is added to the base model, and full has replaced it; "
            "allowed: bottleneck, lora, prefix"
        )
    if layers is not None:
        known = sorted({number for number, _ in parts if number is not None})
        unknown = sorted(set(layers) - set(known))
        if unknown:
            raise InputError(
                f"strength: layers {unknown} have no adapter; allowed: {', '.join(map(str, known))}"
            )
    chosen = [part for number, part in parts if layers is None or number in layers]
    for part in chosen:  # all of them first, so that nothing is half done
        _check(part, strength)
    for part in chosen:
        _set(part, strength)


def strengths(model: Any) -> dict[int, float]:
    """Return the strength of each layer that has an adapter, by the layer's number."""
    numbered = [(number, part) for number, part in _parts(model) if number is not None]
    return {number: getattr(part, _STRENGTH, 1.0) for number, part in numbered}


def _parts(model: Any) -> list[tuple[int | None, Any]]:
    """Return the changed modules, each with its layer's number; None for one outside of layers."""
    from peft.tuners.tuners_utils import BaseTunerLayer

    named = dict(model.named_modules())
    numbers = numbered(named)
    return [
        (numbers[name], part) for name, part in named.items() if isinstance(part, BaseTunerLayer)
    ]


def _check(part: Any, strength: float) -> None:
    """Check that the part can be used at this strength.

    Raises:
        InputError: it cannot.
    """
    from lightadapt_data.networks.prefix import PrefixLayer
    from lightadapt_data.networks.soft_prompt import SoftPromptLayer

    if isinstance(part, SoftPromptLayer) and strength != 1:
        raise InputError(
            f"strength = {strength}: a prompt stands in the input as tokens do, and there is no "
            "part of a token; allowed: 1; leave the soft tokens out to get the base model"
        )
    if isinstance(part, PrefixLayer) and 0 < strength < 1 and not part.kvprefix_gate:
        raise InputError(
            f"strength = {strength}: this prefix shares one softmax with the text, so there is no "
            "amount of it to scale; allowed: 0 or 1; train with prefix.is_gated = true for others"
        )
    if part.merged:
        raise InputError(
            f"strength = {strength}: the adapter is merged into the weights; load it again"
        )


def _set(part: Any, strength: float) -> None:
    from lightadapt_data.networks.bottleneck import BottleneckLayer
    from lightadapt_data.networks.prefix import PrefixLayer

    for handle in part.__dict__.pop(_HOOKS, ()):
        handle.remove()
    setattr(part, _STRENGTH, strength)
    if isinstance(part, BottleneckLayer):
        part.strength = strength
        return
    if strength == 1:
        return
    if strength == 0:
        hooks: Iterable[Any] = (
            part.register_forward_pre_hook(_switch_off),
            part.register_forward_hook(_switch_back, always_call=True),
        )
    elif isinstance(part, PrefixLayer):
        weaker = partial(_weaker_gate, strength)
        hooks = [gate.register_forward_hook(weaker) for gate in part.kvprefix_gate.values()]
    else:
        hooks = [part.register_forward_hook(partial(_between, strength), with_kwargs=True)]
    setattr(part, _HOOKS, list(hooks))


def _switch_off(part: Any, _: Any) -> None:
    part.was_disabled, part._disable_adapters = part._disable_adapters, True


def _switch_back(part: Any, _: Any, __: Any) -> None:
    part._disable_adapters = part.was_disabled


def _weaker_gate(strength: float, _: Any, __: Any, gate: Tensor) -> Tensor:
    """Return the gate whose tanh is as much smaller."""
    return (strength * gate.tanh()).atanh()


def _between(
    strength: float, part: Any, args: tuple[Any, ...], kwargs: dict[str, Any], output: Tensor
) -> Tensor:
    plain: Tensor = part.base_layer(*args, **kwargs)
    return plain + strength * (output - plain)

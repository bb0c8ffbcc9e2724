"""Where a module stands in a model, read from its full name; no torch here."""

from __future__ import annotations

import itertools
import re
from collections.abc import Collection, Iterable

_LAYER = re.compile(r"(?:\w+\.)*?(?:layers?|h|block)\.(\d+)(?=\.|$)")


def layer_of(name: str) -> str | None:
    """Return the name of the layer that holds the module: "bert.encoder.layer.3"; None: none."""
    found = _LAYER.match(name)
    return None if found is None else found[0]


def number_of(name: str) -> int | None:
    """Return the number of the layer that holds the module; None outside of layers.

    An encoder and a decoder both count from 0.
    """
    found = _LAYER.match(name)
    return None if found is None else int(found[1])


def numbered(names: Collection[str]) -> dict[str, int | None]:
    """Return the number of each module's layer; a decoder's are counted on from the encoder's.

    Args:
        names: of all modules of the model.
    """
    inside = (number_of(name) for name in names if "encoder." in name)
    n_encoder = max((number + 1 for number in inside if number is not None), default=0)
    found = {name: number_of(name) for name in names}
    for name, number in found.items():
        if number is not None and "decoder." in name:
            found[name] = number + n_encoder
    return found


def moving(there: Iterable[str], here: Collection[str]) -> tuple[str, str] | None:
    """Return how names of one model begin, and how the same begin in another.

    A language model calls its encoder `bert`, say, and a classifier calls it `encoder`.

    Args:
        there: names of modules or tensors of the first.
        here: names of all modules of the second.

    Returns:
        None where the second has no such layers.
    """
    layers = {layer for layer in map(layer_of, there) if layer}
    olds = ["", *sorted({f"{name.partition('.')[0]}." for name in layers})]
    news = ["", *dict.fromkeys(f"{name.partition('.')[0]}." for name in here if name)]
    for old, new in itertools.product(olds, news):
        if layers and all(moved(name, (old, new)) in here for name in layers):
            return old, new
    return None


def moved(name: str, move: tuple[str, str]) -> str:
    """Return a name of the first model of `moving` as the second has it."""
    old, new = move
    return f"{new}{name.removeprefix(old)}" if name.startswith(old) else name

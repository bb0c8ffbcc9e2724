"""The functions between down and up of a bottleneck, by the names that configurations have."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor
from torch.nn import functional

NON_LINEARITIES: dict[str, Callable[[Tensor], Tensor]] = {
    "relu": functional.relu,
    "gelu": functional.gelu,
    "silu": functional.silu,
    "tanh": torch.tanh,
    # What imported adapters may have besides:
    "gelu_new": partial(functional.gelu, approximate="tanh"),
    "leaky_relu": functional.leaky_relu,
}

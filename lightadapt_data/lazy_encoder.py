"""The run's encoder as a function of texts, loaded when the first text comes."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lightadapt_data import methods
from lightadapt_data.shards import digest_of


@dataclass(frozen=True)
class LazyEncode:
    """The run's encoder, loaded when the first text comes; equal when it encodes alike."""

    method: str
    options: str
    """JSON, so that this can be a key."""

    def __call__(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Return unit vectors, float32 [texts, dim]."""
        settings = methods.settings("encoders", self.method, json.loads(self.options))
        encoder = methods.load("encoders", self.method).load(settings)
        return np.asarray(encoder.encode(texts), dtype=np.float32)

    def digest(self) -> str:
        """Return what names the encoder's output; does not load it."""
        module = methods.load("encoders", self.method)
        settings = methods.settings("encoders", self.method, json.loads(self.options))
        own = {"version": getattr(module, "VERSION", 1), **settings.key_fields()}
        return digest_of([self.method, own, module.fingerprint(settings)])

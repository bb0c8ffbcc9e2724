"""The base of every Settings: frozen, checked, unknown keys refused."""

from __future__ import annotations

from typing import Any, ClassVar

from pydantic import BaseModel, ConfigDict, Field


class Config(BaseModel):
    """Base of the settings of stages and methods; the docstring under a field is its help text."""

    # Not use_attribute_docstrings: it parses source again at every start of the command line.
    model_config = ConfigDict(frozen=True, extra="forbid")

    NOT_IN_KEY: ClassVar[frozenset[str]] = frozenset()
    """Fields that change speed but never the output (batch size, device, workers)."""

    def key_fields(self) -> dict[str, Any]:
        """Return the fields that decide the output, as JSON values."""
        return self.model_dump(mode="json", exclude=set(self.NOT_IN_KEY))


class StageConfig(Config):
    """Base of the Settings of stages that use methods."""

    options: dict[str, dict[str, Any]] = Field(default_factory=dict)
    """Settings of the methods by their names: the tables [stage.method] of a recipe."""

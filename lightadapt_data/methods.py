"""Find a method by its file's name: `selectors/nearest.py` is the selector `nearest`."""

from __future__ import annotations

import importlib
import pkgutil
from types import ModuleType
from typing import Any

from pydantic import ValidationError

from lightadapt_data.config import Config
from lightadapt_data.errors import RecipeError, allowed


def names(family: str) -> list[str]:
    """Return the names of all methods of a family, sorted."""
    package = importlib.import_module(f"lightadapt_data.{family}")
    return sorted(module.name for module in pkgutil.iter_modules(package.__path__))


def load(family: str, name: str) -> ModuleType:
    """Return the module of one method.

    Raises:
        RecipeError: there is no file of that name in the family's folder.
    """
    if name not in names(family):
        raise RecipeError(f"no method '{name}' in {family}; {allowed(name, names(family))}")
    return importlib.import_module(f"lightadapt_data.{family}.{name}")


def settings(family: str, name: str, options: dict[str, Any]) -> Any:
    """Return the method's checked Settings made from `options`.

    Raises:
        RecipeError: unknown method, unknown option, or a value of the wrong type or range.
    """
    module = load(family, name)
    return checked(module.Settings, options, name)


def chosen(family: str, name: str, options: dict[str, dict[str, Any]]) -> tuple[Any, Any]:
    """Return a method's module and its Settings, taken from a stage's table of options."""
    return load(family, name), settings(family, name, options.get(name, {}))


def checked(model: type[Config], values: dict[str, Any], where: str) -> Any:
    """Return `model(**values)`, or raise RecipeError with the first fault in one line."""
    try:
        return model(**values)
    except ValidationError as error:
        fault = error.errors()[0]
        key = ".".join(str(part) for part in fault["loc"])
        if fault["type"] == "extra_forbidden":
            message = f"unknown key '{key}'; {allowed(key, model.model_fields)}"
        elif fault["type"] == "missing":
            message = f"key '{key}' is missing"
        else:
            message = f"{key} = {fault['input']!r}: {fault['msg']}"
        raise RecipeError(f"[{where}] {message}") from None

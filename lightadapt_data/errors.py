"""The one tree of errors. Every message says where, what came, what is allowed and what to do.

LightadaptError
 +-- RecipeError           exit 2    wrong use: flag, recipe key, method name
 +-- InputError            exit 3    the user's file, column or model cannot be used
 |    +-- MissingExtraError          an optional package is not installed
 +-- NothingSelectedError  exit 4    the selection is empty
 +-- ServiceError          exit 5    an outside service failed after retries
 +-- HeldError             exit 75   another run holds the folder
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class LightadaptError(Exception):
    """Base of all errors that the user can do something about."""

    exit_code = 1


class RecipeError(LightadaptError):
    """A flag, a recipe key or a method name is wrong; nothing was run."""

    exit_code = 2


class InputError(LightadaptError):
    """A file, column or model that the user named cannot be used."""

    exit_code = 3


class MissingExtraError(InputError):
    """An optional package is missing; the message holds the install command."""


class NothingSelectedError(LightadaptError):
    """No row was selected."""

    exit_code = 4


class ServiceError(LightadaptError):
    """An outside service failed after all retries."""

    exit_code = 5


class HeldError(LightadaptError):
    """Another live run holds the folder."""

    exit_code = 75


def allowed(given: str, names: Iterable[str]) -> str:
    """Return "allowed: a, b, c; did you mean 'b'?" for a name that is not among `names`."""
    known = sorted(names)
    near = difflib.get_close_matches(given, known, n=1, cutoff=0.5)
    hint = f"; did you mean '{near[0]}'?" if near else ""
    return f"allowed: {', '.join(known) or 'nothing'}{hint}"

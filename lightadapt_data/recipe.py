"""Read a recipe and check it whole, down to the options of each method, before any work."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from lightadapt_data import methods, stages
from lightadapt_data.config import Config
from lightadapt_data.errors import RecipeError, allowed
from lightadapt_data.shards import Workspace


@dataclass(frozen=True)
class Recipe:
    """A checked recipe."""

    name: str
    seed: int
    settings: Mapping[str, Config]
    """Settings by stage, for the stages of this recipe, in the order data passes."""

    def workspace(self, folder: Path) -> Workspace:
        """Return the view that stages get of a run of this recipe in `folder`."""
        return Workspace(folder, self.seed, self.settings)


def load(
    path: Path | None, overrides: Iterable[tuple[str, Any]] = (), wanted: Iterable[str] = ()
) -> Recipe:
    """Return the recipe in the TOML file `path` (or an empty one), with `overrides` put over it.

    Args:
        path: the recipe file; paths inside it are relative to its folder.
        overrides: pairs ("table.key", value) from flags; paths are relative to the working folder.
        wanted: stages to run besides those that have a table; what they read is added.

    Raises:
        RecipeError: unreadable file, unknown table or key, wrong value, unknown method.
    """
    tables = read_tables(path) if path else {}
    where = str(path) if path else "flags"
    top = {"seed": tables.pop("seed", 0), "task": tables.pop("task", None)}
    _resolve_paths(tables, (path.parent if path else Path()).absolute())
    for key, value in overrides:
        if key in top:
            top[key] = value
            continue
        _put(tables, key, value)
    _resolve_paths(tables, Path.cwd())
    seed = top["seed"]
    if not isinstance(seed, int) or isinstance(seed, bool) or seed < 0:
        raise RecipeError(f"{where}: seed = {seed!r}; allowed: a whole number from 0")
    for table, content in tables.items():
        if table not in stages.STAGES or not isinstance(content, dict):
            known = (*stages.STAGES, *top)
            raise RecipeError(f"{where}: unknown table or key '{table}'; {allowed(table, known)}")
    if top["task"] is not None:
        _put_task(tables, top["task"], where)
    names = _with_needs({*tables, *wanted})
    try:
        settings = {name: _stage_settings(name, tables.get(name, {})) for name in names}
    except RecipeError as error:
        raise RecipeError(f"{where}: {error}") from None
    return Recipe(path.stem if path else "run", seed, settings)


def only(what: Recipe, wanted: Iterable[str]) -> Recipe:
    """Return the recipe cut down to the wanted stages and all that they read."""
    names = _with_needs(set(wanted) & set(what.settings))
    last = max(stages.STAGES.index(name) for name in names)
    may = {other for name in names for other in getattr(stages.load(name), "MAY_READ", ())}
    kept = {
        name: settings
        for name, settings in what.settings.items()
        if name in names or (name in may and stages.STAGES.index(name) < last)
    }
    return Recipe(what.name, what.seed, kept)


def saved_text(what: Recipe) -> str:
    """Return the recipe as JSON that `load` reads back."""
    tables: dict[str, Any] = {}
    for name, settings in what.settings.items():
        fields = settings.model_dump(mode="json")
        tables[name] = {**fields, **fields.pop("options", {})}
        tables[name].pop("options", None)
    return json.dumps({"seed": what.seed, **tables}, indent=1)


def read_tables(path: Path) -> dict[str, Any]:
    """Return the content of a TOML file (or of a recipe that a run has saved as JSON).

    Raises:
        RecipeError: no such file, or not TOML.
    """
    try:
        text = path.read_text("utf-8")
        return dict(json.loads(text)) if path.suffix == ".json" else tomllib.loads(text)
    except FileNotFoundError:
        raise RecipeError(f"{path}: no such recipe; shipped ones are in pipelines/") from None
    except (OSError, UnicodeDecodeError) as error:
        raise RecipeError(f"{path}: cannot be read as UTF-8 text: {error}") from None
    except tomllib.TOMLDecodeError as error:
        raise RecipeError(f"{path}: not valid TOML: {error}") from None


def parse_override(text: str) -> tuple[str, Any]:
    """Return ("select.keep", 500) for "select.keep=500"; a value that is no TOML is taken as text.

    Raises:
        RecipeError: there is no '='.
    """
    key, equals, value = text.partition("=")
    if not equals or not key.strip():
        raise RecipeError(f"--set {text!r}: allowed: TABLE.KEY=VALUE, as in select.keep=500")
    try:
        parsed = tomllib.loads(f"value = {value}")["value"]
    except tomllib.TOMLDecodeError:
        parsed = value
    return key.strip(), parsed


def method_options(settings: Config, family: str, name: str) -> Any:
    """Return the checked Settings of one method as this stage's table gives them."""
    return methods.chosen(family, name, getattr(settings, "options", {}))[1]


def used_methods(module: ModuleType, settings: Config) -> list[tuple[str, str, str]]:
    """Return (field, family, method) for every method that the settings of a stage name."""
    used = []
    for field, family in getattr(module, "FAMILIES", {}).items():
        value = getattr(settings, field)
        names = [value] if isinstance(value, str) else value or []
        chosen_later = getattr(module, "CHOSEN_LATER", {}).get(field, ())
        used += [(field, family, name) for name in names if name and name not in chosen_later]
    return used


def resolved(module: ModuleType, settings: Config) -> dict[str, Any]:
    """Return all that decides a stage's output besides its inputs, as JSON values."""
    fields = settings.key_fields()
    fields.pop("options", None)
    for field, family, name in used_methods(module, settings):
        fields[f"{field}.{name}"] = {
            "version": getattr(methods.load(family, name), "VERSION", 1),
            **method_options(settings, family, name).key_fields(),
        }
    return fields


def _with_needs(names: set[str]) -> list[str]:
    """Return the stages with all that they read, in the order data passes."""
    for name in reversed(stages.STAGES):
        if name in names:
            names |= set(stages.load(name).READS)
    return [name for name in stages.STAGES if name in names]


def _stage_settings(name: str, table: dict[str, Any]) -> Config:
    """Return a stage's Settings; sub-tables that are no field are options of methods."""
    module = stages.load(name)
    families: dict[str, str] = getattr(module, "FAMILIES", {})
    fields = {key: value for key, value in table.items() if key in module.Settings.model_fields}
    options = {}
    for key, value in table.items():
        if key in fields:
            continue
        known = [method for family in families.values() for method in methods.names(family)]
        if not isinstance(value, dict) or key not in known:
            names = {*module.Settings.model_fields, *known} - {"options"}
            raise RecipeError(f"[{name}] unknown key '{key}'; {allowed(key, names)}")
        options[key] = value
    if families:
        fields["options"] = options
    settings: Config = methods.checked(module.Settings, fields, name)
    for field, family, method in used_methods(module, settings):
        try:
            method_options(settings, family, method)
        except RecipeError as error:
            raise RecipeError(f"[{name}] {field} = '{method}': {error}") from None
    for method, values in options.items():
        for family in families.values():
            if method in methods.names(family):
                methods.settings(family, method, values)
                break
    return settings


def _put_task(tables: dict[str, Any], task: Any, where: str) -> None:
    """Tell the stages that have to know it what the labelled rows are for.

    Raises:
        RecipeError: there is no such task.
    """
    if task not in methods.names("tasks"):
        raise RecipeError(f"{where}: task = {task!r}; {allowed(str(task), methods.names('tasks'))}")
    tables.setdefault("ingest", {}).setdefault("kind", task)
    if "train" in tables:
        tables["train"].setdefault("task", task)


def _put(tables: dict[str, Any], key: str, value: Any) -> None:
    *parents, last = key.split(".")
    if not parents:
        raise RecipeError(f"--set {key}: allowed: TABLE.KEY=VALUE, as in select.keep=500")
    table = tables
    for parent in parents:
        table = table.setdefault(parent, {})
        if not isinstance(table, dict):
            raise RecipeError(f"--set {key}: '{parent}' is a value, not a table")
    table[last] = value


def _resolve_paths(tables: dict[str, Any], base: Path) -> None:
    """Make the path fields of every stage table, and of its methods' tables, absolute."""
    for name in stages.STAGES:
        table = tables.get(name)
        if not isinstance(table, dict):
            continue
        module = stages.load(name)
        _make_absolute(table, getattr(module, "PATH_FIELDS", ()), base)
        for family in getattr(module, "FAMILIES", {}).values():
            for method in set(table) & set(methods.names(family)):
                fields = getattr(methods.load(family, method), "PATH_FIELDS", ())
                if isinstance(table[method], dict):
                    _make_absolute(table[method], fields, base)


def _make_absolute(table: dict[str, Any], fields: Iterable[str], base: Path) -> None:
    for field in fields:
        value = table.get(field)
        if isinstance(value, str) and value and value != "-":
            table[field] = str(base / Path(value).expanduser())
        elif isinstance(value, list):
            table[field] = [str(base / Path(item).expanduser()) for item in value]

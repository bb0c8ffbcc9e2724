"""Raw rows: what makes one usable, and how it becomes a row of ours."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import xxhash

from lightadapt_data import methods, rows
from lightadapt_data.errors import InputError, allowed
from lightadapt_data.readers import BadRow
from lightadapt_data.tasks import text_in

if TYPE_CHECKING:
    import pyarrow as pa

RESERVED = ("id", "n_tokens", "source", *rows.PROVENANCE)
"""Input columns of these names are kept as `input_<name>`."""


class Columns(Protocol):
    """The settings of ingest that say where text, label, id and split come from."""

    @property
    def text_column(self) -> str: ...  # noqa: D102
    @property
    def label_column(self) -> str: ...  # noqa: D102
    @property
    def kind(self) -> str: ...  # noqa: D102
    @property
    def ids(self) -> str: ...  # noqa: D102
    @property
    def validation_share(self) -> float: ...  # noqa: D102
    @property
    def test_share(self) -> float: ...  # noqa: D102


def fault(
    settings: Columns, role: str, row: dict[str, Any], number: int, path: str
) -> BadRow | None:
    """Return what is wrong with a row that was read, or None.

    Raises:
        InputError: the text column is not there at all.
    """
    names = _needed_columns(settings, role)
    for column in names:
        if column in row:
            continue
        columns = [name for name in row if isinstance(name, str)]
        if number == 1:
            remedy = (
                "name the right one with --text-column"
                if column == settings.text_column
                else f"rows of {settings.kind} need the columns {', '.join(names)}"
            )
            raise InputError(f"{path}: no column '{column}'; {allowed(column, columns)}; {remedy}")
        return BadRow(str(number), f"no column '{column}'", str(row))
    try:
        _fields(settings, role, row)
    except ValueError as error:
        return BadRow(str(number), str(error), str(row))
    if role == "task" and "split" in row and row["split"] not in rows.SPLITS:
        splits = ", ".join(rows.SPLITS)
        return BadRow(str(number), f"split is {row['split']!r}; allowed: {splits}", str(row))
    return None


def _needed_columns(settings: Columns, role: str) -> tuple[str, ...]:
    """Return the columns without which no row of a file can be used."""
    task = methods.load("tasks", settings.kind)
    needs: tuple[str, ...] = getattr(task, "NEEDS", ()) if role == "task" else ()
    return needs or (settings.text_column,)


def _fields(settings: Columns, role: str, raw: dict[str, Any]) -> dict[str, Any]:
    """Return `text` and, of the labelled rows, the task's fields.

    Raises:
        ValueError: the row cannot be used; with the reason.
    """
    if role != "task":
        return {"text": text_in(raw, settings.text_column)}
    fields: dict[str, Any] = methods.load("tasks", settings.kind).row(raw, settings)
    return {"text": fields["text"], "label": fields.get("label"), **fields}


def finished(
    settings: Columns,
    seed: int,
    role: str,
    raw: dict[str, Any],
    name: str,
    seen: Counter[str],
) -> dict[str, Any]:
    """Return a row with `id, text, n_tokens, source` before the input's own columns."""
    fields = _fields(settings, role, raw)
    text = fields["text"]
    own = raw.get("id")
    if settings.ids == "column" and own is not None and str(own):
        row_id = str(own)
    else:
        row_id = xxhash.xxh3_128_hexdigest(f"{role}|{name}|{text}".encode())[:20]
    seen[row_id] += 1
    if seen[row_id] > 1:  # the same id or the same text once more in this file
        row_id = f"{row_id}#{seen[row_id]}"
    taken = _needed_columns(settings, role)  # in translation "source" is a text
    source = None if "source" in taken else raw.get("source")
    row = {
        "id": row_id,
        "text": text,
        "n_tokens": rows.count_tokens(text),
        "source": name if source is None else str(source),
    }
    if role == "task":
        row |= {key: value for key, value in fields.items() if key != "text"}
        row["split"] = raw.get("split") or _split(settings, seed, name, row_id)
    for key, value in raw.items():
        if key not in row and key not in taken:
            row[f"input_{key}" if key in RESERVED else key] = value
    if "id" in raw and row_id != str(raw["id"]):
        row["input_id"] = str(raw["id"])
    return row


def _split(settings: Columns, seed: int, name: str, row_id: str) -> str:
    """Return the split that the file's name says, else one drawn from the row's id."""
    stem = Path(name).name.lower()
    for word, split in (("train", "train"), ("valid", "validation"), ("dev", "validation")):
        if word in stem:
            return split
    if "test" in stem:
        return "test"
    draw = xxhash.xxh3_64_intdigest(f"{seed}|split|{row_id}".encode()) / 2**64
    if draw < settings.test_share:
        return "test"
    return "validation" if draw < settings.test_share + settings.validation_share else "train"


def as_table(batch: Sequence[dict[str, Any]]) -> pa.Table:
    """Return rows as a table; a column whose values fit no single type becomes JSON text."""
    import pyarrow as pa

    names = dict.fromkeys(name for row in batch for name in row)
    columns = {}
    for name in names:
        values = [row.get(name) for row in batch]
        try:
            columns[name] = pa.array(values)
        except (pa.ArrowInvalid, pa.ArrowTypeError, OverflowError):
            columns[name] = pa.array([_as_text(value) for value in values], pa.string())
        if columns[name].type == pa.null():
            columns[name] = pa.nulls(len(values), pa.string())
    return pa.table(columns)


def _as_text(value: Any) -> str | None:
    if value is None or isinstance(value, str):
        return value
    return json.dumps(value, ensure_ascii=False, default=str)

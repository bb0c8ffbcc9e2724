"""Templates with a blank: "{text} It was {mask}.", filled from a row and cut into tokens.

In braces stand names of columns, `{mask}` once for the blank, `{soft:5}` for 5 tokens of a soft
prompt, or `{soft}` for all of it; `{{` and `}}` are braces. What comes from the row may be cut,
from its end; the template's own words and the blank never are.

The text is made into tokens as one piece, so that a word is the same tokens in a template as
elsewhere, and tokens are found again by their place in the text.

Source: Schick and Schütze 2021, https://arxiv.org/abs/2001.07676 section 3 (patterns with a blank);
Liu et al. 2021, https://arxiv.org/abs/2103.10385 section 3 (soft tokens among the words)
"""

from __future__ import annotations

import string
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from lightadapt_data.errors import InputError, RecipeError


@dataclass(frozen=True)
class Part:
    """A piece of a template."""

    kind: Literal["text", "field", "mask", "soft"]
    value: str = ""
    """The text, or the name of the field."""
    count: int = 0
    """Tokens of a soft prompt; 0: all [tokens]."""


@dataclass(frozen=True)
class Template:
    """A template, read."""

    parts: tuple[Part, ...]

    @property
    def fields(self) -> list[str]:
        """The names to be filled from a row, each once."""
        return list(dict.fromkeys(part.value for part in self.parts if part.kind == "field"))

    @property
    def has_space_before_mask(self) -> bool:
        """Whether the word in the blank begins after a space."""
        before = ""
        for part in self.parts:
            if part.kind == "mask":
                break
            if part.kind != "soft":
                before = part.value if part.kind == "text" else "x"
        return before.endswith(" ")


@dataclass(frozen=True)
class Filled:
    """A template with a row in it; places count characters of the text."""

    text: str
    fields: tuple[tuple[int, int], ...]
    """Where what comes from the row begins and ends."""
    blank_end: int
    soft: tuple[tuple[int, int], ...]
    """Where soft tokens go, and how many."""


@dataclass(frozen=True)
class Tokens:
    """A filled template as tokens; places count tokens."""

    token_ids: tuple[int, ...]
    blank: int
    """Where the blank is, or would come next."""
    soft: tuple[tuple[int, int], ...]
    """Before which token soft tokens go, and how many."""


def parse(source: str) -> Template:
    """Return the template that a text describes.

    Raises:
        RecipeError: braces without partner, no or several blanks, no field, or a faulty `{soft}`.
    """
    try:
        found = list(string.Formatter().parse(source))
    except ValueError as error:
        raise _fault(source, f"{error}; write {{{{ and }}}} for braces themselves") from None
    parts: list[Part] = []
    for literal, name, spec, conversion in found:
        if literal:
            parts.append(Part("text", literal))
        if name is not None:
            parts.append(_part(source, name, spec or "", conversion))
    kinds = [part.kind for part in parts]
    if kinds.count("mask") != 1:
        raise _fault(source, f"{kinds.count('mask')} times {{mask}}; allowed: once")
    if "field" not in kinds:
        raise _fault(source, "nothing of the row is in it; name a column, such as {text}")
    counts = [part.count for part in parts if part.kind == "soft"]
    if 0 in counts and len(counts) > 1:
        raise _fault(source, "{soft} takes the whole prompt; allowed: once, or {soft:5} each time")
    return Template(tuple(parts))


def _part(source: str, name: str, spec: str, conversion: str | None) -> Part:
    if name == "soft" and not conversion and (not spec or (spec.isdecimal() and int(spec) > 0)):
        return Part("soft", count=int(spec or 0))
    if name == "soft" or spec or conversion or not name.strip():
        raise _fault(
            source,
            f"{{{name}{'!' + conversion if conversion else ''}{':' + spec if spec else ''}}}; "
            "allowed: {mask}, {soft}, {soft:5} or the name of a column",
        )
    return Part("mask") if name == "mask" else Part("field", name)


def _fault(source: str, reason: str) -> RecipeError:
    return RecipeError(f"[cloze] template = '{source}': {reason}")


def fill(template: Template, values: Mapping[str, str], mask: str | None) -> Filled:
    """Return the template with the values in it.

    Args:
        template: what is to be filled.
        values: by the names of the fields.
        mask: what stands for the blank; None: end before it, for models that write on.
    """
    text = ""
    fields, soft = [], []
    blank_end = -1
    is_after_gap = False  # a soft part between two spaces, or at the start, leaves one or none
    for part in template.parts:
        if part.kind == "soft":
            soft.append((len(text), part.count))
            is_after_gap = not text or text[-1].isspace()
            continue
        if part.kind == "mask" and mask is None:
            break
        piece = {"text": part.value, "mask": mask or ""}.get(part.kind)
        if piece is None:
            piece = values[part.value].strip()
            fields.append((len(text), len(text) + len(piece)))
        elif is_after_gap:
            piece = piece.removeprefix(" ")
        is_after_gap = False
        text += piece
        if part.kind == "mask":
            blank_end = len(text)
    if mask is None:
        text = text.rstrip(" ")  # it belongs to the word that comes next
    return Filled(text, tuple(fields), blank_end, tuple(soft))


def tokens(
    filled: Sequence[Filled], tokenizer: Any, longest: int, mask_id: int | None
) -> list[Tokens]:
    """Return filled templates as tokens, with the fields cut so that none is longer than `longest`.

    Args:
        filled: what `fill` gave.
        tokenizer: a fast one.
        longest: most tokens of one [tokens].
        mask_id: the token of the blank; None: it comes after the last token.

    Raises:
        InputError: the tokenizer cannot say where tokens are, or the template is too long itself.
    """
    if not tokenizer.is_fast:
        raise InputError(
            f"cloze: the tokenizer {type(tokenizer).__name__} cannot say where in a text its "
            "tokens are; allowed: a fast tokenizer, of a folder with tokenizer.json; choose "
            "another base_model"
        )
    encoded = tokenizer(
        [one.text for one in filled],
        return_offsets_mapping=True,
        return_special_tokens_mask=True,
        verbose=False,  # no warning of long texts: they are cut here
    )
    columns = ("input_ids", "offset_mapping", "special_tokens_mask")
    return [
        _cut(one, ids, offsets, added, longest, mask_id, tokenizer)
        for one, ids, offsets, added in zip(
            filled, *(encoded[column] for column in columns), strict=True
        )
    ]


def _cut(
    filled: Filled,
    ids: Sequence[int],
    offsets: Sequence[tuple[int, int]],
    added: Sequence[int],
    longest: int,
    mask_id: int | None,
    tokenizer: Any,
) -> Tokens:
    """Return one text's tokens; `added` says which ones stand for no part of the text."""
    ends = [-1 if special else end for (_, end), special in zip(offsets, added, strict=True)]
    dropped = _dropped(filled, [start for start, _ in offsets], ends, len(ids) - longest)
    kept = [place for place in range(len(ids)) if place not in dropped]
    if mask_id is None:  # an end token, where the tokenizer adds one, would end the text
        while kept and added[kept[-1]] and kept[-1] > 0:
            kept.pop()
    token_ids = tuple(ids[place] for place in kept)
    if not token_ids:  # a model that writes on needs something to start from
        start = tokenizer.bos_token_id
        token_ids = (tokenizer.eos_token_id if start is None else start,)
    if mask_id is None:
        blank = len(token_ids)
    else:
        blank = next(
            i for i, p in enumerate(kept) if ids[p] == mask_id and ends[p] == filled.blank_end
        )
    behind = [i for i, place in enumerate(kept) if ends[place] >= 0]
    last = behind[-1] + 1 if behind else len(token_ids)
    soft = tuple(
        (next((i for i in behind if ends[kept[i]] > at), last), count) for at, count in filled.soft
    )
    return Tokens(token_ids, blank, soft)


def _dropped(
    filled: Filled, starts: Sequence[int], ends: Sequence[int], n_over: int
) -> frozenset[int]:
    """Return places of `n_over` tokens of the fields: of the longest first, from its end."""
    if n_over <= 0:
        return frozenset()
    found: list[list[int]] = [
        # A first token may begin with the space before the field.
        [i for i, end in enumerate(ends) if begin < end <= stop and starts[i] >= begin - 1]
        for begin, stop in filled.fields
    ]
    n_most = sum(map(len, found))
    if n_most < n_over:
        raise InputError(
            f"cloze: the template alone takes {len(ends) - n_most} tokens, and a row may have "
            f"{len(ends) - n_over}; shorten the template or raise max_tokens (no more than the "
            "base model has room for)"
        )
    gone = []
    for _ in range(n_over):
        gone.append(max(found, key=len).pop())
    return frozenset(gone)


def with_soft(
    token_ids: Sequence[int],
    blank: int,
    soft: Sequence[tuple[int, int]],
    ids: Sequence[int],
    at: int,
) -> tuple[tuple[int, ...], int]:
    """Return the tokens with those of a soft prompt among them, and where the blank is then.

    Args:
        token_ids: of one row.
        blank: place of its blank.
        soft: before which token soft tokens go, and how many; 0: all.
        ids: the soft tokens.
        at: where all of them go when `soft` is empty.

    Raises:
        InputError: there is room for another number of soft tokens.
    """
    markers = [(place, count or len(ids)) for place, count in soft] or [(at, len(ids))]
    n_wanted = sum(count for _, count in markers)
    if n_wanted != len(ids):
        raise InputError(
            f"[cloze] template: its {{soft}} parts take {n_wanted} tokens, and the soft prompt has "
            f"{len(ids)}; allowed: the same; set prompt.length = {n_wanted}"
        )
    found: list[int] = []
    left = list(ids)
    start = 0
    for place, count in markers:
        found += [*token_ids[start:place], *left[:count]]
        del left[:count]
        start = place
    moved = sum(count for place, count in markers if place <= blank)
    return (*found, *token_ids[start:]), blank + moved

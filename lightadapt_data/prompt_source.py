"""Read PromptSource's templates.yaml and turn a template into one with a blank.

The package itself does not install on current Pythons. Such a file comes from strangers: of YAML's
tags only its own two are known, and Jinja runs in a sandbox.

A template becomes a cloze once, when it is read: its input is written with the names of the columns
in it, and each answer choice becomes a label's word. So only templates work that take columns over
as they are, and that have the same choices for all rows; others are refused with the reason.

Source: Bach et al. 2022, https://arxiv.org/abs/2202.01279 section 3 (Jinja, `|||`, answer choices);
https://github.com/bigscience-workshop/promptsource/blob/main/promptsource/templates.py
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lightadapt_data.errors import InputError, RecipeError, allowed

SEPARATOR = "|||"
ANSWERS = ("label", "answer_choices")
"""Names that a template uses and that are no columns."""


@dataclass(frozen=True)
class SourceTemplate:
    """A template of PromptSource."""

    name: str
    jinja: str
    answer_choices: str | None
    """Jinja as well; choices separated by `|||`."""
    metadata: Mapping[str, Any] = field(default_factory=dict)
    """`languages`, `metrics`, `choices_in_prompt`, `original_task` and more, as the file has it."""
    file: str = ""

    @property
    def described(self) -> str:
        """The file's name, the template's, and its languages and metrics, in one line."""
        facts = [
            f"{key} {', '.join(map(str, self.metadata[key]))}"
            for key in ("languages", "metrics")
            if isinstance(self.metadata.get(key), list) and self.metadata[key]
        ]
        return f"{self.file}: {self.name}" + (f" ({'; '.join(facts)})" if facts else "")


def read(path: Path, name: str) -> SourceTemplate:
    """Return the template of that name.

    Raises:
        InputError: the file cannot be read, is no such file, or has no such template.
    """
    found = {template.name: template for template in read_all(path)}
    if name not in found:
        raise InputError(f"{path}: no template '{name}'; {allowed(name, found)}; set template_name")
    return found[name]


def read_all(path: Path) -> list[SourceTemplate]:
    """Return all templates of a file, in its order.

    Raises:
        InputError: the file cannot be read, or is no templates.yaml.
    """
    import yaml

    class Loader(yaml.SafeLoader):  # type: ignore[misc]
        """YAML's safe loader with the two tags of such files, read as plain mappings."""

    def mapping(loader: Any, node: Any) -> Any:
        return loader.construct_mapping(node, deep=True)

    Loader.add_constructor("!Template", mapping)
    Loader.add_constructor("!TemplateMetadata", mapping)
    try:
        content = yaml.load(path.read_text("utf-8"), Loader)  # noqa: S506  it is a SafeLoader
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        reason = " ".join(str(error).split())[:200]
        raise InputError(
            f"{path}: cannot be read as PromptSource's templates: {reason}; allowed: its "
            "templates.yaml, with the tags !Template and !TemplateMetadata only"
        ) from None
    templates = content.get("templates") if isinstance(content, dict) else None
    if not isinstance(templates, dict):
        raise InputError(
            f"{path}: holds no mapping 'templates'; allowed: a templates.yaml of PromptSource"
        )
    return [_template(value, key, path) for key, value in templates.items()]


def _template(value: Any, key: Any, path: Path) -> SourceTemplate:
    if not isinstance(value, dict) or not isinstance(value.get("jinja"), str):
        raise InputError(
            f"{path}: the template '{key}' has no text 'jinja'; allowed: a !Template with name, "
            "jinja and answer_choices"
        )
    choices = value.get("answer_choices")
    if isinstance(choices, list):  # early files have lists
        choices = SEPARATOR.join(map(str, choices))
    metadata = value.get("metadata")
    return SourceTemplate(
        name=str(value.get("name", key)),
        jinja=value["jinja"],
        answer_choices=str(choices) if choices else None,
        metadata=metadata if isinstance(metadata, dict) else {},
        file=path.name,
    )


def resolved(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return a task's options with template and words in place of the file's name.

    What is trained and saved then depends on them and not on a file that may change or be gone.

    Args:
        options: with `prompt_source`, `template_name` and, if need be, `label_order`.

    Raises:
        RecipeError: template or words are given as well.
        InputError: as `read` and `as_cloze` do.
    """
    if {"template", "words"} & set(options):
        raise RecipeError(
            "[cloze] prompt_source gives template and words; allowed: either it or them"
        )
    found = read(Path(str(options["prompt_source"])), str(options.get("template_name", "")))
    template, words = as_cloze(found, tuple(options.get("label_order", ())))
    names = ("prompt_source", "template_name")
    kept = {key: value for key, value in options.items() if key not in names}
    return {**kept, "template": template, "words": words, "taken_from": found.described}


def as_cloze(
    template: SourceTemplate, label_order: Sequence[str] = ()
) -> tuple[str, dict[str, tuple[str, ...]]]:
    """Return a template with a blank, and words by label.

    Args:
        template: what `read` gave.
        label_order: the names of the labels in the order of the choices. Without it, labels are
            the choices themselves or their numbers, from 0.

    Raises:
        InputError: the template cannot be turned into one; with the reason.
    """
    choices = _choices(template)
    if label_order and len(label_order) != len(choices):
        raise _refused(
            template,
            f"label_order has {len(label_order)} labels and the template {len(choices)} answer "
            f"choices ({', '.join(choices)})",
            "one label for each, in their order",
        )
    if not label_order and any(choice.isdecimal() for choice in choices):
        raise _refused(
            template,
            f"its answer choices ({', '.join(choices)}) could be numbers of labels or their names",
            "to list the labels in label_order",
        )
    # A mark that no template has, so that what comes of a column can be told from its words.
    marks = {name: f"\ue000{place}\ue001" for place, name in enumerate(_columns(template))}
    names = list(label_order or choices)
    try:  # `answer_choices[label]` wants numbers
        source, targets = _rendered(template, marks, range(len(choices)), choices)
    except InputError as fault:
        try:  # others write or compare the label's name
            source, targets = _rendered(template, marks, names, choices)
        except InputError:
            raise fault from None
    found: dict[str, tuple[str, ...]] = {}
    if not label_order:
        found = {str(number): (target,) for number, target in enumerate(targets)}
        names = targets
    found |= {name: (word,) for name, word in zip(names, targets, strict=True) if name not in found}
    return _with_fields(source, marks), found


def _rendered(
    template: SourceTemplate,
    marks: Mapping[str, str],
    labels: Iterable[Any],
    choices: Sequence[str],
) -> tuple[str, list[str]]:
    """Return the input, which is the same for all labels, and the target of each.

    Raises:
        InputError: the input is not the same, the targets are not the choices, or there are not
            exactly these two parts.
    """
    parts = [
        _parts(template, {**marks, "label": label, "answer_choices": list(choices)})
        for label in labels
    ]
    if len({source for source, _ in parts}) > 1:
        raise _refused(template, "its input tells the label", "an input without the label")
    targets = [target for _, target in parts]
    if sorted(targets) != sorted(choices):
        raise _refused(
            template,
            f"its targets for the labels are {', '.join(targets)}, and its answer choices "
            f"{', '.join(choices)}",
            "each label with a choice of its own as the target",
        )
    return parts[0][0], targets


def _with_fields(source: str, marks: Mapping[str, str]) -> str:
    """Return rendered input as a template of ours, with the blank behind it."""
    text = source.replace("{", "{{").replace("}", "}}")
    for name, mark in marks.items():
        text = text.replace(mark, f"{{{name}}}")
    return f"{text} {{mask}}"


def _choices(template: SourceTemplate) -> list[str]:
    """Return the answer choices, the same for every row.

    Raises:
        InputError: there are none, or they come from the row.
    """
    if template.answer_choices is None:
        raise _refused(template, "it has no answer_choices", "a template with answer choices")
    rendered = _render(template, template.answer_choices, {})
    choices = [choice.strip() for choice in rendered.split(SEPARATOR)]
    if len(choices) < 2 or not all(choices):
        raise _refused(
            template, f"its answer_choices are '{rendered}'", f"two or more, with {SEPARATOR}"
        )
    return choices


def _columns(template: SourceTemplate) -> list[str]:
    """Return the columns that the template takes over as they are.

    Raises:
        InputError: it does something else with one; or it is no Jinja.
    """
    from jinja2 import TemplateSyntaxError, meta, nodes

    try:
        tree = _sandbox().parse(template.jinja)
    except TemplateSyntaxError as error:
        raise _refused(template, f"it is no Jinja: {error}", "a template of Jinja") from None
    columns = sorted(meta.find_undeclared_variables(tree) - set(ANSWERS))
    plain = {id(part) for output in tree.find_all(nodes.Output) for part in output.nodes}
    for name in tree.find_all(nodes.Name):
        if name.name in columns and id(name) not in plain:
            raise _refused(
                template,
                f"it does more with the column '{name.name}' than to write it",
                f"{{{{ {name.name} }}}} and nothing else; write such a template in your own "
                "recipe, as `template`",
            )
    return columns


def _parts(template: SourceTemplate, values: Mapping[str, Any]) -> tuple[str, str]:
    """Return input and target of the rendered template."""
    parts = _render(template, template.jinja, values).split(SEPARATOR)
    if len(parts) != 2:
        raise _refused(
            template,
            f"it has {len(parts) - 1} times {SEPARATOR}",
            f"one {SEPARATOR}, between input and target",
        )
    return parts[0].strip(), parts[1].strip()


def _render(template: SourceTemplate, jinja: str, values: Mapping[str, Any]) -> str:
    from jinja2 import TemplateError

    try:
        return str(_sandbox().from_string(jinja).render(**values))
    except (TemplateError, TypeError, ValueError, LookupError, ArithmeticError) as error:
        raise _refused(
            template, f"it cannot be rendered: {error}", "columns, label and answer_choices only"
        ) from None


def _sandbox() -> Any:
    from jinja2 import StrictUndefined
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    return ImmutableSandboxedEnvironment(undefined=StrictUndefined, autoescape=False)


def _refused(template: SourceTemplate, reason: str, instead: str) -> InputError:
    return InputError(
        f"{template.file}: the template '{template.name}' cannot be a blank: {reason}; allowed: "
        f"{instead}"
    )

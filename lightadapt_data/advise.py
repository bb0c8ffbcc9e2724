"""advise: which adapter method, with which settings, for these rows and this model, and why.

Rules of thumb, each with its evidence; where a rule is a judgement and no measurement, it says so.
They rank the methods that the model can take. A pilot (see `adapter_verbs`) trains the two best for
a few steps and lets the validation rows decide.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lightadapt_data import base_models, methods, model_files
from lightadapt_data.errors import InputError

CANDIDATES = ("bottleneck", "lora", "prefix", "full", "head_only")
"""Methods that can be recommended; prompt tuning needs a large model and is never the best here."""
TAGGING = ("token_classification", "relation_extraction", "question_answering")
GENERATING = ("translation", "language_modeling")
SMALL_MODEL = 100_000_000
"""Models up to this size are cheap to tune whole, given the rows [parameters]."""
FULL_BYTES = 16
"""Memory per parameter of tuning it: weight, gradient and two moments in float32 [bytes]."""
FROZEN_BYTES = 5
"""Memory per parameter of a frozen float32 model, with room for activations [bytes]."""


@dataclass(frozen=True)
class Facts:
    """What advice depends on."""

    task: str
    n_rows: int
    """Rows to train on."""
    least_per_label: int
    """Training rows of the rarest label; 0 where rows have no label."""
    n_parameters: int
    memory_bytes: int
    """Memory of the device that trains."""
    has_gpu: bool
    config: Mapping[str, Any]
    """The base model's config.json."""


@dataclass(frozen=True)
class Advice:
    """One method, recommended more or less."""

    method: str
    points: int
    """How strongly; only the order means something."""
    options: dict[str, Any] = field(default_factory=dict)
    """Settings of the method besides its defaults."""
    reasons: tuple[str, ...] = ()


@dataclass(frozen=True)
class Rule:
    """Points for some methods, where the facts are of a kind."""

    points: dict[str, int]
    reason: str
    options: dict[str, dict[str, Any]] = field(default_factory=dict)


def facts_of(task: str, rows: Sequence[Mapping[str, Any]], folder: Path) -> Facts:
    """Return the facts of training on these rows, with the model in `folder`, on this machine."""
    import torch

    labels = Counter(row["label"] for row in rows if row.get("label") is not None)
    has_gpu = torch.cuda.is_available()
    memory = (
        torch.cuda.get_device_properties(0).total_memory
        if has_gpu
        else os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    )
    return Facts(
        task=task,
        n_rows=len(rows),
        least_per_label=min(labels.values(), default=0),
        n_parameters=model_files.n_parameters(folder),
        memory_bytes=memory,
        has_gpu=has_gpu,
        config=base_models.config_of(folder),
    )


def advise(facts: Facts) -> list[Advice]:
    """Return the methods that the model can take, the best first.

    Raises:
        InputError: no method can be used with the base model.
    """
    rules = _rules(facts)
    found, refused = [], []
    for number, method in enumerate(CANDIDATES):
        options: dict[str, Any] = {}
        for rule in rules:
            options |= rule.options.get(method, {})
        reason = _refusal(facts, method, options)
        if reason:
            refused.append(f"{method}: {reason}")
            continue
        points = sum(rule.points.get(method, 0) for rule in rules) * 10 - number
        reasons = tuple(rule.reason for rule in rules if rule.points.get(method, 0) > 0)
        found.append(Advice(method, points, options, reasons))
    if not found:
        raise InputError(
            f"advise: no method can be used with this base model: {'; '.join(refused)}"
        )
    return sorted(found, key=lambda advice: -advice.points)


def _refusal(facts: Facts, method: str, options: dict[str, Any]) -> str:
    """Return why a method cannot be used; empty when it can."""
    needed = facts.n_parameters * (FULL_BYTES if method == "full" else FROZEN_BYTES)
    if needed > facts.memory_bytes:
        return (
            f"needs about {needed / 1e9:.1f} GB of memory, and {facts.memory_bytes / 1e9:.1f} GB "
            "are there"
        )
    try:
        methods.load("adapters", method).check(
            facts.config, methods.settings("adapters", method, options)
        )
    except InputError as error:
        return str(error)
    return ""


def _rules(facts: Facts) -> list[Rule]:
    """Return the rules that apply."""
    is_generating = facts.task in GENERATING or bool(facts.config.get("is_encoder_decoder"))
    is_decoder = any("CausalLM" in name for name in facts.config.get("architectures") or ())
    rules = [_by_rows(facts)]
    if facts.task in TAGGING:
        rules.append(
            Rule(
                {"bottleneck": 1, "lora": 1},
                "marking parts of a text needs changes in every layer, not before the text (Liu et "
                "al. 2022, P-tuning v2)",
                {"bottleneck": {"variant": "houlsby"}},
            )
        )
    if is_generating or is_decoder:
        rules.append(
            Rule(
                {"lora": 3, "bottleneck": 1},
                "decoders: low-rank changes are as good as full tuning and can be merged, so they "
                "cost nothing later (Hu et al. 2022; He et al. 2022)",
            )
        )
    if not facts.has_gpu:
        rules.append(
            Rule(
                {"bottleneck": 1, "head_only": 1},
                "on a processor, what is trained high in the model trains fastest (Rücklé et al. "
                "2021)",
            )
        )
    return rules


def _by_rows(facts: Facts) -> Rule:
    """Return what the number of rows says; no source gives the limits as such."""
    rows = facts.n_rows
    if rows >= 1_000_000 or (rows >= 100_000 and facts.n_parameters <= SMALL_MODEL):
        return Rule(
            {"full": 4, "lora": 2},
            f"{rows:,} rows are enough for all parameters, and low-rank changes run out of room "
            "(Zhang et al. 2024, https://arxiv.org/abs/2402.17193; limits: judgement)",
            {"lora": {"rank": 64, "kind": "rslora", "targets": ("all-linear",)}},
        )
    if rows >= 5_000:
        return Rule(
            {"lora": 3, "bottleneck": 3, "full": 2},
            f"{rows:,} rows: adapters come within a point of full tuning (Houlsby et al. 2019; Hu "
            "et al. 2022; limits: judgement)",
            {"lora": {"targets": ("all-linear",)}, "bottleneck": {"variant": "houlsby"}},
        )
    few = facts.least_per_label
    more = (
        f"; with {few} rows of the rarest label, task = 'cloze' and a model with a language-model "
        "head may do better (Gao et al. 2021)"
        if 0 < few <= 32 and facts.task == "text_classification"
        else ""
    )
    return Rule(
        {"bottleneck": 3, "lora": 2, "prefix": 1},
        f"{rows:,} rows: when rows are few, adapters are better and less sensitive than full "
        f"tuning (He, R. et al. 2021, https://arxiv.org/abs/2106.03164; limits: judgement){more}",
    )

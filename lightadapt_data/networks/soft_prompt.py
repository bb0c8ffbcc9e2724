"""A soft prompt as a PEFT tuner: saving, loading, switching and heads come from PEFT.

PEFT's own prompt tuning puts rows before [CLS], so that heads read a row of the prompt, and leaves
labels and places of answers where they were. Here a soft token is an id beyond the vocabulary: who
makes the batch puts it anywhere, and masks, labels and positions are made as for any token.

Importing this module makes PEFT know the type LIGHTADAPT_SOFT_PROMPT.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

import peft
import torch
from peft.tuners.tuners_utils import BaseTuner, BaseTunerLayer
from torch import Tensor, nn
from transformers import PreTrainedModel

from lightadapt_data.networks.prefix import Reparametrised, Table


class PromptType(str, Enum):  # noqa: UP042  PEFT's own types are of this kind, and it compares them
    """Our type, named so that no later PEFT type can collide."""

    LIGHTADAPT_SOFT_PROMPT = "LIGHTADAPT_SOFT_PROMPT"


@dataclass
class SoftPromptConfig(peft.PeftConfig):  # type: ignore[misc]
    """What `adapter_config.json` holds; the fields mean what they mean in the recipe."""

    length: int = 20
    model_type: str | None = field(default=None)
    target_modules: str | None = field(default=None)
    modules_to_save: list[str] | None = field(default=None)

    def __post_init__(self) -> None:
        """Set the type; PEFT reads it when it saves and loads."""
        super().__post_init__()
        self.peft_type = PromptType.LIGHTADAPT_SOFT_PROMPT


class SoftPromptLayer(nn.Module, BaseTunerLayer):  # type: ignore[misc]
    """The model's table of tokens with a small trained table behind it."""

    # "embed" in the name says to who looks for frozen layers that this stands before all of them.
    adapter_layer_names = ("softprompt_embeddings",)

    def __init__(self, base_layer: Any) -> None:
        super().__init__()
        self.base_layer = base_layer
        self.n_words: int = base_layer.num_embeddings
        self.softprompt_embeddings = nn.ModuleDict({})
        self.lengths: dict[str, int] = {}
        self._active_adapter: list[str] = []
        self.merged_adapters: list[str] = []

    def update_layer(
        self, adapter_name: str, config: SoftPromptConfig, table: nn.Module | None
    ) -> None:
        """Add a prompt: the table of another layer, or one of zeros that is to be filled."""
        if table is None:
            table = Table(torch.zeros(config.length, self.base_layer.embedding_dim))
        self.softprompt_embeddings[adapter_name] = table
        self.lengths[adapter_name] = config.length
        self._move_adapter_to_device_of_base_layer(adapter_name)
        self.set_adapter(self.active_adapters or adapter_name, config.inference_mode)

    def forward(self, ids: Tensor) -> Tensor:
        """Return the rows of the tokens, [..., width]; ids beyond the vocabulary are soft ones.

        Raises:
            ValueError: there are soft tokens, and the prompt is switched off or not the only one.
        """
        is_soft = ids >= self.n_words
        if not is_soft.any():
            found: Tensor = self.base_layer(ids)
            return found
        names = [] if self.disable_adapters else self.active_adapters
        if len(names) != 1:
            raise ValueError(
                f"the input holds soft tokens (ids from {self.n_words} on) and {len(names)} soft "
                "prompts are switched on; allowed: one; leave the soft tokens out for the base "
                "model, or choose a prompt with set_adapter(name)"
            )
        rows: Tensor = self.softprompt_embeddings[names[0]]()
        number = (ids - self.n_words).clamp(0, len(rows) - 1)
        plain: Tensor = self.base_layer(ids.masked_fill(is_soft, 0))
        return torch.where(is_soft.unsqueeze(-1), rows[number].to(plain.dtype), plain)

    def __getattr__(self, name: str) -> Any:
        """Hand on what some models read from their table (`num_embeddings`, `padding_idx`)."""
        try:
            return super().__getattr__(name)
        except AttributeError:
            if name == "base_layer":
                raise
            return getattr(self.base_layer, name)


class SoftPromptModel(BaseTuner):  # type: ignore[misc]
    """Puts a SoftPromptLayer in place of the tables of tokens."""

    prefix = "softprompt_"
    tuner_layer_cls = SoftPromptLayer

    def _prepare_adapter_config(
        self, peft_config: SoftPromptConfig, model_config: dict[str, Any]
    ) -> SoftPromptConfig:
        return peft_config

    def _create_and_replace(
        self,
        peft_config: SoftPromptConfig,
        adapter_name: str,
        target: nn.Module,
        target_name: str,
        parent: nn.Module,
        current_key: str,
        parameter_name: str | None = None,
    ) -> None:
        tables = [
            layer.softprompt_embeddings[adapter_name]
            for layer in layers(self.model)
            if adapter_name in layer.softprompt_embeddings
        ]
        if not isinstance(target, SoftPromptLayer):
            layer = SoftPromptLayer(target)
            self._replace_module(parent, target_name, layer, target)
            target = layer
        # Encoder and decoder of a pair have one prompt, as they have one vocabulary.
        target.update_layer(adapter_name, peft_config, tables[0] if tables else None)
        if adapter_name not in self.active_adapters:
            target.softprompt_embeddings[adapter_name].requires_grad_(False)

    def _replace_module(
        self, parent: nn.Module, child_name: str, new_module: nn.Module, child: nn.Module
    ) -> None:
        # PEFT's own would copy weights of `child` about; ours wraps it whole.
        setattr(parent, child_name, new_module)


def layers(model: nn.Module) -> list[SoftPromptLayer]:
    """Return the tables of tokens that have a soft prompt, the encoder's first."""
    return [part for part in model.modules() if isinstance(part, SoftPromptLayer)]


def token_tables(model: nn.Module) -> dict[str, Any]:
    """Return by full name the tables in which ids of the input are looked up.

    In pairs of encoder and decoder these are two with the same weights: where the decoder reads the
    same words, a model of transformers may hand it the encoder's input, soft tokens and all.
    """
    inner = next(part for part in model.modules() if isinstance(part, PreTrainedModel))
    if not inner.config.is_encoder_decoder:
        wanted = inner.get_input_embeddings()
        return {name: part for name, part in model.named_modules() if part is wanted}
    found: dict[str, Any] = {
        name: part
        for name, part in model.named_modules(remove_duplicate=False)
        if re.search(r"(?:^|\.)(?:encoder|decoder)\.embed_tokens$", name)
    }
    sizes = {part.num_embeddings for part in found.values()}
    return {name: part for name, part in found.items() if len(sizes) == 1 or "encoder." in name}


def reparametrise(model: nn.Module, width: int, adapter_name: str = "default") -> None:
    """Let a small network change the prompt; it is trained with it in mind and not saved.

    Args:
        model: a PeftModel of this type; changed in place.
        width: the network's inner width [dimensions].
        adapter_name: the prompt to be changed.
    """
    found = layers(model)
    table: Any = found[0].softprompt_embeddings[adapter_name]
    rows = nn.Embedding(len(table.weight), width)
    trunk = nn.Sequential(rows, nn.Linear(width, width), nn.Tanh()).to(table.weight)
    made = Reparametrised(trunk, width, table.weight).to(table.weight)
    for layer in found:
        layer.softprompt_embeddings[adapter_name] = made


def _register() -> None:
    """Fill PEFT's mappings; its `register_peft_method` refuses names that are not its own."""
    kind = PromptType.LIGHTADAPT_SOFT_PROMPT
    peft.mapping.PEFT_TYPE_TO_CONFIG_MAPPING[kind] = SoftPromptConfig
    peft.mapping.PEFT_TYPE_TO_TUNER_MAPPING[kind] = SoftPromptModel
    peft.mapping.PEFT_TYPE_TO_PREFIX_MAPPING[kind] = SoftPromptModel.prefix


_register()

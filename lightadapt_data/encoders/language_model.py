"""language_model: hidden states of any transformers model, pooled to one vector per text.

Works with causal models (Llama, GPT-2), bidirectional ones (BERT) and the encoder half of others
(T5), from a folder, an installed package or the Hub. The default pooling weighs token i of n by
i / (1 + ... + n): in a causal model only late tokens have seen the whole text. Padding has no
weight, so a vector does not depend on the texts that share its batch. Only the model's own code
in transformers is run, never code from the model's folder.

Source: Muennighoff 2022, arXiv 2202.08904 (position-weighted mean pooling); Ivison et al. 2025,
arXiv 2503.01807 (its use for selection, RDS+)
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from lightadapt_data import base_models, model_files
from lightadapt_data.config import Config
from lightadapt_data.encoders.sentence_transformer import _batches
from lightadapt_data.errors import InputError
from lightadapt_data.shards import file_digest
from lightadapt_data.vectors import unit

if TYPE_CHECKING:
    import torch

TEMPLATE_FILE = "chat_template.jinja"
"""Where transformers stores a chat template apart from the tokenizer's JSON files."""


class Settings(Config):
    """Settings of the language_model encoder."""

    NOT_IN_KEY: ClassVar[frozenset[str]] = frozenset({"model", "batch_tokens"})

    model: str = "HuggingFaceTB/SmolLM2-135M"
    """Local folder, installed package that ships a model, or Hub id."""
    pooling: Literal["position_weighted", "mean", "last"] = "position_weighted"
    """What becomes of the hidden states: position_weighted or plain mean, or the last token's."""
    max_tokens: int = Field(default=2048, gt=0)
    """Longer texts are cut, at the model's own limit if that is lower [tokens]."""
    template: str = ""
    """Words around each text, which stands where `{text}` is, as in "Review: {text}\\nSentiment:";
    with pooling last, the vector then holds what the model would say next. Empty: none."""
    layers: float = Field(default=1.0, gt=0, le=1)
    """Share of the layers to use, the lowest ones; what a text says is often plainer below the last
    layers, and the others are not computed [ratio]."""
    chat: bool = False
    """Wrap each text as the user's turn in the tokenizer's chat template."""
    precision: Literal["float32", "bfloat16"] = "float32"
    """Number format of the model; bfloat16 halves its memory and changes vectors slightly."""
    batch_tokens: int = Field(default=4096, gt=0)
    """Tokens of one forward pass [tokens]."""


def fingerprint(settings: Settings) -> dict[str, str]:
    """Return the digest of the model's files, and of its chat template where that is used.

    Raises:
        InputError: the model cannot be found without downloading.
    """
    folder = model_files.find(settings.model, may_download=False)
    found = {"model": model_files.fingerprint(folder)}
    if settings.chat and (folder / TEMPLATE_FILE).exists():
        found["chat_template"] = file_digest(folder / TEMPLATE_FILE)
    return found


def fetch(settings: Settings) -> None:
    """Make sure that the model is on this machine; download it if it is not.

    Raises:
        InputError: it cannot be found or fetched.
    """
    model_files.find(settings.model)


@lru_cache(maxsize=2)
def load(settings: Settings) -> LanguageModelEncoder:
    """Return the encoder.

    Raises:
        InputError: the model cannot be found or loaded, or has no chat template but needs one.
    """
    return LanguageModelEncoder(settings, model_files.find(settings.model))


class LanguageModelEncoder:
    """Tokenizer, transformer, and pooling that leaves padding out."""

    def __init__(self, settings: Settings, folder: Path) -> None:
        import torch

        self._settings = settings
        if settings.template and settings.template.count("{text}") != 1:
            raise InputError(
                f"encoder language_model: template = {settings.template!r}; allowed: a text that "
                "holds {text} once, or an empty one"
            )
        self._tokenizer, model = _loaded(folder, settings.precision)
        _keep_layers(model, settings.layers)
        if settings.chat and not self._tokenizer.chat_template:
            raise InputError(
                f"encoder language_model: model '{settings.model}' has no chat template, but "
                "chat = true; allowed: a model tuned for chat; set chat = false or name another"
            )
        self._device = "cuda" if torch.cuda.is_available() else "cpu"
        self._model = model.to(self._device)
        config = model.config.get_text_config()
        self.dim = int(config.hidden_size)
        limits = (self._tokenizer.model_max_length, getattr(config, "max_position_embeddings", 0))
        self.max_tokens = min([settings.max_tokens, *(int(limit) for limit in limits if limit)])
        self._n_cut = 0

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Return unit vectors, float32 [len(texts), dim]; a text without any token gives zeros."""
        import torch

        vectors = np.zeros((len(texts), self.dim), np.float32)
        ids = self._tokenized(texts)
        filled = [row for row in range(len(ids)) if ids[row]]
        with torch.inference_mode():
            for batch in _batches([len(ids[row]) for row in filled], self._settings.batch_tokens):
                rows = [filled[place] for place in batch]
                vectors[rows] = self._pooled([ids[row] for row in rows])
        return unit(vectors)

    def n_cut(self) -> int:
        """Return how many texts were cut to `max_tokens` since loading."""
        return self._n_cut

    def _tokenized(self, texts: Sequence[str]) -> list[list[int]]:
        """Return the token ids of each text, at most `max_tokens`; special tokens are kept."""
        if not texts:
            return []
        given = list(texts)
        if self._settings.template:
            given = self._in_template(given)
        if self._settings.chat:
            turns = [[{"role": "user", "content": text}] for text in given]
            given = [self._tokenizer.apply_chat_template(turn, tokenize=False) for turn in turns]
        # A chat template brings its own special tokens.
        options: dict[str, Any] = {"add_special_tokens": not self._settings.chat, "verbose": False}
        whole: list[list[int]] = self._tokenizer(given, **options)["input_ids"]
        long = [row for row, ids in enumerate(whole) if len(ids) > self.max_tokens]
        self._n_cut += len(long)
        if long:
            options |= {"truncation": True, "max_length": self.max_tokens}
            cut = self._tokenizer([given[row] for row in long], **options)["input_ids"]
            for row, ids in zip(long, cut, strict=True):
                whole[row] = ids
        return whole

    def _in_template(self, texts: list[str]) -> list[str]:
        """Return the texts inside the template, cut so that all of its words are read."""
        before, after = self._settings.template.split("{text}")
        n_words = len(self._tokenizer(before + after)["input_ids"])
        room = max(1, self.max_tokens - n_words - 1)  # a token may fall apart at the seam
        options: dict[str, Any] = {"add_special_tokens": False, "verbose": False}
        ids = self._tokenizer(texts, return_offsets_mapping=True, **options)
        given = []
        for text, offsets in zip(texts, ids["offset_mapping"], strict=True):
            is_long = len(offsets) > room
            self._n_cut += is_long
            given.append(before + (text[: offsets[room - 1][1]] if is_long else text) + after)
        return given

    def _pooled(self, batch: list[list[int]]) -> NDArray[np.float32]:
        """Return pooled hidden states, float32 [len(batch), dim]."""
        import torch

        lengths = torch.tensor([len(ids) for ids in batch], device=self._device)
        longest = int(lengths.max())
        # Padded here and on the right, whatever side the tokenizer prefers: positions then count
        # from the first token in every model, and no token sees padding.
        padded = torch.tensor([ids + [0] * (longest - len(ids)) for ids in batch])
        places = torch.arange(1, longest + 1, device=self._device)
        mask = places[None] <= lengths[:, None]
        output = self._model(input_ids=padded.to(self._device), attention_mask=mask.long())
        weights = _weights(places[None] * mask, lengths[:, None], self._settings.pooling)
        pooled = (output.last_hidden_state.float() * weights[..., None]).sum(dim=1)
        return np.asarray(pooled.cpu().numpy(), np.float32)


def _weights(places: torch.Tensor, lengths: torch.Tensor, pooling: str) -> torch.Tensor:
    """Return the weights of tokens, float32 [texts, tokens]; each row adds up to 1.

    Args:
        places: places of tokens from 1, [texts, tokens]; 0 for padding.
        lengths: tokens of each text, [texts, 1].
        pooling: name of the pooling.
    """
    if pooling == "last":
        return (places == lengths).float()
    weights = (places > 0).float() if pooling == "mean" else places.float()
    return weights / weights.sum(dim=1, keepdim=True)


def _loaded(folder: Path, precision: str) -> tuple[Any, Any]:
    """Return the tokenizer and the model, or its encoder half, ready to be used.

    Raises:
        InputError: transformers cannot load them.
    """
    import torch
    from transformers import AutoModel, AutoTokenizer
    from transformers.utils.logging import disable_progress_bar

    disable_progress_bar()
    options = base_models.load_options(folder)
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, **options)
        model = AutoModel.from_pretrained(folder, dtype=getattr(torch, precision), **options)
    except (OSError, ValueError, KeyError, ImportError) as error:
        reason = str(error).strip().splitlines()[0][:200] if str(error).strip() else repr(error)
        raise InputError(
            f"encoder language_model: {folder} cannot be loaded: {reason}; allowed: a folder with "
            "config.json, weights and tokenizer files of a model that transformers knows"
        ) from None
    if model.config.is_encoder_decoder:
        model = model.get_encoder()
    return tokenizer, model.eval()


def _keep_layers(model: Any, share: float) -> None:
    """Drop the upper layers of a model.

    Raises:
        InputError: the model has no single stack of layers.
    """
    from torch import nn

    if share == 1:
        return
    stacks = [
        (parent, name, part)
        for parent in model.modules()
        for name, part in parent.named_children()
        if isinstance(part, nn.ModuleList) and name in ("layers", "layer", "h", "block")
    ]
    if not stacks:
        raise InputError(
            f"encoder language_model: layers = {share}, and no stack of layers was found in a "
            f"model_type '{model.config.model_type}'; allowed: 1.0"
        )
    parent, name, part = stacks[0]  # the outermost one comes first
    setattr(parent, name, part[: max(1, round(share * len(part)))])

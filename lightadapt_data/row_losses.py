"""The language-model loss of single rows, causal or masked.

A row's loss is the mean over its own predicted tokens, so it does not depend on the rows beside it.
Decoders predict every token from those before it. Encoders predict masked tokens; which ones are
masked is drawn from the row's text and the seed, so equal texts have equal losses.

Source: Devlin et al. 2019, arXiv 1810.04805, section 3.1 (masked); here every drawn token becomes
the mask token, as nothing has to be learnt for later use without masks
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from lightadapt_data import model_files
from lightadapt_data.errors import InputError
from lightadapt_data.rows import key_of

if TYPE_CHECKING:
    from torch import Tensor, nn


@dataclass(frozen=True)
class Head:
    """A head for masked tokens of our own, for encoders that were saved without one."""

    into: nn.Linear
    """From hidden states to the space of the input embeddings."""
    bias: nn.Parameter
    """Of the vocabulary, [tokens]."""


@dataclass(frozen=True)
class LanguageModel:
    """A model that predicts tokens."""

    network: Any
    """In evaluation mode, float32, on the GPU where there is one."""
    tokenizer: Any
    is_causal: bool
    head: Head | None
    """None where the network has its own, trained one."""
    max_tokens: int
    """What the model can read [tokens]."""

    def losses(self, rows: Sequence[Encoded]) -> Tensor:
        """Return the loss of every row, float32 [rows]; each must have a place to predict at."""
        import torch
        from torch.nn import functional

        found = self.at_places(rows)
        if self.head is not None:
            embeddings = self.network.get_input_embeddings().weight
            found = functional.linear(self.head.into(found), embeddings, self.head.bias)
        labels = torch.tensor([label for row in rows for label in row.labels], device=found.device)
        losses = functional.cross_entropy(found.float(), labels, reduction="none")
        # A product and not a scattered addition, which has no fixed order on a GPU.
        counts = torch.tensor([len(row.places) for row in rows])
        row_of = torch.arange(len(rows)).repeat_interleave(counts)
        shares = functional.one_hot(row_of, len(rows)).T / counts[:, None]
        means: Tensor = shares.to(losses) @ losses
        return means

    def at_places(self, rows: Sequence[Encoded]) -> Tensor:
        """Return logits, or hidden states for a head of our own, of all places in their order.

        Logits are made for these positions only: over a large vocabulary they cost more than all
        layers of a small model.
        """
        import torch

        device = next(self.network.parameters()).device
        longest = max(len(row.ids) for row in rows)
        # RoBERTa counts positions by the padding's id; others never see it.
        pad = int(self.tokenizer.pad_token_id or 0)
        ids = torch.tensor([[*row.ids, *[pad] * (longest - len(row.ids))] for row in rows])
        lengths = torch.tensor([len(row.ids) for row in rows])
        mask = (torch.arange(longest)[None] < lengths[:, None]).long()
        row_of = torch.tensor([number for number, row in enumerate(rows) for _ in row.places])
        places = torch.tensor([place for row in rows for place in row.places])
        at = (row_of.to(device), places.to(device))
        batch = {"input_ids": ids.to(device), "attention_mask": mask.to(device)}
        if self.head is not None:
            hidden: Tensor = self.network(**batch).last_hidden_state[at]
            return hidden

        def only_places(_: Any, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
            return (inputs[0][at], *inputs[1:])

        decoder = self.network.get_output_embeddings()
        handle = None if decoder is None else decoder.register_forward_pre_hook(only_places)
        try:
            logits: Tensor = self.network(**batch).logits
        finally:
            if handle is not None:
                handle.remove()
        # Three axes: the output layer is no module of its own, so nothing was picked before it.
        return logits[at] if logits.ndim == 3 else logits


@dataclass(frozen=True)
class Encoded:
    """One text as the model reads it."""

    ids: tuple[int, ...]
    """Token ids; the mask token where a token is to be predicted by an encoder."""
    places: tuple[int, ...]
    """Positions whose output predicts; none where the text is too short."""
    labels: tuple[int, ...]
    """The token ids to predict, one per place."""


def load(name: str) -> LanguageModel:
    """Return the model of that name with its head for causal or else masked tokens.

    An encoder saved without its head gets one of our own, tied to the input embeddings, that has
    still to be trained.

    Raises:
        InputError: not found, neither a decoder nor an encoder, or files that lack weights.
    """
    import torch

    network, tokenizer, lacking, is_causal = _read(name)
    if lacking and (is_causal or any(_is_inside(network, key) for key in lacking)):
        raise InputError(
            f"model '{name}': its files lack {', '.join(lacking[:3])}; allowed: encoders with or "
            "without their head and decoders with it; choose a model that was saved whole"
        )
    if not is_causal and tokenizer.mask_token_id is None:
        raise InputError(
            f"model '{name}': its tokenizer has no mask token, which an encoder needs; choose "
            "another model"
        )
    network = network.base_model if lacking else network
    network.eval().to("cuda" if torch.cuda.is_available() else "cpu")
    # RoBERTa and its kin number positions from 2, so two of the table's are never used.
    positions = int(getattr(network.config, "max_position_embeddings", 10**9)) - 2
    limit = min(positions, int(tokenizer.model_max_length))
    return LanguageModel(network, tokenizer, is_causal, _new_head(network, lacking), limit)


def _read(name: str) -> tuple[Any, Any, list[str], bool]:
    """Return the network, the tokenizer, the weights that its files lack, and if it is causal."""
    import torch
    import transformers

    folder = model_files.find(name)
    # Code from the model's folder is never run, and nobody is asked whether it may.
    options = {"local_files_only": True, "trust_remote_code": False}
    try:
        with _quiet():
            config = transformers.AutoConfig.from_pretrained(folder, **options)
            is_causal = _is_causal(name, config)
            kind = "AutoModelForCausalLM" if is_causal else "AutoModelForMaskedLM"
            network, found = getattr(transformers, kind).from_pretrained(
                folder, dtype=torch.float32, output_loading_info=True, **options
            )
            tokenizer = transformers.AutoTokenizer.from_pretrained(folder, **options)
    except (OSError, ValueError, KeyError, ImportError) as error:
        reason = str(error).strip().splitlines()[0][:200] if str(error).strip() else repr(error)
        raise InputError(
            f"model '{name}': {folder} cannot be loaded: {reason}; allowed: a folder with "
            "config.json, weights and tokenizer files of a model that transformers knows"
        ) from None
    return network, tokenizer, sorted(found["missing_keys"]), is_causal


def _is_inside(network: Any, key: str) -> bool:
    """Return whether a weight belongs to the model below the head."""
    return key.startswith(f"{network.base_model_prefix}.")


def _new_head(network: Any, lacking: Sequence[str]) -> Head | None:
    """Return a head of zeros, or None where the files lack none."""
    import torch
    from torch import nn

    if not lacking:
        return None
    n_tokens, width = network.get_input_embeddings().weight.shape
    into = nn.Linear(network.config.hidden_size, width).to(network.device)
    nn.init.zeros_(into.weight)
    nn.init.zeros_(into.bias)
    return Head(into, nn.Parameter(torch.zeros(n_tokens, device=network.device)))


def _is_causal(name: str, config: Any) -> bool:
    """Return whether the model's head predicts the next token; False means masked tokens.

    Raises:
        InputError: neither head exists for this family of models.
    """
    from transformers.models.auto import modeling_auto

    if not config.is_encoder_decoder:
        saved_as = str((config.architectures or [""])[0])
        can_mask = config.model_type in modeling_auto.MODEL_FOR_MASKED_LM_MAPPING_NAMES
        if can_mask and not saved_as.endswith(("ForCausalLM", "LMHeadModel")):
            return False
        if config.model_type in modeling_auto.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES:
            return True
    raise InputError(
        f"model '{name}': model_type '{config.model_type}' has no loss of its own text; allowed: "
        "decoders such as llama, qwen2 or gpt2 and encoders such as bert or roberta; choose one"
    )


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep transformers' table of missing weights back; what it says is known here."""
    from transformers.utils import logging as theirs

    before, has_bar = theirs.get_verbosity(), theirs.is_progress_bar_enabled()
    theirs.set_verbosity_error()
    theirs.disable_progress_bar()
    try:
        yield
    finally:
        theirs.set_verbosity(before)
        if has_bar:
            theirs.enable_progress_bar()


def encode(
    model: LanguageModel, texts: Sequence[str], max_tokens: int, mask_share: float, seed: int
) -> list[Encoded]:
    """Return the texts as the model reads them, cut to `max_tokens` and to the model's limit.

    Args:
        model: decides the tokens and whether they are masked.
        texts: one per row; a text without a token to predict gets no places.
        max_tokens: including the tokenizer's special ones [tokens].
        mask_share: of an encoder's tokens that are masked, at least one [ratio].
        seed: with the text it decides which are masked.
    """
    if not texts:
        return []
    encoded = model.tokenizer(
        list(texts),
        truncation=True,
        max_length=min(max_tokens, model.max_tokens),
        return_special_tokens_mask=True,
        return_attention_mask=False,
    )
    if model.is_causal:
        return [
            Encoded(tuple(ids), tuple(range(len(ids) - 1)), tuple(ids[1:]))
            for ids in encoded["input_ids"]
        ]
    pairs = zip(texts, encoded["input_ids"], encoded["special_tokens_mask"], strict=True)
    mask_id = int(model.tokenizer.mask_token_id)
    return [
        _masked(ids, special, mask_id, mask_share, np.random.default_rng([seed, key_of(text)]))
        for text, ids, special in pairs
    ]


def _masked(
    ids: list[int], special: list[int], mask_id: int, share: float, draw: np.random.Generator
) -> Encoded:
    """Return the row with `share` of its own tokens masked, one at least."""
    own = np.flatnonzero(np.asarray(special) == 0)
    n_masked = min(len(own), max(1, round(share * len(own))))
    places = np.sort(draw.permutation(own)[:n_masked]).tolist()
    masked = list(ids)
    for place in places:
        masked[place] = mask_id
    return Encoded(tuple(masked), tuple(places), tuple(ids[place] for place in places))

"""A classifier out of a language model: it reads how well each label's words fill a blank."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn
from transformers.modeling_outputs import SequenceClassifierOutput

Kind = Literal["masked", "causal", "paired"]
"""Fills a blank in the text; writes on; or is given a text with a gap and writes what is in it."""


class ClozeClassifier(nn.Module):
    """A language model with its own head, of which only the scores of the labels' words are used.

    There are no weights besides those of the model.
    """

    def __init__(
        self,
        language_model: Any,
        kind: Kind,
        words: Sequence[Sequence[int]],
        decoder_ids: Sequence[int] = (),
    ) -> None:
        """Take the model over.

        Args:
            language_model: a model of transformers with a head over the vocabulary.
            kind: where that model says what is in the blank.
            words: tokens of each label's words.
            decoder_ids: what the decoder of a `paired` model has written up to the blank.
        """
        super().__init__()
        self.config = language_model.config  # PEFT reads the model's family here
        self.language_model = language_model
        self.kind = kind
        ids = [token for of_label in words for token in of_label]
        share = torch.zeros(len(ids), len(words))
        start = 0
        for label, of_label in enumerate(words):
            share[start : start + len(of_label), label] = 1 / len(of_label)
            start += len(of_label)
        self.word_ids: Tensor
        self.share: Tensor
        self.offset: Tensor
        self.decoder_ids: Tensor
        # Not persistent: they follow from the settings, and no checkpoint holds them.
        self.register_buffer("word_ids", torch.tensor(ids), persistent=False)
        self.register_buffer("share", share, persistent=False)
        self.register_buffer("offset", torch.zeros(len(words)), persistent=False)
        self.register_buffer("decoder_ids", torch.tensor(list(decoder_ids)), persistent=False)

    @property
    def is_gradient_checkpointing(self) -> bool:
        """Whether the model keeps only its layers' inputs; PEFT asks."""
        parts = self.language_model.modules()
        return any(getattr(part, "gradient_checkpointing", False) for part in parts)

    def enable_input_require_grads(self) -> None:
        """Let gradients reach the layers of a frozen model whose inputs alone are kept."""
        self.language_model.enable_input_require_grads()

    def gradient_checkpointing_enable(self, *args: Any, **kwargs: Any) -> None:
        """Keep only the layers' inputs for the backward pass."""
        self.language_model.gradient_checkpointing_enable(*args, **kwargs)

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor,
        blank: Tensor | None = None,
        labels: Tensor | None = None,
        **kwargs: Any,
    ) -> SequenceClassifierOutput:
        """Return logits, float32 [rows, labels], and the mean cross-entropy when labels are given.

        Args:
            input_ids: int64 [rows, tokens].
            attention_mask: [rows, tokens].
            blank: place of the blank, int64 [rows]; for models that write on, one behind the last
                token; without it, the last place of the row.
            labels: int64 [rows].
            kwargs: further arguments of the language model.
        """
        if blank is None:
            blank = attention_mask.sum(1) - int(self.kind != "causal")
        scores = self._vocabulary(input_ids, attention_mask, blank, kwargs).float()
        logits = scores[:, self.word_ids] @ self.share - self.offset
        loss = None if labels is None else nn.functional.cross_entropy(logits, labels)
        return SequenceClassifierOutput(loss=loss, logits=logits)

    def _vocabulary(
        self, input_ids: Tensor, attention_mask: Tensor, blank: Tensor, kwargs: dict[str, Any]
    ) -> Tensor:
        """Return the scores of all words in the blank, [rows, vocabulary]."""
        model = self.language_model
        inputs = {"input_ids": input_ids, "attention_mask": attention_mask, **kwargs}
        if self.kind == "paired":
            written = self.decoder_ids.expand(len(input_ids), -1)
            found: Tensor = model(decoder_input_ids=written, **inputs).logits[:, -1]
            return found
        rows = torch.arange(len(input_ids), device=input_ids.device)
        places = blank if self.kind == "masked" else blank - 1

        def keep_one_place(module: nn.Module, args: Any, output: Any) -> Any:
            output.last_hidden_state = output.last_hidden_state[rows, places].unsqueeze(1)
            return output

        # The head then works on one place of each row, and not on all of them: with 50,000 words
        # that is most of the memory and, in small models, much of the time.
        hook = model.base_model.register_forward_hook(keep_one_place)
        try:
            found = model(**inputs).logits[:, 0]
        finally:
            hook.remove()
        return found

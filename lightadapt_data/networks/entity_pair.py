"""A classifier on the states of two entities' markers, for encoders and decoders."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from transformers.modeling_outputs import SequenceClassifierOutput


class EntityPairClassifier(nn.Module):
    """A base model, the hidden states at one marker of each entity, dropout, one linear layer."""

    is_gradient_checkpointing = False  # PEFT takes a missing one for True

    def __init__(self, encoder: Any, n_labels: int, dropout: float, is_causal: bool) -> None:
        super().__init__()
        self.config = encoder.config  # PEFT reads the model's family here
        self.encoder = encoder
        self.dropout = nn.Dropout(dropout)
        self.classifier = nn.Linear(2 * encoder.config.hidden_size, n_labels)
        # A causal model has not yet read the entity at the marker before it.
        self.side = 1 if is_causal else 0

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor,
        markers: Tensor | None = None,
        labels: Tensor | None = None,
        **kwargs: Any,
    ) -> SequenceClassifierOutput:
        """Return logits, float [rows, labels], and the mean cross-entropy when labels are given.

        Args:
            input_ids: int64 [rows, width].
            attention_mask: int64 [rows, width].
            markers: places of the markers before and behind the head and the tail, int64
                [rows, 2, 2]; without them the first token is read twice.
            labels: int64 [rows].
            kwargs: further arguments of the base model.
        """
        hidden = self.encoder(input_ids=input_ids, attention_mask=attention_mask, **kwargs)[0]
        rows = torch.arange(len(input_ids), device=input_ids.device)
        if markers is None:
            markers = torch.zeros((len(rows), 2, 2), dtype=torch.int64, device=rows.device)
        places = markers[:, :, self.side]
        pair = torch.cat([hidden[rows, places[:, 0]], hidden[rows, places[:, 1]]], dim=-1)
        logits = self.classifier(self.dropout(pair))
        loss = None
        if labels is not None:
            loss = torch.nn.functional.cross_entropy(logits.float(), labels)
        return SequenceClassifierOutput(loss=loss, logits=logits)

    def get_input_embeddings(self) -> nn.Module:
        """Return the base model's table of token vectors."""
        table: nn.Module = self.encoder.get_input_embeddings()
        return table

    def enable_input_require_grads(self) -> None:
        """Let gradients pass the frozen token vectors, which checkpointing needs."""
        self.encoder.enable_input_require_grads()

    def gradient_checkpointing_enable(self, options: dict[str, Any] | None = None) -> None:
        """Keep only the layers' inputs for the backward pass."""
        self.encoder.gradient_checkpointing_enable(options)

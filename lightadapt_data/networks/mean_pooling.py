"""A classifier on the mean of an encoder's token vectors, the feature of sentence encoders."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from transformers.modeling_outputs import SequenceClassifierOutput


class MeanPoolingClassifier(nn.Module):
    """An encoder, the mean over the tokens that the mask shows, dropout, one linear layer."""

    is_gradient_checkpointing = False  # PEFT takes a missing one for True

    def __init__(self, encoder: Any, n_labels: int, dropout: float) -> None:
        super().__init__()
        self.config = encoder.config  # PEFT reads the model's family here
        self.encoder = encoder
        self.dropout = nn.Dropout(dropout)
        self.classifier = nn.Linear(encoder.config.hidden_size, n_labels)

    def forward(
        self, input_ids: Tensor, attention_mask: Tensor, labels: Tensor | None = None, **kwargs: Any
    ) -> SequenceClassifierOutput:
        """Return logits, float [rows, labels], and the mean cross-entropy when labels are given."""
        pooled = self.pooled(input_ids, attention_mask, **kwargs)
        logits = self.classifier(self.dropout(pooled))
        loss = None
        if labels is not None:
            loss = torch.nn.functional.cross_entropy(logits.float(), labels)
        return SequenceClassifierOutput(loss=loss, logits=logits)

    def pooled(self, input_ids: Tensor, attention_mask: Tensor, **kwargs: Any) -> Tensor:
        """Return the feature that the classifier stands on, float [rows, width]."""
        output = self.encoder(input_ids=input_ids, attention_mask=attention_mask, **kwargs)
        hidden = output.last_hidden_state
        mask = attention_mask.unsqueeze(-1).to(hidden.dtype)
        pooled: Tensor = (hidden * mask).sum(1) / mask.sum(1).clamp(min=1)
        return pooled

"""Tiny random encoders with a classification head, one per family of models."""

import torch
import transformers
from torch import nn
from transformers import AutoModelForSequenceClassification

SIZES = {
    "vocab_size": 40,
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "max_position_embeddings": 40,
    "num_labels": 3,
}
CONFIGS = {
    "bert": ("BertConfig", SIZES),
    "camembert": ("CamembertConfig", SIZES),
    "deberta-v2": ("DebertaV2Config", SIZES),
    "distilbert": (
        "DistilBertConfig",
        {"vocab_size": 40, "dim": 16, "n_layers": 2, "n_heads": 2, "hidden_dim": 32}
        | {"max_position_embeddings": 40, "num_labels": 3},
    ),
    "electra": ("ElectraConfig", SIZES | {"embedding_size": 16}),
    "modernbert": (
        "ModernBertConfig",
        SIZES
        | dict.fromkeys(("pad_token_id", "eos_token_id", "bos_token_id"), 0)
        | {"cls_token_id": 1, "sep_token_id": 2},
    ),
    "mpnet": ("MPNetConfig", SIZES),
    "roberta": ("RobertaConfig", SIZES),
    "xlm-roberta": ("XLMRobertaConfig", SIZES),
}
IDS = torch.arange(3, 39).reshape(4, 9)
LABELS = torch.tensor([0, 1, 2, 0])


def tiny(model_type, seed=0, sizes=None, **options):
    """Return a model of a family; `sizes` go over those of its config, `options` to its maker."""
    name, known = CONFIGS[model_type]
    torch.manual_seed(seed)
    config = getattr(transformers, name)(**(known | (sizes or {})))
    model = AutoModelForSequenceClassification.from_config(config, **options).eval()
    for parameter in model.parameters():  # large weights, so that nothing hides in rounding
        nn.init.normal_(parameter, std=0.3)
    return model

"""Tiny random models of 2 layers with any head, one per family of models."""

import torch
import transformers
from torch import nn

SEQUENCE = "AutoModelForSequenceClassification"
TOKENS = "AutoModelForTokenClassification"
ANSWERS = "AutoModelForQuestionAnswering"
MASKED = "AutoModelForMaskedLM"
CAUSAL = "AutoModelForCausalLM"
SEQ2SEQ = "AutoModelForSeq2SeqLM"

COMMON = {"vocab_size": 40, "max_position_embeddings": 40}
SIZES = COMMON | {
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 32,
}
ROTARY = SIZES | {
    "num_key_value_heads": 1,
    "head_dim": 8,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
"""Decoders that came after GPT-2: rotated positions, RMS norms, fewer keys than queries."""
PAIRED = COMMON | {
    "d_model": 16,
    "encoder_layers": 2,
    "decoder_layers": 2,
    "encoder_attention_heads": 2,
    "decoder_attention_heads": 2,
    "encoder_ffn_dim": 32,
    "decoder_ffn_dim": 32,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "decoder_start_token_id": 0,
    "forced_eos_token_id": None,
}
"""BART and its relatives."""
T5 = {
    "vocab_size": 40,
    "d_model": 16,
    "d_kv": 8,
    "d_ff": 32,
    "num_layers": 2,
    "num_heads": 2,
    "relative_attention_num_buckets": 8,
    "pad_token_id": 0,
    "eos_token_id": 2,
    "decoder_start_token_id": 0,
}

CONFIGS = {
    "bert": ("BertConfig", SIZES),
    "camembert": ("CamembertConfig", SIZES),
    "deberta-v2": ("DebertaV2Config", SIZES),
    "distilbert": (
        "DistilBertConfig",
        COMMON | {"dim": 16, "n_layers": 2, "n_heads": 2, "hidden_dim": 32},
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
"""Encoders."""
DECODER_CONFIGS = {
    "gemma": ("GemmaConfig", ROTARY),
    "gemma2": ("Gemma2Config", ROTARY | {"query_pre_attn_scalar": 8}),
    "gemma3_text": ("Gemma3TextConfig", ROTARY | {"query_pre_attn_scalar": 8}),
    "gpt2": (
        "GPT2Config",
        {"vocab_size": 40, "n_positions": 40, "n_embd": 16, "n_layer": 2, "n_head": 2}
        | {"n_inner": 32, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2},
    ),
    "llama": ("LlamaConfig", ROTARY),
    "mistral": ("MistralConfig", ROTARY),
    "opt": (
        "OPTConfig",
        COMMON
        | {"hidden_size": 16, "word_embed_proj_dim": 16, "num_hidden_layers": 2, "ffn_dim": 32}
        | {"num_attention_heads": 2, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2},
    ),
    "qwen2": ("Qwen2Config", ROTARY),
    "qwen3": ("Qwen3Config", ROTARY),
}
ENCODER_DECODER_CONFIGS = {
    "bart": ("BartConfig", PAIRED),
    "m2m_100": ("M2M100Config", PAIRED),
    "marian": ("MarianConfig", PAIRED),
    "mbart": ("MBartConfig", PAIRED),
    "mt5": ("MT5Config", T5),
    "pegasus": ("PegasusConfig", PAIRED),
    "t5": ("T5Config", T5),
}
ENCODERS = ("bert", "roberta", "distilbert", "electra", "deberta-v2", "mpnet", "modernbert")
DECODERS = ("gpt2", "llama", "qwen3")
ENCODER_DECODERS = ("t5", "bart", "marian")
"""The families that every method is tested with; the tables above hold more of their relatives."""

IDS = torch.arange(3, 39).reshape(4, 9)
LABELS = torch.tensor([0, 1, 2, 0])


def tiny(model_type, seed=0, sizes=None, auto=SEQUENCE, **options):
    """Return a model of a family in evaluation mode, with large random weights.

    Args:
        model_type: a key of one of the tables.
        seed: other seeds give other weights.
        sizes: go over the arguments of its config.
        auto: name of the transformers class that chooses the head.
        options: further arguments of its maker.
    """
    name, known = (CONFIGS | DECODER_CONFIGS | ENCODER_DECODER_CONFIGS)[model_type]
    torch.manual_seed(seed)
    labels = {"num_labels": 2 if auto == ANSWERS else 3}
    config = getattr(transformers, name)(**(known | labels | (sizes or {})))
    model = getattr(transformers, auto).from_config(config, **options).eval()
    for parameter in model.parameters():  # large weights, so that nothing hides in rounding
        if parameter.requires_grad:  # sines are fixed, and no checkpoint holds them
            nn.init.normal_(parameter, std=0.3)
    return model


def batch(auto=SEQUENCE):
    """Return arguments of a model with that head, labels among them; each row ends in id 2."""
    ids = IDS.clone()
    ids[:, -1] = 2  # BART classifies by the end token
    inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    if auto == SEQUENCE:
        return inputs | {"labels": LABELS}
    if auto == TOKENS:
        return inputs | {"labels": ids % 3}
    if auto == ANSWERS:
        return inputs | {"start_positions": LABELS, "end_positions": LABELS + 2}
    return inputs | {"labels": ids[:, :5].contiguous() if auto == SEQ2SEQ else ids}

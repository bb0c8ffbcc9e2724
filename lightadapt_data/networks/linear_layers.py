"""Which linear layers stand in a block of each family of models; no torch here.

By what they do: `query`, `key` and `value` of every attention, cross attention among them;
`feedforward`, the last layer of the feed-forward part; and `others`. Several names are split by
spaces. A name that a certain model lacks (T5 has either `wi` or `wi_0` and `wi_1`) fits nothing.
"""

from __future__ import annotations

_BERT = {
    "query": "attention.self.query",
    "key": "attention.self.key",
    "value": "attention.self.value",
    "others": "attention.output.dense intermediate.dense",
    "feedforward": "output.dense",
}
_OPT = {
    "query": "self_attn.q_proj",
    "key": "self_attn.k_proj",
    "value": "self_attn.v_proj",
    "others": "self_attn.out_proj fc1",
    "feedforward": "fc2",
}
_BART = {
    "query": "self_attn.q_proj encoder_attn.q_proj",
    "key": "self_attn.k_proj encoder_attn.k_proj",
    "value": "self_attn.v_proj encoder_attn.v_proj",
    "others": "self_attn.out_proj encoder_attn.out_proj fc1",
    "feedforward": "fc2",
}
_LLAMA = _OPT | {
    "others": "self_attn.o_proj mlp.gate_proj mlp.up_proj",
    "feedforward": "mlp.down_proj",
}
_T5 = {
    "query": "SelfAttention.q EncDecAttention.q",
    "key": "SelfAttention.k EncDecAttention.k",
    "value": "SelfAttention.v EncDecAttention.v",
    "others": "SelfAttention.o EncDecAttention.o "
    "DenseReluDense.wi DenseReluDense.wi_0 DenseReluDense.wi_1",
    "feedforward": "DenseReluDense.wo",
}

LINEAR: dict[str, dict[str, str]] = {
    **dict.fromkeys(("bart", "m2m_100", "marian", "mbart", "pegasus"), _BART),
    **dict.fromkeys(("bert", "camembert", "electra", "roberta", "xlm-roberta"), _BERT),
    "deberta-v2": _BERT
    | {
        "query": "attention.self.query_proj",
        "key": "attention.self.key_proj",
        "value": "attention.self.value_proj",
    },
    "distilbert": {
        "query": "attention.q_lin",
        "key": "attention.k_lin",
        "value": "attention.v_lin",
        "others": "attention.out_lin ffn.lin1",
        "feedforward": "ffn.lin2",
    },
    "gpt2": {
        **dict.fromkeys(("query", "key", "value"), "attn.c_attn"),  # one layer for all three
        "others": "attn.c_proj mlp.c_fc",
        "feedforward": "mlp.c_proj",
    },
    **dict.fromkeys(
        ("gemma", "gemma2", "gemma3_text", "llama", "mistral", "qwen2", "qwen3"), _LLAMA
    ),
    "modernbert": {
        **dict.fromkeys(("query", "key", "value"), "attn.Wqkv"),
        "others": "attn.Wo mlp.Wi",
        "feedforward": "mlp.Wo",
    },
    "mpnet": {
        "query": "attention.attn.q",
        "key": "attention.attn.k",
        "value": "attention.attn.v",
        "others": "attention.attn.o intermediate.dense",
        "feedforward": "output.dense",
    },
    **dict.fromkeys(("mt5", "t5"), _T5),
    "opt": _OPT,
}
"""By the `model_type` of config.json."""

TRANSPOSED = ("gpt2",)
"""Families whose linear layers are transformers' Conv1D, which holds its weight transposed."""


def layers(model_type: str, *uses: str) -> list[str]:
    """Return the names inside one block of the linear layers that do this; no use given: of all."""
    by_use = LINEAR[model_type]
    return list(dict.fromkeys(" ".join(by_use[use] for use in uses or by_use).split()))

from types import SimpleNamespace

import numpy as np
import pytest
import torch
import transformers
from torch import nn
from torch.nn import functional

from lightadapt_data.errors import InputError
from lightadapt_data.row_losses import Encoded, Head, LanguageModel, encode, load

SIZES = {
    "vocab_size": 30,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "hidden_size": 16,
    "intermediate_size": 24,
    "max_position_embeddings": 24,
}
TOKENS = dict.fromkeys(("pad_token_id", "eos_token_id", "bos_token_id"), 0)
KINDS = {
    "bert": ("BertConfig", "BertForMaskedLM", SIZES),
    "deberta-v2": ("DebertaV2Config", "DebertaV2ForMaskedLM", SIZES),
    "distilbert": (
        "DistilBertConfig",
        "DistilBertForMaskedLM",
        {"vocab_size": 30, "dim": 16, "n_layers": 2, "n_heads": 2, "hidden_dim": 24},
    ),
    "electra": ("ElectraConfig", "ElectraForMaskedLM", SIZES | {"embedding_size": 8}),
    "gpt2": (
        "GPT2Config",
        "GPT2LMHeadModel",
        {"vocab_size": 30, "n_embd": 16, "n_layer": 2, "n_head": 2, "n_positions": 24},
    ),
    "llama": ("LlamaConfig", "LlamaForCausalLM", SIZES),
    "modernbert": (
        "ModernBertConfig",
        "ModernBertForMaskedLM",
        SIZES | TOKENS | {"cls_token_id": 1, "sep_token_id": 2},
    ),
    "mpnet": ("MPNetConfig", "MPNetForMaskedLM", SIZES),
    "qwen3": ("Qwen3Config", "Qwen3ForCausalLM", SIZES | {"head_dim": 8, "num_key_value_heads": 2}),
    "roberta": ("RobertaConfig", "RobertaForMaskedLM", SIZES),
}
ROWS = [
    Encoded((5, 6, 7, 8), (1, 2), (9, 10)),
    Encoded((11, 12, 13, 14, 15, 16, 17), (0, 3, 6), (5, 5, 7)),
    Encoded((18,), (0,), (3,)),
]


def network_of(kind):
    torch.manual_seed(0)
    config, model, sizes = KINDS[kind]
    network = getattr(transformers, model)(getattr(transformers, config)(**sizes)).eval()
    for parameter in network.parameters():
        nn.init.normal_(parameter, std=0.3)
    return network


def tokenizer_of(network):
    return SimpleNamespace(pad_token_id=network.config.pad_token_id)


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_losses_are_means_over_a_rows_own_places_whatever_stands_beside_it(kind):
    network = network_of(kind)
    model = LanguageModel(network, tokenizer_of(network), True, None, 24)
    found = model.losses(ROWS)
    for row, loss in zip(ROWS, found, strict=True):
        logits = network(input_ids=torch.tensor([row.ids])).logits[0, list(row.places)]
        expected = functional.cross_entropy(logits, torch.tensor(row.labels))
        torch.testing.assert_close(loss, expected, atol=1e-4, rtol=1e-4)
    decoder = network.get_output_embeddings()
    assert decoder is None or not decoder._forward_pre_hooks


@pytest.mark.parametrize("kind", ["electra", "roberta"])
def test_losses_of_a_head_of_our_own_are_tied_to_the_input_embeddings(kind):
    network = network_of(kind).base_model
    embeddings = network.get_input_embeddings().weight
    head = Head(nn.Linear(16, embeddings.shape[1]), nn.Parameter(torch.randn(30)))
    model = LanguageModel(network, tokenizer_of(network), False, head, 24)
    for row, loss in zip(ROWS, model.losses(ROWS), strict=True):
        states = network(input_ids=torch.tensor([row.ids])).last_hidden_state[0, list(row.places)]
        logits = head.into(states) @ embeddings.T + head.bias
        expected = functional.cross_entropy(logits, torch.tensor(row.labels))
        torch.testing.assert_close(loss, expected, atol=1e-4, rtol=1e-4)


class Words:
    """A tokenizer that numbers words by their first letter."""

    mask_token_id = 99
    pad_token_id = 0

    def __init__(self, is_causal=False):
        self.around = ([], []) if is_causal else ([1], [2])

    def __call__(self, texts, max_length, **_):
        first, last = self.around
        own = [[ord(word[0]) for word in text.split()] for text in texts]
        own = [ids[: max_length - len(first + last)] for ids in own]
        return {
            "input_ids": [first + ids + last for ids in own],
            "special_tokens_mask": [
                [1] * len(first) + [0] * len(ids) + [1] * len(last) for ids in own
            ],
        }


def model_with(tokenizer, is_causal=False, max_tokens=20):
    return LanguageModel(None, tokenizer, is_causal, None, max_tokens)


def test_decoders_predict_every_token_from_those_before_it():
    rows = encode(model_with(Words(True), is_causal=True), ["a b c", "a", ""], 8, 0.5, 0)
    assert rows[0] == Encoded((97, 98, 99), (0, 1), (98, 99))
    assert rows[1].places == rows[2].places == rows[1].labels == rows[2].labels == ()


@pytest.mark.parametrize(("share", "n_masked"), [(0.001, 1), (0.3, 3), (1.0, 10)])
def test_encoders_predict_a_share_of_their_own_tokens(share, n_masked):
    text = "a b c d e f g h i j"
    (row,) = encode(model_with(Words()), [text], 50, share, 0)
    assert len(row.places) == n_masked
    assert all(1 <= place <= 10 for place in row.places)
    assert [row.ids[place] for place in row.places] == [99] * n_masked
    restored = np.array(row.ids)
    restored[list(row.places)] = row.labels
    assert restored.tolist() == [1, *range(97, 107), 2]


def test_masks_depend_on_text_and_seed_only():
    model = model_with(Words())
    texts = ["a b c d e f g h i j", "k l m n o p q r s t"]
    first = encode(model, texts, 50, 0.4, 0)
    assert encode(model, texts[::-1], 50, 0.4, 0) == first[::-1]
    assert encode(model, texts[:1], 50, 0.4, 1) != first[:1]


@pytest.mark.parametrize(("wanted", "limit"), [(5, 20), (50, 5)])
def test_texts_are_cut_to_what_is_wanted_and_to_what_the_model_reads(wanted, limit):
    (row,) = encode(model_with(Words(), max_tokens=limit), ["a b c d e f g"], wanted, 0.4, 0)
    assert len(row.ids) == 5


def test_no_texts_give_no_rows_and_empty_ones_no_places():
    assert encode(model_with(Words()), [], 8, 0.4, 0) == []
    assert encode(model_with(Words()), [""], 8, 0.4, 0) == [Encoded((1, 2), (), ())]


def test_a_folder_that_transformers_cannot_read_is_refused(tmp_path):
    (tmp_path / "config.json").write_text('{"model_type": "no-such-type"}', "utf-8")
    with pytest.raises(InputError, match=r"cannot be loaded: .*; allowed: a folder with config"):
        load(str(tmp_path))


def saved(kind, folder, mask_token, drop=None):
    from tokenizers import Tokenizer, models

    network = network_of(kind)
    weights = {k: v for k, v in network.state_dict().items() if drop is None or drop not in k}
    network.save_pretrained(folder, state_dict=weights)
    tokenizer = Tokenizer(models.WordLevel({"[UNK]": 0, "[MASK]": 1}, unk_token="[UNK]"))
    transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="[UNK]", **mask_token
    ).save_pretrained(folder)
    return str(folder)


def test_an_encoder_without_a_mask_token_is_refused(tmp_path):
    name = saved("bert", tmp_path, {})
    with pytest.raises(InputError, match="its tokenizer has no mask token"):
        load(name)


def test_an_encoder_that_lacks_more_than_its_head_is_refused(tmp_path):
    name = saved("roberta", tmp_path, {"mask_token": "[MASK]"}, drop="layer.1.output.dense")
    with pytest.raises(InputError, match=r"files lack roberta\.encoder\.layer\.1\.output"):
        load(name)


def test_an_encoder_saved_with_its_head_keeps_it_and_one_without_gets_ours(tmp_path):
    name = saved("roberta", tmp_path / "with", {"mask_token": "[MASK]"})
    whole = load(name)
    assert whole.head is None
    assert whole.max_tokens == 22
    torch.testing.assert_close(whole.losses(ROWS), load(name).losses(ROWS))
    bare = load(saved("roberta", tmp_path / "bare", {"mask_token": "[MASK]"}, drop="lm_head"))
    assert bare.head.into.weight.shape == (16, 16)
    # Nothing is known yet: every token is as likely.
    torch.testing.assert_close(bare.losses(ROWS), torch.full((3,), float(np.log(30))))

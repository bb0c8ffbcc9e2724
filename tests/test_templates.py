import pytest
import transformers
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors

from lightadapt_data import templates
from lightadapt_data.errors import InputError, RecipeError

WORDS = ["[PAD]", "[CLS]", "[SEP]", "[UNK]", "[MASK]", *"abcdefgh", "it", "was", ".", ":", "N", "/"]


def word_tokenizer(**options):
    core = Tokenizer(models.WordLevel({word: i for i, word in enumerate(WORDS)}, "[UNK]"))
    core.pre_tokenizer = pre_tokenizers.Whitespace()
    core.post_processor = processors.BertProcessing(("[SEP]", 2), ("[CLS]", 1))
    names = {"pad": "[PAD]", "cls": "[CLS]", "sep": "[SEP]", "unk": "[UNK]", "mask": "[MASK]"}
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=core, **{f"{kind}_token": word for kind, word in names.items()}, **options
    )


def byte_tokenizer():
    """Every byte is a token, but ' good' and ' bad' are one each, as in GPT-2 and RoBERTa."""
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocab = {word: i for i, word in enumerate(["<s>", "</s>", "<pad>", "<mask>", *letters])}
    merges = [("Ġ", "g"), ("o", "o"), ("Ġg", "oo"), ("Ġgoo", "d")]
    for left, right in merges:
        vocab[left + right] = len(vocab)
    core = Tokenizer(models.BPE(vocab, merges))
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=core, bos_token="<s>", eos_token="</s>", pad_token="<pad>"
    )


TOKENIZER = word_tokenizer()


def encoded(source, values, longest=50, mask="[MASK]", tokenizer=TOKENIZER):
    filled = templates.fill(templates.parse(source), values, mask)
    mask_id = None if mask is None else tokenizer.convert_tokens_to_ids(mask)
    return templates.tokens([filled], tokenizer, longest, mask_id)[0]


def words(tokens):
    return TOKENIZER.convert_ids_to_tokens(tokens.token_ids)


def test_a_template_is_read_with_its_fields_braces_and_soft_parts():
    found = templates.parse("{{x}} {text} {soft:3}{mask} {text} {b c}")
    kinds = [(part.kind, part.value, part.count) for part in found.parts]
    assert [kind for kind, _, _ in kinds if kind != "text"] == [
        "field",
        "soft",
        "mask",
        "field",
        "field",
    ]
    assert ("soft", "", 3) in kinds
    assert found.fields == ["text", "b c"]
    filled = templates.fill(found, {"text": "a", "b c": "b"}, "[MASK]")
    assert filled.text == "{x} a [MASK] a b"


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("{text} it was", r"0 times \{mask\}; allowed: once"),
        ("{text} {mask} {mask}", r"2 times \{mask\}; allowed: once"),
        ("it was {mask}", "nothing of the row is in it; name a column"),
        ("{text {mask}", r"write \{\{ and \}\} for braces"),
        ("{text} {} {mask}", r"\{\}; allowed: \{mask\}, \{soft\}, \{soft:5\} or the name"),
        ("{text!r} {mask}", r"\{text!r\}; allowed"),
        ("{text:5} {mask}", r"\{text:5\}; allowed"),
        ("{text} {soft:0}{mask}", r"\{soft:0\}; allowed"),
        ("{text} {soft:x}{mask}", r"\{soft:x\}; allowed"),
        ("{soft}{text} {soft:2}{mask}", r"\{soft\} takes the whole prompt; allowed: once"),
    ],
)
def test_a_faulty_template_is_refused_with_the_reason(source, reason):
    with pytest.raises(RecipeError, match=reason):
        templates.parse(source)


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("{text} {mask}", True),
        ("{text}:{mask}", False),
        ("{text}{mask}", False),
        ("{text}\n{mask}", False),
        ("{text} {soft:2}{mask}", True),
        ("{mask} {text}", False),
    ],
)
def test_a_space_before_the_blank_is_noticed(source, expected):
    assert templates.parse(source).has_space_before_mask == expected


def test_the_blank_is_found_even_if_the_row_holds_a_mask():
    found = encoded("{text} it was {mask}.", {"text": "a [MASK] b"})
    assert words(found) == ["[CLS]", "a", "[MASK]", "b", "it", "was", "[MASK]", ".", "[SEP]"]
    assert found.blank == 6


def test_only_the_row_is_cut_from_its_end():
    found = encoded("{text} it was {mask}.", {"text": "a b c d e f"}, longest=8)
    assert words(found) == ["[CLS]", "a", "b", "it", "was", "[MASK]", ".", "[SEP]"]
    assert found.blank == 5


def test_the_longest_field_is_cut_first():
    found = encoded("{x} : {y} {mask}", {"x": "a b c d", "y": "e f"}, longest=8)
    assert words(found) == ["[CLS]", "a", "b", ":", "e", "f", "[MASK]", "[SEP]"]


def test_a_template_that_is_too_long_itself_is_refused():
    with pytest.raises(
        InputError, match="template alone takes 6 tokens, and a row may have 5; shorten"
    ):
        encoded("{text} it was {mask}.", {"text": "a"}, longest=5)


def test_a_tokenizer_without_places_is_refused():
    class Slow:
        is_fast = False

    with pytest.raises(InputError, match="tokenizer Slow cannot say where in a text its tokens"):
        templates.tokens([], Slow(), 5, None)


@pytest.mark.parametrize(
    ("source", "expected", "blank"),
    [
        ("{soft} {text} it {mask}.", "[CLS] S S a b it [MASK] . [SEP]", 6),
        ("{text} {soft:2} it {mask}.", "[CLS] a b S S it [MASK] . [SEP]", 6),
        ("{text} it {soft:2}{mask}.", "[CLS] a b it S S [MASK] . [SEP]", 6),
        ("{text} it {mask}{soft}.", "[CLS] a b it [MASK] S S . [SEP]", 4),
        ("{soft:1} {text} {mask} {soft:1}", "[CLS] S a b [MASK] S [SEP]", 4),
        ("{text} it {mask}.", "[CLS] S S a b it [MASK] . [SEP]", 6),
    ],
)
def test_soft_tokens_go_where_the_template_says(source, expected, blank):
    tokens = encoded(source, {"text": "a b"})
    ids, found = templates.with_soft(tokens.token_ids, tokens.blank, tokens.soft, [90, 91], 1)
    names = ["S" if token >= 90 else WORDS[token] for token in ids]
    assert names == expected.split()
    assert [token for token in ids if token >= 90] == [90, 91]
    assert found == blank
    assert names[blank] == "[MASK]"


def test_another_number_of_soft_tokens_is_refused():
    tokens = encoded("{soft:3} {text} {mask}", {"text": "a"})
    with pytest.raises(
        InputError, match=r"take 3 tokens, and the soft prompt has 2; allowed: the same; set prompt"
    ):
        templates.with_soft(tokens.token_ids, tokens.blank, tokens.soft, [90, 91], 1)


def test_a_model_that_writes_on_sees_the_template_up_to_the_blank():
    tokenizer = byte_tokenizer()
    source = "{text}: {soft:1}{mask} or not"
    found = encoded(source, {"text": " good x "}, mask=None, tokenizer=tokenizer)
    assert tokenizer.decode(found.token_ids) == "good x:"
    assert found.blank == len(found.token_ids)
    ids, blank = templates.with_soft(found.token_ids, found.blank, found.soft, [999], 0)
    assert ids[-1] == 999
    assert blank == len(ids)


def test_a_word_is_the_same_tokens_in_a_template_as_elsewhere():
    tokenizer = byte_tokenizer()
    found = encoded("R: {text}\n{mask}", {"text": "good"}, mask=None, tokenizer=tokenizer)
    assert list(found.token_ids) == tokenizer("R: good\n")["input_ids"]
    assert tokenizer.convert_tokens_to_ids("Ġgood") in found.token_ids


def test_an_end_token_does_not_stand_before_what_is_written_on():
    found = encoded("{text} it {mask}", {"text": "a"}, mask=None)
    assert words(found) == ["[CLS]", "a", "it"]


def test_an_empty_text_starts_from_the_beginning_token():
    tokenizer = byte_tokenizer()
    found = encoded("{text}{mask}", {"text": ""}, mask=None, tokenizer=tokenizer)
    assert found.token_ids == (tokenizer.bos_token_id,)
    assert found.blank == 1


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.sampled_from("abcdefgh"), max_size=12),
    st.lists(st.sampled_from("abcdefgh"), max_size=12),
    st.integers(8, 30),
)
def test_cutting_keeps_what_the_template_says_and_as_much_of_the_row_as_fits(x, y, longest):
    found = encoded("{x} : {y} it was {mask}.", {"x": " ".join(x), "y": " ".join(y)}, longest)
    names = words(found)
    assert len(names) == min(longest, 7 + len(x) + len(y))
    assert names[found.blank] == "[MASK]"
    first, rest = names[1 : names.index(":")], names[names.index(":") + 1 : names.index("it")]
    assert (first, rest) == (x[: len(first)], y[: len(rest)])
    if len(first) < len(x):
        assert len(first) >= len(rest) - 1
    if len(rest) < len(y):
        assert len(rest) >= len(first) - 1

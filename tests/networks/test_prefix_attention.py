import math

import pytest
import torch
import transformers
from prefixed_models import FAMILIES, ROTATED, WHOLE, WRITING, attached, fresh, logits, shaken
from tiny_models import CAUSAL, DECODERS, ENCODER_DECODERS, IDS
from torch import nn
from transformers import DynamicCache

from lightadapt_data.networks.prefix import layers
from lightadapt_data.networks.prefix_attention import (
    INTERFACE,
    Prefix,
    attention_with_prefix,
    with_interface,
)


@pytest.mark.parametrize("is_gated", [True, False])
@pytest.mark.parametrize("model_type", FAMILIES)
def test_a_row_does_not_depend_on_its_padding_or_its_batch(model_type, is_gated):
    model = shaken(fresh(model_type), is_gated=is_gated)
    mask = torch.ones_like(IDS)
    mask[1:, 6:] = 0
    more = {"decoder_input_ids": IDS[:, :6]} if model_type in ENCODER_DECODERS else {}
    together = logits(model, IDS, mask, **more)
    first, rest = logits(model, IDS[:1]), logits(model, IDS[1:, :6])
    if model_type in DECODERS:
        together, first = together[:, :6], first[:, :6]
    torch.testing.assert_close(together[:1], first, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(together[1:], rest, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("is_gated", [True, False])
@pytest.mark.parametrize("model_type", sorted({*FAMILIES} - {"mpnet", "deberta-v2"}))
def test_eager_and_sdpa_attention_give_the_same(model_type, is_gated):
    model, eager = (
        shaken(fresh(model_type, attn_implementation=name), is_gated=is_gated)
        for name in ("sdpa", "eager")
    )
    mask = torch.ones_like(IDS)
    mask[1:, 6:] = 0
    for shown in (mask, None):  # with none, sdpa makes its own mask
        torch.testing.assert_close(
            logits(eager, IDS, shown), logits(model, IDS, shown), atol=2e-5, rtol=1e-5
        )


@pytest.mark.parametrize("has_mask", [True, False])
@pytest.mark.parametrize("is_gated", [True, False])
@pytest.mark.parametrize("model_type", [*WRITING, "mistral", "bert"])
def test_a_decoder_still_sees_nothing_of_what_comes_later(model_type, is_gated, has_mask):
    is_bert = model_type == "bert"
    sizes = {"is_decoder": True} if is_bert else {}
    model = shaken(fresh(model_type, CAUSAL if is_bert else None, sizes), is_gated=is_gated)
    later = IDS.clone()
    later[:, 4:6] = 5
    mask = torch.ones_like(IDS)
    if has_mask:
        mask[1:, 6:] = 0
    name = "decoder_input_ids" if model_type in ENCODER_DECODERS else "input_ids"
    found = [
        model(**{"input_ids": IDS, "attention_mask": mask} | {name: ids}).logits.detach()
        for ids in (IDS, later)
    ]
    assert torch.equal(found[0][:, :4], found[1][:, :4])
    assert not torch.allclose(found[0][:, 4:], found[1][:, 4:], atol=1e-3)


def attention_by_formula(query, key, value, rows, gate, bias=0.0, scale=None):
    """One head of one row, written out: [tokens, width] each, rows [length, 2, width]."""
    scale = 1 / math.sqrt(query.shape[1]) if scale is None else scale
    scores, before = query @ key.T * scale + bias, query @ rows[:, 0].T * scale
    if gate is None:
        return torch.cat([before, scores], 1).softmax(-1) @ torch.cat([rows[:, 1], value])
    return scores.softmax(-1) @ value + gate.tanh() * before.softmax(-1) @ rows[:, 1]


def formula_of(layer, query, key, value, bias=None, scale=None):
    """All heads of one row by the formula: query [tokens, heads * width], bias [heads, ...]."""
    rows = layer.kvprefix_rows["default"].weight
    gate = layer.kvprefix_gate["default"].weight if "default" in layer.kvprefix_gate else None
    found = []
    for head in range(layer.sizes.n_heads):
        shared = head * layer.sizes.n_key_heads // layer.sizes.n_heads
        width = layer.sizes.head_width
        of_query, of_key = (slice(width * at, width * (at + 1)) for at in (head, shared))
        found.append(
            attention_by_formula(
                query[:, of_query],
                key[:, of_key],
                value[:, of_key],
                rows[:, :, shared],
                None if gate is None else gate[head],
                0.0 if bias is None else bias[head],
                scale,
            )
        )
    return torch.cat(found, dim=1)


HIDDEN, OTHER = torch.randn(2, 1, 5, 16, generator=torch.Generator().manual_seed(1)).unbind(0)


@pytest.mark.parametrize("is_gated", [True, False])
@pytest.mark.parametrize(
    ("model_type", "place", "names", "project"),
    [
        ("bert", 1, ("query", "key", "value"), None),
        ("distilbert", 1, ("q_lin", "k_lin", "v_lin"), "out_lin"),
        ("mpnet", 1, ("q", "k", "v"), "o"),
        ("bart", 1, ("q_proj", "k_proj", "v_proj"), "out_proj"),
        ("bart", 3, ("q_proj", "k_proj", "v_proj"), "out_proj"),
        ("t5", 1, ("q", "k", "v"), "o"),
        ("t5", 3, ("q", "k", "v"), "o"),
    ],
)
def test_an_attention_equals_the_formula(model_type, place, names, project, is_gated):
    layer = layers(shaken(fresh(model_type), is_gated=is_gated))[place]
    is_cross, is_t5 = place == 3, model_type == "t5"
    bias = torch.randn(2, 5, 5) if is_t5 else None
    more = {"key_value_states": OTHER} if is_cross else {}
    with torch.no_grad():
        query, key, value = (
            getattr(layer.base_layer, name)(OTHER if is_cross and at else HIDDEN)[0]
            for at, name in enumerate(names)
        )
        expected = formula_of(layer, query, key, value, bias, 1.0 if is_t5 else None)
        if project is not None:
            expected = getattr(layer.base_layer, project)(expected)
        found = layer(HIDDEN, **more, **({"position_bias": bias[None]} if is_t5 else {}))[0][0]
        torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("is_gated", [True, False])
def test_the_distances_of_deberta_are_those_of_the_text_only(is_gated):
    layer = layers(shaken(fresh("deberta-v2"), is_gated=is_gated))[1]
    base = layer.base_layer
    distances = torch.randn(8, 16)
    with torch.no_grad():
        query, key, value = (
            getattr(base, f"{name}_proj")(HIDDEN)[0] for name in ("query", "key", "value")
        )
        heads = [base.transpose_for_scores(part[None], 2) for part in (query, key)]
        bias = base.disentangled_attention_bias(*heads, None, distances, 3)
        expected = formula_of(layer, query, key, value, bias, 1 / math.sqrt(8 * 3))
        mask = torch.ones(1, 1, 5, 5, dtype=torch.bool)
        found = layer(HIDDEN, mask, rel_embeddings=distances)[0][0]
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("masking", ["none", "causal by itself", "bool", "added"])
@pytest.mark.parametrize("has_bias", [True, False])
@pytest.mark.parametrize("is_gated", [True, False])
def test_the_attention_function_equals_the_formula(is_gated, has_bias, masking):
    """4 heads that share 2 of keys; 3 tokens that see 5 keys, as with a cache of fixed size."""
    generator = torch.Generator().manual_seed(2)
    part = nn.Module()
    part.config = with_interface(transformers.LlamaConfig(attn_implementation="sdpa"))
    part.num_key_value_groups, part.is_causal = 2, masking == "causal by itself"
    query, key, value = (
        torch.randn(1, n_heads, n, 6, generator=generator)
        for n_heads, n in ((4, 3), (2, 5), (2, 5))
    )
    rows = torch.randn(7, 2, 2, 6, generator=generator)
    gate = torch.randn(4, generator=generator) if is_gated else None
    bias = torch.randn(1, 4, 3, 5, generator=generator) if has_bias else None
    seen = torch.ones(3, 5, dtype=torch.bool)
    if masking != "none":
        seen = seen.tril()
    added = torch.zeros(3, 5).masked_fill(~seen, -1e9)
    mask = {"bool": seen[None, None], "added": added[None, None]}.get(masking)
    keys, values = rows.permute(1, 2, 0, 3)
    found, _ = attention_with_prefix(
        part, query, key, value, mask, position_bias=bias, **{INTERFACE: Prefix(keys, values, gate)}
    )
    for head in range(4):
        expected = attention_by_formula(
            query[0, head],
            key[0, head // 2],
            value[0, head // 2],
            rows[:, :, head // 2],
            gate[head] if is_gated else None,
            added + (bias[0, head] if has_bias else 0),
        )
        torch.testing.assert_close(found[0, :, head], expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("model_type", ["gpt2", *ROTATED])
def test_without_a_gate_a_prefix_is_what_a_filled_cache_would_be(model_type):
    base, model = fresh(model_type, sizes=WHOLE), fresh(model_type, sizes=WHOLE)
    model = shaken(model, is_gated=False)
    cache = DynamicCache()
    for number, layer in enumerate(layers(model)):
        keys, values = layer.kvprefix_rows["default"].weight.detach().permute(1, 2, 0, 3)
        cache.update(*(part.expand(4, -1, -1, -1) for part in (keys, values)), number)
    places = torch.arange(9).expand(4, -1)
    mask = torch.ones(4, 13, dtype=torch.long)
    expected = logits(base, IDS, mask, past_key_values=cache, position_ids=places)
    torch.testing.assert_close(logits(model), expected, atol=1e-5, rtol=1e-5)


def written(model, ids, mask=None, **options):
    found = model.generate(
        input_ids=ids,
        attention_mask=torch.ones_like(ids) if mask is None else mask,
        max_new_tokens=5,
        min_new_tokens=5,
        do_sample=False,
        output_logits=True,
        return_dict_in_generate=True,
        **options,
    )
    return found.sequences, torch.stack(found.logits, dim=1)


def padded(is_left):
    """Return two rows of 6 and 4 tokens, and their mask."""
    ids, mask = IDS[:2, :6].clone(), torch.ones(2, 6, dtype=torch.long)
    gap = slice(0, 2) if is_left else slice(4, 6)
    ids[1, gap], mask[1, gap] = 0, 0
    return ids, mask


@pytest.mark.parametrize("is_gated", [True, False])
@pytest.mark.parametrize("model_type", [*WRITING, "mistral"])
def test_writing_with_a_cache_and_without_gives_the_same(model_type, is_gated):
    model = shaken(fresh(model_type), is_gated=is_gated)
    for ids, mask in ((IDS[:2, :6], None), padded(is_left=True), padded(is_left=False)):
        cached, uncached = (written(model, ids, mask, use_cache=is_on) for is_on in (True, False))
        assert torch.equal(cached[0], uncached[0])
        torch.testing.assert_close(cached[1], uncached[1], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("is_gated", [True, False])
@pytest.mark.parametrize("model_type", WRITING)
def test_a_padded_row_is_continued_as_if_it_were_alone(model_type, is_gated):
    model = shaken(fresh(model_type), is_gated=is_gated)
    is_decoder = model_type in DECODERS
    ids, mask = padded(is_left=is_decoder)
    alone = ids[1:, 2:] if is_decoder else ids[1:, :4]
    found, expected = written(model, ids, mask), written(model, alone)
    assert torch.equal(found[0][1:, -5:], expected[0][:, -5:])
    torch.testing.assert_close(found[1][1:], expected[1], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("is_gated", [True, False])
@pytest.mark.parametrize("model_type", [*WRITING, "mistral"])
def test_several_tokens_on_top_of_a_cache_that_holds_no_prefix(model_type, is_gated):
    model = shaken(fresh(model_type), is_gated=is_gated)
    name = "decoder_input_ids" if model_type in ENCODER_DECODERS else "input_ids"
    cache, parts = None, []
    for part in IDS.split([3, 1, 3, 2], dim=1):
        with torch.no_grad():
            out = model(**({"input_ids": IDS} | {name: part}), past_key_values=cache)
        cache = out.past_key_values
        parts.append(out.logits)
    assert cache.get_seq_length() == 9
    expected = logits(model, IDS, **({name: IDS} if name != "input_ids" else {}))
    torch.testing.assert_close(torch.cat(parts, dim=1), expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(
    ("model_type", "options"),
    [
        ("llama", {"cache_implementation": "static"}),
        ("t5", {"cache_implementation": "static"}),
        ("llama", {"prompt_lookup_num_tokens": 3}),
        ("gpt2", {"prompt_lookup_num_tokens": 3}),
    ],
)
def test_other_ways_to_write_give_the_same_tokens(model_type, options):
    model = shaken(fresh(model_type), is_gated=False)
    ids = IDS[:1, :3].repeat(1, 3)  # it says something again, so that a look-up finds it
    assert torch.equal(written(model, ids, **options)[0], written(model, ids)[0])


@pytest.mark.parametrize("model_type", ["qwen3", "bart"])
def test_beams_with_a_cache_and_without_give_the_same(model_type):
    model = shaken(fresh(model_type), is_gated=False)
    found = [written(model, IDS, num_beams=3, use_cache=is_on)[0] for is_on in (True, False)]
    assert torch.equal(*found)


def test_an_encoder_that_sees_only_what_is_before_can_write():
    model = shaken(fresh("bert", CAUSAL, {"is_decoder": True}), is_gated=False)
    cached, uncached = (written(model, IDS, use_cache=is_on) for is_on in (True, False))
    torch.testing.assert_close(cached[1], uncached[1], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("model_type", ["bert", "mpnet", "gpt2", "opt", "llama", "t5", "marian"])
def test_a_text_of_full_length_still_fits(model_type):
    ids = torch.randint(3, 40, (1, 38 if model_type == "mpnet" else 40))
    more = {"decoder_input_ids": ids} if model_type in ENCODER_DECODERS else {}
    assert logits(attached(fresh(model_type), length=30), ids, **more).isfinite().all()


@pytest.mark.parametrize("implementation", ["flex_attention", "flash_attention_2"])
def test_attention_functions_without_a_mask_matrix_are_refused(implementation):
    model = attached(fresh("bert"))
    model.config._attn_implementation_internal = implementation
    layer = layers(model)[0]
    with pytest.raises(ValueError, match=f"'{implementation}'; allowed: eager, sdpa"):
        layer(torch.zeros(1, 2, 16))

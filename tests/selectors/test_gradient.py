import logging

import numpy as np
import pytest
import torch
import transformers
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from torch import nn
from torch.nn import functional
from toys import WORDS, ToyCorpus, target_of

from lightadapt_data import gradients, row_losses, warm_up
from lightadapt_data.errors import InputError
from lightadapt_data.selectors import gradient, nearest

TOPICS = (WORDS[:5], WORDS[5:])
SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
SIZES = {
    "vocab_size": len(SPECIAL) + len(WORDS),
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "hidden_size": 16,
    "intermediate_size": 32,
    "max_position_embeddings": 24,
    "pad_token_id": 0,
}
KINDS = {
    "bert": ("BertConfig", "BertForMaskedLM", SIZES),
    "headless": ("BertConfig", "BertModel", SIZES),
    "modernbert": (
        "ModernBertConfig",
        "ModernBertForMaskedLM",
        SIZES | {"eos_token_id": 3, "bos_token_id": 2, "cls_token_id": 2, "sep_token_id": 3},
    ),
    "gpt2": (
        "GPT2Config",
        "GPT2LMHeadModel",
        {"vocab_size": 15, "n_embd": 16, "n_layer": 2, "n_head": 2, "n_positions": 24}
        | {"bos_token_id": 2, "eos_token_id": 3},
    ),
    "llama": ("LlamaConfig", "LlamaForCausalLM", SIZES | {"bos_token_id": 2, "eos_token_id": 3}),
    "headless-llama": (
        "LlamaConfig",
        "LlamaModel",
        SIZES | {"bos_token_id": 2, "eos_token_id": 3},
    ),
    "t5": (
        "T5Config",
        "T5ForConditionalGeneration",
        {"vocab_size": 15, "d_model": 8, "d_kv": 4, "d_ff": 8, "num_layers": 1, "num_heads": 2},
    ),
}
ENCODERS = ("bert", "headless", "modernbert")


def save(kind, folder):
    """Write a tiny random model with a tokenizer of one token per word."""
    torch.manual_seed(0)
    config, model, sizes = KINDS[kind]
    network = getattr(transformers, model)(getattr(transformers, config)(**sizes))
    for parameter in network.parameters():
        nn.init.normal_(parameter, std=0.2)
    network.save_pretrained(folder)
    words = {word: number for number, word in enumerate((*SPECIAL, *WORDS))}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    if kind in ENCODERS:
        tokenizer.post_processor = processors.TemplateProcessing(
            single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
        )
    mask = {"mask_token": "[MASK]"} if kind in ENCODERS else {}
    transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="[PAD]", unk_token="[UNK]", **mask
    ).save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    return {kind: save(kind, tmp_path_factory.mktemp(kind)) for kind in KINDS}


def sentences(n, topic, seed=0):
    draw = np.random.default_rng([seed, topic])
    return [" ".join(draw.choice(TOPICS[topic], int(draw.integers(3, 9)))) for _ in range(n)]


def vectors(n, seed=0):
    found = np.random.default_rng(seed).normal(size=(n, 8)).astype(np.float32)
    return found / np.linalg.norm(found, axis=1, keepdims=True)


def corpus_of(texts, order=None):
    order = list(range(len(texts))) if order is None else order
    keys = np.array([13 + 977 * i for i in order], np.uint64)
    return ToyCorpus(vectors(len(texts))[order], [texts[i] for i in order], keys=keys)


TEXTS = [text for topic in (0, 1) for text in sentences(20, topic)]
GOAL = sentences(6, 0, seed=9)
TARGET = target_of(vectors(6, seed=5), GOAL)
LORA = {"modernbert": ("Wqkv",)}


def options(saved, kind, **given):
    few = {"warmup_rows": 12, "epochs": 2, "batch_rows": 4, "learning_rate": 0.02}
    fixed = {"model": saved[kind], "targets": LORA.get(kind, ())}
    return gradient.Settings(**{**fixed, **few, **given})


def found(saved, kind, texts=TEXTS, target=TARGET, seed=0, order=None, **given):
    return gradient.score(corpus_of(texts, order), target, options(saved, kind, **given), seed)


@pytest.mark.parametrize("kind", ["bert", "gpt2", "headless", "llama", "modernbert"])
def test_rows_of_the_targets_topic_tend_to_come_first(saved, kind):
    goal = sentences(20, 0, seed=9)
    target = target_of(vectors(20, seed=5), goal)
    scores = found(saved, kind, target=target, epochs=8, warmup_rows=40, learning_rate=0.005)
    assert np.isfinite(scores.score).all()
    assert (np.abs(scores.score) <= 1).all()
    of_topic, of_other = scores.score[:20], scores.score[20:]
    assert (of_topic[:, None] > of_other).mean() > 0.6  # 0.5 is chance
    assert scores.facts["loss"] == ("masked tokens" if kind in ENCODERS else "next token")
    assert scores.facts["new_head"] == (kind == "headless")
    assert scores.facts["rows_by_gradient"] == 40


def by_hand(saved, kind, settings, seed=0):
    """Scores from one backward pass per row and whole gradients: the brute-force twin."""
    corpus = corpus_of(TEXTS)
    torch.manual_seed(seed)
    model = row_losses.load(settings.model)
    adapted = warm_up.attach(model, settings.rank, settings.alpha, settings.targets)

    def read(texts):
        return row_losses.encode(model, texts, settings.max_tokens, settings.mask_share, seed)

    drawn = np.argsort(gradient.uniform(corpus.keys, seed))[: settings.warmup_rows]
    plan = warm_up.Plan(
        settings.epochs,
        settings.checkpoints,
        settings.learning_rate,
        settings.head_learning_rate,
        settings.batch_rows,
        seed,
    )
    points = warm_up.warm_up(adapted, read([TEXTS[row] for row in drawn]), plan)
    rates = np.array([point.learning_rate for point in points])

    def flat(row, point):
        adapted.model.network.zero_grad()
        adapted.model.losses([row]).sum().backward()
        parts = []
        for name, parameter in adapted.adapter.items():
            slope = parameter.grad
            if point is not None:
                slope = gradients.adam_direction(slope[None], *point.moments[name])[0]
            parts.append(slope.flatten())
        return functional.normalize(torch.cat(parts), dim=0)

    total = np.zeros((len(TEXTS), len(GOAL)))
    for point, rate in zip(points, rates / rates.sum(), strict=True):
        point.restore(adapted)
        goals = torch.stack([flat(row, None) for row in read(GOAL)])
        rows = torch.stack([flat(row, point) for row in read(TEXTS)])
        total += rate * (rows @ goals.T).numpy()
    return total


@pytest.mark.parametrize("kind", ["bert", "headless", "gpt2", "llama"])
@pytest.mark.parametrize("checkpoints", [1, 2])
def test_scores_are_those_of_one_row_at_a_time(saved, kind, checkpoints):
    settings = options(saved, kind, projected_dim=0, checkpoints=checkpoints)
    scores = gradient.score(corpus_of(TEXTS), TARGET, settings, 0)
    cosines = by_hand(saved, kind, settings)
    np.testing.assert_allclose(scores.score, cosines.mean(axis=1), atol=2e-4)
    chosen = cosines[np.arange(len(TEXTS)), scores.nearest]
    np.testing.assert_allclose(chosen, cosines.max(axis=1), atol=2e-4)


def test_projection_changes_scores_little(saved):
    exact = found(saved, "bert", projected_dim=0).score
    assert np.corrcoef(exact, found(saved, "bert", projected_dim=4096).score)[0, 1] > 0.98
    assert np.abs(exact - found(saved, "bert", projected_dim=4096).score).max() < 0.1


def test_order_of_rows_changes_no_bit_and_batch_size_nearly_nothing(saved):
    order = np.random.default_rng(0).permutation(len(TEXTS)).tolist()
    first = found(saved, "headless")
    turned = found(saved, "headless", order=order)
    assert np.array_equal(turned.score, first.score[order])
    assert np.array_equal(turned.nearest, first.nearest[order])
    small = found(saved, "headless", batch_tokens=20)
    np.testing.assert_allclose(small.score, first.score, atol=1e-5)


def test_another_seed_gives_other_scores_and_the_same_seed_the_same(saved):
    torch.manual_seed(4)
    first = found(saved, "headless").score
    torch.rand(3)  # what happens outside does not matter
    assert np.array_equal(found(saved, "headless").score, first)
    assert not np.array_equal(found(saved, "headless", seed=1).score, first)


def test_torchs_global_generator_is_left_as_it_was(saved):
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    found(saved, "headless")
    assert torch.equal(torch.rand(3), expected)


def test_only_candidates_get_gradients_and_the_others_follow_in_nearests_order(saved):
    corpus = corpus_of(TEXTS)
    near = nearest.score(corpus, TARGET, nearest.Settings(), 0)
    scores = found(saved, "bert", candidates=7)
    best = np.argsort(-near.score)
    assert scores.facts["rows_by_gradient"] == 7
    assert scores.score[best[:7]].min() > scores.score[best[7:]].max()
    assert (np.diff(scores.score[best[7:]]) < 0).all()
    assert (scores.score[best[7:]] <= -1).all()
    assert np.array_equal(scores.nearest[best[7:]], near.nearest[best[7:]])


def test_equal_texts_have_equal_scores(saved):
    scores = found(saved, "bert", texts=["mean variance plot"] * 4 + TEXTS[:9]).score
    np.testing.assert_allclose(scores[:4], scores[0], atol=1e-5)


@pytest.mark.parametrize("kind", ["bert", "llama"])
def test_rows_without_a_token_to_predict_come_last(saved, kind):
    scores = found(saved, kind, texts=["", *TEXTS, ""])
    assert scores.facts["rows_by_gradient"] == 40
    assert (scores.score[[0, -1]] <= -1).all()
    assert np.isfinite(scores.score).all()


@pytest.mark.parametrize(("texts", "goal"), [(["", ""], GOAL), (TEXTS, [""])])
def test_nothing_to_predict_leaves_nearests_order_and_says_so(saved, caplog, texts, goal):
    target = target_of(vectors(len(goal)), goal)
    with caplog.at_level(logging.WARNING):
        scores = found(saved, "bert", texts=texts, target=target)
    assert "no text with a token to predict" in caplog.text
    near = nearest.score(corpus_of(texts), target, nearest.Settings(), 0)
    assert np.array_equal(np.argsort(-scores.score), np.argsort(-near.score))
    assert scores.facts == {"rows_by_gradient": 0}


def test_target_rows_without_a_token_to_predict_are_never_nearest(saved):
    target = target_of(vectors(3), ["", GOAL[0], GOAL[1]])
    assert set(found(saved, "bert", target=target).nearest.tolist()) <= {1, 2}


def test_warm_up_falls_back_on_candidates_when_the_drawn_rows_are_empty(saved):
    texts = [""] * 30 + TEXTS[:2]
    drawn = np.argsort(gradient.uniform(corpus_of(texts).keys, 0))[:4]
    assert (drawn < 30).all()
    scores = found(saved, "bert", texts=texts, warmup_rows=4)
    assert scores.facts["rows_by_gradient"] == 2


def test_one_row_and_one_target_row_work(saved):
    target = target_of(vectors(1), GOAL[:1])
    scores = found(saved, "bert", texts=TEXTS[:1], target=target)
    assert scores.score.shape == (1,)
    assert np.isfinite(scores.score).all()


def test_long_texts_are_cut_to_what_the_model_reads(saved):
    long = " ".join(TEXTS)
    for kind in ("bert", "gpt2"):
        scores = found(saved, kind, texts=[long, long + " mean", *TEXTS], max_tokens=500)
        assert np.isfinite(scores.score).all()
        assert scores.score[0] == pytest.approx(scores.score[1], abs=0.5)


@pytest.mark.slow
def test_minilm_puts_the_targets_domain_first():
    """Two made domains that share their sentence patterns but not their words."""
    kitchen = "soup pan oven salt bread flour butter onion garlic stew", "fry bake stir boil chop"
    sea = "anchor sail harbour tide vessel deck captain mast rudder cargo", "row moor dock sink tow"
    draw = np.random.default_rng(0)

    def sentence(domain):
        nouns, verbs = (part.split() for part in domain)
        a, b, c = draw.choice(nouns, 3, replace=False)
        u, v = draw.choice(verbs, 2, replace=False)
        return f"First {u} the {a} and the {b}, then {v} the {c}."

    def rows(domain, n):
        return [" ".join(sentence(domain) for _ in range(4)) for _ in range(n)]

    texts = rows(kitchen, 50) + rows(sea, 50)
    target = target_of(vectors(16), rows(kitchen, 16))
    scores = gradient.score(corpus_of(texts), target, gradient.Settings(), 0)
    assert (np.argsort(-scores.score)[:50] < 50).mean() > 0.9


@pytest.mark.parametrize(
    ("kind", "given", "message"),
    [
        ("modernbert", {"targets": ()}, r"PEFT has no default for 'modernbert'; allowed: .*Wqkv"),
        ("bert", {"targets": ("q_proj",)}, r"targets = \['q_proj'\]; allowed: .*query"),
        ("bert", {"targets": ("word_embeddings",)}, "allowed: ends of names of linear layers"),
        ("headless-llama", {}, "files lack lm_head.weight; allowed: .* decoders with it"),
        ("t5", {}, "model_type 't5' has no loss of its own text; allowed: decoders such as"),
    ],
)
def test_models_and_targets_that_cannot_be_used_are_refused(saved, kind, given, message):
    with pytest.raises(InputError, match=message):
        found(saved, kind, **given)


def test_an_unknown_model_is_refused(saved):
    with pytest.raises(InputError, match="neither a folder, nor an installed package"):
        gradient.score(corpus_of(TEXTS), TARGET, gradient.Settings(model="no-such-model"), 0)

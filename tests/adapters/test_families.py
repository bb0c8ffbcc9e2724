"""Every method on every family of models with every head: each cell works, or says why not."""

import copy
import functools

import peft
import pytest
import torch
from tiny_models import (
    ANSWERS,
    CAUSAL,
    DECODERS,
    ENCODER_DECODERS,
    ENCODERS,
    IDS,
    MASKED,
    SEQ2SEQ,
    SEQUENCE,
    TOKENS,
    batch,
    tiny,
)
from torch import nn

from lightadapt_data import base_models, saved_adapters, training
from lightadapt_data.adapters import bottleneck, full, head_only, lora
from lightadapt_data.errors import InputError

METHODS = {
    "pfeiffer": (bottleneck, {"variant": "pfeiffer", "reduction_factor": 4}),
    "houlsby": (bottleneck, {"variant": "houlsby", "reduction_factor": 4}),
    "parallel": (bottleneck, {"variant": "parallel", "reduction_factor": 4}),
    "lora": (lora, {"rank": 4}),
    "head_only": (head_only, {}),
    "full": (full, {}),
}
"""By name: the module and its settings."""
LANGUAGE = (MASKED, CAUSAL, SEQ2SEQ)
"""Heads over words, which stand in the checkpoint: nothing of them is trained anew."""
HEADS = {
    **dict.fromkeys(ENCODERS, (SEQUENCE, TOKENS, ANSWERS, MASKED)),
    **dict.fromkeys(DECODERS, (CAUSAL, SEQUENCE, TOKENS)),
    **dict.fromkeys(ENCODER_DECODERS, (SEQ2SEQ,)),
    "t5": (SEQ2SEQ, TOKENS, ANSWERS),
    "bart": (SEQ2SEQ, SEQUENCE),
}
REFUSED = {
    ("head_only", model_type, head): "head_only: .* has no head of its own to train"
    for model_type, heads in HEADS.items()
    for head in heads
    if head in LANGUAGE
}
"""Cells that refuse -> how the reason begins."""
CELLS = [
    (method, model_type, head)
    for method in METHODS
    for model_type, heads in HEADS.items()
    for head in heads
]
WRITING = [cell for cell in CELLS if cell[2] in (CAUSAL, SEQ2SEQ)]


@pytest.fixture(autouse=True)
def _without_a_card(monkeypatch):
    """PEFT writes a card with every adapter, which is removed again; it takes long."""
    monkeypatch.setattr(peft.PeftModel, "create_or_update_model_card", lambda *_: None)


made = functools.cache(tiny)


def fresh(model_type, head):
    return copy.deepcopy(made(model_type, auto=head))


def heads_of(network, head):
    return () if head in LANGUAGE else base_models.head_modules(network, [])


def attached(method, head, network):
    module, options = METHODS[method]
    settings = module.Settings(**options)
    module.check(network.config.to_dict(), settings)
    return module.attach(network, settings, heads_of(network, head)).eval()


def said(model, head):
    """Return the loss and the logits."""
    with torch.no_grad():
        output = model(**batch(head))
    if head == ANSWERS:
        return output.loss, torch.stack([output.start_logits, output.end_logits])
    return output.loss, output.logits


def trained(model, head, steps=3):
    """Train in place."""
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=0.02)
    for _ in range(steps):
        model(**batch(head)).loss.backward()
        training.check_gradients(model)
        optimizer.step()
        optimizer.zero_grad()
    return model


def other_head(network, head):
    """Return the network with other weights in its head: one that is not in the file would show."""
    for name in heads_of(network, head):
        for parameter in network.get_submodule(name).parameters():
            nn.init.normal_(parameter)
    return network


@pytest.mark.parametrize(("method", "model_type", "head"), [c for c in CELLS if c not in REFUSED])
def test_starts_as_the_base_learns_switches_off_and_reads_back(method, model_type, head, tmp_path):
    network = fresh(model_type, head)
    loss, before = said(network, head)
    model = attached(method, head, network)
    assert torch.equal(said(model, head)[1], before)
    loss_after, after = said(trained(model, head), head)
    assert loss_after < loss
    assert not torch.allclose(after, before, atol=1e-3)
    if hasattr(model, "disable_adapter"):  # a model that was trained whole has no base left
        with model.disable_adapter():
            assert torch.equal(said(model, head)[1], before)
    saved_adapters.save(model, tmp_path)
    other = other_head(fresh(model_type, head), head)
    assert torch.equal(said(METHODS[method][0].load(other, tmp_path).eval(), head)[1], after)


@pytest.mark.parametrize(("cell", "reason"), REFUSED.items(), ids=lambda part: str(part[:3]))
def test_cells_that_cannot_work_say_why_before_training(cell, reason):
    method, model_type, head = cell
    with pytest.raises(InputError, match=reason):
        attached(method, head, fresh(model_type, head))


@pytest.mark.parametrize(("method", "model_type", "head"), [c for c in WRITING if c not in REFUSED])
def test_writes_the_same_with_and_without_a_cache(method, model_type, head):
    network = fresh(model_type, head)
    model = trained(attached(method, head, network), head, steps=1)
    written = [
        model.generate(
            input_ids=IDS[:2, :5],
            attention_mask=torch.ones_like(IDS[:2, :5]),
            max_new_tokens=4,
            min_new_tokens=4,
            do_sample=False,
            use_cache=use_cache,
            output_logits=True,
            return_dict_in_generate=True,
        )
        for use_cache in (True, False)
    ]
    assert torch.equal(written[0].sequences, written[1].sequences)
    logits = [torch.stack(answer.logits) for answer in written]
    torch.testing.assert_close(*logits, atol=1e-4, rtol=1e-4)

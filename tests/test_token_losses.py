import copy

import pytest
import torch
from tiny_models import (
    CAUSAL,
    CONFIGS,
    DECODER_CONFIGS,
    ENCODER_DECODER_CONFIGS,
    MASKED,
    SEQ2SEQ,
    batch,
    tiny,
)

from lightadapt_data import token_losses
from lightadapt_data.errors import InputError
from lightadapt_data.token_losses import IGNORED, Predicted

FAMILIES = [
    *((family, MASKED, "masked") for family in CONFIGS),
    *((family, CAUSAL, "next") for family in DECODER_CONFIGS),
    *((family, SEQ2SEQ, "sequence") for family in ENCODER_DECODER_CONFIGS),
]


def with_gaps(auto, has_empty_row=True):
    """Return a batch with padding, and with places at which nothing is predicted."""
    found = batch(auto)
    labels = found["labels"].clone()
    labels[:, 1::3] = IGNORED
    if has_empty_row:
        labels[3] = IGNORED
    mask = found["attention_mask"].clone()
    mask[1, 6:] = 0
    return found | {"labels": labels, "attention_mask": mask}


@pytest.mark.parametrize(("family", "auto", "kind"), FAMILIES)
def test_logits_and_loss_at_the_labels_are_those_of_all_places(family, auto, kind):
    network = tiny(family, auto=auto)
    given = with_gaps(auto, family != "mbart")  # its own code fails on a row without labels
    plain = network(**given)
    plain.loss.backward()
    gradients = {
        name: p.grad.clone() for name, p in network.named_parameters() if p.grad is not None
    }
    network.zero_grad()
    found = token_losses.only_at_labels(network, kind)(**given)
    assert isinstance(found, Predicted)
    labels, logits = given["labels"], plain.logits
    if kind == "next":
        labels, logits = labels[:, 1:], logits[:, :-1]
    at = labels != IGNORED
    assert torch.equal(found.labels, labels[at])
    assert torch.equal(found.rows, at.nonzero()[:, 0])
    assert torch.allclose(found.logits, logits[at], atol=1e-5)
    assert torch.allclose(found.loss, plain.loss, atol=1e-5)
    found.loss.backward()
    for name, parameter in network.named_parameters():
        if name in gradients:
            assert torch.allclose(parameter.grad, gradients[name], atol=1e-4), name


def test_a_row_without_labels_is_no_fault():
    network = token_losses.only_at_labels(tiny("mbart", auto=SEQ2SEQ), "sequence")
    assert token_losses.scores(network, with_gaps(SEQ2SEQ))[3].n_tokens == 0


def test_without_labels_and_in_name_the_network_is_what_it_was():
    network = tiny("gpt2", auto=CAUSAL)
    given = {name: tensor for name, tensor in batch(CAUSAL).items() if name != "labels"}
    before, kind, names = network(**given).logits, type(network), list(network.state_dict())
    token_losses.only_at_labels(network, "next")
    assert torch.equal(network(**given).logits, before)
    assert isinstance(network, kind)
    assert (type(network).__name__, type(network).__module__) == (kind.__name__, kind.__module__)
    assert list(network.state_dict()) == names
    assert type(tiny("gpt2", auto=CAUSAL)) is kind


def test_a_copy_of_the_network_uses_its_own_weights():
    network = token_losses.only_at_labels(tiny("bert", auto=MASKED), "masked")
    twin = copy.deepcopy(network)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.zero_()
    given = with_gaps(MASKED)
    assert twin(**given).loss.item() != pytest.approx(network(**given).loss.item())


def test_an_error_inside_leaves_no_hook_behind():
    network = token_losses.only_at_labels(tiny("bert", auto=MASKED), "masked")
    with pytest.raises(Exception, match="str"):
        network(**with_gaps(MASKED) | {"attention_mask": "none"})
    assert not network.get_output_embeddings()._forward_pre_hooks


def test_scores_do_not_depend_on_how_the_batch_is_cut(monkeypatch):
    network = token_losses.only_at_labels(tiny("llama", auto=CAUSAL), "next")
    given = with_gaps(CAUSAL)
    whole = token_losses.scores(network, given)
    monkeypatch.setattr(token_losses, "MAX_LOGITS", 1)
    rows = token_losses.scores(network, given)
    assert [score.n_tokens for score in rows] == [score.n_tokens for score in whole]
    assert [score.n_right for score in rows] == [score.n_right for score in whole]
    assert [s.loss_sum for s in rows] == pytest.approx([s.loss_sum for s in whole], rel=1e-4)
    assert whole[3] == token_losses.TokenScores(0.0, 0, 0)
    n_tokens = sum(score.n_tokens for score in whole)
    mean = sum(score.loss_sum for score in whole) / n_tokens
    assert mean == pytest.approx(network(**given).loss.item(), rel=1e-5)


def test_what_a_model_predicts_is_read_from_its_configuration(tmp_path):
    for name, auto, kind in (("roberta", MASKED, "masked"), ("qwen3", CAUSAL, "next")):
        tiny(name, auto=auto).save_pretrained(tmp_path / name)
        assert token_losses.kind_of(tmp_path / name) == kind
    tiny("bert", auto=CAUSAL, sizes={"is_decoder": True}).save_pretrained(tmp_path / "decoder")
    assert token_losses.kind_of(tmp_path / "decoder") == "next"
    tiny("t5", auto=SEQ2SEQ).save_pretrained(tmp_path / "t5")
    assert token_losses.kind_of(tmp_path / "t5") == "sequence"
    (tmp_path / "config.json").write_text('{"model_type": "vit"}')
    with pytest.raises(InputError, match="model_type 'vit' has no head that predicts tokens"):
        token_losses.kind_of(tmp_path)


def test_rows_are_filled_up_at_either_end():
    assert token_losses.padded([[1, 2], [3]], 9).tolist() == [[1, 2], [3, 9]]
    assert token_losses.padded([[1, 2], [3]], 9, at_end=False).tolist() == [[1, 2], [9, 3]]
    assert token_losses.padded([[], []], 9).tolist() == [[9], [9]]

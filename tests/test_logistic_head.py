import numpy as np
import pytest
import torch
from torch import nn

from lightadapt_data import logistic_head


class Row:
    def __init__(self, values, labels):
        self.token_ids = tuple(values)
        self.labels = labels


class Network(nn.Module):
    """One feature per token; dropout that would show."""

    def __init__(self, n_labels, bias=True):
        super().__init__()
        self.drop = nn.Dropout(0.9)
        self.head = nn.Linear(2, n_labels, bias=bias)

    def forward(self, values, labels=None):
        assert labels is None
        return self.head(self.drop(values))


def collate(rows):
    width = max(len(row.token_ids) for row in rows)
    values = torch.zeros(len(rows), width, 2)
    for number, row in enumerate(rows):
        values[number, : len(row.token_ids), 0] = torch.tensor(row.token_ids)
        values[number, :, 1] = 1
    return {"values": values, "labels": 1}


def rows(n, n_labels=3):
    rng = np.random.default_rng(0)
    labels = [rng.integers(n_labels, size=rng.integers(1, 6)).tolist() for _ in range(n)]
    return [Row([4.0 * label - 4 for label in own], own) for own in labels]


def started(network, given):
    logistic_head.start(
        network.head,
        network,
        [(row, row.labels) for row in given],
        collate,
        lambda hidden, row: hidden[: len(row.labels)],
        100.0,
    )
    return network.eval()


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("n_labels", [2, 3])
def test_a_fitted_head_tells_the_rows_apart(n_labels, bias):
    given = rows(100, n_labels)
    network = started(Network(n_labels, bias), given)
    for row in given:
        logits = network(collate([row])["values"])[0]
        assert logits.argmax(1).tolist() == row.labels


def test_two_labels_give_the_probabilities_of_the_regression():
    from sklearn.linear_model import LogisticRegression

    features = np.random.default_rng(1).normal(size=(40, 2)).astype(np.float32)
    truth = (features[:, 0] + 0.5 * features[:, 1] > 0.3).astype(int)
    head = nn.Linear(2, 2)
    logistic_head.fit(head, features, truth, 5.0)
    scale = np.linalg.norm(features.astype(np.float64), axis=1).mean()
    expected = LogisticRegression(C=5.0).fit(features / scale, truth)
    found = head(torch.from_numpy(features)).softmax(1).detach().numpy()
    np.testing.assert_allclose(found, expected.predict_proba(features / scale), atol=1e-3)


def test_a_label_of_no_row_starts_as_unlikely():
    given = rows(60, 2)
    network = started(Network(4), given)
    logits = network(collate(given)["values"])
    assert set(logits.argmax(2).flatten().tolist()) <= {0, 1}


@pytest.mark.parametrize("given", [[], [Row([1.0], [1])] * 3, [Row([1.0], [])]])
def test_a_head_is_left_alone_when_there_is_nothing_to_tell_apart(given):
    network = Network(3)
    before = network.head.weight.detach().clone()
    assert torch.equal(started(network, given).head.weight, before)


def test_of_many_rows_some_are_taken_at_equal_distances(monkeypatch):
    seen = []
    monkeypatch.setattr(logistic_head, "MOST_ROWS", 50)
    monkeypatch.setattr(logistic_head, "fit", lambda head, features, *_: seen.append(len(features)))
    given = rows(100)
    started(Network(3), given)
    step = -(-sum(len(row.labels) for row in given) // 50)
    assert seen == [sum(len(row.labels) for row in given[::step])]


def test_mean_loss_is_that_of_torch():
    logits = np.random.default_rng(2).normal(size=(9, 4)).astype(np.float32) * 20
    truth = np.arange(9) % 4
    expected = nn.functional.cross_entropy(torch.from_numpy(logits), torch.from_numpy(truth))
    assert logistic_head.mean_loss(logits, truth) == pytest.approx(expected.item(), rel=1e-5)

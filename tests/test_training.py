from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import transformers
from torch import nn

from lightadapt_data import predicting, training
from lightadapt_data.adapters import bottleneck, head_only
from lightadapt_data.errors import InputError, LightadaptError
from lightadapt_data.tasks import Built, Example
from lightadapt_data.tasks import text_classification as task
from lightadapt_data.training import Job, TrainingSettings, train

SIZES = {
    "vocab_size": 20,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "hidden_size": 16,
    "intermediate_size": 32,
    "max_position_embeddings": 24,
}
DISTIL = {"vocab_size": 20, "dim": 16, "n_layers": 2, "n_heads": 2, "hidden_dim": 32}
KINDS = {
    "Bert": SIZES,
    "Roberta": SIZES,
    "Electra": SIZES | {"embedding_size": 16},
    "DistilBert": DISTIL,
}
PAD_0 = SimpleNamespace(pad_token_id=0)
SETTINGS = TrainingSettings(steps=12, batch_rows=8, evaluations=3)


def rows(n, seed):
    """Rows that have token 5 or 6, which is their label, among others."""
    rng = np.random.default_rng(seed)
    found = []
    for _ in range(n):
        label = int(rng.integers(2))
        tokens = rng.integers(7, 20, int(rng.integers(2, 9))).tolist()
        found.append(Example((1, *tokens, 5 + label, 2), label))
    return found


@pytest.fixture(params=["Bert"])
def folder(request, tmp_path):
    torch.manual_seed(0)
    kind = request.param
    config = getattr(transformers, f"{kind}Config")(**KINDS[kind])
    model = getattr(transformers, f"{kind}Model")(config)
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.3)
    model.save_pretrained(tmp_path / "base")
    return tmp_path / "base"


def job(folder, adapter=bottleneck, seed=0, pooling="mean", **options):
    settings = task.Settings(pooling=pooling)
    options = {"learning_rate": 0.03, **options}
    return Job(
        build=lambda: task.build(folder, "base", ["a", "b"], settings),
        task=task,
        adapter=adapter,
        adapter_settings=adapter.Settings(**options),
        tokenizer=PAD_0,
        train=rows(40, 1),
        dev=rows(30, 2),
        seed=seed,
    )


def run(what, out, settings=SETTINGS):
    out.mkdir()
    return train(what, settings, out)


@pytest.mark.parametrize("folder", sorted(KINDS), indirect=True)
@pytest.mark.parametrize("pooling", ["mean", "model"])
def test_every_family_learns_and_what_is_saved_is_the_best_on_dev(folder, pooling, tmp_path):
    what = job(folder, pooling=pooling)
    result = run(what, tmp_path / "out")
    assert np.mean(result.loss_curve[-3:]) < np.mean(result.loss_curve[:3])
    best = max(result.dev_curve, key=lambda point: (point["accuracy"], -point["loss"]))
    assert result.best_step == best["step"]
    loaded = bottleneck.load(what.build().network, tmp_path / "out")
    logits = predicting.predict(loaded, what.dev, task, PAD_0)
    assert task.metrics(logits, what.dev)["loss"] == pytest.approx(best["loss"], abs=1e-6)


def test_curves_and_counts_are_complete(folder, tmp_path):
    result = run(job(folder), tmp_path / "out")
    assert [point["step"] for point in result.dev_curve] == [4, 8, 12]
    assert len(result.loss_curve) == 12
    files = {path.name: path.stat().st_size for path in (tmp_path / "out").iterdir()}
    assert sorted(files) == ["adapter_config.json", "adapter_model.safetensors"]
    assert result.bytes_on_disk == sum(files.values())
    head, adapter = 16 * 2 + 2, 2 * (2 * 16 * 1 + 1 + 16)
    assert result.n_trainable == head + adapter
    assert result.n_parameters > result.n_trainable
    assert result.seconds > 0


def test_same_seed_gives_the_same_bytes_and_another_seed_others(folder, tmp_path):
    torch.manual_seed(99)
    for name, seed in (("one", 0), ("two", 0), ("three", 1)):
        run(job(folder, seed=seed), tmp_path / name, TrainingSettings(steps=3, dropout=True))
        torch.rand(7)  # what happens outside does not matter
    one, two, three = (
        (tmp_path / name / "adapter_model.safetensors").read_bytes()
        for name in ("one", "two", "three")
    )
    assert one == two != three


def test_global_generator_is_left_as_it_was(folder, tmp_path):
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    run(job(folder), tmp_path / "out", TrainingSettings(steps=1))
    assert torch.equal(torch.rand(3), expected)


def test_frozen_parameters_do_not_move(folder, tmp_path):
    result = run(job(folder), tmp_path / "out")
    base = transformers.AutoModel.from_pretrained(folder).state_dict()
    after = result.model.unload().encoder.state_dict()
    assert all(torch.equal(base[name], after[name]) for name in base)


def test_head_only_trains_too(folder, tmp_path):
    result = run(job(folder, adapter=head_only), tmp_path / "out")
    assert result.n_trainable == 16 * 2 + 2


def test_fewer_rows_than_a_batch_and_more_evaluations_than_steps(folder, tmp_path):
    what = job(folder)
    small = Job(**{**vars(what), "train": what.train[:3], "dev": what.dev[:1]})
    result = run(small, tmp_path / "out", TrainingSettings(steps=2, evaluations=9))
    assert [point["step"] for point in result.dev_curve][-1] == 2


def test_mixed_precision_changes_nothing_where_the_hardware_has_none(folder, tmp_path, monkeypatch):
    monkeypatch.setattr(predicting, "has_bfloat16", lambda device: False)
    plain = run(job(folder), tmp_path / "one")
    mixed = run(
        job(folder), tmp_path / "two", SETTINGS.model_copy(update={"mixed_precision": True})
    )
    assert mixed.loss_curve == plain.loss_curve


def test_mixed_precision_trains(folder, tmp_path):
    settings = TrainingSettings(steps=2, mixed_precision=True)
    assert np.isfinite(run(job(folder), tmp_path / "out", settings).loss_curve).all()


def test_prediction_does_not_depend_on_order_or_neighbours(folder):
    what = job(folder)
    torch.manual_seed(0)
    model = what.build().network
    examples = rows(150, 3)
    logits = predicting.predict(model, examples, task, PAD_0)
    back = predicting.predict(model, examples[::-1], task, PAD_0)[::-1]
    alone = predicting.predict(model, examples[:1], task, PAD_0)
    np.testing.assert_allclose(logits, back, atol=1e-5)
    np.testing.assert_allclose(logits[:1], alone, atol=1e-5)
    assert model.training


class Unused(nn.Module):
    """A network with a head that does not reach the loss."""

    def __init__(self, network):
        super().__init__()
        self.network, self.config = network, network.config
        self.spare = nn.Linear(2, 2)

    def forward(self, **batch):
        return self.network(**batch)


def test_parameter_without_gradient_stops_the_run_with_its_name(folder, tmp_path):
    what = job(folder)

    def build():
        built = what.build()
        return Built(Unused(built.network), (*built.head_modules, "spare"))

    with pytest.raises(InputError, match=r"2 of \d+ trainable .* no gradient .*spare.*weight"):
        run(Job(**{**vars(what), "build": build}), tmp_path / "out")


def test_nothing_to_train_stops_the_run(folder, tmp_path):
    frozen = SimpleNamespace(
        attach=lambda model, settings, heads: model.requires_grad_(False),
        load=None,
        Settings=head_only.Settings,
    )
    with pytest.raises(InputError, match=r"0 of 0 trainable parameters .*there is none"):
        run(job(folder, adapter=frozen), tmp_path / "out")


def test_adapter_that_does_not_read_back_stops_the_run(folder, tmp_path):
    forgetful = SimpleNamespace(
        attach=bottleneck.attach, load=lambda model, folder: model, Settings=bottleneck.Settings
    )
    with pytest.raises(LightadaptError, match="gives other outputs than the trained one"):
        run(job(folder, adapter=forgetful), tmp_path / "out")


def test_loss_that_is_no_number_stops_the_run(folder, tmp_path):
    what = job(folder)

    def build():
        built = what.build()
        nn.init.constant_(built.network.encoder.embeddings.LayerNorm.weight, float("nan"))
        return built

    with pytest.raises(InputError, match=r"loss became nan in step 1; lower the .*learning_rate"):
        run(Job(**{**vars(what), "build": build}), tmp_path / "out")


@pytest.mark.parametrize("part", ["train", "dev"])
def test_no_rows_are_refused(folder, tmp_path, part):
    what = job(folder)
    with pytest.raises(InputError, match="dev rows; allowed: >= 1"):
        run(Job(**{**vars(what), part: []}), tmp_path / "out")


def stops_in_evaluation(number):
    """Return the task, with metrics that are killed when they are asked for that often."""
    asked = []

    def metrics(outputs, examples):
        asked.append(1)
        if len(asked) == number:
            raise KeyboardInterrupt
        return task.metrics(outputs, examples)

    return SimpleNamespace(**{**vars(task), "metrics": metrics})


@pytest.mark.parametrize("killed_in", [2, 3])
def test_a_killed_training_goes_on_and_ends_with_the_same_bytes(folder, tmp_path, killed_in):
    settings = TrainingSettings(steps=12, batch_rows=8, evaluations=3, dropout=True)
    whole = run(job(folder), tmp_path / "whole", settings)
    path = tmp_path / "checkpoints" / "one.pt"
    what = replace(job(folder), task=stops_in_evaluation(killed_in), checkpoint=path)
    with pytest.raises(KeyboardInterrupt):
        run(what, tmp_path / "killed", settings)
    assert path.exists()
    torch.manual_seed(77)
    steps = []
    counting = SimpleNamespace(
        **{**vars(task), "collate": lambda *args: (steps.append(1), task.collate(*args))[1]}
    )
    resumed = run(replace(job(folder), task=counting, checkpoint=path), tmp_path / "out", settings)
    assert not path.exists()
    assert resumed.loss_curve == whole.loss_curve
    assert resumed.dev_curve == whole.dev_curve
    assert resumed.best_step == whole.best_step
    written = [tmp_path / name / "adapter_model.safetensors" for name in ("whole", "out")]
    assert written[0].read_bytes() == written[1].read_bytes()
    n_evaluations = 3 - (killed_in - 1)
    assert len(steps) == 4 * n_evaluations + n_evaluations + 1  # steps, evaluations, last check


def test_training_stops_when_dev_gets_no_better(folder, tmp_path):
    scores = iter([0.5, 0.7, 0.6, 0.7, 0.9, 0.9])
    worse = SimpleNamespace(
        **{**vars(task), "metrics": lambda *_: {"accuracy": next(scores), "loss": 1.0}}
    )
    settings = TrainingSettings(steps=12, batch_rows=8, evaluations=6, patience=2)
    result = run(replace(job(folder), task=worse), tmp_path / "out", settings)
    assert [point["accuracy"] for point in result.dev_curve] == [0.5, 0.7, 0.6, 0.7]
    assert result.best_step == 4
    assert len(result.loss_curve) == 8


def test_a_metric_may_be_better_when_it_is_lower(folder, tmp_path):
    scores = iter([3.0, 2.0, 4.0])
    lower = SimpleNamespace(
        **{**vars(task), "GOAL": "min", "metrics": lambda *_: {"accuracy": next(scores), "loss": 1}}
    )
    assert run(replace(job(folder), task=lower), tmp_path / "out").best_step == 8


def test_gradient_checkpointing_gives_the_same_losses(folder, tmp_path):
    plain = run(job(folder), tmp_path / "plain")
    saving = SETTINGS.model_copy(update={"gradient_checkpointing": True})
    assert run(job(folder), tmp_path / "saving", saving).loss_curve == pytest.approx(
        plain.loss_curve, abs=1e-5
    )


def test_outputs_of_frozen_lower_layers_are_kept_and_change_nothing(folder, tmp_path, monkeypatch):
    settings = TrainingSettings(steps=15, batch_rows=8, evaluations=3)  # three epochs
    kept = run(job(folder, skip_layers=1), tmp_path / "kept", settings)
    monkeypatch.setattr(training, "LEAST_EPOCHS", 99.0)
    plain = run(job(folder, skip_layers=1), tmp_path / "plain", settings)
    assert kept.loss_curve == pytest.approx(plain.loss_curve, abs=1e-5)
    assert [point["accuracy"] for point in kept.dev_curve] == [
        point["accuracy"] for point in plain.dev_curve
    ]

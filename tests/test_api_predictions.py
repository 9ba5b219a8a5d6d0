"""Predictions in Python: memory, restored weights, folders, and global settings of PyTorch."""

import weakref

import pytest
import torch

import mla_lightning as mla
from mla_lightning.errors import ConfigError, DataError, RunError
from mla_lightning.metrics.base import Metric
from mla_lightning.run.evaluate import SplitPredictions, score_predictions
from mla_lightning.run.predict import predict_samples

SIZE = ("data.num_train=48", "data.num_val=20", "data.num_test=20", "trainer.max_epochs=1")


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return mla.train("data=synthetic", *SIZE, folder=tmp_path_factory.mktemp("runs"))


def batch(num=3, **entries):
    return {"audio": torch.randn(num, 16), "visual": torch.randn(num, 16), **entries}


def test_batches_are_not_kept_in_memory(run):
    alive = []

    def batches():
        for _ in range(6):
            inputs = batch()
            alive.append(weakref.ref(inputs["audio"]))
            yield inputs
            del inputs
            assert sum(reference() is not None for reference in alive) <= 2

    assert len(predict_samples(run.loaded, batches()).ids) == 18


def test_many_small_batches_predict_what_one_predicts(run):
    inputs = batch(10)
    whole, parts = run.predict(inputs), run.predict(inputs, batch_size=3)
    for name in whole.logits:
        assert torch.allclose(whole.logits[name], parts.logits[name], atol=1e-6)
        assert torch.equal(
            whole.present.get(name, torch.ones(1)), parts.present.get(name, torch.ones(1))
        )
    assert whole.weights.keys() == parts.weights.keys()


def test_weights_and_mode_are_restored_after_an_error(run):
    module = run.module
    for parameter in module.parameters():
        parameter.data.add_(1.0)  # not those of the selected epoch
    changed = {key: value.clone() for key, value in module.state_dict().items()}
    module.train()
    try:
        with pytest.raises(DataError, match="'audio' with samples of shape"):
            run.predict([batch(), {"audio": torch.zeros(3, 5), "visual": torch.zeros(3, 16)}])
        assert module.training
        assert all(torch.equal(v, changed[k]) for k, v in module.state_dict().items())
    finally:
        module.eval()


@pytest.mark.parametrize("name", ["a/b/p.csv", "c/p.npz"])
def test_predictions_are_written_to_a_new_folder(run, tmp_path, name):
    run.predict(batch()).write(tmp_path / name)
    assert (tmp_path / name).stat().st_size > 0


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ({"label": torch.tensor([0, 1, 9])}, "labels from 0 to 9"),
        ({"label": torch.tensor([0.0, 1.0, 2.0])}, "of int64"),
        ({"present": {"audio": torch.tensor([1, 0, 1])}}, "must be a bool tensor"),
        ({"present": {"audio": torch.tensor([True])}}, "differ in length"),
    ],
)
def test_wrong_labels_and_presence_are_errors(run, entries, message):
    with pytest.raises(DataError, match=message):
        run.predict([batch(**entries)])


def test_global_settings_of_torch_that_change_numbers_are_errors(tmp_path):
    with torch.inference_mode(), pytest.raises(ConfigError, match="outside of that context"):
        mla.train("data=synthetic", folder=tmp_path)
    torch.set_default_dtype(torch.float64)
    try:
        with pytest.raises(ConfigError, match=r"float64, .* trainer\.precision"):
            mla.train("data=synthetic", folder=tmp_path)
    finally:
        torch.set_default_dtype(torch.float32)
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize("function", [lambda outcome: "high", lambda outcome: 1 / 0])
def test_a_metric_that_fails_is_named(function):
    predictions = SplitPredictions(
        {"multi": torch.eye(2)}, torch.tensor([0, 1]), torch.arange(2), {}, {}
    )
    with pytest.raises(RunError, match=r"metric 'mine' \(metric/mine\.yaml\) cannot be computed"):
        score_predictions(predictions, {"mine": Metric(function=function, label="x")})

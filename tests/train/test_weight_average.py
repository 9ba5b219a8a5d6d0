"""trainer.ema: an average of the weights is validated, selected and saved in their place."""

from itertools import pairwise

import pytest
import torch
from lightning.pytorch import Callback, Trainer
from tests.methods.harness import Loader, batches, build
from tests.train.jobs import in_child, killed, make_job, outcome, same
from tests.train.rank_processes import on_ranks, train
from torch import nn

from mla_lightning.callbacks.checkpoint import RunCheckpoint
from mla_lightning.callbacks.checkpoint_io import read_checkpoint
from mla_lightning.callbacks.weight_average import (
    WeightAverage,
    averaged_tensors,
    evaluated_state_of,
)
from mla_lightning.config import compose_jobs
from mla_lightning.errors import ConfigError
from mla_lightning.fusion import Concat
from mla_lightning.methods import Joint
from mla_lightning.module import MultimodalModule
from mla_lightning.run.train import run_job
from mla_lightning.run_folder import CHECKPOINTS, RESULT, read_json, read_metrics

DECAY = 0.7


class Normalised(nn.Sequential):
    out_features = 6

    def __init__(self):
        super().__init__(nn.Linear(5, 6), nn.BatchNorm1d(6))


class Watch(Callback):
    """Records the averaged tensors after each batch, and those with which is validated."""

    def __init__(self):
        self.trained, self.validated = [], []

    def tensors(self, module):
        return {key: x.detach().clone() for key, x in averaged_tensors(module).items()}

    def on_train_start(self, trainer, pl_module):
        self.trained.append(self.tensors(pl_module))

    def on_train_batch_end(self, trainer, pl_module, *_):
        self.trained.append(self.tensors(pl_module))

    def on_validation_epoch_end(self, trainer, pl_module):
        self.validated.append(self.tensors(pl_module))


def fitted(kind, average, *, epochs=3):
    data = batches(4)
    module, watch = build(kind, Concat, data, encoder=Normalised), Watch()
    trainer = Trainer(
        max_epochs=epochs,
        accelerator="cpu",
        logger=False,
        callbacks=[*([average] if average else []), watch],
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
    )
    trainer.fit(module, Loader(data), Loader(data[:1]))
    return module, watch


def expected_averages(trained):
    """The average after each batch, from the formula."""
    averages = [trained[0]]
    for n, weights in enumerate(trained[1:]):
        d = min(DECAY, (1 + n) / (10 + n))
        averages.append({k: d * a + (1 - d) * weights[k] for k, a in averages[-1].items()})
    return averages


def assert_close(one, other):
    assert one.keys() == other.keys()
    for key, x in one.items():
        torch.testing.assert_close(x, other[key], rtol=1e-5, atol=1e-6)


def test_the_average_of_the_formula_is_validated_and_training_goes_on_with_the_weights():
    average = WeightAverage(DECAY)
    module, watch = fitted(Joint, average)
    plain, plain_watch = fitted(Joint, None)
    for one, other in zip(watch.trained, plain_watch.trained, strict=True):
        assert all(torch.equal(x, other[key]) for key, x in one.items())
    assert all(torch.equal(x, plain.state_dict()[k]) for k, x in module.state_dict().items())
    expected = expected_averages(watch.trained)
    for epoch, found in enumerate(watch.validated):
        assert_close(found, expected[4 * (epoch + 1)])
    assert_close(average.weights, expected[-1])
    assert average.num_batches == 12
    statistics = [key for key in average.weights if "running" in key]
    assert len(statistics) == 4
    for key in statistics:
        assert not torch.equal(average.weights[key], watch.trained[-1][key])
    assert not any("num_batches_tracked" in key for key in average.weights)


def test_what_is_measured_before_validation_is_of_the_average():
    seen = []

    class Measuring(Joint):
        def on_validation_start(self):
            seen.append({k: x.detach().clone() for k, x in averaged_tensors(self).items()})

    _, watch = fitted(Measuring, WeightAverage(DECAY))
    for one, other in zip(seen, watch.validated, strict=True):
        assert all(torch.equal(x, other[key]) for key, x in one.items())


def test_preparatory_epochs_are_not_averaged():
    class Staged(Joint):
        @property
        def is_selectable(self):
            return self.current_epoch >= 1

    average = WeightAverage(DECAY)
    _, watch = fitted(Staged, average)
    assert average.num_batches == 8
    for key, x in watch.validated[0].items():
        assert torch.equal(x, watch.trained[4][key])
    assert_close(average.weights, expected_averages(watch.trained[4:])[-1])


def test_an_error_within_validation_gives_the_weights_back():
    class Failing(Joint):
        def validation_step(self, batch, batch_idx):
            if self.current_epoch == 1:
                failed.append({k: x.detach().clone() for k, x in averaged_tensors(self).items()})
                raise ArithmeticError
            super().validation_step(batch, batch_idx)

    failed, average = [], WeightAverage(DECAY)
    data = batches(4)
    module, watch = build(Failing, Concat, data, encoder=Normalised), Watch()
    options = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
    trainer = Trainer(
        max_epochs=2,
        accelerator="cpu",
        callbacks=[average, watch],
        num_sanity_val_steps=0,
        enable_model_summary=False,
        **options,
    )
    with pytest.raises(ArithmeticError):
        trainer.fit(module, Loader(data), Loader(data[:1]))
    for key, x in averaged_tensors(module).items():
        assert torch.equal(x, watch.trained[-1][key])
        assert torch.equal(average.weights[key], failed[0][key])


def test_a_tensor_of_two_names_is_averaged_once():
    module = nn.ModuleDict({"a": nn.Linear(3, 3), "b": nn.Linear(3, 3)})
    module["b"].weight = module["a"].weight
    average = WeightAverage(DECAY)
    average.start(module)
    before = module["a"].weight.detach().clone()
    with torch.no_grad():
        module["a"].weight.add_(1.0)
    average.update(module)
    assert [key for key in average.weights if "weight" in key] == ["a.weight"]
    with average.in_place_of_weights(module):
        torch.testing.assert_close(module["b"].weight.detach(), before + 0.9)
    torch.testing.assert_close(module["b"].weight.detach(), before + 1)
    content = {
        "state_dict": module.state_dict(),
        "callbacks": {"WeightAverage": average.state_dict()},
    }
    state = evaluated_state_of(content)
    for key in ("a.weight", "b.weight"):
        torch.testing.assert_close(state[key], before + 0.9)


WORDS = ("trainer.ema=0.9",)


@pytest.fixture(scope="module", params=["mla", "joint_unimodal"])
def whole(request, tmp_path_factory):
    job = make_job(tmp_path_factory.mktemp("whole"), f"method={request.param}", *WORDS)
    assert in_child(lambda: run_job(job)) == 0
    return request.param, job


def test_an_interrupted_run_resumes_bit_for_bit(tmp_path, whole):
    method, expected = whole
    job = make_job(tmp_path, f"method={method}", *WORDS, "checkpoint.every_n_batches=1")
    assert killed(job, (MultimodalModule, "training_step", 14)) == -9
    assert in_child(lambda: run_job(job)) == 0
    assert same(outcome(job.run_dir), outcome(expected.run_dir))


def test_lost_best_weights_are_written_again_from_the_average(tmp_path, whole):
    method, expected = whole
    job = make_job(tmp_path, f"method={method}", *WORDS)
    assert killed(job, (MultimodalModule, "training_step", 12)) == -9
    (best,) = (job.run_dir / CHECKPOINTS).glob("best-*.ckpt")
    before = read_checkpoint(best)
    best.unlink()
    assert killed(job, (MultimodalModule, "training_step", 1)) == -9
    assert same(read_checkpoint(best), before)
    assert in_child(lambda: run_job(job)) == 0
    assert same(outcome(job.run_dir), outcome(expected.run_dir))


def test_the_selected_weights_are_the_average_and_give_the_scores_of_their_epoch(whole):
    _, job = whole
    folder = job.run_dir / CHECKPOINTS
    (best,) = map(read_checkpoint, folder.glob("best-*.ckpt"))
    at_end = read_checkpoint(RunCheckpoint(folder).path_after(best["epoch"]))
    average = at_end["callbacks"]["WeightAverage"]
    assert average["num_batches"] == 10 * best["epoch"]
    for key, x in average["weights"].items():
        assert torch.equal(best["state_dict"][key], x)
        assert not torch.equal(at_end["state_dict"][key], x)
    row = read_metrics(job.run_dir)[best["epoch"] - 1]
    result = read_json(job.run_dir / RESULT)
    assert result["val"]["multi"]["accuracy"] == pytest.approx(float(row["val/acc"]))


def test_two_ranks_have_the_average_of_one_process():
    def averages(num_ranks):
        average = WeightAverage(0.9)
        ended = train("concat", num_ranks=num_ranks, callbacks=[average])
        return average.weights, ended["epochs"]

    first, second = on_ranks(lambda: averages(2))
    torch.testing.assert_close(second, first, rtol=0, atol=0)
    torch.testing.assert_close(first, averages(1), rtol=0, atol=1e-10)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["trainer.ema=1"], "trainer.ema must be a number"),
        (["trainer.ema=0"], "trainer.ema must be a number"),
        (["trainer.ema=0.9", "method=majority"], "Majority fits all training samples at once"),
        (["trainer.ema=0.9", "method=cpm_net"], "CPMNet fits all training samples at once"),
    ],
)
def test_a_decay_out_of_range_or_without_effect_is_an_error(words, message):
    with pytest.raises(ConfigError, match=message):
        compose_jobs(["data=synthetic", "missing=anchor", *words], multirun=False)


def test_runs_without_an_average_keep_their_identity():
    def identity(*words):
        (job,) = compose_jobs(["data=synthetic", *words], multirun=False)
        return job.identity

    identities = [identity(f"trainer.ema={value}") for value in ("null", "0.9", "0.99")]
    assert identities[0] == identity()
    assert all(one != other for one, other in pairwise(identities))

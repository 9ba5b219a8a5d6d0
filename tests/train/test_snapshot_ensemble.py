"""trainer.snapshots: the logits of the models at the ends of equal parts are averaged."""

from itertools import pairwise

import pytest
import torch
from lightning.pytorch import Callback, Trainer
from tests.methods import catalogue
from tests.methods.harness import Loader, batches, build
from tests.train.jobs import in_child, killed, make_job, outcome, same
from torch import nn
from torch.optim.lr_scheduler import CosineAnnealingWarmRestarts

import mla_lightning as mla
from mla_lightning.callbacks.checkpoint import RunCheckpoint
from mla_lightning.callbacks.checkpoint_io import read_checkpoint
from mla_lightning.callbacks.snapshot_ensemble import SnapshotEnsemble, TakeSnapshots
from mla_lightning.config import compose_jobs
from mla_lightning.errors import ConfigError, MLAError
from mla_lightning.fusion import Concat
from mla_lightning.methods import Joint
from mla_lightning.module import MultimodalModule
from mla_lightning.run.build import build_data, build_module
from mla_lightning.run.teachers import with_teachers
from mla_lightning.run.train import run_job
from mla_lightning.run_folder import CHECKPOINTS, RESULT, read_json, read_metrics

EPOCHS, NUMBER = 6, 3


class Normalised(nn.Sequential):
    out_features = 6

    def __init__(self):
        super().__init__(nn.Linear(5, 6), nn.BatchNorm1d(6))


class Watch(Callback):
    """Records the weights of each epoch, and what is validated."""

    def __init__(self, batch):
        self.batch, self.weights, self.validated = batch, [], []

    def on_validation_epoch_end(self, trainer, pl_module):
        plain = {k: x for k, x in pl_module.state_dict().items() if not k.startswith("snapshots.")}
        self.weights.append({key: x.detach().clone() for key, x in plain.items()})
        self.validated.append(pl_module.outputs(self.batch))


def fitted(kind, number=NUMBER):
    data = batches(4)
    module, watch = build(kind, Concat, data, encoder=Normalised), Watch(data[0])
    if number:
        module.snapshots = SnapshotEnsemble(module, number)
    trainer = Trainer(
        max_epochs=EPOCHS,
        accelerator="cpu",
        logger=False,
        callbacks=[*([TakeSnapshots(number)] if number else []), watch],
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
    )
    trainer.fit(module, Loader(data), Loader(data[:1]))
    return module, watch


def answers(kind, states, batch):
    """What other models with these weights answer, each alone."""
    found = []
    for state in states:
        module = build(kind, Concat, batches(4), encoder=Normalised).eval()
        module.load_state_dict(state)
        with torch.no_grad():
            found.append(module.outputs(batch))
    return found


def test_the_mean_of_the_ends_and_of_the_current_weights_is_validated():
    module, watch = fitted(Joint)
    _, plain = fitted(Joint, number=None)
    for one, other in zip(watch.weights, plain.weights, strict=True):  # training is unchanged
        assert all(torch.equal(x, other[key]) for key, x in one.items())
    alone = answers(Joint, watch.weights, watch.batch)
    members = [[0], [1], [1, 2], [1, 3], [1, 3, 4], [1, 3, 5]]  # epochs from 0; parts end at 1, 3
    for epoch, places in enumerate(members):
        for name, z in watch.validated[epoch].items():
            expected = torch.stack([alone[place][name] for place in places]).mean(dim=0)
            torch.testing.assert_close(z, expected, rtol=1e-5, atol=1e-6)
    assert not torch.allclose(watch.validated[3]["multi"], alone[3]["multi"], atol=1e-3)
    assert int(module.snapshots.kept) == NUMBER - 1
    assert not module.notes


IN_BATCHES = [
    name
    for name in catalogue.METHODS
    if catalogue.class_of(name).takes_steps and not catalogue.class_of(name).fits_all_at_once
]


@pytest.mark.parametrize("method", IN_BATCHES)
def test_snapshots_of_every_method_answer(method):
    data = batches(2, seed=3)
    module = catalogue.build_method(method, data[0]).eval()
    before, ensemble = module.outputs(data[1]), SnapshotEnsemble(module, 2)
    ensemble.take(module)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.mul_(1.2).add_(0.1)
    after = module.outputs(data[1])
    module.snapshots = ensemble
    for name, z in module.outputs(data[1]).items():
        expected = (before[name] + after[name]) / 2
        torch.testing.assert_close(z, expected, rtol=1e-4, atol=1e-5)
    assert not torch.allclose(before["multi"], after["multi"], atol=1e-3)


def test_scales_of_the_data_are_no_part_of_a_snapshot():
    module = build(Joint, Concat, batches(1))
    keys = SnapshotEnsemble(module, 2).state_dict().keys()
    module.scales = nn.ModuleDict({"audio": nn.BatchNorm1d(5, affine=False)})
    assert SnapshotEnsemble(module, 2).state_dict().keys() == keys


def test_the_weights_of_a_preparatory_stage_are_not_kept():
    class Staged(Joint):
        @property
        def is_selectable(self):
            return self.current_epoch >= 2  # the first part ends before it, the second after it

    module, watch = fitted(Staged)
    assert int(module.snapshots.kept) == 1
    for key, x in module.snapshots.of(0).items():
        assert torch.equal(x, watch.weights[3][key])
    (note,) = module.notes
    assert note.startswith("The logits of 2 models are averaged at the end, not of 3")


WORDS = (f"trainer.snapshots={NUMBER}", f"trainer.max_epochs={EPOCHS}")


def job_of(root, *words):
    return make_job(root, "data.num_train=40", *WORDS, *words)


@pytest.fixture(scope="module", params=["mla", "ensemble", "umt"])
def whole(request, tmp_path_factory):
    job = job_of(tmp_path_factory.mktemp("whole"), f"method={request.param}")
    assert in_child(lambda: run_job(job)) == 0
    return request.param, job


@pytest.mark.parametrize("step", [11, 16])  # after a part has ended, and within one
def test_an_interrupted_run_resumes_bit_for_bit(tmp_path, whole, step):
    method, expected = whole
    job = job_of(tmp_path, f"method={method}", "checkpoint.every_n_batches=1")
    assert killed(job, (MultimodalModule, "training_step", step)) == -9
    assert in_child(lambda: run_job(job)) == 0
    assert same(outcome(job.run_dir), outcome(expected.run_dir))


def test_the_selected_weights_answer_with_those_kept_before_their_epoch(whole):
    method, job = whole
    folder = job.run_dir / CHECKPOINTS
    for path in folder.glob("best-*.ckpt"):
        best = read_checkpoint(path)
        kept, epoch = int(best["state_dict"]["snapshots.kept"]), best["epoch"]
        ended = (epoch - 1) // (EPOCHS // NUMBER)
        assert kept == (max(0, ended - 1) if method == "umt" else ended)  # its teachers come first
        at_end = read_checkpoint(RunCheckpoint(folder).path_after(EPOCHS))
        assert int(at_end["state_dict"]["snapshots.kept"]) >= kept
    if method == "ensemble":
        return
    row = read_metrics(job.run_dir)[best["epoch"] - 1]
    result = read_json(job.run_dir / RESULT)
    assert result["val"]["multi"]["accuracy"] == pytest.approx(float(row["val/acc"]))


def test_predictions_of_a_finished_run_are_those_it_was_tested_with(whole):
    method, job = whole
    prediction = mla.load(job.run_dir).predict(split="test")
    found = (prediction.logits["multi"].argmax(dim=1) == prediction.label).float().mean()
    result = read_json(job.run_dir / RESULT)
    assert float(found) == pytest.approx(result["test"]["multi"]["accuracy"], abs=1e-6)
    if method == "mla":  # the mean of the snapshots' weights
        total = sum(prediction.weights.values())
        torch.testing.assert_close(total, torch.ones_like(total))


def test_the_rate_falls_along_a_cosine_in_each_part(whole):
    _, job = whole
    rates = [float(row["lr"]) for row in read_metrics(job.run_dir)]
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=0.05)
    schedule, expected = CosineAnnealingWarmRestarts(optimizer, EPOCHS // NUMBER), []
    for _ in range(EPOCHS):
        expected.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    assert rates == pytest.approx(expected)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["trainer.snapshots=1"], "trainer.snapshots must be a whole number >= 2"),
        (["trainer.snapshots=3", "trainer.max_epochs=10"], r"trainer\.max_epochs=12"),
        (["trainer.snapshots=4"], r"parts of at least 2 epochs; for example trainer\.max_epochs=8"),
        (["trainer.snapshots=2", "trainer.ema=0.9"], "two ways to average one training"),
        (["trainer.snapshots=2", "scheduler.gamma=0.5"], "scheduler has no effect"),
        (["trainer.snapshots=2", "diagnostics=epoch"], "describes one set of weights"),
        (["trainer.snapshots=2", "method=majority"], "Majority fits all training samples at once"),
        (["trainer.snapshots=2", "method=cpm_net"], "CPMNet fits all training samples at once"),
    ],
)
def test_what_cannot_be_or_has_no_effect_is_an_error(words, message):
    data = ["data=synthetic", "missing=anchor", "trainer.max_epochs=4"]
    keys = {word.partition("=")[0] for word in words}
    data = [word for word in data if word.partition("=")[0] not in keys]
    with pytest.raises(ConfigError, match=message):
        compose_jobs([*data, *words], multirun=False)


@pytest.mark.parametrize(
    ("words", "kept"),
    [
        # Of 5 parts of 4 epochs the first two end with untrained imaginations.
        (["method=mmin", "missing=anchor", "method.pretrain_epochs=8"], 2),
        # Turns of 3 epochs follow 10 of teachers: only the one after 16 epochs ends with a part.
        (["method=reconboost", "method.stage_epochs=2", "method.rectify_epochs=1"], 1),
    ],
)
def test_no_preparatory_epoch_of_a_method_answers(tmp_path, words, kept):
    lengths = "data.num_train=40", "trainer.max_epochs=20", "trainer.snapshots=5"
    job = make_job(tmp_path, *lengths, *words)
    selectable = tmp_path / "selectable"

    def train():
        end = MultimodalModule.on_train_epoch_end

        def noting(module):
            with selectable.open("a") as file:
                file.write(f"{int(module.is_selectable)}")
            end(module)

        MultimodalModule.on_train_epoch_end = noting
        return run_job(job)

    assert in_child(train) == 0
    is_selectable = [mark == "1" for mark in selectable.read_text()]
    assert len(is_selectable) == 20
    assert sum(is_selectable[3:19:4]) == kept
    at_end = read_checkpoint(RunCheckpoint(job.run_dir / CHECKPOINTS).path_after(20))
    assert int(at_end["state_dict"]["snapshots.kept"]) == kept
    assert f"of {kept + 1} models are averaged at the end, not of 5" in " ".join(
        read_json(job.run_dir / RESULT)["notes"]
    )


def test_an_ensemble_of_snapshots_is_no_teacher(tmp_path):
    teachers = job_of(tmp_path, "method=unimodal")
    assert in_child(lambda: run_job(teachers)) == 0
    job = make_job(tmp_path, "method=umt", f"method.teachers={teachers.run_dir}")
    data = build_data(job.config)
    with pytest.raises(
        ConfigError, match=r"ensemble of trainer\.snapshots=3, and a teacher is one"
    ):
        with_teachers(build_module(job.config, data), job, data)


def test_an_automatic_number_of_epochs_is_a_multiple():
    words = ["data=synthetic", "recipe=small", "data.num_train=800"]
    (job,) = compose_jobs([*words, "trainer.snapshots=7"], multirun=False)
    (plain,) = compose_jobs(words, multirun=False)
    assert plain.config.trainer.num_epochs == 40
    assert job.config.trainer.num_epochs == 42
    assert "trainer.max_epochs=auto is 42 epochs here" in job.notes[0]


def test_a_missing_path_is_reported_before_the_number_of_epochs(tmp_path):
    words = ["data=store", f"data.path={tmp_path / 'nowhere'}", "trainer.snapshots=5"]
    with pytest.raises(MLAError, match="nowhere") as error:
        compose_jobs(words, multirun=False)
    assert "snapshots" not in str(error.value)


def test_runs_without_snapshots_keep_their_identity():
    def identity(*words):
        (job,) = compose_jobs(["data=synthetic", "trainer.max_epochs=8", *words], multirun=False)
        return job.identity

    identities = [identity(f"trainer.snapshots={value}") for value in ("null", "2", "4")]
    assert identities[0] == identity()
    assert all(one != other for one, other in pairwise(identities))


def test_two_ranks_answer_as_one_process(tmp_path):
    words = ("trainer.precision=64-true", "encoder.audio.dropout=0", "encoder.visual.dropout=0")
    rows = []
    for devices in (1, 2):
        job = job_of(tmp_path, f"trainer.devices={devices}", *words)
        assert in_child(lambda job=job: run_job(job)) == 0
        rows.append([float(row["val/acc"]) for row in read_metrics(job.run_dir)])
        rows.append(read_json(job.run_dir / RESULT)["test"]["multi"]["ece"])
    assert rows[0] == rows[2]
    assert rows[1] == pytest.approx(rows[3], abs=1e-7)

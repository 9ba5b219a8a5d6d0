"""Frozen teachers: the models of unimodal training, never trained again, shared between runs."""

import pytest
import torch
from tests.methods.harness import batches, build, fit
from tests.train.jobs import BATCHES, in_child, killed, make_job, outcome, same

from mla_lightning.callbacks.checkpoint import RunCheckpoint
from mla_lightning.callbacks.checkpoint_io import read_checkpoint
from mla_lightning.errors import ConfigError
from mla_lightning.fusion import Concat, LateFusion
from mla_lightning.methods.g2d import G2D
from mla_lightning.methods.umt import UMT
from mla_lightning.module import MultimodalModule
from mla_lightning.run.finished import evaluate_run
from mla_lightning.run.train import run_job, train_job
from mla_lightning.run_folder import CHECKPOINTS, RESULT, read_json, read_metrics

pytestmark = pytest.mark.filterwarnings("ignore:.*in eval mode")
STEP = (MultimodalModule, "training_step")
#: A run whose clipping and schedule have an effect, and one of its teachers' length.
WORDS = ("trainer.clip_norm=0.05", "scheduler.step_size=2")


def checkpoint_of(job, epoch):
    return read_checkpoint(RunCheckpoint(job.run_dir / CHECKPOINTS).path_after(epoch))


@pytest.fixture(scope="module")
def unimodal(tmp_path_factory):
    folder = tmp_path_factory.mktemp("unimodal")
    job = make_job(folder, "method=unimodal", *WORDS, "trainer.max_epochs=4")
    train_job(job)
    return job


@pytest.mark.parametrize("source", ["teacher_epochs", "teachers"])
def test_teachers_are_the_models_of_unimodal_training(tmp_path, unimodal, source):
    if source == "teachers":
        job = make_job(tmp_path, "method=umt", f"method.teachers='{unimodal.run_dir}'")
    else:
        words = (*WORDS, "trainer.max_epochs=6", "method.teacher_epochs=4")
        job = make_job(tmp_path, "method=umt", *words)
    train_job(job)
    state = checkpoint_of(job, job.config.trainer.num_epochs)["state_dict"]
    rows = read_metrics(unimodal.run_dir)
    best = {m: max(row[f"val/acc/{m}"] for row in rows) for m in ("audio", "visual")}
    assert state["score_bits"].view(torch.float64).tolist() == [*best.values()]
    for row, name in enumerate(best):
        path = RunCheckpoint(unimodal.run_dir / CHECKPOINTS).best_path(f"acc/{name}")
        content = read_checkpoint(path)
        assert int(state["best_epochs"][row]) == content["epoch"]
        for part in (f"encoders.{name}.", f"fusion.heads.{name}."):
            model = {k: v for k, v in content["state_dict"].items() if k.startswith(part)}
            assert model
            for key, value in model.items():
                assert torch.equal(state[f"teachers.{key}"], value)
    own_s = sum(row["time/epoch_s"] for row in read_metrics(job.run_dir))
    result = read_json(job.run_dir / RESULT)
    if source == "teachers":
        teachers = read_json(unimodal.run_dir / RESULT)
        assert result["train_time_s"] == pytest.approx(own_s + teachers["train_time_s"])
        assert any("in 4 epochs" in note for note in result["notes"])
        assert evaluate_run(job.run_dir, "test") == result["test"]
    else:
        assert result["train_time_s"] == pytest.approx(own_s)
        assert result["best_epoch"] > 4


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["seed=1"], r"its seed is 0, not 1.*mla train .*seed=1 .*method=unimodal"),
        (["data.data_seed=1"], "it was trained on other data"),
        (["modalities=[visual,audio]"], "its split or its modalities are others"),
        (["missing=anchor"], "its missing differs"),
        (["encoder.audio.hidden=5"], "its encoder differs"),
    ],
)
def test_teachers_of_another_run_are_refused(tmp_path, unimodal, words, reason):
    job = make_job(tmp_path, "method=umt", f"method.teachers='{unimodal.run_dir}'", *words)
    with pytest.raises(ConfigError, match=reason):
        train_job(job)


def test_teachers_are_a_finished_run_of_unimodal_training(tmp_path):
    joint = make_job(tmp_path, "method=concat")
    train_job(joint)
    job = make_job(tmp_path, "method=umt", f"method.teachers='{joint.run_dir}'")
    with pytest.raises(ConfigError, match="it is a run of method=concat"):
        train_job(job)


def counted(job):
    """Train a job in this process; return the number of batches that it trained itself."""
    number, original = [0], MultimodalModule.training_step

    def counting(self, batch, batch_idx):
        number[0] += 1
        return original(self, batch, batch_idx)

    MultimodalModule.training_step = counting
    try:
        train_job(job)
    finally:
        MultimodalModule.training_step = original
    return number[0]


def test_methods_share_the_training_of_their_teachers(tmp_path):
    def job_of(*words, folder="together"):
        return make_job(tmp_path / folder, *words)

    assert counted(job_of("method=umt")) == 2 * BATCHES
    g2d = job_of("method=g2d")
    assert counted(g2d) == BATCHES
    assert counted(job_of("method=pdmp")) == BATCHES
    assert counted(job_of("method=umt", "method.distill_weight=1")) == BATCHES
    assert counted(job_of("method=umt", "method.teacher_epochs=1", "name=other")) == BATCHES
    alone = job_of("method=g2d", folder="alone")
    assert counted(alone) == 2 * BATCHES
    one, other = outcome(g2d.run_dir), outcome(alone.run_dir)
    for rows in (one["rows"], other["rows"]):
        rows[0] = {k: v for k, v in rows[0].items() if not k.startswith("val/")}
    assert same(one, other)
    assert len([*(tmp_path / "together" / "stages").iterdir()]) == 1
    assert counted(job_of("method=umt", "optimizer.lr=0.04")) == 2 * BATCHES
    assert counted(job_of("method=umt", "missing=anchor")) == 2 * BATCHES


@pytest.mark.parametrize("step", [7, 13])
def test_a_run_that_is_killed_within_a_stage_resumes(tmp_path, step):
    """The initial weights of the student are those of the first attempt."""
    words = ("method=umt", "trainer.max_epochs=3", "method.teacher_epochs=2")
    whole = make_job(tmp_path / "whole", *words)
    assert in_child(lambda: run_job(whole)) == 0
    job = make_job(tmp_path / "killed", *words, "checkpoint.every_n_batches=1")
    assert killed(job, (*STEP, step)) == -9
    assert in_child(lambda: run_job(job)) == 0
    assert same(outcome(job.run_dir), outcome(whole.run_dir))


def noted(module, data, epochs):
    """Train, and return the state and the number of states of the optimiser at each step."""
    states, numbers, original = [], [], module.fit_batch

    def noting(batch):
        states.append({k: v.clone() for k, v in module.state_dict().items()})
        numbers.append(len(module.trainer.optimizers[0].state))
        assert module.training
        assert not any(part.training for part in module.teachers.modules())
        return original(batch)

    module.fit_batch = noting
    fit(module, data, epochs=epochs)
    return states, numbers


@pytest.mark.parametrize(("method", "fusion"), [(UMT, Concat), (G2D, LateFusion)])
def test_the_student_starts_anew_and_the_teachers_stay(method, fusion):
    data = batches(2)
    module = build(method, fusion, data, teacher_epochs=2)
    assert not module.is_selectable
    states, numbers = noted(module, data, 4)
    assert module.is_selectable
    initial, start = states[0], states[4]
    assert [bool(state["is_taught"]) for state in states] == [False] * 4 + [True] * 4
    assert numbers[0] == numbers[4] == 0 < min(numbers[1], numbers[5])
    student = [k for k in initial if k.startswith(("encoders.", "fusion."))]
    assert all(torch.equal(initial[k], start[k]) for k in student)
    assert any(not torch.equal(initial[k], states[3][k]) for k in student)
    taught = [k for k in initial if k.startswith("teachers.")]
    assert all(torch.equal(state[k], start[k]) for k in taught for state in states[4:])
    assert not any(torch.equal(initial[k], start[k]) for k in taught)
    parameters = module.trained_parameters()
    assert not {*map(id, parameters)} & {*map(id, module.teachers.parameters())}


def test_runs_without_an_epoch_for_each_are_refused():
    data = batches(1)
    with pytest.raises(ConfigError, match=r"teacher_epochs=2 of trainer\.max_epochs=2"):
        fit(build(UMT, Concat, data, teacher_epochs=2), data, epochs=2)
    with pytest.raises(ConfigError, match=r"teacher_epochs=half of trainer\.max_epochs=1"):
        fit(build(UMT, Concat, data), data, epochs=1)
    with pytest.raises(ConfigError, match="The teachers of runs/here were not loaded"):
        fit(build(UMT, Concat, data, teachers="runs/here"), data, epochs=1)


def test_an_optimiser_with_several_groups_is_not_shared():
    module = build(UMT, Concat, batches(1))
    assert module.stage_content({"optimizer_states": [{"param_groups": [{}, {}]}]}) is None

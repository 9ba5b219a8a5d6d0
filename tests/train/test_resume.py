"""A run that is killed and started again equals the uninterrupted run bit for bit."""

import random

import pytest
import torch
from tests.train.jobs import (
    BATCHES,
    EPOCHS,
    METHODS,
    in_child,
    kill_at,
    killed,
    make_job,
    outcome,
    same,
)
from torch.utils.data import DataLoader, TensorDataset

import mla_lightning.callbacks.checkpoint_io as checkpoint_io
from mla_lightning.callbacks.checkpoint import RunCheckpoint
from mla_lightning.callbacks.epoch_table import EpochTable
from mla_lightning.module import MultimodalModule
from mla_lightning.run.train import run_job
from mla_lightning.run_folder import RESULT, STATUS, is_finished, read_json, state_of

STEP = (MultimodalModule, "training_step")


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    job = make_job(tmp_path_factory.mktemp("whole"), "method=mla")
    assert run_job(job) == 0
    return outcome(job.run_dir)


def resume_after(job, call, *, before=True):
    assert killed(job, call, before=before) == -9
    assert not is_finished(job.run_dir)
    assert state_of(job.run_dir) == "killed"
    assert in_child(lambda: run_job(job)) == 0
    return outcome(job.run_dir)


ALL_POINTS = range(1, BATCHES * EPOCHS + 1)


@pytest.mark.parametrize("every", ["null", "1", "3"])
@pytest.mark.parametrize("batch", [*sorted(random.Random(0).sample(ALL_POINTS, 4)), 10])
def test_killed_at_a_batch(tmp_path, uninterrupted, batch, every):
    job = make_job(tmp_path, "method=mla", f"checkpoint.every_n_batches={every}")
    assert same(resume_after(job, (*STEP, batch)), uninterrupted)


@pytest.mark.slow
@pytest.mark.parametrize("batch", ALL_POINTS)
def test_killed_at_every_batch(tmp_path, uninterrupted, batch):
    job = make_job(tmp_path, "method=mla", "checkpoint.every_n_batches=1")
    assert same(resume_after(job, (*STEP, batch)), uninterrupted)


@pytest.mark.parametrize(
    ("owner", "name", "call"),
    [
        (MultimodalModule, "validation_step", 1),
        (MultimodalModule, "on_validation_epoch_end", 2),
        (MultimodalModule, "on_train_epoch_end", 1),
        (EpochTable, "on_train_epoch_end", 2),
        (RunCheckpoint, "_save", 1),
        (RunCheckpoint, "_save", 2),
        (checkpoint_io.os, "fsync", 2),
        (checkpoint_io.os, "fsync", 3),
        (checkpoint_io.torch, "save", 3),
    ],
)
@pytest.mark.parametrize("before", [True, False])
def test_killed_between_batches(tmp_path, uninterrupted, owner, name, call, before):
    job = make_job(tmp_path, "method=mla", "checkpoint.every_n_batches=4")
    assert same(resume_after(job, (owner, name, call), before=before), uninterrupted)


@pytest.mark.parametrize(("first", "then"), [(2, 2), (0, 2), (2, 0)])
def test_workers_change_nothing(tmp_path, uninterrupted, first, then):
    # Loader workers of the parent must not affect those of its children.
    assert len(list(DataLoader(TensorDataset(torch.arange(2)), num_workers=1))) == 2
    job = make_job(
        tmp_path, "method=mla", "checkpoint.every_n_batches=1", f"data.num_workers={first}"
    )
    assert killed(job, (*STEP, 7)) == -9
    again = make_job(
        tmp_path,
        "method=mla",
        "checkpoint.every_n_batches=1",
        f"data.num_workers={then}",
        f"run_dir='{job.run_dir}'",
        "force_resume=true",
    )
    assert in_child(lambda: run_job(again)) == 0
    assert same(outcome(job.run_dir), uninterrupted)


@pytest.mark.parametrize("method", METHODS)
def test_every_method_resumes(tmp_path, method):
    whole = make_job(tmp_path / "whole", f"method={method}", *METHODS[method])
    assert in_child(lambda: run_job(whole)) == 0
    job = make_job(
        tmp_path / "killed", f"method={method}", *METHODS[method], "checkpoint.every_n_batches=1"
    )
    assert same(resume_after(job, (*STEP, 14)), outcome(whole.run_dir))


@pytest.mark.parametrize("mode", ["own_momentum", "conflict", "class_means"])
def test_the_state_of_a_modification_resumes(tmp_path, mode):
    words = ("method=mla", f"method.projection={mode}", "checkpoint.every_n_batches=1")
    whole = make_job(tmp_path / "whole", *words)
    assert in_child(lambda: run_job(whole)) == 0
    job = make_job(tmp_path / "killed", *words)
    assert same(resume_after(job, (*STEP, 14)), outcome(whole.run_dir))


def test_a_weight_that_follows_held_out_samples_resumes(tmp_path):
    words = ("method=lfm", "method.weight=learnable", "data.held_out=0.25")  # 8 batches are left
    words += ("method.scope=first", "trainer.max_epochs=3", "checkpoint.every_n_batches=1")
    whole = make_job(tmp_path / "whole", *words)
    assert in_child(lambda: run_job(whole)) == 0
    job = make_job(tmp_path / "killed", *words)
    ended = resume_after(job, (*STEP, 12))
    assert same(ended, outcome(whole.run_dir))
    assert float(ended["checkpoint"]["state_dict"]["lowered"]) != 0


def test_several_kills_in_a_row_do_not_add_or_lose_a_batch(tmp_path, uninterrupted):
    job = make_job(tmp_path, "method=mla", "checkpoint.every_n_batches=2")
    for batch in (3, 2, 5, 6):
        assert killed(job, (*STEP, batch)) == -9
    assert in_child(lambda: run_job(job)) == 0
    assert same(outcome(job.run_dir), uninterrupted)
    assert read_json(job.run_dir / RESULT)["num_batches_trained"] == BATCHES * EPOCHS
    assert read_json(job.run_dir / STATUS)["attempt"] == 5


def test_a_finished_run_returns_at_once(tmp_path, capsys):
    job = make_job(tmp_path, "method=concat")
    assert run_job(job) == 0
    before = (job.run_dir / RESULT).stat().st_mtime_ns

    def must_not_train():
        kill_at(*STEP, 1)
        return run_job(job)

    assert in_child(must_not_train) == 0
    assert (job.run_dir / RESULT).stat().st_mtime_ns == before


def test_killed_after_the_last_epoch(tmp_path, uninterrupted):
    job = make_job(tmp_path, "method=mla")
    from mla_lightning.run import measure

    assert same(resume_after(job, (measure, "predict", 1)), uninterrupted)


def test_seeds(tmp_path, uninterrupted):
    again = make_job(tmp_path / "again", "method=mla")
    other = make_job(tmp_path / "other", "method=mla", "seed=1")
    assert in_child(lambda: run_job(again)) == 0
    assert in_child(lambda: run_job(other)) == 0
    assert same(outcome(again.run_dir), uninterrupted)
    assert not same(outcome(other.run_dir)["rows"], uninterrupted["rows"])


def test_a_job_run_before_in_the_same_process_changes_nothing(tmp_path, uninterrupted):
    first, second = make_job(tmp_path, "method=qmf", "seed=3"), make_job(tmp_path, "method=mla")

    def both():
        return run_job(first) or run_job(second)

    assert in_child(both) == 0
    assert same(outcome(second.run_dir), uninterrupted)


def test_threads_precision_and_layout_belong_to_the_identity(tmp_path):
    plain = make_job(tmp_path)
    for key in ("trainer.threads=2", "trainer.precision=bf16-mixed", "trainer.accumulate=2"):
        assert make_job(tmp_path, key).identity != plain.identity
    assert make_job(tmp_path, "trainer.progress_bar=false").identity == plain.identity


def test_another_job_in_the_same_folder_is_an_error(tmp_path, capfd):
    folder = tmp_path / "run"
    job = make_job(tmp_path, "method=mla", f"run_dir={folder}")
    assert killed(job, (*STEP, 12)) == -9
    other = make_job(tmp_path, "method=mla", "optimizer.momentum=0.5", f"run_dir={folder}")
    assert run_job(other) == 2
    message = capfd.readouterr().err
    assert "optimizer.momentum: 0.9 -> 0.5" in message
    assert "force_resume=true" in message
    forced = make_job(
        tmp_path, "method=mla", "optimizer.momentum=0.5", f"run_dir={folder}", "force_resume=true"
    )
    assert in_child(lambda: run_job(forced)) == 0

"""Broken, foreign and unwritable files."""

import errno
import os
import pickle
import random
import resource
import shutil
import signal
import sys

import pytest
import torch
from test_resume import STEP
from tests.train.jobs import in_child, killed, make_job, outcome, same

import mla_lightning.callbacks.checkpoint_io as checkpoint_io
from mla_lightning.callbacks.checkpoint import newest_valid, resumable
from mla_lightning.callbacks.checkpoint_io import CheckedCheckpointIO, is_valid, read_checkpoint
from mla_lightning.errors import RunError
from mla_lightning.run.build import build_data, build_module
from mla_lightning.run.evaluate import load_weights
from mla_lightning.run.train import run_job
from mla_lightning.run_folder import CHECKPOINTS, ERROR, RESULT, STATUS, read_json


@pytest.fixture(scope="module")
def killed_run(tmp_path_factory):
    """A run killed in its second epoch with two checkpoints, and its outcome without the kill."""
    whole = make_job(tmp_path_factory.mktemp("whole"), "method=mla")
    assert in_child(lambda: run_job(whole)) == 0
    job = make_job(tmp_path_factory.mktemp("killed"), "method=mla", "checkpoint.every_n_batches=2")
    assert killed(job, (*STEP, 16)) == -9
    return job, outcome(whole.run_dir)


def copy_of(job, root):
    moved = make_job(root, "method=mla", "checkpoint.every_n_batches=2")
    shutil.copytree(job.run_dir, moved.run_dir)
    return moved


def test_disk_full_while_checkpointing(tmp_path, monkeypatch, killed_run, capfd):
    job = copy_of(killed_run[0], tmp_path)
    before = [p for p in resumable(job.run_dir / CHECKPOINTS) if is_valid(p)]

    def full():
        def fsync(fd):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        checkpoint_io.os.fsync = fsync
        return run_job(job)

    def full_for_checkpoints():
        original = CheckedCheckpointIO.save_checkpoint

        def save(self, *args, **kwargs):
            fsync = os.fsync
            os.fsync = lambda fd: (_ for _ in ()).throw(OSError(errno.ENOSPC, "No space left"))
            try:
                return original(self, *args, **kwargs)
            finally:
                os.fsync = fsync

        CheckedCheckpointIO.save_checkpoint = save
        return run_job(job)

    assert in_child(full_for_checkpoints) == 1
    assert "No space left" in capfd.readouterr().err
    assert "No space left" in (job.run_dir / ERROR).read_text()
    assert read_json(job.run_dir / STATUS)["state"] == "failed"
    assert [p for p in resumable(job.run_dir / CHECKPOINTS) if is_valid(p)] == before
    assert not list((job.run_dir / CHECKPOINTS).glob("*.tmp"))
    assert not list((job.run_dir / CHECKPOINTS).glob(".*.ckpt.*tmp"))
    assert in_child(full) == 1  # even the status cannot be written: still an exit code
    assert in_child(lambda: run_job(job)) == 0
    assert same(outcome(job.run_dir), killed_run[1])


@pytest.mark.parametrize("limit", [8_000, 2_000, 300])
def test_a_limit_on_the_size_of_files_is_named(tmp_path, killed_run, limit):
    """By torch's writer, whose own error is about a position, and by every other one.

    The smallest limit is below the size of the record of the failure, which must not hide it.
    """
    job = copy_of(killed_run[0], tmp_path)
    ours, theirs = os.pipe()  # the file that pytest captures into would have the limit as well

    def limited():
        sys.stderr = os.fdopen(theirs, "w", buffering=1)
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
        return run_job(job)

    assert in_child(limited) == 1
    os.close(theirs)
    with open(ours) as pipe:
        message = pipe.read()
    assert "File too large" in message
    assert str(job.run_dir) in message
    assert "again to resume" in message
    assert "RuntimeError" not in message
    assert "Errno" not in message
    assert (job.run_dir / ERROR).exists() or "The traceback is in" not in message
    assert ("the failure cannot be recorded: " in message) != (job.run_dir / ERROR).exists()
    assert in_child(lambda: run_job(job)) == 0
    assert same(outcome(job.run_dir), killed_run[1])


def cut(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def empty(path):
    path.write_bytes(b"")


def text(path):
    path.write_text("checkpoint")


def flip_a_bit(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(bytes(content))


@pytest.mark.parametrize("damage", [cut, empty, text, flip_a_bit])
def test_a_run_resumes_from_the_checkpoint_before_a_damaged_one(
    tmp_path, killed_run, damage, capfd
):
    job = copy_of(killed_run[0], tmp_path)
    newest = resumable(job.run_dir / CHECKPOINTS)[0]
    damage(newest)
    assert in_child(lambda: run_job(job)) == 0
    assert f"{newest.name} is broken" in capfd.readouterr().out
    assert same(outcome(job.run_dir), killed_run[1])


def test_only_damaged_checkpoints_are_an_error_with_their_names(tmp_path, killed_run, capfd):
    job = copy_of(killed_run[0], tmp_path)
    for path in resumable(job.run_dir / CHECKPOINTS):
        flip_a_bit(path)
    assert in_child(lambda: run_job(job)) == 1
    message = capfd.readouterr().err
    assert "overwrite=true" in message
    assert path.name in message


def test_weights_of_another_model_are_an_error_and_nothing_is_loaded(tmp_path):
    job = make_job(tmp_path, "method=mla")
    data = build_data(job.config)
    module = build_module(job.config, data)
    before = {k: v.clone() for k, v in module.state_dict().items()}
    state = dict(before)
    moved = state.pop("fusion.head.weight")
    state["fusion.other"] = moved
    state["fusion.head.bias"] = torch.zeros(99)
    with pytest.raises(RunError) as error:
        load_weights(module, state, tmp_path / "x.ckpt")
    for problem in ("missing fusion.head.weight", "unexpected fusion.other", "(99,)"):
        assert problem in str(error.value)
    assert same(dict(module.state_dict()), before)


def test_different_jobs_have_different_folders(tmp_path):
    one, other = make_job(tmp_path, "method=mla"), make_job(tmp_path, "method=mla", "seed=1")
    assert one.run_dir != other.run_dir
    assert one.run_dir == make_job(tmp_path, "method=mla").run_dir


@pytest.mark.parametrize("seed", range(20))
def test_rotation_keeps_valid_checkpoints(tmp_path, seed):
    from mla_lightning.callbacks.checkpoint import RunCheckpoint

    rng, io = random.Random(seed), CheckedCheckpointIO()

    class FakeTrainer:
        strategy = io
        current_epoch = 0
        is_global_zero = True
        num_training_batches = 10**9

        def save_checkpoint(self, path):
            io.save_checkpoint({"x": torch.ones(2)}, path)

    callback = RunCheckpoint(tmp_path, keep=rng.choice([1, 2, 3]))
    for batch in range(12):
        callback.save_within_epoch(FakeTrainer(), batch)
        if rng.random() < 0.5:
            valid = [path for path in resumable(tmp_path) if is_valid(path)]
            rng.choice([cut, empty, flip_a_bit])(rng.choice(valid))
        valid = [p for p in resumable(tmp_path) if is_valid(p)]
        if valid:
            assert newest_valid(tmp_path)[0] == valid[0]
    callback.save_within_epoch(FakeTrainer(), 99)
    assert newest_valid(tmp_path)[0] is not None


class Payload:
    def __init__(self, marker):
        self.marker = marker

    def __reduce__(self):
        return (os.mkdir, (str(self.marker),))


@pytest.mark.parametrize("checked", [True, False])
def test_a_malicious_checkpoint_is_never_executed(tmp_path, checked):
    marker, path = tmp_path / "marker", tmp_path / "epoch=0001-batch=000000.ckpt"
    if checked:
        CheckedCheckpointIO().save_checkpoint({"x": Payload(marker)}, path)
    else:
        path.write_bytes(pickle.dumps(Payload(marker)))
    with pytest.raises(RunError):
        read_checkpoint(path)
    with pytest.raises(RunError):
        CheckedCheckpointIO().load_checkpoint(path, weights_only=False)
    assert not marker.exists()


def test_a_run_does_not_execute_a_malicious_checkpoint(tmp_path, killed_run):
    job = copy_of(killed_run[0], tmp_path)
    marker = tmp_path / "marker"
    newest = resumable(job.run_dir / CHECKPOINTS)[0]
    CheckedCheckpointIO().save_checkpoint({"state_dict": Payload(marker)}, newest)
    assert in_child(lambda: run_job(job)) == 1
    assert not marker.exists()
    assert not (job.run_dir / RESULT).exists()


def test_checkpoints_are_plain_data(killed_run):
    for path in resumable(killed_run[0].run_dir / CHECKPOINTS):
        assert torch.load(path, weights_only=True)["state_dict"]

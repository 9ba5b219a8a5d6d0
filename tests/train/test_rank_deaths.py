"""Jobs of two ranks that are stopped, killed or fail: one state, one reason, and no process."""

import dataclasses
import gc
import os
import signal
import threading
import time
from datetime import timedelta

import pytest
import torch
from tests.train.jobs import in_child, make_job, outcome, same
from tests.train.ranked import (
    EPOCHS,
    LONG,
    exit_code,
    have_ended,
    ranks_of,
    start,
    start_tasks,
    wait_for_epochs,
)
from torch.distributed import TCPStore

from mla_lightning import run_folder as files
from mla_lightning.errors import DataError
from mla_lightning.module import MultimodalModule
from mla_lightning.ranks import rank
from mla_lightning.run import fit, rank_processes, train
from mla_lightning.run.rank_group import RankGroup
from mla_lightning.run.train import run_job
from mla_lightning.run_folder.forks import fork
from mla_lightning.run_folder.rank_variables import StartedRank


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """Return what a run has that nothing has stopped."""
    job = make_job(tmp_path_factory.mktemp("whole"), *LONG)
    assert in_child(lambda: run_job(job)) == 0
    return outcome(job.run_dir)


def status_of(job):
    return files.read_json(job.run_dir / files.STATUS)


@pytest.mark.parametrize(
    ("place", "number", "code", "state"),
    [
        (0, signal.SIGTERM, 143, "preempted"),
        (1, signal.SIGTERM, 143, "preempted"),
        (1, signal.SIGUSR2, 143, "preempted"),
        (0, signal.SIGINT, 130, "interrupted"),
    ],
)
def test_a_signal_to_one_rank_stops_all_after_the_same_batch(
    tmp_path, whole, place, number, code, state
):
    job = make_job(tmp_path, *LONG)
    pid = start(job)
    wait_for_epochs(job, 2)
    others = ranks_of(pid)
    os.kill([pid, *others][place], number)
    assert exit_code(pid) == code
    assert have_ended(others)
    assert status_of(job)["state"] == state
    assert status_of(job)["exit_code"] == code
    assert signal.Signals(number).name in status_of(job)["reason"] or state == "interrupted"
    assert 2 <= len(files.read_metrics(job.run_dir)) < EPOCHS
    assert in_child(lambda: run_job(job)) == 0
    assert same(outcome(job.run_dir), whole)


def test_a_killed_rank_ends_the_job_which_says_so_and_goes_on(tmp_path, whole):
    job = make_job(tmp_path, *LONG)
    pid = start(job)
    wait_for_epochs(job, 2)
    (other,) = ranks_of(pid)
    killed = time.monotonic()
    os.kill(other, signal.SIGKILL)
    assert exit_code(pid) == 1
    assert time.monotonic() - killed < 5
    assert status_of(job)["state"] == "failed"
    assert status_of(job)["reason"] == "Rank 1: killed by SIGKILL (out of memory?)"
    assert in_child(lambda: run_job(job)) == 0
    assert same(outcome(job.run_dir), whole)


def test_of_three_ranks_the_one_that_was_killed_is_named(tmp_path, monkeypatch):
    """The third rank loses its connections, too, but is not the reason."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: range(3))
    job = make_job(tmp_path, *LONG, "trainer.devices=3")
    pid = start(job)
    wait_for_epochs(job, 1)
    others = ranks_of(pid)
    assert len(others) == 2
    os.kill(others[1], signal.SIGKILL)
    assert exit_code(pid) == 1
    assert have_ended(others)
    assert status_of(job)["reason"] == "Rank 2: killed by SIGKILL (out of memory?)"


def test_a_rank_that_waits_without_end_for_a_lost_one_is_ended(tmp_path, capfd):
    """As operations of GPUs do, which notice nothing for half an hour."""
    job = make_job(tmp_path, *LONG)

    def prepare():
        rank_processes._GRACE_S = 0.3
        original = MultimodalModule.training_step

        def waiting(module, *batch):
            if rank() == 0 and module.current_epoch == 2:
                (tmp_path / "waits").touch()
                time.sleep(60)
            return original(module, *batch)

        MultimodalModule.training_step = waiting

    pid = start(job, prepare)
    while not (tmp_path / "waits").exists():
        time.sleep(0.01)
    (other,) = ranks_of(pid)
    os.kill(other, signal.SIGKILL)
    assert exit_code(pid) == 1
    reason = "Rank 1: killed by SIGKILL (out of memory?)"
    assert status_of(job)["state"] == "failed"
    assert status_of(job)["reason"] == reason
    assert f"error: {reason}" in capfd.readouterr().err
    assert reason in (job.run_dir / files.ERROR).read_text()


def test_the_ranks_of_a_killed_job_end_with_it(tmp_path, whole):
    job = make_job(tmp_path, *LONG)
    pid = start(job)
    wait_for_epochs(job, 2)
    others = ranks_of(pid)
    os.kill(pid, signal.SIGKILL)
    assert exit_code(pid) == -9
    assert have_ended(others, limit_s=1.0)
    assert in_child(lambda: run_job(job)) == 0
    assert same(outcome(job.run_dir), whole)


def fail_on_rank(number, owner, name, error):
    """Let a function raise an error, in its third call on one rank."""
    original, calls = getattr(owner, name), []

    def failing(*arguments, **options):
        calls.append(1)
        if len(calls) == 3 and rank() == number:
            raise error
        return original(*arguments, **options)

    setattr(owner, name, failing)


@pytest.mark.parametrize("place", [0, 1])
@pytest.mark.parametrize(
    ("error", "code", "words"),
    [
        (DataError("audio.npy is damaged"), 3, "audio.npy is damaged"),
        (torch.OutOfMemoryError("CUDA out of memory"), 1, "memory of the device is used up"),
        (
            KeyError("no_such_key"),
            1,
            "training, epoch 1, batch 3: KeyError: 'no_such_key'",
        ),
    ],
)
def test_an_error_on_one_rank_is_the_reason_of_the_job(tmp_path, place, error, code, words):
    job = make_job(tmp_path, *LONG)

    def prepare():
        fail_on_rank(place, MultimodalModule, "training_step", error)

    pid = start(job, prepare)
    others = ranks_of(pid)
    assert exit_code(pid) == code
    assert have_ended(others)
    assert status_of(job)["state"] == "failed"
    assert words in status_of(job)["reason"]
    assert ("Rank 1: " in status_of(job)["reason"]) == (place == 1)
    text = (job.run_dir / files.ERROR).read_text()
    assert words in text
    assert "in failing" in text  # the traceback of that rank


def test_a_trial_below_its_floor_is_pruned_on_all_ranks(tmp_path):
    job = dataclasses.replace(make_job(tmp_path, *LONG), floor=(2.0,))
    pid = start(job)
    assert exit_code(pid) == 4
    assert status_of(job)["state"] == "pruned"
    assert len(files.read_metrics(job.run_dir)) == 1


def test_a_signal_before_training_ends_the_job_as_preempted(tmp_path):
    """One that comes while the ranks are forked waits until the rank can handle it."""
    job = make_job(tmp_path, *LONG)

    def prepare():
        first, original = os.getpid(), train.StopSignals.set_handlers

        def signalled(signals):
            original(signals)
            if os.getpid() != first:
                os.kill(os.getpid(), signal.SIGTERM)

        train.StopSignals.set_handlers = signalled

    pid = start(job, prepare)
    assert exit_code(pid) == 143
    assert status_of(job)["state"] == "preempted"
    assert status_of(job)["reason"].startswith("Rank 1: Ended by SIGTERM")


def test_an_error_before_training_reaches_the_first_rank(tmp_path):
    """The ranks have no process group yet, which would break."""
    job = make_job(tmp_path, *LONG)

    def prepare():
        first, original = os.getpid(), fit.build_data

        def failing(config):
            if os.getpid() != first:
                raise DataError("audio.npy is not on this machine")
            return original(config)

        fit.build_data = failing

    pid = start(job, prepare)
    assert exit_code(pid) == 3
    assert status_of(job)["reason"] == "Rank 1: audio.npy is not on this machine"


@pytest.mark.parametrize("place", [0, 1])
def test_a_killed_task_of_srun_ends_the_other(tmp_path, whole, place, capfd):
    job = make_job(tmp_path, *LONG)
    pids = start_tasks(job, {})
    wait_for_epochs(job, 2)
    os.kill(pids[place], signal.SIGKILL)
    assert exit_code(pids[place]) == -9
    assert exit_code(pids[1 - place]) == 1
    if place:
        assert status_of(job)["reason"].startswith("Another rank of the job has ended without")
    else:
        assert "Rank 0: has ended" in capfd.readouterr().err
    assert in_child(lambda: run_job(job)) == 0
    assert same(outcome(job.run_dir), whole)


def test_an_error_of_a_task_of_srun_is_the_reason_of_the_first(tmp_path):
    job = make_job(tmp_path, *LONG)
    error = DataError("audio.npy is damaged")
    pids = start_tasks(
        job, {}, prepare=lambda: fail_on_rank(1, MultimodalModule, "training_step", error)
    )
    assert [exit_code(pid) for pid in pids] == [3, 3]
    assert status_of(job)["reason"] == "Rank 1: audio.npy is damaged"


def test_a_forked_process_never_waits_for_threads_of_an_earlier_jobs_store():
    """They are not in the forked process, whose new threads may have their places."""
    gc.disable()
    try:
        store = TCPStore("127.0.0.1", 0, 1, is_master=True, timeout=timedelta(seconds=5))
        group = RankGroup(StartedRank(0, 1, 0, "127.0.0.1", store.port), store, is_forked=True)
        group.itself = group  # only the garbage collector would delete it
        del group, store
        pid = fork()
        if pid == 0:
            for _ in range(10):
                threading.Thread(target=time.sleep, args=(0.1,), daemon=True).start()
            gc.collect()
            os._exit(0)
        assert exit_code(pid) == 0
    finally:
        gc.enable()

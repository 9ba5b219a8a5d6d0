"""Sweeps on Ray itself, started on this machine: ``make test-ray``."""

import os
import signal
import threading

import pytest

from mla_lightning import run_folder as files
from mla_lightning.config import compose_jobs
from mla_lightning.launchers.ray import RayLauncher
from mla_lightning.launchers.sweep import run_sweep
from mla_lightning.run_folder import State
from mla_lightning.run_folder.lock import RunLock
from tests.sweep.stand_in import launcher as fork_launcher
from tests.sweep.stand_in import status_of, wait_until
from tests.train.jobs import TINY, outcome, same

pytest.importorskip("ray", reason="needs Ray: pip install 'mla_lightning[ray]'")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore"),  # of Ray and of its libraries
    pytest.mark.timeout(600),
]
LONG = {"trainer.max_epochs": "150", "scheduler.step_size": "50", "checkpoint.keep": "1"}


@pytest.fixture
def place(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def compose_long():
    words = dict(word.split("=", 1) for word in TINY) | LONG
    return compose_jobs([f"{key}={value}" for key, value in words.items()])[0]


def when_running(job, action):
    """Do something to a job's process in its third epoch."""

    def act():
        wait_until(lambda: len(files.read_metrics(job.run_dir)) > 2, seconds=300)
        action(RunLock(job.run_dir).holder())

    thread = threading.Thread(target=act)
    thread.start()
    return thread


def forked(jobs, place, monkeypatch):
    """Return what the same jobs give on the fork launcher."""
    (place / "other").mkdir()
    monkeypatch.chdir(place / "other")
    assert run_sweep(jobs, fork_launcher(job_function=None)) == 0
    return [outcome(job.run_dir) for job in jobs]


def test_runs_equal_those_of_the_fork_launcher_bit_for_bit(place, monkeypatch):
    jobs = compose_jobs([*TINY, "method=mla,concat"], multirun=True)
    assert run_sweep(jobs, RayLauncher()) == 0
    runs = [outcome(job.run_dir) for job in jobs]
    assert same(forked(jobs, place, monkeypatch), runs)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_job_whose_worker_ends_goes_on_by_itself_bit_for_bit(place, monkeypatch, number):
    job = compose_long()
    holders = []

    def end(holder):
        holders.append(holder)
        os.kill(holder["pid"], number)

    thread = when_running(job, end)
    assert run_sweep([job], RayLauncher()) == 0
    thread.join()
    assert status_of(job)["attempt"] == 2
    assert (holders[0]["scheduler_job"]["scheduler"], holders[0]["scheduler_job"]["restart"]) == (
        *("ray", 0),
    )
    run = outcome(job.run_dir)
    assert same(forked([job], place, monkeypatch), [run])


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_stopped_sweep_goes_on_with_another_launcher(place, monkeypatch, number, code):
    job = compose_long()
    thread = when_running(job, lambda _: os.kill(os.getpid(), number))
    assert run_sweep([job], RayLauncher()) == code
    thread.join()
    assert files.state_of(job.run_dir) == State.INTERRUPTED
    assert list((job.run_dir / files.CHECKPOINTS).glob("epoch=*.ckpt"))
    assert run_sweep([job], fork_launcher(job_function=None)) == 0
    run = outcome(job.run_dir)
    assert same(forked([job], place, monkeypatch), [run])

"""Sweeps on the launcher plugins of Hydra that are installed: processes of their own."""

import os
import signal
import threading

import pytest
from tests.sweep.stand_in import launcher as fork_launcher
from tests.sweep.stand_in import status_of, wait_until
from tests.train.jobs import TINY, outcome, same

from mla_lightning import run_folder as files
from mla_lightning.config import compose_jobs
from mla_lightning.launchers.hydra import FOLDER, HydraLauncher
from mla_lightning.launchers.sweep import run_sweep
from mla_lightning.run_folder import State

pytest.importorskip("hydra_plugins.hydra_joblib_launcher")
pytest.importorskip("hydra_plugins.hydra_submitit_launcher")


@pytest.fixture
def place(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("plugin", "options"),
    [("joblib", {"n_jobs": 1}), pytest.param("submitit_local", {}, marks=pytest.mark.slow)],
)
def test_runs_equal_those_of_the_fork_launcher_bit_for_bit(place, monkeypatch, plugin, options):
    jobs = compose_jobs([*TINY, "method=mla,concat"], multirun=True)[: 1 if options else 2]
    assert run_sweep(jobs, HydraLauncher(plugin=plugin, options=options)) == 0
    runs = [outcome(job.run_dir) for job in jobs]
    assert not (jobs[0].run_dir.parent / FOLDER).exists()
    (place / "other").mkdir()
    monkeypatch.chdir(place / "other")
    assert run_sweep(jobs, fork_launcher(job_function=None)) == 0
    assert same([outcome(job.run_dir) for job in jobs], runs)


@pytest.mark.slow
@pytest.mark.parametrize("plugin", ["joblib", "submitit_local"])
def test_jobs_of_a_stopped_sweep_go_on_bit_for_bit(place, monkeypatch, plugin):
    words = [*TINY, "trainer.max_epochs=200", "scheduler.step_size=50", "checkpoint.keep=1"]
    by_key = {word.partition("=")[0]: word for word in words}
    jobs = compose_jobs([*by_key.values()])

    def stop():
        wait_until(lambda: len(files.read_metrics(jobs[0].run_dir)) > 1, seconds=120)
        os.kill(os.getpid(), signal.SIGTERM)

    thread = threading.Thread(target=stop)
    thread.start()
    assert run_sweep(jobs, HydraLauncher(plugin=plugin)) == 143
    thread.join()
    assert files.state_of(jobs[0].run_dir) == State.PREEMPTED
    assert run_sweep(jobs, fork_launcher(job_function=None)) == 0
    assert status_of(jobs[0])["attempt"] == 2
    run = outcome(jobs[0].run_dir)
    (place / "other").mkdir()
    monkeypatch.chdir(place / "other")
    assert run_sweep(jobs, fork_launcher(job_function=None)) == 0
    assert same(outcome(jobs[0].run_dir), run)

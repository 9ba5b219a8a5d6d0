"""Jobs within a scheduler's: its variables change nothing, and its warnings are heeded."""

import os
import signal
import time
import warnings

import pytest
from lightning.fabric.utilities.rank_zero import rank_zero_only
from tests.train.jobs import in_child, make_job, outcome, same
from tests.train.test_signals import code_of, group_of, members_of

from mla_lightning import run_folder as files
from mla_lightning.cli import main
from mla_lightning.launchers.fork import ForkLauncher
from mla_lightning.launchers.sweep import run_sweep
from mla_lightning.run.train import run_job

WORDS = ("method=mla", "data.batch_size=8")
#: Variables of a task of SLURM, the second of two, and of the one process that torchrun started.
VARIABLES = {
    "srun": {
        "SLURM_JOB_ID": "17",
        "SLURM_JOB_NAME": "table1",
        "SLURM_NTASKS": "2",
        "SLURM_PROCID": "1",
        "SLURM_LOCALID": "1",
        "SLURM_NODEID": "0",
        "SLURM_NODELIST": "n1",
    },
    "torchrun": {
        "TORCHELASTIC_RUN_ID": "none",
        "RANK": "0",
        "LOCAL_RANK": "0",
        "WORLD_SIZE": "1",
        "LOCAL_WORLD_SIZE": "1",
        "GROUP_RANK": "0",
        "MASTER_ADDR": "nowhere",
        "MASTER_PORT": "1",
    },
    "login node": {},
}


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    job = make_job(tmp_path_factory.mktemp("whole"), *WORDS)
    assert in_child(lambda: run_job(job)) == 0
    return outcome(job.run_dir)


@pytest.mark.parametrize("place", VARIABLES)
def test_variables_of_schedulers_change_nothing(tmp_path, whole, place, monkeypatch):
    for name, value in VARIABLES[place].items():
        monkeypatch.setenv(name, value)
    srun = tmp_path / "bin" / "srun"
    srun.parent.mkdir()
    srun.write_text("#!/bin/sh\nexit 1\n")
    srun.chmod(0o755)
    monkeypatch.setenv("PATH", f"{srun.parent}:{os.environ['PATH']}")
    job = make_job(tmp_path, *WORDS)
    handler = signal.getsignal(signal.SIGUSR1)

    def action():
        # As when Lightning is imported with these variables; its loggers then write nothing.
        rank_zero_only.rank = 1 if VARIABLES[place] else 0
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            code = run_job(job)
        assert rank_zero_only.rank == 0
        assert signal.getsignal(signal.SIGUSR1) == handler
        return code

    assert in_child(action) == 0
    assert same(outcome(job.run_dir), whole)
    assert not list(job.run_dir.rglob("hpc_ckpt*"))


@pytest.mark.parametrize("number", [signal.SIGUSR1, signal.SIGUSR2])
@pytest.mark.parametrize("phase", ["training", "evaluation"])
def test_a_warning_before_a_time_limit_is_a_preemption(tmp_path, whole, phase, number):
    job = make_job(tmp_path, *WORDS, "data.num_workers=2")
    with group_of(lambda: run_job(job), phase) as group:
        os.killpg(group, number)  # SLURM sends it to all processes, loader workers too
        assert code_of(group) == 143
    status = files.read_json(job.run_dir / files.STATUS)
    assert files.state_of(job.run_dir) == "preempted"
    assert f"Ended by {number.name}" in status["reason"]
    if phase == "training":
        assert (job.run_dir / files.CHECKPOINTS / "epoch=0001-batch=000003.ckpt").exists()
    assert in_child(lambda: run_job(job)) == 0
    assert same(outcome(job.run_dir), whole)


@pytest.mark.parametrize("number", [signal.SIGUSR1, signal.SIGUSR2])
def test_a_warning_before_a_run_starts_ends_the_command(monkeypatch, number):
    """As during imports, where a scheduler would take the default, a kill, for a failure."""
    monkeypatch.setattr(main, "_run", lambda words: os.kill(os.getpid(), number))
    assert in_child(lambda: main.main(["train"])) == 143


def test_a_sweep_heeds_warnings_and_repeated_ones_kill_nothing(tmp_path, whole):
    job = make_job(tmp_path, *WORDS)

    def sweep():
        return run_sweep([job], ForkLauncher(jobs=1, grace_s=20))

    with group_of(sweep, "training") as group:
        own = files.read_json(job.run_dir / files.STATUS)["pid"]
        for _ in range(3):
            os.kill(group, signal.SIGUSR2)
            time.sleep(0.05)
        assert code_of(group) == 143
    assert files.state_of(job.run_dir) == "preempted"
    assert (job.run_dir / files.CHECKPOINTS / "epoch=0001-batch=000003.ckpt").exists()
    assert members_of(own) == []
    assert in_child(lambda: run_job(job)) == 0
    assert same(outcome(job.run_dir), whole)

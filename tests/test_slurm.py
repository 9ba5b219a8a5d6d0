"""Runs within jobs of a real SLURM: equal to runs outside, stopped, requeued, at a time limit.

`make test` runs them after all others where SLURM is installed; `make test-slurm` runs them alone,
and fails where it is not.
"""

import os
import shlex
import sys
import tempfile
import time
from pathlib import Path

import pytest

import mla_lightning
from mla_lightning import run_folder as files
from mla_lightning.run.train import run_job
from mla_lightning.run_folder.lock import RunLock
from tests.slurm_cluster import HOW_TO_INSTALL, SlurmCluster, missing_programs
from tests.train.jobs import in_child, make_job, outcome, same

pytestmark = pytest.mark.slurm
SOURCE = Path(mla_lightning.__file__).parents[1]
MAIN = "import sys; from mla_lightning.cli.main import main; sys.exit(main())"
#: Long enough to be stopped in the middle, beside the imports of a job.
LONG = ("method=mla", "data.batch_size=8", "trainer.max_epochs=150", "data.num_workers=0")
SHORT = ("method=mla", "data.batch_size=8")


@pytest.fixture(scope="module")
def cluster():
    missing = missing_programs()
    if missing or os.geteuid():
        text = f"SLURM is not installed ({', '.join(missing)} missing): {HOW_TO_INSTALL}"
        text = text if missing else "the test cluster needs root"
        pytest.fail(text) if os.environ.get("MLA_NEEDS_SLURM") else pytest.skip(text)
    with tempfile.TemporaryDirectory(prefix="slurm") as folder:
        slurm = SlurmCluster(Path(folder))
        slurm.variables |= {"PYTHONPATH": str(SOURCE), "OMP_NUM_THREADS": "1"}
        try:
            slurm.start()
            yield slurm
        finally:
            slurm.stop()


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    job = make_job(tmp_path_factory.mktemp("whole"), *LONG)
    assert in_child(lambda: run_job(job)) == 0
    return outcome(job.run_dir)


def command_of(job, *more):
    """Return the command that trains a job, as a line of a shell."""
    words = [sys.executable, "-c", MAIN, "train", *job.overrides, *more]
    return f"srun {shlex.join(words)}"


def wait_for_epochs(job, number):
    until = time.monotonic() + 150  # beside other work on few cores
    while len(files.read_metrics(job.run_dir)) < number:
        assert time.monotonic() < until
        time.sleep(0.02)


def test_the_tasks_of_an_array_equal_runs_outside_of_slurm(cluster, tmp_path):
    jobs = [make_job(tmp_path / "slurm", *SHORT, f"seed={seed}") for seed in range(3)]
    array = cluster.submit(
        "case $SLURM_ARRAY_TASK_ID in\n"
        + "\n".join(f"{number}) {command_of(job)};;" for number, job in enumerate(jobs))
        + "\nesac",
        "--array=0-2",
    )
    assert cluster.wait(array, "COMPLETED") == "COMPLETED"
    for seed, job in enumerate(jobs):
        outside = make_job(tmp_path / "outside", *SHORT, f"seed={seed}")
        assert in_child(lambda run=outside: run_job(run)) == 0
        assert same(outcome(job.run_dir), outcome(outside.run_dir))
        assert not list(job.run_dir.rglob("hpc_ckpt*"))
    assert "srun` command is available" not in "".join(
        path.read_text() for path in cluster.root.glob("job-*.log")
    )


def test_a_second_task_of_a_run_is_refused_and_the_first_is_not_disturbed(cluster, tmp_path):
    """As of `srun -n 2`, where Lightning alone takes the tasks for ranks."""
    job = make_job(tmp_path, *LONG)
    number = cluster.submit(command_of(job).replace("srun", "srun -n 2", 1), "-n", "2")
    assert cluster.wait(number, "COMPLETED", "FAILED") == "FAILED"
    log = (cluster.root / f"job-{number}.log").read_text()
    assert f"(SLURM job {number})" in log
    assert files.state_of(job.run_dir) == "finished"


def test_a_cancelled_job_is_preempted_and_goes_on(cluster, tmp_path, whole):
    job = make_job(tmp_path, *LONG)
    number = cluster.submit(command_of(job))
    wait_for_epochs(job, 5)
    cluster.run("scancel", number)
    assert cluster.wait(number, "CANCELLED")
    until = time.monotonic() + 20
    lock = RunLock(job.run_dir)  # released after the state is written
    while files.state_of(job.run_dir) == "running" or lock.holder() is not None:
        assert time.monotonic() < until
        time.sleep(0.05)
    assert files.state_of(job.run_dir) == "preempted"
    assert in_child(lambda: run_job(job)) == 0
    assert same(outcome(job.run_dir), whole)


def test_a_requeued_job_goes_on_by_itself(cluster, tmp_path, whole):
    job = make_job(tmp_path, *LONG)
    number = cluster.submit(command_of(job), "--requeue")
    wait_for_epochs(job, 5)
    cluster.run("scontrol", "requeue", number)
    assert cluster.wait(number, "COMPLETED") == "COMPLETED"
    assert same(outcome(job.run_dir), whole)
    assert files.read_json(job.run_dir / files.STATUS)["attempt"] == 2


def test_the_warning_of_a_time_limit_is_a_preemption(cluster, tmp_path, whole):
    """As `sbatch --signal=USR2@60` sends it, which may come a minute earlier than asked for."""
    job = make_job(tmp_path, *LONG)
    number = cluster.submit(command_of(job))
    wait_for_epochs(job, 5)
    cluster.run("scancel", "--signal=USR2", number)
    assert cluster.wait(number, "COMPLETED", "FAILED") == "FAILED"
    status = files.read_json(job.run_dir / files.STATUS)
    assert status["exit_code"] == 143
    assert "SIGUSR2" in status["reason"]
    assert in_child(lambda: run_job(job)) == 0
    assert same(outcome(job.run_dir), whole)

"""Sweeps by launcher=slurm within a real SLURM: cancelled, requeued, and after a failed node.

As the tests of `test_slurm.py`, they need SLURM's packages and root.
"""

import os
import signal
import subprocess
import sys
import time
from contextlib import suppress

import pytest

from mla_lightning import run_folder as files
from mla_lightning.launchers.fork import ForkLauncher
from mla_lightning.launchers.sweep import run_sweep
from tests.slurm_cluster import NODES
from tests.test_slurm import LONG, MAIN, cluster, wait_for_epochs  # noqa: F401  a fixture
from tests.train.jobs import TINY, make_job, outcome, same

pytestmark = pytest.mark.slurm
SEEDS = (0, 1)


@pytest.fixture(scope="module")
def forked(tmp_path_factory):
    """The outcomes of the same jobs under the launcher of one machine."""
    jobs = jobs_in(tmp_path_factory.mktemp("forked"))
    assert run_sweep(jobs, ForkLauncher(jobs=1)) == 0
    return [outcome(job.run_dir) for job in jobs]


@pytest.fixture
def watch(cluster, tmp_path):  # noqa: F811
    """Return a function that starts a sweep; it is stopped at the end of the test."""
    started = []

    def start(*words, **more):
        started.append(Watching(cluster, tmp_path, *words, **more))
        return started[-1]

    yield start
    for watching in started:
        watching.stop()


def jobs_in(folder, seeds=SEEDS):
    return [make_job(folder, *LONG, f"seed={seed}") for seed in seeds]


class Watching:
    """A command that watches its jobs, in a process of its own."""

    def __init__(self, cluster, folder, *words, seeds=SEEDS):  # noqa: F811
        self.cluster, self.jobs = cluster, jobs_in(folder, seeds)
        by_key = {word.partition("=")[0]: word for word in (*TINY, *LONG)}
        words = [*by_key.values(), f"paths.output_dir={folder}", "launcher=slurm", *words]
        words += [f"seed={','.join(map(str, seeds))}", "launcher.poll_s=0.2"]
        self.command = [sys.executable, "-c", MAIN, "train", "-m", *words]
        self.output = folder / "output.txt"
        self.start()

    def start(self):
        with self.output.open("w") as file:
            self.process = subprocess.Popen(
                self.command, env=self.cluster.variables, stdout=file, stderr=subprocess.STDOUT
            )

    def task(self, number):
        """Return the name of the task of a job once it trains."""
        wait_for_epochs(self.jobs[number], 5)
        return files.read_json(self.jobs[number].run_dir / files.STATUS)["scheduler_job"]["task"]

    def end(self):
        """Wait for the end; requeued jobs are started at once. Return exit code and output."""
        until = time.monotonic() + 200
        while self.process.poll() is None:
            assert time.monotonic() < until, self.stop()
            if " SLURM a" in self.output.read_text():  # it has seen the jobs as they were
                self.start_pending()
            time.sleep(0.2)
        return self.process.returncode, self.output.read_text()

    def start_pending(self):
        """Start jobs that were requeued, which SLURM itself would do two minutes later."""
        for line in self.cluster.run("squeue", "-h", "-r", "-t", "PENDING", "-o", "%i").split():
            with suppress(AssertionError):
                self.cluster.run("scontrol", "update", f"JobId={line}", "StartTime=now")

    def stop(self):
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        return self.output.read_text()

    def attempts(self):
        return [files.read_json(job.run_dir / files.STATUS)["attempt"] for job in self.jobs]


def same_as(forked, jobs):
    return all(same(outcome(job.run_dir), a) for job, a in zip(jobs, forked, strict=True))


def test_a_sweep_survives_ctrl_c_a_cancelled_job_and_a_requeue(cluster, tmp_path, watch, forked):  # noqa: F811
    """Watching ends; one job is cancelled, one is warned as before its time limit."""
    watching = watch()
    first, second = watching.task(0), watching.task(1)
    watching.process.send_signal(signal.SIGINT)
    code, out = watching.end()
    assert code == 130, out
    assert f"go on in SLURM as {first.partition('_')[0]}" in out
    cluster.run("scancel", first)
    cluster.run("scancel", "--signal=USR2", second)
    cluster.wait(first, "CANCELLED")
    until = time.monotonic() + 30
    while [files.state_of(job.run_dir) for job in watching.jobs] != ["preempted"] * 2:
        assert time.monotonic() < until
        time.sleep(0.05)
    watching.start()
    code, out = watching.end()
    assert code == 0, out
    assert f"1 job in SLURM already, as {second.partition('_')[0]}" in out, out
    assert "Submitted 1 job to SLURM" in out, out
    assert watching.attempts() == [2, 2]
    assert same_as(forked, watching.jobs)
    for script in tmp_path.rglob("array.sh"):  # as a user may submit it by hand
        cluster.run("sbatch", "--test-only", str(script))


def test_a_job_goes_on_at_another_node_after_its_node_has_failed(cluster, tmp_path, watch, forked):  # noqa: F811
    watching = watch(seeds=(0,))
    task = watching.task(0)
    node = cluster.run("squeue", "-h", "-r", "-j", task, "-o", "%N")
    assert node in NODES
    try:
        cluster.fail(node, watching.jobs[0])
        code, out = watching.end()
    finally:
        cluster.start_node(node)
    assert code == 0, out
    assert "requeued:" in out
    assert watching.attempts() == [2]
    status = files.read_json(watching.jobs[0].run_dir / files.STATUS)["scheduler_job"]
    assert (status["task"], status["restart"]) == (task, 1)
    assert same_as(forked[:1], watching.jobs)
    assert os.path.exists(watching.jobs[0].run_dir / files.RESULT)

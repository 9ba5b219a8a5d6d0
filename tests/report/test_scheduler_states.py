"""States of runs in reports that SLURM has: asked once for all, and only where it can be."""

import os

import pytest
import yaml
from tests.fake_slurm import FakeSlurm

from mla_lightning import run_folder as files
from mla_lightning.config import plan
from mla_lightning.report.read.run_folders import read_runs
from mla_lightning.report.tables.run_list import ledger
from mla_lightning.run_folder import scheduler

(PLANNED,) = plan(["data=synthetic"])


@pytest.fixture
def slurm(tmp_path, monkeypatch):
    for name in [name for name in os.environ if name.startswith("SLURM")]:
        monkeypatch.delenv(name)
    scheduler._cluster.cache_clear()
    fake = FakeSlurm(tmp_path / "slurm")
    fake.install(monkeypatch)
    yield fake
    scheduler._cluster.cache_clear()


def add(slurm, folder, task, recorded, state=None, cluster="lab", **more):
    """Write a run folder, and its task into the queue."""
    folder.mkdir(parents=True)
    (folder / files.CONFIG).write_text(yaml.safe_dump(PLANNED.config))
    job = {"scheduler": "slurm", "cluster": cluster, "task": task}
    status = {"state": recorded, "pid": 5, "host": "n1", "attempt": 1, "scheduler_job": job}
    files.write_json(folder / files.STATUS, status | {"reason": more.pop("said", "")})
    if state is not None:
        queue = slurm.read()
        entry = {
            "name": "a",
            "state": state,
            "exit_code": 0,
            "restart": 0,
            "reason": "",
            "node": "",
        }
        queue["tasks"][task] = entry | more
        slurm.write(queue)


def states_of(root):
    return {run.run: (str(run.state), run.reason) for run in read_runs([root])}


def test_what_slurm_says_completes_the_states(slurm, tmp_path):
    root = tmp_path / "runs"
    add(slurm, root / "a", "17_0", "queued", "PENDING", reason="Priority")
    add(slurm, root / "b", "17_1", "queued", "RUNNING", node="n2")
    add(slurm, root / "c", "17_2", "queued", "CANCELLED")
    add(slurm, root / "d", "18_0", "queued")
    add(slurm, root / "e", "19_0", "preempted", "PENDING", restart=2, reason="BeginTime")
    add(slurm, root / "f", "19_1", "running", "NODE_FAIL", node="n1")
    add(slurm, root / "g", "19_2", "failed", "FAILED", said="loss is nan")
    add(slurm, root / "h", "17_0", "queued", cluster="other")
    assert states_of(root) == {
        "a": ("queued", "SLURM job 17_0 waits (Priority)"),
        "b": ("queued", "SLURM job 17_1 starts on n2"),
        "c": (
            "killed",
            "SLURM job 17_2 ended before the run began (CANCELLED); run the same command again",
        ),
        "d": ("killed", "SLURM does not know job 18_0 any more; run the same command again"),
        "e": ("queued", "SLURM job 19_0 goes on by itself, requeued 2 times (BeginTime)"),
        "f": (
            "killed",
            "SLURM job 19_1 ended (NODE_FAIL); the process is gone without an error message; run "
            "the same command to resume",
        ),
        "g": ("failed", "loss is nan"),
        "h": ("queued", "submitted (SLURM job 17_0 of cluster other)"),
    }
    assert len(slurm.calls("squeue")) == 1


def test_a_running_run_names_its_job(slurm, tmp_path):
    from mla_lightning.run_folder.lock import RunLock

    add(slurm, tmp_path / "runs" / "a", "17_0", "running", "RUNNING", node="n1")
    with RunLock(tmp_path / "runs" / "a"):
        states = states_of(tmp_path / "runs")
    assert states == {"a": ("running", "process 5 on n1 (SLURM job 17_0 of cluster lab)")}


def test_without_slurm_the_folders_say_what_they_know(slurm, tmp_path):
    add(slurm, tmp_path / "runs" / "a", "17_0", "queued", "PENDING")
    slurm.set(is_down=True)
    expected = {"a": ("queued", "submitted (SLURM job 17_0 of cluster lab)")}
    assert states_of(tmp_path / "runs") == expected
    for command in (slurm.folder / "bin").iterdir():
        command.unlink()
    scheduler._cluster.cache_clear()
    assert states_of(tmp_path / "runs") == expected


def test_the_list_of_runs_has_the_reason_and_no_retry_command(slurm, tmp_path):
    add(slurm, tmp_path / "runs" / "a", "17_0", "queued", "PENDING", reason="Priority")
    report = ledger(read_runs([tmp_path / "runs"]))
    assert report.title == "1 run: 1 queued"
    assert report.tables[0].notes == ("a: queued: SLURM job 17_0 waits (Priority)",)

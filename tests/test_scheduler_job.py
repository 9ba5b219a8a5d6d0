"""Locks of a scheduler's jobs on machines that cannot be asked, without kernel locks."""

import json

import pytest

from mla_lightning.errors import RunError
from mla_lightning.run_folder import lock as run_lock
from mla_lightning.run_folder import scheduler
from mla_lightning.run_folder.lock import LOCK, RunLock

JOB = {"scheduler": "slurm", "cluster": "lab", "job": "17", "restart": 1}
HOLDER = {"host": "node3", "boot": "of node3", "pid": 5, "born": "1", "since": "noon"}
VARIABLES = ("SLURM_JOB_ID", "SLURM_CLUSTER_NAME", "SLURM_RESTART_COUNT")


@pytest.fixture(autouse=True)
def outside_of_slurm(monkeypatch):
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    for function in (scheduler._cluster, scheduler._starts):
        function.cache_clear()
    yield
    for function in (scheduler._cluster, scheduler._starts):
        function.cache_clear()


@pytest.fixture
def write_commands(tmp_path, monkeypatch):
    """Return a function that puts commands with given answers first on the path."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")

    def write(squeue, cluster="lab"):
        answers = {
            "squeue": squeue,
            "scontrol": f"echo 'AccountingStorageTRES = cpu'; echo 'ClusterName   = {cluster}'",
        }
        for name, text in answers.items():
            (folder / name).write_text(f"#!/bin/sh\n{text}\n")
            (folder / name).chmod(0o755)

    return write


def left_lock(folder, job=JOB):
    """Write the lock of a process of another machine, and return the lock of the folder."""
    folder.mkdir()
    (folder / LOCK).write_text(json.dumps(HOLDER | {"scheduler_job": job}))
    return RunLock(folder)


def is_free(lock):
    if lock.holder() is not None:
        with pytest.raises(RunError, match=r"process 5 \(SLURM job 17\) on node3 .*remove"):
            lock.__enter__()
        return False
    with lock:
        assert lock.holder()["pid"] != HOLDER["pid"]
    return True


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        (("17", "lab", "2"), True),
        (("17", "lab", "1"), False),  # another step of the same start
        (("17", "lab", None), False),
        (("17", "other", "2"), False),
        (("18", "lab", "2"), False),
        ((None, None, None), False),
    ],
)
def test_a_later_start_of_the_same_job_takes_the_lock_over(
    tmp_path, monkeypatch, variables, expected, write_commands
):
    write_commands("exit 1")
    for name, value in zip(VARIABLES, variables, strict=True):
        if value is not None:
            monkeypatch.setenv(name, value)
    assert is_free(left_lock(tmp_path / "run")) is expected


@pytest.mark.parametrize(
    ("squeue", "expected"),
    [
        ("echo 'RUNNING             |1                   |'", False),
        ("echo 'COMPLETING          |1                   |'", False),
        ("echo 'RUNNING             |2                   |'", True),  # requeued
        ("echo 'PENDING             |2                   |'", True),
        ("echo 'NODE_FAIL           |1                   |'", True),
        ("echo 'OUT_OF_MEMORY       |1                   |'", True),
        ("echo 'CANCELLED           |1                   |'", True),
        ("echo 'slurm_load_jobs error: Invalid job id specified' >&2; exit 1", True),
        ("exit 0", True),  # forgotten
        ("echo 'slurm_load_jobs error: Unable to contact controller' >&2; exit 1", False),
        ("echo 'nonsense'", False),
    ],
)
def test_slurm_is_asked_whether_the_holder_runs(tmp_path, squeue, expected, write_commands):
    write_commands(squeue)
    assert is_free(left_lock(tmp_path / "run")) is expected


def test_the_question_names_the_job(tmp_path, write_commands):
    write_commands(f'echo "$@" > {tmp_path}/words; echo "RUNNING |1 |"')
    assert not is_free(left_lock(tmp_path / "run"))
    assert "-j 17 -O State:|,RestartCnt:|" in (tmp_path / "words").read_text()


@pytest.mark.parametrize("job", [None, {}, {**JOB, "cluster": ""}, {**JOB, "job": "x; rm"}])
def test_without_a_known_job_the_holder_counts_as_alive(tmp_path, job, write_commands):
    write_commands("exit 0")
    assert left_lock(tmp_path / "run", job).holder()["pid"] == HOLDER["pid"]


def test_another_cluster_knows_nothing_of_the_job(tmp_path, write_commands):
    write_commands("exit 0", cluster="elsewhere")
    assert not is_free(left_lock(tmp_path / "run"))


def test_without_slurm_the_holder_counts_as_alive(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert not is_free(left_lock(tmp_path / "run"))


def test_a_process_of_this_machine_is_asked_itself(tmp_path, write_commands):
    """The scheduler's word is for machines whose processes cannot be seen."""
    write_commands("exit 0")
    lock = RunLock(tmp_path)
    here = run_lock._this_process() | {"kernel": False, "scheduler_job": JOB}
    (tmp_path / LOCK).write_text(json.dumps(here))
    assert lock.holder()["pid"] == here["pid"]


def test_the_lock_of_a_job_names_it(tmp_path, monkeypatch):
    for name, value in zip(VARIABLES, ("17", "lab", "1"), strict=True):
        monkeypatch.setenv(name, value)
    with RunLock(tmp_path) as lock:
        assert lock.holder()["scheduler_job"] == JOB | {"task": "17"}
        content = json.loads((tmp_path / LOCK).read_text())
    assert content["scheduler_job"] == JOB | {"task": "17"}

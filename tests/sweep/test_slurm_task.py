"""What a task of SLURM runs: real training in forked processes, with a stand-in for scontrol."""

import os
import signal
import time

import pytest
from tests.fake_slurm import FakeSlurm
from tests.train.jobs import in_child, make_job, outcome, same

from mla_lightning import run_folder as files
from mla_lightning.config import compose_jobs
from mla_lightning.launchers import task
from mla_lightning.launchers.slurm_script import JobLine, list_text
from mla_lightning.run.train import run_job
from mla_lightning.run_folder.lock import RunLock

VARIABLES = {
    "SLURM_JOB_ID": "17",
    "SLURM_ARRAY_JOB_ID": "17",
    "SLURM_ARRAY_TASK_ID": "0",
    "SLURM_CLUSTER_NAME": "lab",
    "SLURM_PROCID": "0",
}
LONG = ("method=mla", "trainer.max_epochs=250")


@pytest.fixture
def slurm(tmp_path, monkeypatch):
    fake = FakeSlurm(tmp_path / "slurm")
    fake.install(monkeypatch)
    monkeypatch.setenv("PATH", f"{fake.folder}/bin:{os.environ['PATH']}")
    for name, value in VARIABLES.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("SLURM_RESTART_COUNT", raising=False)
    return fake


def listed(folder, job, **changed):
    """Write the list of a submission of one job."""
    folder.mkdir(exist_ok=True)
    text = list_text([job])
    for before, after in changed.values():
        assert before in text
        text = text.replace(before, after)
    (folder / "jobs.txt").write_text(text)
    return folder / "jobs.txt"


def ran(path, *words):
    """Run a task in a child; return its exit code."""
    return in_child(lambda: task.main([str(path), "0", *words]))


def status_of(job):
    return files.read_json(job.run_dir / files.STATUS)


def test_a_task_equals_the_job_and_writes_to_its_log(slurm, tmp_path):
    job, other = make_job(tmp_path / "a"), make_job(tmp_path / "b")
    assert ran(listed(tmp_path / "s", job)) == 0
    assert in_child(lambda: run_job(other)) == 0
    assert same(outcome(job.run_dir), outcome(other.run_dir))
    assert "val/acc" in (job.run_dir / files.LOG).read_text()
    assert status_of(job)["scheduler_job"] == {
        "scheduler": "slurm",
        "cluster": "lab",
        "job": "17",
        "task": "17_0",
        "restart": 0,
    }


def test_words_of_the_users_own_folders_and_floors_reach_the_job(slurm, tmp_path):
    (tmp_path / "conf").mkdir()
    (job,) = compose_jobs(["data=synthetic", "overwrite=true"], config_dir=tmp_path / "conf")
    assert job.overrides[:2] == ("--config-dir", str(tmp_path / "conf"))
    line = JobLine(job.identity, job.code.hash, tmp_path / "run", job.overrides, (0.25, 0.5))
    composed = task.compose_line(line)
    assert composed.overrides == job.overrides
    assert composed.floor == (0.25, 0.5)
    assert composed.run_dir == tmp_path / "run"
    assert not composed.config.overwrite  # a later start must resume


@pytest.mark.parametrize("what", ["config or data", "code"])
def test_a_job_that_changed_since_its_submission_is_refused(slurm, tmp_path, what):
    job = make_job(tmp_path)
    changed = job.identity if what == "config or data" else job.code.hash
    path = listed(tmp_path / "s", job, changed=(changed, "0" * 64))
    assert ran(path) == 1
    status = status_of(job)
    assert (status["state"], status["attempt"], status["exit_code"]) == ("failed", 1, 1)
    assert f"its {what} changed after it was submitted" in status["reason"]
    assert "Run the same command again" in (job.run_dir / files.ERROR).read_text()
    assert not files.is_finished(job.run_dir)


def test_any_process_of_a_job_records_why_it_cannot_start_and_the_others_do_not_again(
    slurm, tmp_path, monkeypatch
):
    job = make_job(tmp_path)
    path = listed(tmp_path / "s", job, changed=(job.code.hash, "0" * 64))
    for number in (1, 0):  # SLURM kills the others once one has failed
        monkeypatch.setenv("SLURM_PROCID", str(number))
        assert ran(path) == 1
        assert status_of(job)["attempt"] == 1
        assert "its code changed" in status_of(job)["reason"]


def test_an_error_of_the_config_is_in_the_folder_with_its_exit_code(slurm, tmp_path):
    job = make_job(tmp_path)
    path = listed(tmp_path / "s", job, changed=("data=synthetic", "data=nowhere"))
    assert ran(path) == 2
    assert "Unknown data 'nowhere'" in status_of(job)["reason"]
    assert status_of(job)["exit_code"] == 2


def test_a_number_without_a_line_is_an_error(slurm, tmp_path, capfd):
    path = listed(tmp_path / "s", make_job(tmp_path))
    assert in_child(lambda: task.main([str(path), "1"])) == 1
    assert "has 1 jobs, from 0; there is no number 1" in capfd.readouterr().err


def stopped(path, job, number, *words):
    """Run a task in a child that is sent a signal in its third epoch; return its exit code.

    Before it, a loader's worker seems to have ended, whose signal torch handles.
    """
    pid = os.fork()
    if pid == 0:
        signal.signal(signal.SIGCHLD, lambda *_: None)
        task.main([str(path), "0", *words])
    until = time.monotonic() + 60
    while len(files.read_metrics(job.run_dir)) < 3:
        assert time.monotonic() < until
        time.sleep(0.01)
    os.kill(pid, signal.SIGCHLD)
    time.sleep(0.05)
    os.kill(pid, number)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


@pytest.mark.parametrize(
    ("number", "words", "restart", "requeues"),
    [
        (signal.SIGUSR2, ["--max-requeues=2"], 0, [["requeue", "17_0"]]),
        (signal.SIGUSR2, ["--max-requeues=2"], 2, []),
        (signal.SIGUSR2, [], 0, []),
        (signal.SIGTERM, ["--max-requeues=2"], 0, []),
    ],
)
def test_a_warning_lets_the_job_go_on_by_itself(
    slurm, tmp_path, monkeypatch, number, words, restart, requeues
):
    job = make_job(tmp_path, *LONG)
    monkeypatch.setenv("SLURM_RESTART_COUNT", str(restart))
    assert stopped(listed(tmp_path / "s", job), job, number, *words) == 143
    assert slurm.calls("scontrol") == requeues
    assert status_of(job)["state"] == "preempted"
    assert RunLock(job.run_dir).holder() is None


def test_only_the_first_of_several_processes_requeues(slurm, monkeypatch):
    monkeypatch.setenv("SLURM_PROCID", "1")

    def warned():
        signals = task.TaskSignals(max_requeues=2)
        signal.raise_signal(signal.SIGUSR2)
        signals.end(0)

    assert in_child(warned) == 143
    assert slurm.calls("scontrol") == []


def test_a_warning_before_the_job_ends_the_task_and_requeues_it(slurm):
    def warned():
        task.TaskSignals(max_requeues=2)
        signal.raise_signal(signal.SIGUSR2)

    assert in_child(warned) == 143
    assert slurm.calls("scontrol") == [["requeue", "17_0"]]


def starts(path, job, checkpoints, monkeypatch):
    """Start a job with these newest checkpoints; return the number of the start that is refused."""
    folder = job.run_dir / files.CHECKPOINTS
    folder.mkdir(parents=True)
    for number, name in enumerate(checkpoints):
        monkeypatch.setenv("SLURM_RESTART_COUNT", str(number))
        if name:
            (folder / f"epoch={name:04}-batch=000000.ckpt").touch()
        try:
            task.check_progress(path, 0, job.run_dir, max_requeues=4)
        except files.RunError as error:
            return number, str(error)
    return None


@pytest.mark.parametrize(
    ("checkpoints", "refused"),
    [
        ([0, 1, 2, 3, 4], None),
        ([0, 0, 1, 1, 2], None),  # one start without progress
        ([0, 0, 0], 2),
        ([0, 1, 1, 1], 3),
        ([0, 1, 2, 3, 4, 5], 5),  # more often than max_requeues
    ],
)
def test_requeues_end_without_progress_or_after_too_many(
    slurm, tmp_path, monkeypatch, checkpoints, refused
):
    job = make_job(tmp_path)
    answer = starts(listed(tmp_path / "s", job), job, checkpoints, monkeypatch)
    assert (answer and answer[0]) == refused
    if refused:
        assert ("launcher.max_requeues=4" if refused == 5 else "time_min") in answer[1]

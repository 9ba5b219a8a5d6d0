"""Sweeps with real forked children; ids are those of the fault catalogue."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from tests.sweep.stand_in import (
    BEGUN_AT,
    CHECKPOINT,
    StandInJob,
    is_running,
    launcher,
    run_stand_in,
    status_of,
    wait_until,
)

from mla_lightning import run_folder as files
from mla_lightning.errors import ConfigError
from mla_lightning.launchers import devices
from mla_lightning.launchers.sweep import run_sweep
from mla_lightning.run_folder.lock import LOCK, RunLock


def sweep_in_other_process(root: Path, *jobs: tuple[str, str, float]) -> subprocess.Popen:
    """Start a sweep, two jobs at a time, as another terminal would."""
    lines = [
        "import sys; from pathlib import Path",
        "from stand_in import StandInJob, run_stand_in",
        "from mla_lightning.launchers.fork import ForkLauncher",
        "from mla_lightning.launchers.sweep import run_sweep",
        f"jobs = [StandInJob(Path({str(root)!r}) / n, b, d) for n, b, d in {jobs!r}]",
        "launcher = ForkLauncher(grace_s=2, job_function=run_stand_in)",
        "sys.exit(run_sweep(jobs, launcher))",
    ]
    here = Path(__file__).parent
    path = os.pathsep.join([str(here), str(here.parents[1] / "src")])
    return subprocess.Popen(
        [sys.executable, "-c", "\n".join(lines)],
        env={**os.environ, "PYTHONPATH": path},
        stdout=subprocess.PIPE,
        text=True,
    )


def pid_of(job: StandInJob) -> int:
    wait_until(lambda: (job.run_dir / files.STATUS).exists())
    return status_of(job)["pid"]


def handles_signals(job: StandInJob) -> int:
    """Wait until a job with checkpoints handles signals; return its process."""
    wait_until((job.run_dir / BEGUN_AT).exists)
    return pid_of(job)


def test_all_jobs_finish_and_write_to_their_own_logs(job_of, capfd):
    jobs = [job_of(f"job{i}") for i in range(5)]
    assert run_sweep(jobs, launcher()) == 0
    assert [files.state_of(job.run_dir) for job in jobs] == ["finished"] * 5
    assert (jobs[0].run_dir / files.LOG).read_text() == "running job0\n"
    printed = capfd.readouterr().out
    assert "[5/5] done      job" in printed
    assert "val 0.612" in printed
    assert "5 jobs: 5 finished" in printed
    assert "running job" not in printed


def test_w01_w03_each_failure_affects_one_job(job_of, capsys):
    reasons = {
        "raise": "ended with exit code 1; its log ends with: ValueError: a wrong value",
        "exit": "ended with exit code 7; its log ends with: running exit",
        "leave": "ended with exit code 0 but wrote no result.json; "
        "its log ends with: running leave",
        "kill": "killed by SIGKILL (out of memory?)",
        "hang": "timed out after 0.5 s",
    }
    failing = [job_of(name, name) for name in reasons]
    good = [job_of(f"good{i}") for i in range(3)]
    assert run_sweep([*failing, *good], launcher(timeout_s=0.5)) == 1
    printed = capsys.readouterr().out
    for job in failing:
        status, error = status_of(job), (job.run_dir / files.ERROR).read_text()
        assert status["state"] == files.state_of(job.run_dir) == "failed"
        assert status["reason"] == reasons[job.behaviour]
        assert status["retry"] == f"mla train run={job.title} 'note=a b'"
        assert status["overrides"] == {"note": "a b"}
        assert status["attempt"] == 1
        assert status["reason"] in error
        assert status["retry"] in error
        assert not (job.run_dir / LOCK).read_bytes()
        with RunLock(job.run_dir):
            pass
        for text in (status["reason"], status["retry"], str(job.run_dir)):
            assert text in printed
    assert "Traceback" in (failing[0].run_dir / files.ERROR).read_text()
    assert [files.state_of(job.run_dir) for job in good] == ["finished"] * 3
    assert "8 jobs: 5 failed, 3 finished" in printed


def test_w03_a_job_that_ignores_sigterm_is_killed_after_the_grace_period(job_of):
    job = job_of("stubborn", "hang for ever")
    begin = time.monotonic()
    assert run_sweep([job], launcher(timeout_s=0.3, grace_s=0.3)) == 1
    assert time.monotonic() - begin < 5
    assert status_of(job)["reason"] == "timed out after 0.3 s"


def test_a_timed_out_job_keeps_its_checkpoint_and_is_failed(job_of):
    job = job_of("slow", "checkpoint", 60)
    assert run_sweep([job], launcher(timeout_s=0.5)) == 1
    assert status_of(job)["state"] == "failed"
    assert status_of(job)["reason"] == "timed out after 0.5 s"
    assert (job.run_dir / CHECKPOINT).exists()


def test_processes_that_a_job_leaves_behind_are_ended(job_of):
    def leave_a_worker(job):
        worker = subprocess.Popen(["sleep", "60"])
        (job.run_dir / "worker").write_text(str(worker.pid))
        return run_stand_in(job)

    job = job_of("parent")
    assert run_sweep([job], launcher(job_function=leave_a_worker)) == 0
    wait_until(lambda: not is_running(int((job.run_dir / "worker").read_text())))


def test_w02_again_runs_only_what_is_not_finished(job_of, capsys):
    jobs = [job_of("a"), job_of("b", "raise"), job_of("c"), job_of("d")]
    assert run_sweep(jobs[:3], launcher()) == 1
    finished = [path for job in (jobs[0], jobs[2]) for path in job.run_dir.iterdir()]
    times = [path.stat().st_mtime_ns for path in finished]
    capsys.readouterr()
    assert run_sweep([jobs[0], job_of("b"), jobs[2], jobs[3]], launcher()) == 0
    assert [path.stat().st_mtime_ns for path in finished] == times
    assert status_of(jobs[1])["attempt"] == 2
    assert (
        "4 jobs: 2 finished before and not run again, 0 finished by other code, 2 not finished."
        in capsys.readouterr().out
    )


def test_a_result_of_another_job_is_no_result(job_of):
    job = job_of("a", "leave")
    job.run_dir.mkdir(parents=True)
    files.write_json(job.run_dir / files.RESULT, {"identity": "another"})
    assert run_sweep([job], launcher()) == 1
    assert json.loads((job.run_dir / files.RESULT).read_text()) == {"identity": "another"}
    assert not (job.run_dir / files.ERROR).exists()


def test_w04_a_killed_sweep_ends_its_jobs_and_the_next_sweep_resumes_them(tmp_path, job_of):
    names = [("a", "finish", 0.0), ("b", "checkpoint", 2.0), ("c", "checkpoint", 2.0)]
    sweep = sweep_in_other_process(tmp_path / "runs", *names, ("d", "finish", 0.0))
    jobs = [job_of(*name) for name in (*names, ("d", "finish"))]
    pids = [handles_signals(job) for job in jobs[1:3]]
    sweep.kill()
    sweep.communicate()
    finished_at = (jobs[0].run_dir / files.RESULT).stat().st_mtime_ns
    assert run_sweep(jobs, launcher()) == 0  # at once: it waits for jobs that are ending
    assert not any(is_running(pid) for pid in pids)
    for job in jobs[1:3]:
        assert int((job.run_dir / BEGUN_AT).read_text()) > 0
        assert status_of(job)["attempt"] == 2
    assert (jobs[0].run_dir / files.RESULT).stat().st_mtime_ns == finished_at


@pytest.mark.parametrize(
    ("number", "code", "state"),
    [(signal.SIGINT, 130, "interrupted"), (signal.SIGTERM, 143, "preempted")],
)
def test_a_stopped_sweep_waits_for_checkpoints(tmp_path, job_of, number, code, state):
    names = [("a", "checkpoint", 30.0), ("b", "hang", 0.0), ("c", "finish", 0.0)]
    sweep = sweep_in_other_process(tmp_path / "runs", *names)
    jobs = [job_of(*name) for name in names]
    handles_signals(jobs[0])
    pid_of(jobs[1])
    sweep.send_signal(number)
    printed, _ = sweep.communicate(timeout=10)
    assert sweep.returncode == code
    assert (jobs[0].run_dir / CHECKPOINT).exists()
    assert [files.state_of(job.run_dir) for job in jobs] == [state, state, "missing"]
    assert f"3 jobs: 2 {state}, 1 not started" in printed
    assert f"{state} at " in printed


def test_t05_a_second_ctrl_c_ends_at_once(tmp_path, job_of):
    sweep = sweep_in_other_process(tmp_path / "runs", ("a", "hang for ever", 0.0))
    pid = pid_of(job_of("a"))
    time.sleep(0.2)
    begin = time.monotonic()
    sweep.send_signal(signal.SIGINT)
    time.sleep(0.2)
    sweep.send_signal(signal.SIGINT)
    sweep.communicate(timeout=10)
    assert time.monotonic() - begin < 1.5
    assert sweep.returncode == 130
    assert not is_running(pid)
    assert status_of(job_of("a"))["state"] == "interrupted"


def test_w06_a_job_of_another_process_is_not_started_twice(tmp_path, job_of, capsys):
    other = sweep_in_other_process(tmp_path / "runs", ("a", "checkpoint", 60.0))
    pid = pid_of(job_of("a"))
    assert run_sweep([job_of("a"), job_of("b")], launcher(), patience_s=0.2) == 1
    printed = capsys.readouterr().out
    assert "running elsewhere: a" in printed
    assert f"its folder is in use by process {pid}" in printed
    assert "2 jobs: 1 running elsewhere, 1 finished" in printed
    assert status_of(job_of("a"))["attempt"] == 1
    assert is_running(pid)
    other.terminate()
    other.communicate()


def test_w06_a_job_that_another_process_finishes_meanwhile_counts(tmp_path, job_of, capsys):
    other = sweep_in_other_process(tmp_path / "runs", ("a", "finish", 1.0))
    pid_of(job_of("a"))
    assert run_sweep([job_of("a"), job_of("b")], launcher(), patience_s=10) == 0
    assert "by another process" in capsys.readouterr().out
    assert status_of(job_of("a"))["attempt"] == 1
    other.communicate()


def test_w06_a_lock_taken_between_check_and_start(job_of, capsys):
    """Another sweep locks the folder first: this one waits for the job, which does not fail."""
    first = []

    def run_late(job):
        if not (job.run_dir / "first").exists():
            (job.run_dir / "first").touch()
            first.append(os.fork())
            if first[0] == 0:
                os._exit(run_stand_in(job_of("a", "finish", 1.0)))
            wait_until(lambda: (job.run_dir / files.STATUS).exists())
            os.setpgid(first[0], first[0])  # of another sweep: it outlives this one
        return run_stand_in(job)

    assert run_sweep([job_of("a")], launcher(job_function=run_late), patience_s=10) == 0
    assert "by another process" in capsys.readouterr().out
    assert status_of(job_of("a"))["attempt"] == 1


def test_w09_never_more_jobs_than_allowed(job_of, tmp_path):
    running = tmp_path / "running"
    running.mkdir()

    def count(job):
        mark = running / job.title
        mark.touch()
        (job.run_dir / "count").write_text(str(len(list(running.iterdir()))))
        time.sleep(0.5)  # longer than the start of a process on a busy machine
        mark.unlink()
        return run_stand_in(job)

    jobs = [job_of(f"job{i}") for i in range(6)]
    assert run_sweep(jobs, launcher(jobs=None, job_function=count)) == 0
    counts = [int((job.run_dir / "count").read_text()) for job in jobs]
    assert max(counts) == 2  # as many as there are cores, and no more


def test_w09_more_threads_than_cores_are_an_error_before_anything_starts(job_of):
    job = job_of("a", threads=2)
    with pytest.raises(ConfigError, match=r"launcher.jobs=2 .* needs 4 cores.*launcher.jobs=1"):
        run_sweep([job], launcher())
    with pytest.raises(ConfigError, match=r"trainer.threads=3 needs 3 cores"):
        run_sweep([job_of("a", threads=3)], launcher(jobs=None))
    assert not job.run_dir.exists()
    assert run_sweep([job], launcher(jobs=None)) == 0


def test_threads_of_libraries_are_limited_in_children_only(job_of, monkeypatch):
    monkeypatch.setenv("MKL_NUM_THREADS", "7")

    def record_threads(job):
        (job.run_dir / "threads").write_text(os.environ["MKL_NUM_THREADS"])
        return run_stand_in(job)

    job = job_of("a")
    assert run_sweep([job], launcher(job_function=record_threads)) == 0
    assert (job.run_dir / "threads").read_text() == "1"
    assert os.environ["MKL_NUM_THREADS"] == "7"


def test_one_job_per_gpu(job_of, monkeypatch):
    monkeypatch.setattr(devices, "visible_gpus", lambda: ("GPU-a", "GPU-b"))

    def record_gpu(job):
        (job.run_dir / "gpu").write_text(os.environ["CUDA_VISIBLE_DEVICES"])
        time.sleep(0.2)
        return run_stand_in(job)

    jobs = [job_of(f"job{i}", accelerator="auto") for i in range(4)]
    assert run_sweep(jobs, launcher(jobs=None, job_function=record_gpu)) == 0
    gpus = [(job.run_dir / "gpu").read_text() for job in jobs]
    assert sorted(gpus[:2]) == sorted(gpus[2:]) == ["GPU-a", "GPU-b"]
    assert "CUDA_VISIBLE_DEVICES" not in os.environ


def test_fail_fast_stops_the_others_with_a_checkpoint(job_of, capsys):
    def raise_late(job):
        if job.behaviour == "raise":
            handles_signals(job_of("slow"))
        return run_stand_in(job)

    jobs = [job_of("bad", "raise"), job_of("slow", "checkpoint", 60), job_of("late")]
    assert run_sweep(jobs, launcher(fail_fast=True, job_function=raise_late)) == 1
    states = [files.state_of(job.run_dir) for job in jobs]
    assert states == ["failed", "preempted", "missing"]
    assert "1 not started" in capsys.readouterr().out


def test_folder_that_cannot_be_made_fails_one_job(job_of, tmp_path, capsys):
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "a").write_text("a file in the way")
    assert run_sweep([job_of("a"), job_of("b")], launcher()) == 1
    assert "its folder cannot be used" in capsys.readouterr().out
    assert files.is_finished(job_of("b").run_dir)


def test_common_exit_code_is_passed_on(job_of):
    assert run_sweep([job_of("a", "exit"), job_of("b", "exit"), job_of("c")], launcher()) == 7
    assert run_sweep([job_of("a", "exit"), job_of("b", "raise")], launcher()) == 1


def test_repeated_jobs_run_once_and_a_shared_folder_is_an_error(job_of):
    assert run_sweep([job_of("a"), job_of("a")], launcher()) == 0
    assert status_of(job_of("a"))["attempt"] == 1

    class OtherJob(StandInJob):
        identity = "other"

    with pytest.raises(ConfigError, match="share the folder"):
        run_sweep([job_of("a"), OtherJob(job_of("a").run_dir)], launcher())


def test_s07_status_is_valid_whenever_a_job_is_killed(job_of):
    def write_for_ever(job):
        with RunLock(job.run_dir):
            for i in range(10**9):
                files.write_json(job.run_dir / files.STATUS, {"state": "running", "attempt": i})
        return 0

    job = job_of("a")
    for delay in range(12):
        options = {"timeout_s": 0.02 + delay * 0.003, "grace_s": 0.001}
        assert run_sweep([job], launcher(job_function=write_for_ever, **options)) == 1
        assert status_of(job)["state"] == "failed"
    assert len(list(job.run_dir.glob(".*"))) <= 1  # of the last kill: earlier ones were cleaned up


def test_x07_nothing_is_world_writable(job_of):
    before = os.umask(0)
    try:
        jobs = [job_of("a"), job_of("b", "kill")]
        run_sweep(jobs, launcher())
    finally:
        os.umask(before)
    for job in jobs:
        for path in (job.run_dir, *job.run_dir.iterdir()):
            assert not path.stat().st_mode & 0o002, path

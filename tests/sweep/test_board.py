"""The queue and the counts of a sweep of many jobs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.sweep.stand_in import StandInJob, run_stand_in

from mla_lightning.launchers.base import JobExit
from mla_lightning.launchers.display import PlainDisplay, Progress
from mla_lightning.launchers.sweep import Sweep
from mla_lightning.run_folder import State
from mla_lightning.run_folder.lock import RunLock


class Recorder(PlainDisplay):
    """Keeps what it is told."""

    def __init__(self) -> None:
        self.ends: list[tuple[Progress, str, str]] = []

    def show_end(self, progress: Progress, title: str, state: str, detail: str) -> None:
        self.ends.append((progress, title, state))


class NotWalked(dict):
    """A mapping of which single entries may be read and set."""

    def __iter__(self) -> Any:
        raise AssertionError("a report walks over all jobs")

    values = items = keys = __iter__


def run_all(sweep: Sweep, exit_codes: dict[str, int]) -> list[str]:
    """Run all jobs one by one, in this process; return their titles in order."""
    titles = []
    while (job := sweep.take()) is not None:
        titles.append(job.title)
        code = exit_codes.get(job.title, 0)
        if code == 0:
            run_stand_in(job)
        sweep.refresh()
        sweep.record_exit(job, JobExit(code, 2.0, 1))
    return titles


def test_counts_are_those_of_the_conclusions(tmp_path: Path) -> None:
    jobs = [StandInJob(tmp_path / f"job{number:02}") for number in range(12)]
    for job in (*jobs[:3], jobs[5]):
        job.run_dir.mkdir()
    for job in jobs[:3]:
        run_stand_in(job)  # finished before
    display = Recorder()
    sweep = Sweep(jobs, 2, overwrite=False, display=display)
    run_stand_in(jobs[5])  # finished by another process, once the sweep has begun
    titles = run_all(sweep, {"job04": 1, "job07": -9, "job09": 1})
    assert titles == [job.title for job in (*jobs[3:5], *jobs[6:])]
    for number, (progress, *_) in enumerate(display.ends, start=1):
        ended = ["finished"] * 3 + [state for _, _, state in display.ends[:number]]
        assert progress.num_finished == ended.count("finished")
        assert progress.num_failed == len(ended) - ended.count("finished")
        assert progress.num_waiting == 12 - len(ended)
    states = [outcome.state for outcome in sweep.outcomes.values()]
    assert (states.count(State.FINISHED), states.count(State.FAILED)) == (9, 3)
    assert display.ends[0][0].left_s == 2.0 * 8 / 2  # eight wait, two at a time


def test_reports_do_not_walk_over_the_ended_jobs(tmp_path: Path) -> None:
    jobs = [StandInJob(tmp_path / f"job{number}") for number in range(8)]
    sweep = Sweep(jobs, 1, overwrite=False, display=Recorder())
    sweep.outcomes = NotWalked(sweep.outcomes)
    assert len(run_all(sweep, {"job2": 1})) == 8
    assert (sweep.progress().num_finished, sweep.progress().num_failed) == (7, 1)


def test_a_job_that_another_process_runs_keeps_its_place_and_is_taken_later(tmp_path: Path) -> None:
    jobs = [StandInJob(tmp_path / name) for name in "abc"]
    sweep = Sweep(jobs, 1, overwrite=False, display=Recorder())
    jobs[0].run_dir.mkdir()
    with RunLock(jobs[0].run_dir):
        assert sweep.take() is jobs[1]
        assert [job.title for job in sweep.waiting()] == ["a", "c"]
        sweep.record_exit(jobs[1], JobExit(1, 0.0, 1))
        assert sweep.take() is jobs[2]
        assert sweep.take() is None
    assert sweep.wait_for_free_folder(0.0)
    assert sweep.take() is jobs[0]


def test_jobs_in_a_schedulers_queue_neither_run_nor_wait_here(tmp_path: Path) -> None:
    jobs = [StandInJob(tmp_path / name) for name in "abcd"]
    sweep = Sweep(jobs, 4, overwrite=False, display=Recorder())
    for job in jobs[:3]:
        assert sweep.claim(job)
        sweep.set_queued(job, True)
    sweep.set_queued(jobs[0], False)
    sweep.set_queued(jobs[0], False)  # as every question to the scheduler says it again
    progress = sweep.progress()
    assert [title for title, _ in progress.running] == ["a"]
    assert (progress.num_queued, progress.num_waiting, progress.num_ended) == (2, 1, 0)
    run_stand_in(jobs[0])
    sweep.record_exit(jobs[0], JobExit(0, 2.0, 1))
    sweep.set_queued(jobs[1], False)
    left = sweep.progress().left_s
    assert left is not None
    assert 5.9 < left <= 6.0  # one runs, so two more follow it: 3 x 2 s
    sweep.leave(jobs[1:3], "they go on")
    assert sweep.progress().running == []
    assert sweep.exit_code() == 1  # the fourth was not started

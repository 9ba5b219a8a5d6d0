"""Sweeps one job after the other, in the process that asked for them."""

import os

import pytest
from tests.sweep.stand_in import StandInJob, run_stand_in, status_of

from mla_lightning import run_folder as files
from mla_lightning.launchers.serial import SerialLauncher
from mla_lightning.launchers.sweep import run_sweep


@pytest.fixture
def job_of(tmp_path):
    return lambda name, *args: StandInJob(tmp_path / name, *args)


def test_serial_runs_in_this_process_and_survives_failures(job_of, capsys):
    pids = []

    def record_pid(job):
        pids.append(os.getpid())
        return run_stand_in(job)

    jobs = [job_of("a", "raise"), job_of("b", "exit"), job_of("c")]
    assert run_sweep(jobs, SerialLauncher(job_function=record_pid)) == 1
    assert set(pids) == {os.getpid()}
    assert [files.state_of(job.run_dir) for job in jobs] == ["failed", "failed", "finished"]
    assert run_sweep(jobs, SerialLauncher(job_function=record_pid, fail_fast=True)) == 1
    assert status_of(jobs[1])["attempt"] == 1


def test_serial_stops_when_interrupted(job_of):
    def interrupt(job):
        raise KeyboardInterrupt

    jobs = [job_of("a"), job_of("b")]
    assert run_sweep(jobs, SerialLauncher(job_function=interrupt)) == 130
    assert [files.state_of(job.run_dir) for job in jobs] == ["interrupted", "missing"]

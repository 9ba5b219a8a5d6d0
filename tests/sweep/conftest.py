"""Fixtures of sweeps of stand-ins."""

import os

import pytest
from tests.sweep.slurm_queue import Cluster
from tests.sweep.stand_in import StandInJob

from mla_lightning.launchers import devices, slurm_watch
from mla_lightning.run_folder import scheduler


@pytest.fixture(autouse=True)
def two_cores(monkeypatch):
    monkeypatch.setattr(devices, "visible_cores", lambda: 2)


@pytest.fixture
def job_of(tmp_path):
    return lambda name, *args, **more: StandInJob(tmp_path / "runs" / name, *args, **more)


@pytest.fixture
def cluster(tmp_path, monkeypatch):
    for name in [name for name in os.environ if name.startswith("SLURM")]:
        monkeypatch.delenv(name)
    scheduler._cluster.cache_clear()
    scheduler._starts.cache_clear()
    monkeypatch.chdir(tmp_path)
    fake = Cluster(tmp_path / "slurm")
    fake.root = tmp_path / "runs"
    fake.install(monkeypatch)
    monkeypatch.setattr(slurm_watch, "ask_queue", fake.ask)
    monkeypatch.setattr(slurm_watch, "SETTLE_S", 0.05)
    monkeypatch.setattr(slurm_watch, "TICK_S", 0.001)
    return fake


@pytest.fixture
def jobs_of(cluster, job_of):
    def make(*behaviours, **more):
        jobs = [job_of(f"job{i}", behaviour, **more) for i, behaviour in enumerate(behaviours)]
        cluster.jobs |= {job.run_dir: job for job in jobs}
        return jobs

    return make

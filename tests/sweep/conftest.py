"""Fixtures of sweeps of stand-ins."""

import pytest
from tests.sweep.stand_in import StandInJob

from mla_lightning.launchers import devices


@pytest.fixture(autouse=True)
def two_cores(monkeypatch):
    monkeypatch.setattr(devices, "visible_cores", lambda: 2)


@pytest.fixture
def job_of(tmp_path):
    return lambda name, *args, **more: StandInJob(tmp_path / "runs" / name, *args, **more)

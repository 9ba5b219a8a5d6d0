"""Where a run comes from: ``provenance.json`` holds what is needed to make it again."""

import hashlib
import platform
import shlex
import subprocess
from importlib.metadata import version
from pathlib import Path

import numpy
import pytest
import torch
from tests.train.jobs import in_child, make_job

import mla_lightning
from mla_lightning.config import compose_jobs
from mla_lightning.run import record
from mla_lightning.run.train import run_job
from mla_lightning.run_folder import PROVENANCE, RESULT, read_json


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    job = make_job(tmp_path_factory.mktemp("runs"), "trainer.max_epochs=1", "seed=4")
    assert in_child(lambda: run_job(job)) == 0
    return job, read_json(job.run_dir / PROVENANCE)


def test_code_data_versions_machine_and_command_are_those_of_the_run(trained):
    job, provenance = trained
    package = Path(mla_lightning.__file__).parent
    head = subprocess.run(
        ["git", "-C", str(package), "rev-parse", "HEAD"], capture_output=True, text=True
    )
    assert provenance["git_commit"] == (head.stdout.strip() or None)
    assert provenance["versions"]["torch"] == torch.__version__ == version("torch")
    assert provenance["versions"]["numpy"] == numpy.__version__
    assert provenance["python"] == platform.python_version()
    assert provenance["processor"]
    assert provenance["seed"] == 4
    assert "mla_lightning.methods.mla" in provenance["code"]["modules"]
    assert provenance["data_fingerprint"] == job.data_fingerprint
    assert provenance["identity"] == read_json(job.run_dir / RESULT)["identity"]


def test_the_recorded_command_is_the_same_job(trained):
    job, provenance = trained
    words = shlex.split(provenance["command"])
    assert words[:2] == ["mla", "train"]
    (again,) = compose_jobs(words[2:])
    assert (again.identity, again.code.hash) == (job.identity, provenance["code"]["hash"])


def test_other_data_have_another_fingerprint(tmp_path):
    one, two = (make_job(tmp_path, f"data.data_seed={seed}") for seed in (0, 1))
    assert one.data_fingerprint != two.data_fingerprint
    assert len(one.data_fingerprint) == len(hashlib.sha256().hexdigest())


def test_the_gpu_is_that_of_jobs_that_may_use_one(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "H200")
    assert record._gpu("auto") == record._gpu("gpu") == "H200"
    assert record._gpu("cpu") is None
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert record._gpu("auto") is None

"""Real jobs that compute something at each epoch's start, killed within an epoch and resumed."""

import time

import pytest
from tests.train.jobs import in_child, killed, make_job, outcome, same

from mla_lightning.methods.pmr import PMR
from mla_lightning.module import MultimodalModule
from mla_lightning.run.train import run_job
from mla_lightning.run_folder import read_metrics

STEP = (MultimodalModule, "training_step")
PAUSE_S = 0.5
WORDS = ("method=pmr", "method.proto_fraction=0.5")


@pytest.fixture
def prepared(tmp_path, monkeypatch):
    """A preparation that takes its time and writes down its epoch; returns the epochs since."""
    original, file = PMR.prepare_epoch, tmp_path / "prepared"

    def prepare_epoch(self):
        time.sleep(PAUSE_S)
        with file.open("a") as f:
            f.write(f"{self.current_epoch} ")
        original(self)

    monkeypatch.setattr(PMR, "prepare_epoch", prepare_epoch)

    def since():
        text = file.read_text().split()
        file.write_text("")
        return text

    return since


def test_a_resumed_epoch_is_not_prepared_twice_and_its_time_counts(tmp_path, prepared):
    whole = make_job(tmp_path / "whole", *WORDS)
    assert in_child(lambda: run_job(whole)) == 0
    assert prepared() == ["0", "1"]
    for row in read_metrics(whole.run_dir):
        assert row["time/epoch_s"] >= PAUSE_S
    job = make_job(tmp_path / "killed", *WORDS, "checkpoint.every_n_batches=1")
    assert killed(job, (*STEP, 14)) == -9
    assert prepared() == ["0", "1"]
    assert in_child(lambda: run_job(job)) == 0
    assert prepared() == []
    assert same(outcome(job.run_dir), outcome(whole.run_dir))
    again = make_job(tmp_path / "again", *WORDS)  # without a checkpoint within the epoch
    assert killed(again, (*STEP, 11)) == -9
    assert prepared() == ["0", "1"]
    assert in_child(lambda: run_job(again)) == 0
    assert prepared() == ["1"]
    assert same(outcome(again.run_dir), outcome(whole.run_dir))

"""Several loggers of one run: each has what the others have."""

import csv

import pytest
from tests.train.jobs import make_job

from mla_lightning.config import compose_jobs
from mla_lightning.run.train import run_job

events = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")


def test_two_loggers_at_once_have_the_numbers_of_the_csv(tmp_path):
    words = ("logger=[tensorboard,more]", "trainer.max_epochs=2")
    more = tmp_path / "conf" / "logger" / "more.yaml"
    more.parent.mkdir(parents=True)
    more.write_text(
        "# A logger of Lightning.\nmore:\n  _target_: lightning.pytorch.loggers.CSVLogger\n"
        f"  save_dir: {tmp_path}/more\n  name: ''\n  version: ''\n"
    )
    overrides = [*make_job(tmp_path).overrides, *words, f"paths.output_dir={tmp_path}/runs"]
    by_key = {word.partition("=")[0]: word for word in overrides}
    (job,) = compose_jobs([*by_key.values()], config_dir=tmp_path / "conf")
    assert run_job(job) == 0
    with (job.run_dir / "metrics.csv").open() as file:
        expected = [float(row["val/acc"]) for row in csv.DictReader(file) if row["val/acc"]]
    assert len(expected) == 2
    reader = events.EventAccumulator(str(job.run_dir / "tensorboard"))
    reader.Reload()
    assert [e.value for e in reader.Scalars("val/acc")] == pytest.approx(expected, abs=1e-6)
    (path,) = (tmp_path / "more").rglob("metrics.csv")
    with path.open() as file:
        rows = [float(row["val/acc"]) for row in csv.DictReader(file) if row["val/acc"]]
    assert rows == pytest.approx(expected)

"""Options of `debug`: what their comments promise."""

import pytest
from tests.train.jobs import BATCHES, make_job

from mla_lightning.config import compose_jobs
from mla_lightning.run.train import run_job
from mla_lightning.run_folder import RESULT, read_json, read_metrics

events = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")


def ran(root, *words):
    """Run a job without the number of epochs and the schedule of the tests' other jobs."""
    kept = [w for w in make_job(root).overrides if not w.startswith(("trainer.", "scheduler."))]
    (job,) = compose_jobs([*kept, "method=concat", *words])
    assert run_job(job) == 0
    return job.run_dir, read_metrics(job.run_dir)


def test_the_fast_run_goes_from_data_to_result_and_logs_each_batch(tmp_path):
    folder, rows = ran(tmp_path, "debug=fast", "logger=tensorboard")
    assert read_json(folder / RESULT)["test"]["multi"]["accuracy"] >= 0
    assert max(int(row["epoch"]) for row in rows) == 2
    reader = events.EventAccumulator(str(folder / "tensorboard"))
    reader.Reload()
    steps = {event.step for event in reader.Scalars("train/loss/joint")}
    assert steps == set(range(1, 2 * BATCHES + 1))


def test_a_correct_method_memorises_the_training_split(tmp_path):
    _, rows = ran(tmp_path, "debug=overfit", "diagnostics=off")
    losses = [float(row["train/loss/joint"]) for row in rows]
    assert len(losses) == 60
    assert losses[-1] < losses[0] / 20

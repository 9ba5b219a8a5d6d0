"""Callbacks of the group: early stopping, model summary, profiler, and Lightning's own."""

from __future__ import annotations

import json

import pytest
from tests.train.jobs import make_job

from mla_lightning import run_folder as files
from mla_lightning.callbacks.early_stopping import EarlyStopping
from mla_lightning.run.train import run_job
from mla_lightning.run_folder import read_json, read_metrics

STOPPING = ("callbacks=early_stopping", "callbacks.early_stopping.patience=2")
LONG = ("trainer.max_epochs=12", "scheduler=null")


@pytest.fixture(scope="module")
def stopped(tmp_path_factory):
    job = make_job(tmp_path_factory.mktemp("stopped"), *LONG, *STOPPING)
    assert run_job(job) == 0
    return job.run_dir


def test_training_ends_after_the_epochs_of_patience_and_not_before(stopped) -> None:
    rows = read_metrics(stopped)
    scores = [float(row["val/acc"]) for row in rows]
    best = scores.index(max(scores))  # the first of equal ones
    assert len(rows) == best + 1 + 2 < 12
    result = read_json(stopped / files.RESULT)
    assert result["best_epoch"] == best + 1
    assert any("early stopping" in note for note in result["notes"])


def test_the_epochs_before_the_end_are_those_of_the_whole_training(stopped, tmp_path) -> None:
    job = make_job(tmp_path, *LONG)
    assert run_job(job) == 0
    full = read_metrics(job.run_dir)
    short = read_metrics(stopped)
    assert len(full) == 12
    keys = ("val/acc", "train/loss/audio")
    assert [[r[k] for k in keys] for r in short] == [
        [r[k] for k in keys] for r in full[: len(short)]
    ]


def test_the_state_of_a_resumed_run_goes_on() -> None:
    scores = [0.5, 0.7, 0.6, 0.65, 0.7, 0.71, 0.7, 0.7, 0.7]
    whole = EarlyStopping(patience=3)
    expected = [whole.has_ended({"acc": score}, 1) for score in scores]
    for cut in range(len(scores)):
        first, second = EarlyStopping(patience=3), EarlyStopping(patience=3)
        ends = [first.has_ended({"acc": score}, 1) for score in scores[:cut]]
        second.load_state_dict(json.loads(json.dumps(first.state_dict())))
        assert ends + [second.has_ended({"acc": s}, 1) for s in scores[cut:]] == expected
    assert expected.index(True) == 4  # 0.7 in epoch 2; 0.6, 0.65 and 0.7 are no improvement


def test_errors_and_several_metrics_improve_in_their_own_direction() -> None:
    stopping = EarlyStopping(patience=1)
    assert [stopping.has_ended({"mae": mae}, -1) for mae in (1.0, 0.5, 0.5)] == [False, False, True]
    either = EarlyStopping(patience=1)
    pairs = [(0.5, 0.5), (0.4, 0.6), (0.6, 0.5), (0.6, 0.6)]
    ends = [either.has_ended({"acc/a": a, "acc/b": b}, 1) for a, b in pairs]
    assert ends == [False, False, False, True]


def test_summary_profile_and_a_callback_of_lightning(tmp_path, capfd) -> None:
    words = (
        *("callbacks=[model_summary,profiler]", "trainer.max_epochs=1"),
        "+callbacks.rates._target_=lightning.pytorch.callbacks.LearningRateMonitor",
        "logger=tensorboard",
    )
    job = make_job(tmp_path, "scheduler=null", *words)
    assert run_job(job) == 0
    output = capfd.readouterr().out
    sizes = {line.split()[0]: line.split()[-1] for line in output.splitlines() if "," in line}
    assert {"audio", "visual", "total"} <= sizes.keys()
    table = (job.run_dir / "profile" / "operations.txt").read_text()
    assert "aten::addmm" in table
    trace = json.loads((job.run_dir / "profile" / "trace.json").read_text())
    batches = [e for e in trace["traceEvents"] if str(e.get("name")).startswith("Optimizer.step")]
    assert len(batches) == 5 * 2  # one step per modality
    events = (job.run_dir / "tensorboard").glob("events*")
    assert any(b"lr-SGD" in path.read_bytes() for path in events)


def test_too_few_batches_to_profile_are_a_clear_failure(tmp_path, capfd) -> None:
    job = make_job(tmp_path, "callbacks=profiler", "callbacks.profiler.num_batches=50")
    assert run_job(job) == 1
    assert "needs 52 batches and an epoch has 10" in capfd.readouterr().err

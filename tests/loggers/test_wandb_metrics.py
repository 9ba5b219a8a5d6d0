"""Axes and best values of metrics on W&B, and the sum of the training losses."""

import json

import pytest
from tests.loggers.test_loggers import IDENTITY, config_with
from tests.loggers.wandb_files import offline_files, records_named, records_of, rows_of

from mla_lightning.callbacks.epoch_table import write_rows
from mla_lightning.cli.main import main
from mla_lightning.loggers.build import build_loggers, finish_loggers

WORDS = [
    *("train", "data=synthetic", "method=mla", "data.num_train=96", "data.num_val=40"),
    *("data.num_test=40", "trainer.max_epochs=3", "trainer.log_every_n_batches=2"),
    "logger=wandb",
]


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory):
    root = tmp_path_factory.mktemp("metrics")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        assert main([*WORDS, "run_dir=run"]) == 0
    return root / "run"


def summary_after(run_dir):
    """Return the summary of the run after all attempts: later records replace earlier ones."""
    values = {}
    for record in records_named(run_dir, "summary"):
        for item in record.update:
            path = [item.key] if item.key else list(item.nested_key)
            node = values
            for key in path[:-1]:
                node = node.setdefault(key, {})
            node[path[-1]] = json.loads(item.value_json)
    return values


def kinds_of(metric):
    return {kind for kind in ("min", "max", "last") if getattr(metric.summary, kind)}


def test_metrics_of_an_epoch_have_epochs_as_axis_and_a_best_value(run_dir):
    defined = {metric.name: metric for metric in records_named(run_dir, "metric")}
    rows = [row for row in rows_of(run_dir) if "val/acc" in row]
    assert len(rows) == 3
    metrics = {key for key in rows[-1] if not key.startswith("_")} - {"epoch", "step"}
    assert {"lr", "train/loss", "train/loss/audio", "val/acc/visual", "time/epoch_s"} <= metrics
    assert metrics == defined.keys()
    assert {defined[key].step_metric for key in metrics} == {"epoch"}
    assert kinds_of(defined["val/acc/audio"]) == kinds_of(defined["val/acc"]) == {"max", "last"}
    assert kinds_of(defined["val/ece"]) == kinds_of(defined["train/loss"]) == {"min", "last"}
    assert kinds_of(defined["lr"]) == kinds_of(defined["time/epoch_s"]) == set()
    summary = summary_after(run_dir)
    for key, best in (("val/acc", max), ("val/ece", min), ("train/loss/audio", min)):
        values = [row[key] for row in rows]
        assert summary[key] == {best.__name__: best(values), "last": values[-1]}


def test_losses_within_an_epoch_are_drawn_within_it(run_dir):
    rows = [row for row in rows_of(run_dir) if "train/loss" in row and "val/acc" not in row]
    # 3 batches per epoch, of which every second is logged.
    assert [row["epoch"] for row in rows] == pytest.approx([2 / 3, 1 + 2 / 3, 2 + 2 / 3])
    assert [row["_step"] for row in rows] == [2, 5, 8]


def test_the_training_loss_is_the_sum_over_modalities(run_dir):
    rows = [row for row in rows_of(run_dir) if "train/loss" in row]
    assert len(rows) == 6
    for row in rows:
        both = row["train/loss/audio"] + row["train/loss/visual"]
        assert row["train/loss"] == pytest.approx(both)


def test_the_best_value_of_a_resumed_run_is_that_of_all_attempts(tmp_path):
    rows = [
        {"epoch": epoch, "step": 3 * epoch, "val/acc": value, "train/loss/a": 1 / epoch}
        for epoch, value in enumerate((0.5, 0.9, 0.7), start=1)
    ]
    for first, end, code in ((0, 2, 143), (2, 3, 0)):
        (logger,) = build_loggers(config_with(), tmp_path, IDENTITY)
        for row in rows[first:end]:
            logger.log_metrics(row, step=row["step"])
        write_rows(tmp_path, rows[:end])
        finish_loggers([logger], code)
    assert len(offline_files(tmp_path)) == 2
    last = offline_files(tmp_path)[-1]
    accuracies = [
        json.loads(item.value_json)
        for record in records_of(last)
        if record.WhichOneof("record_type") == "history"
        for item in record.history.item
        if (item.key or "/".join(item.nested_key)) == "val/acc"
    ]
    assert accuracies == [0.7]
    summary = summary_after(tmp_path)
    assert summary["val/acc"] == {"max": 0.9, "last": 0.7}
    assert summary["train/loss"] == {"min": 1 / 3, "last": 1 / 3}


def test_a_damaged_table_of_epochs_does_not_change_how_a_run_ends(tmp_path, capsys):
    (logger,) = build_loggers(config_with(), tmp_path, IDENTITY)
    logger.log_metrics({"epoch": 1, "val/acc": 0.5}, step=3)
    (tmp_path / "metrics.csv").write_text("epoch,step,val/acc\n1,3,zero\n")
    finish_loggers([logger], 1)
    assert "W&B accepts no best values (metrics.csv cannot be read" in capsys.readouterr().out
    assert [record.exit_code for record in records_named(tmp_path, "exit")] == [1]

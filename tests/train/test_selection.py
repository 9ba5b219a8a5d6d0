"""select_by: which epoch is selected, where it is recorded, and that the default is as before."""

import csv
import json

import numpy as np
import pytest
from tests.report.test_table1 import report_of

import mla_lightning as mla
from mla_lightning.cli.main import main
from mla_lightning.config import plan
from mla_lightning.identity import identity_of

WORDS = (
    *("data=synthetic", "data.num_train=80", "data.num_val=40", "data.num_test=40"),
    *("trainer.max_epochs=8", "evaluate_probe=false", "scheduler=null"),
)
COLUMNS = {"accuracy": "acc", "macro_f1": "f1_macro", "balanced_accuracy": "recall_macro"}


def rows_of(run):
    with (run.folder / "metrics.csv").open() as file:
        return list(csv.DictReader(file))


def first_best(rows, column):
    values = [float(row[column]) for row in rows]
    return values.index(max(values)) + 1


@pytest.mark.parametrize("select_by", COLUMNS)
def test_the_epoch_is_the_first_best_by_the_metric(tmp_path, select_by):
    run = mla.train(*WORDS, "method=concat", f"select_by={select_by}", folder=tmp_path)
    result = json.loads((run.folder / "result.json").read_text())
    column = f"val/{COLUMNS[select_by]}"
    assert result["select_by"] == select_by
    rows = rows_of(run)
    assert result["best_epoch"] == first_best(rows, column)
    names = {"accuracy": "accuracy", "macro_f1": "macro_f1", "balanced_accuracy": "macro_recall"}
    best = float(rows[result["best_epoch"] - 1][column])
    assert result["val"]["multi"][names[select_by]] == pytest.approx(best, abs=1e-6)
    assert ("val/recall_macro" in rows[0]) == (select_by == "balanced_accuracy")
    assert run.predict(split="val").logits["multi"].shape == (40, 4)
    note = next(note for note in report_of(tmp_path).notes if "epoch selected" in note)
    shown = "" if select_by == "accuracy" else f" by {select_by.replace('_', ' ')}"
    assert f"epoch selected on validation{shown} (protocol=validation)" in note


def test_the_metric_changes_the_epoch_and_each_modality_of_unimodal_has_its_own(tmp_path):
    rng = np.random.default_rng(2)
    label = rng.choice(3, size=400, p=[0.6, 0.25, 0.15])
    x = rng.normal(size=(2, 400, 5)) + 0.7 * np.eye(3, 5)[label]
    np.savez(tmp_path / "my.npz", audio=x[0], visual=x[1], label=label)
    assert main(["data", "import", str(tmp_path / "my.npz"), f"target={tmp_path / 'my'}"]) == 0
    words = ("data=store", f"data.path={tmp_path / 'my'}", *WORDS[4:], "method=unimodal")
    words += ("recipe=paper", "optimizer.lr=0.01")
    runs = {k: mla.train(*words, f"select_by={k}", folder=tmp_path / k) for k in COLUMNS}
    rows = rows_of(runs["balanced_accuracy"])
    epochs = {
        (k, m): first_best(rows, f"val/{column}/{m}")
        for k, column in COLUMNS.items()
        for m in ("audio", "visual")
    }
    for k, run in runs.items():
        result = json.loads((run.folder / "result.json").read_text())
        assert result["best_epoch"] == max(epochs[k, "audio"], epochs[k, "visual"])
    selected = {k: (epochs[k, "audio"], epochs[k, "visual"]) for k in COLUMNS}
    assert len({*selected.values()}) == 3, selected


def test_only_another_metric_than_accuracy_changes_the_identity():
    before = identity_of({"seed": 0}, "data")
    assert identity_of({"seed": 0, "select_by": "accuracy"}, "data") == before
    assert identity_of({"seed": 0, "select_by": "macro_f1"}, "data") != before


@pytest.mark.parametrize(
    "words",
    [
        ("method=concat,majority",),  # one of a comparison may ignore it
        ("method=logistic",),  # selects its penalty
        ("method=concat", "trainer.max_epochs=1", "evaluate_test=false"),  # compared by it
    ],
)
def test_select_by_is_taken_where_it_changes_something(words):
    jobs = plan(
        ["data=synthetic", "scheduler=null", "select_by=macro_f1", *words],
        multirun=True,
        checks_signatures=True,
    )
    assert {job.config["select_by"] for job in jobs} == {"macro_f1"}

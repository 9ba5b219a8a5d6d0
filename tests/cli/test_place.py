"""Runs find their data from any folder and after a move, and accept no other data."""

import csv
import re
import shutil
from pathlib import Path

import numpy as np
import pytest

import mla_lightning as mla
from mla_lightning.cli.main import main
from mla_lightning.errors import ConfigError, DataError
from mla_lightning.prepare.import_arrays import import_arrays
from mla_lightning.run.finished import evaluate_run

TRAIN = ("data=store", "data.path=data/my", "trainer.max_epochs=1", "optimizer.lr=0.1")


def make_store(folder, seed=0):
    rng = np.random.default_rng(seed)
    label = np.arange(60) % 2
    arrays = {m: np.eye(2, 4)[label] + rng.normal(size=(60, 4)) for m in ("one", "two")}
    folder.parent.mkdir(parents=True, exist_ok=True)
    np.savez(folder.with_suffix(".npz"), label=label, **arrays)
    return import_arrays(folder.with_suffix(".npz"), folder)


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A project folder with a store and a run, whose paths are relative; the current folder."""
    folder = tmp_path / "project"
    make_store(folder / "data" / "my")
    monkeypatch.chdir(folder)
    mla.train(*TRAIN)
    return folder


def run_of(project):
    (run,) = (project / "runs" / "train").iterdir()
    return run


def test_a_run_is_evaluated_from_any_folder_and_after_the_project_moved(
    project, tmp_path, monkeypatch, capsys
):
    expected = evaluate_run(run_of(project), "test")
    monkeypatch.chdir(tmp_path)
    assert evaluate_run(run_of(project), "test") == expected
    shutil.move(project, tmp_path / "elsewhere" / "moved")
    moved = run_of(tmp_path / "elsewhere" / "moved")
    assert evaluate_run(moved, "test") == expected
    monkeypatch.chdir(moved)
    assert evaluate_run(Path("."), "test") == expected
    assert main(["predict", str(moved), f"output={tmp_path / 'p.csv'}"]) == 0
    assert len(mla.load(moved).predict().ids) == 12
    capsys.readouterr()
    assert main(["compare", str(moved), str(moved)]) == 0
    assert "not known" not in capsys.readouterr().err


def test_another_store_at_the_relative_path_is_passed_over(project, tmp_path, monkeypatch):
    expected = evaluate_run(run_of(project), "test")
    make_store(tmp_path / "other" / "data" / "my", seed=1)
    monkeypatch.chdir(tmp_path / "other")
    assert evaluate_run(run_of(project), "test") == expected


def test_a_moved_store_is_named_with_data_path(project, tmp_path, capsys):
    run = run_of(project)
    expected = evaluate_run(run, "test")
    new = tmp_path / "new place, of=data"
    shutil.move("data/my", new)
    assert main(["eval", str(run)]) == 3
    error = capsys.readouterr().err
    assert "data/my does not exist" in error
    assert f"mla eval {run} data.path=DIR" in error
    assert main(["eval", str(run), f"data.path={new}"]) == 0
    assert main(["eval", str(run), f"data.path='{new}'", "split=val"]) == 0
    assert evaluate_run(run, "test", path=new) == expected
    assert main(["predict", str(run), f"data.path={new}", "split=test"]) == 0
    rows = list(csv.DictReader(Path("predictions.csv").read_text().splitlines()))
    prediction = mla.load(run, path=new).predict()
    assert [row["prediction"] for row in rows] == prediction.classes
    capsys.readouterr()
    assert main(["compare", str(run), str(run), f"data.path={new}"]) == 0
    assert "not known" not in capsys.readouterr().err


def test_other_data_are_refused_with_both_hashes(project, tmp_path, capsys):
    run = run_of(project)
    recorded = mla.load(run).files.provenance["data_fingerprint"]
    other = make_store(tmp_path / "other", seed=1)
    assert main(["eval", str(run), f"data.path={other}"]) == 3
    error = capsys.readouterr().err
    assert recorded in error
    assert len(set(re.findall(r"\b[0-9a-f]{64}\b", error))) == 2
    with pytest.raises(DataError, match=recorded):
        _ = mla.load(run, path=other).module
    shutil.rmtree("data/my")
    shutil.move(other, "data/my")  # without a word of the user
    assert main(["eval", str(run)]) == 3
    assert recorded in capsys.readouterr().err
    assert main(["predict", str(run), "data.path=data/my"]) == 0  # other samples are its purpose


def test_wrong_options_of_eval_and_compare(project, capsys):
    run = str(run_of(project))
    assert main(["eval", run, "data.pth=x"]) == 2
    assert "Did you mean 'data.path'?" in capsys.readouterr().err
    other = mla.train("data=synthetic", "trainer.max_epochs=1")
    with pytest.raises(ConfigError, match=r"data\.path=x has no effect.*synthetic"):
        evaluate_run(other.folder, "test", path="x")
    assert main(["compare", run, run, "split=val"]) == 2


def test_masks_of_a_relative_path_are_found(project, tmp_path, monkeypatch):
    masked = (*TRAIN, "missing=anchor", "missing.rate=0.3")
    mla.train(*masked)
    (masks,) = Path("runs/masks").iterdir()
    run = mla.train(*masked, f"missing.manifest={masks}", seed=1)
    expected = evaluate_run(run.folder, "test")
    monkeypatch.chdir(tmp_path)
    assert evaluate_run(run.folder, "test") == expected


def test_the_identity_of_a_job_does_not_depend_on_the_place(project, tmp_path, monkeypatch):
    from mla_lightning.config import compose_jobs

    (job,) = compose_jobs(TRAIN)
    shutil.copytree("data/my", tmp_path / "copy")
    (other,) = compose_jobs((*TRAIN[:1], f"data.path={tmp_path / 'copy'}", *TRAIN[2:]))
    assert job.identity == other.identity

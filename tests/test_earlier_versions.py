"""Folders that earlier versions wrote, kept as these wrote them: read, and never mixed in.

``named_by_code`` is of a version in which a hash of all training files named a run, so that its
identity is no longer what this version computes for the same config.
"""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

import mla_lightning as mla
from mla_lightning.errors import ConfigError
from mla_lightning.report.read.run_folders import read_runs
from mla_lightning.run_folder import read_json

FOLDER = Path(__file__).parent / "earlier_versions" / "named_by_code"
SETTINGS = (
    *("data=synthetic", "data.num_train=32", "data.num_val=16", "data.num_test=16"),
    *("method=mla", "trainer.max_epochs=2", "seed=0"),
)


@pytest.fixture
def old(tmp_path):
    return Path(shutil.copytree(FOLDER, tmp_path / "runs" / "train" / "named_by_code"))


def test_reports_read_it(old):
    (run,) = read_runs([old])
    recorded = read_json(old / "result.json")
    accuracy = recorded["test"]["multi"]["accuracy"]
    assert run.scores["test"]["multi"]["accuracy_percent"] == pytest.approx(100 * accuracy)
    (row,) = mla.Runs([old]).table().tables[0].sections[0].rows[-1:]
    assert "25.0 (1)" in [cell.text for cell in row.cells]


def test_its_weights_predict_what_it_recorded(old):
    logits = mla.load(old).predict(split="test").logits
    recorded = np.load(old / "predictions.npz")
    for name in ("multi", "audio", "visual"):
        assert np.allclose(logits[name], recorded[f"logits_{name}"], atol=1e-5)


def test_the_same_settings_train_anew_beside_it(old, tmp_path):
    run = mla.train(*SETTINGS, folder=tmp_path / "runs")
    assert run.folder != old
    assert old.is_dir()
    new, kept = (read_json(one / "result.json")["identity"] for one in (run.folder, old))
    assert new != kept
    runs = read_runs([tmp_path / "runs"])
    assert len(runs) == 2
    (row,) = mla.Runs([old, run.folder]).table().tables[0].sections[0].rows[-1:]
    assert not any("(2)" in cell.text for cell in row.cells)  # one seed, not two


def test_it_is_not_continued_but_on_demand(old):
    place = f"run_dir={old}"
    with pytest.raises(ConfigError, match=r"finished run of another job.*earlier version"):
        mla.train(*SETTINGS, place)
    (old / "result.json").unlink()
    with pytest.raises(ConfigError, match=r"(?s)belongs to another job.*earlier version"):
        mla.train(*SETTINGS, place)
    run = mla.train(*SETTINGS, place, "force_resume=true")
    recorded = json.loads((FOLDER / "result.json").read_text())
    assert run.result.test["multi"]["accuracy"] == recorded["test"]["multi"]["accuracy"]

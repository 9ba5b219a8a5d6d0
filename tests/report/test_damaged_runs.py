"""Damaged runs: no changed bit stays unnoticed, and none spoils the reports of others."""

import json
import os
import random
import re
import shutil

import numpy as np
import pytest
import yaml
from tests.report.synthetic_runs import change, unseal, write_run

import mla_lightning as mla
from mla_lightning.cli.main import main
from mla_lightning.errors import RunError
from mla_lightning.report.read.run_folders import read_run, read_runs
from mla_lightning.run_folder import write_json
from mla_lightning.run_folder.integrity import SEALED
from mla_lightning.run_folder.parsing import MAX_BYTES

SIZE = ("data.num_train=48", "data.num_val=20", "data.num_test=20", "trainer.max_epochs=1")


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """One real run with diagnostics."""
    root = tmp_path_factory.mktemp("trained")
    return mla.train("data=synthetic", *SIZE, "diagnostics=epoch", folder=root).folder


@pytest.fixture
def run_dir(trained, tmp_path):
    """A copy of the real run beside a good one, both of Table 1."""
    write_run(tmp_path / "runs", "concat", 0, dataset="synthetic", name="table1/synthetic")
    return shutil.copytree(trained, tmp_path / "runs" / trained.name)


def edit_config(folder, **values):
    tree = yaml.safe_load((folder / "config.yaml").read_text())
    (folder / "config.yaml").write_text(yaml.safe_dump(tree | values))


def edit_data(folder):
    tree = yaml.safe_load((folder / "config.yaml").read_text())
    edit_config(folder, data=tree["data"] | {"data_seed": 7})


def edit_score(value):
    def edit(folder):
        result = json.loads((folder / "result.json").read_text())
        result["test"]["multi"]["accuracy"] = value
        (folder / "result.json").write_text(json.dumps(result))

    return edit


def edit_text(name, old, new):
    return lambda folder: (folder / name).write_text(
        (folder / name).read_text().replace(old, new, 1)
    )


def edit_labels(folder):
    with np.load(folder / "predictions.npz") as arrays:
        content = dict(arrays)
    content["label"] = (content["label"] + 1) % 4
    np.savez(folder / "predictions.npz", **content)


DEEP = "[" * 100_000 + "]" * 100_000
#: Kind of damage -> function that does it, and what the reason says.
DAMAGES = {
    "seed": (lambda folder: edit_config(folder, seed=5), "config.yaml"),
    "data_seed": (edit_data, "config.yaml"),
    "seed of the result": (lambda folder: change(folder, "result.json", seed=5), "result.json"),
    "accuracy": (edit_score(0.123), "test accuracy of multi|predictions.npz|result.json"),
    "accuracy above 1": (edit_score(9.125), "test.multi.accuracy must be between 0 and 1"),
    "accuracy below 0": (edit_score(-0.5), "test.multi.accuracy must be between 0 and 1"),
    "NaN": (edit_score(float("nan")), "test.multi.accuracy is nan, not a finite number"),
    "huge number": (edit_score(1e308), "test.multi.accuracy is 1e.308, larger than"),
    "infinity": (edit_text("result.json", '"ece": 0', '"ece": 1e999 , "e": 0'), "ece is inf"),
    "negative time": (
        lambda folder: change(folder, "result.json", train_time_s=-1.0),
        "train_time_s must be a number >= 0",
    ),
    "absurd epochs": (
        lambda folder: change(folder, "result.json", epochs=10**12),
        "epochs must be a whole number >= 1 and <= 1000000000",
    ),
    "best epoch after the last": (
        lambda folder: change(folder, "result.json", best_epoch=100),
        "best_epoch must be at most epochs",
    ),
    "type": (lambda folder: change(folder, "result.json", lr="high"), "lr must be a number"),
    "duplicate key": (
        edit_text("result.json", "{", '{"seed": 1,'),
        "the key 'seed' is there twice",
    ),
    "nesting": (lambda folder: (folder / "result.json").write_text(DEEP), "nested too deeply"),
    "nested YAML": (lambda folder: (folder / "config.yaml").write_text(DEEP), "config.yaml"),
    "YAML bomb": (
        lambda folder: (folder / "config.yaml").write_text(
            "a0: &a0 [x, x]\n"
            + "".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]\n" for n in range(1, 12))
        ),
        "config.yaml",
    ),
    "huge file": (
        lambda folder: os.truncate(folder / "result.json", MAX_BYTES + 1),
        "more than any run writes",
    ),
    "labels": (edit_labels, "predictions.npz"),
    "other run's result": (
        lambda folder: change(folder, "result.json", identity="f" * 64),
        "result.json",
    ),
    "no config": (lambda folder: (folder / "config.yaml").rename(folder / "c"), "config.yaml"),
}


@pytest.mark.parametrize("sealed", [True, False])
@pytest.mark.parametrize("kind", DAMAGES)
def test_a_damaged_run_is_named_and_the_others_are_shown(run_dir, kind, sealed):
    if not sealed:  # as earlier versions wrote it: the files are compared with each other
        unseal(run_dir)
    assert read_run(run_dir).is_finished
    damage, reason = DAMAGES[kind]
    damage(run_dir)
    damaged, good = sorted(read_runs([run_dir.parent]), key=lambda run: run.state != "unreadable")
    assert damaged.state == "unreadable"
    assert good.is_finished
    assert damaged.scores == {}
    if not sealed:
        assert re.search(reason, damaged.reason), damaged.reason
    with pytest.raises(RunError, match=run_dir.name):
        _ = mla.Run(run_dir).result


@pytest.mark.parametrize("name", ["result.json", *SEALED])
def test_a_flipped_bit_is_noticed_or_changes_no_number(run_dir, name):
    before = read_run(run_dir)
    assert before.is_finished
    content = (run_dir / name).read_bytes()
    rng = random.Random(name)
    for _ in range(25):
        place, bit = rng.randrange(len(content)), rng.randrange(8)
        flipped = bytearray(content)
        flipped[place] ^= 1 << bit
        (run_dir / name).write_bytes(flipped)
        after = read_run(run_dir)
        assert after is not None
        if after.is_finished:
            assert after == before, (place, bit)
        else:
            assert name in after.reason
            assert after.scores == {}


@pytest.mark.parametrize(
    "words",
    [
        ("eval", "RUN"),
        ("predict", "RUN", "output=p.csv"),
        ("compare", "RUN", "RUN"),
    ],
)
@pytest.mark.parametrize("kind", ["seed", "data_seed", "nested YAML"])
def test_commands_on_a_run_whose_config_was_changed_fail_with_a_reason(
    run_dir, tmp_path, monkeypatch, capsys, words, kind
):
    monkeypatch.chdir(tmp_path)
    DAMAGES[kind][0](run_dir)
    assert main([str(run_dir) if word == "RUN" else word for word in words]) == 1
    error = capsys.readouterr().err
    assert "config.yaml" in error
    assert "Traceback" not in error
    assert not (tmp_path / "p.csv").exists()
    with pytest.raises(RunError, match=r"config\.yaml"):
        mla.load(run_dir)


@pytest.mark.usefixtures("only_svg")
@pytest.mark.parametrize(
    "words",
    [
        ("report", "table1", "runs"),
        ("report", "runs", "runs"),
        ("report", "tuning", "runs"),
        ("report", "page", "runs"),
        ("dashboard", "table1", "runs"),
    ],
)
def test_every_report_shows_the_other_runs(run_dir, tmp_path, monkeypatch, capsys, words):
    monkeypatch.chdir(tmp_path)
    DAMAGES["NaN"][0](run_dir)
    write_json(run_dir / "diagnostics.json", {"calibration": {}, "entropy": {}})
    assert main([*words]) == 0
    assert "Traceback" not in "".join(capsys.readouterr())
    if words[0] == "report":
        table = (tmp_path / "runs" / "report" / "results.csv").read_text()
        assert "unreadable" in table
        assert "concat" in table
    assert mla.Runs(tmp_path / "runs").table("runs").title == "2 runs: 1 finished, 1 unreadable"
    runs = mla.Runs(tmp_path / "runs")
    assert [run.result.method for run in runs] == ["concat"]
    assert "accuracy is nan" in runs.unfinished[0][1]

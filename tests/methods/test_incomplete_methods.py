"""The methods for missing modalities, trained: hidden values stay hidden, stages resume."""

import json
import os
import signal

import numpy as np
import pytest

from mla_lightning.cli import main
from mla_lightning.data.synthetic import Synthetic

METHODS = ("ae", "cra", "mmin", "if_mmin", "cca", "dcca", "dccae", "cpm_net", "tate")
TAUGHT = ("mmin", "if_mmin", "tate")
BASE = [
    *("train", "data=synthetic", "data.num_train=80", "data.num_val=40", "data.num_test=40"),
    *("missing=anchor", "missing.rate=0.3", "recipe=incomplete", "trainer.max_epochs=4"),
    *("data.batch_size=40", "evaluate_probe=false"),
]


def words_of(method, *more):
    own = {
        "mmin": ["method.pretrain_epochs=2"],
        "if_mmin": ["method.pretrain_epochs=2"],
        "tate": ["method.pretrain_epochs=2", "method.fusion.width=24"],
        "dcca": ["method.num_components=4"],
        "dccae": ["method.num_components=4"],
        "cpm_net": ["method.fusion.num_latent=16"],
    }
    given = [*BASE[1:], f"method={method}", *own.get(method, []), *more]
    by_key = {word.partition("=")[0]: word for word in given}  # the later one counts
    return ["train", *by_key.values()]


def result_of(path):
    return json.loads((path / "result.json").read_text())


@pytest.mark.parametrize("method", METHODS)
def test_each_learns_and_never_looks_at_what_is_hidden_in_the_test(tmp_path, monkeypatch, method):
    monkeypatch.chdir(tmp_path)
    more = ["trainer.max_epochs=40", "optimizer.lr=0.004", "scheduler.step_size=40"]
    assert main(words_of(method, "run_dir=clean", *more)) == 0
    loaded = Synthetic.load_splits

    def poisoned(self):
        splits = loaded(self)
        for part, split in splits.items():
            if part == "train":
                continue  # these methods may learn from the truth there (recon_target=oracle)
            given = (part, len(split.label), self.modalities, self.seed)
            mask = self.missing.mask(*given, fold=self.split_name)
            for place, name in enumerate(self.modalities):
                split.inputs[name][~mask[:, place]] = float("nan")
        return splits

    monkeypatch.setattr(Synthetic, "load_splits", poisoned)
    monkeypatch.setattr("mla_lightning.data.base.check_finite", lambda *_: None)
    assert main(words_of(method, "run_dir=poisoned", *more)) == 0
    clean, other = result_of(tmp_path / "clean"), result_of(tmp_path / "poisoned")
    for key in ("val", "test", "missing", "best_epoch"):
        assert clean[key] == other[key], key
    arrays = [np.load(tmp_path / name / "predictions.npz") for name in ("clean", "poisoned")]
    assert all(np.array_equal(arrays[0][key], arrays[1][key]) for key in arrays[0])
    chance = 1 / len(arrays[0]["class_names"])
    assert clean["test"]["multi"]["accuracy"] > chance + 0.1


@pytest.mark.parametrize("method", ["ae", "cra", *TAUGHT])
def test_observed_targets_use_nothing_hidden_in_training(tmp_path, monkeypatch, method):
    monkeypatch.chdir(tmp_path)
    words = words_of(method, "method.recon_target=observed")
    assert main([*words, "run_dir=clean"]) == 0
    assert main(words_of(method, "run_dir=oracle")) == 0
    loaded = Synthetic.load_splits

    def poisoned(self):
        splits = loaded(self)
        for part, split in splits.items():
            given = (part, len(split.label), self.modalities, self.seed)
            mask = self.missing.mask(*given, fold=self.split_name)
            for place, name in enumerate(self.modalities):
                split.inputs[name][~mask[:, place]] = float("nan")
        return splits

    monkeypatch.setattr(Synthetic, "load_splits", poisoned)
    monkeypatch.setattr("mla_lightning.data.base.check_finite", lambda *_: None)
    assert main([*words, "run_dir=poisoned"]) == 0
    assert result_of(tmp_path / "clean")["test"] == result_of(tmp_path / "poisoned")["test"]
    rows = [(tmp_path / name / "metrics.csv").read_text() for name in ("clean", "oracle")]
    assert rows[0] != rows[1]


@pytest.mark.parametrize("method", TAUGHT)
def test_the_first_stage_is_never_selected_and_must_leave_time(
    tmp_path, monkeypatch, capfd, method
):
    monkeypatch.chdir(tmp_path)
    assert main(words_of(method, "run_dir=run")) == 0
    assert result_of(tmp_path / "run")["best_epoch"] >= 3
    assert main(words_of(method, "run_dir=short", "trainer.max_epochs=2")) == 2
    assert "leaves nothing" in capfd.readouterr().err


@pytest.mark.parametrize("method", [*TAUGHT, "cpm_net", "ae", "dcca"])
@pytest.mark.parametrize("killed_after", [1, 2, 3])
def test_a_killed_run_goes_on_as_if_nothing_had_been(tmp_path, monkeypatch, method, killed_after):
    monkeypatch.chdir(tmp_path)
    assert main(words_of(method, "run_dir=whole")) == 0
    pid = os.fork()
    if pid == 0:
        from mla_lightning.callbacks.checkpoint import RunCheckpoint

        save = RunCheckpoint._save

        def save_and_die(self, trainer, epoch, batch):
            save(self, trainer, epoch, batch)
            if epoch == killed_after:
                os.kill(os.getpid(), signal.SIGKILL)

        RunCheckpoint._save = save_and_die
        main(words_of(method, "run_dir=killed"))
        os._exit(0)
    os.waitpid(pid, 0)
    assert not (tmp_path / "killed" / "result.json").exists()
    assert main(words_of(method, "run_dir=killed")) == 0
    whole, killed = result_of(tmp_path / "whole"), result_of(tmp_path / "killed")
    assert whole["test"] == killed["test"]
    assert whole["best_epoch"] == killed["best_epoch"]


def test_what_cannot_be_is_refused(tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    assert main([w for w in words_of("ae") if not w.startswith("missing")]) == 2
    assert "recon_target=oracle reconstructs what is hidden" in capfd.readouterr().err
    assert main(words_of("ae", "method.recon_target=orcle")) == 2
    assert main(["train", "data=openmoji", "method=cca", "optimizer.lr=0.1"]) == 2
    assert "works on vectors" in capfd.readouterr().err
    assert main(words_of("mmin", "method.pretrain_epochs=0")) == 2


def test_degenerate_pairs_are_told(tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    assert main(words_of("cca", "missing.rate=0.5", "run_dir=run")) == 0
    (note,) = result_of(tmp_path / "run")["notes"]
    assert "no training sample has both" in note
    assert note in capfd.readouterr().err

"""Methods of two stages, and those that keep codes: they stop, resume and share."""

import os
import signal

import numpy as np
import pytest
import torch
from tests.methods.incomplete_runs import METHODS, TAUGHT, result_of, words_of

from mla_lightning.cli.main import main
from mla_lightning.methods.taught import Taught
from mla_lightning.run_folder import read_metrics


@pytest.mark.parametrize("method", TAUGHT)
def test_the_first_stage_is_never_selected_and_must_leave_time(
    tmp_path, monkeypatch, capfd, method
):
    monkeypatch.chdir(tmp_path)
    assert main(words_of(method, "run_dir=run")) == 0
    assert result_of(tmp_path / "run")["best_epoch"] >= 3
    assert main(words_of(method, "run_dir=short", "trainer.max_epochs=2")) == 2
    assert "leaves nothing" in capfd.readouterr().err


@pytest.mark.parametrize(
    ("method", "killed_after"),
    [
        *[("tate", after) for after in (1, 2, 3)],  # within the first stage, at its end, after it
        *[(method, 2) for method in ("mmin", "if_mmin", "cpm_net", "ae", "dcca")],
    ],
)
def test_a_killed_run_goes_on_as_if_nothing_had_been(tmp_path, monkeypatch, method, killed_after):
    monkeypatch.chdir(tmp_path)
    # Elsewhere: a first stage that it leaves would be shared, and nothing be killed in it.
    assert main(words_of(method, "run_dir=whole", "paths.output_dir=elsewhere")) == 0
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


@pytest.mark.parametrize("method", METHODS)
def test_a_run_killed_within_an_epoch_goes_on_at_that_batch(tmp_path, monkeypatch, method):
    monkeypatch.chdir(tmp_path)
    more = ["data.batch_size=20", "checkpoint.every_n_batches=1"]
    if method in ("dcca", "dccae"):
        more += ["method.num_components=2"]
    assert main(words_of(method, "run_dir=whole", "paths.output_dir=elsewhere", *more)) == 0
    pid = os.fork()
    if pid == 0:
        from mla_lightning.module import MultimodalModule

        step, seen = MultimodalModule.training_step, []

        def step_and_die(self, batch, batch_idx):
            if len(seen) == 10 or (method == "cca" and len(seen) == 2):
                os.kill(os.getpid(), signal.SIGKILL)
            seen.append(batch_idx)
            step(self, batch, batch_idx)

        MultimodalModule.training_step = step_and_die
        main(words_of(method, "run_dir=killed", *more))
        os._exit(0)
    assert os.waitpid(pid, 0)[1] == signal.SIGKILL
    assert main(words_of(method, "run_dir=killed", *more)) == 0
    whole, killed = (np.load(tmp_path / run / "predictions.npz") for run in ("whole", "killed"))
    assert all(np.array_equal(whole[key], killed[key]) for key in whole)


@pytest.mark.parametrize("method", TAUGHT)
def test_a_shared_first_stage_changes_no_number(tmp_path, monkeypatch, method):
    monkeypatch.chdir(tmp_path)
    whole, steps = Taught.encode_known, []  # what the first stage trains on

    def counting(self, chunk):
        steps.append(0)
        return whole(self, chunk)

    monkeypatch.setattr(Taught, "encode_known", counting)

    def run(name, *more):
        steps.clear()
        assert main(words_of(method, f"run_dir={name}", *more)) == 0
        return len(steps)

    assert run("alone", "missing.rate=0.4", "paths.output_dir=elsewhere") == 4
    assert run("first", "missing.rate=0.2") == 4
    assert run("second", "missing.rate=0.4") == 0
    assert run("third", "missing.rate=0.4", "seed=5") == 4
    assert run("other", "missing.rate=0.4", "optimizer.lr=0.002") == 4
    assert run("observed", "method.recon_target=observed") == 4
    alone, second = (np.load(tmp_path / name / "predictions.npz") for name in ("alone", "second"))
    assert all(np.array_equal(alone[key], second[key]) for key in alone)
    own, shared = read_metrics(tmp_path / "alone"), read_metrics(tmp_path / "second")
    assert [row["epoch"] for row in shared] == [1, 2, 3, 4]
    for row, other in zip(own, shared, strict=True):
        same = [key for key in other if not key.startswith("time/")]
        assert {key: row[key] for key in same} == {key: other[key] for key in same}
    assert "val/acc" not in shared[1]
    assert "val/acc" in shared[2]
    assert len(list((tmp_path / "runs" / "stages").iterdir())) == 3
    assert result_of(tmp_path / "second")["epochs"] == 4


def test_a_shared_first_stage_tells_its_cost(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(words_of("mmin", "run_dir=plain")) == 0
    more = ["diagnostics=epoch"]  # a stage without its cost is another one
    assert main(words_of("mmin", *more, "run_dir=first")) == 0
    assert main(words_of("mmin", *more, "run_dir=second", "missing.rate=0.4")) == 0
    rows = [read_metrics(tmp_path / name) for name in ("first", "second")]
    first, second = ([row.get("cost/step_flops") for row in run_rows] for run_rows in rows)
    assert first[0] == second[0]
    assert first[0] != first[2]
    assert second[2] is not None


@pytest.mark.parametrize("method", TAUGHT)
def test_the_teacher_is_frozen_and_never_in_training_mode(tmp_path, monkeypatch, method):
    monkeypatch.chdir(tmp_path)
    shown, seen = Taught.encode_by_teacher, []

    def watching(self, chunk):
        assert self.training
        assert not any(part.training for part in self.teacher.modules())
        seen.append({key: value.clone() for key, value in self.teacher.state_dict().items()})
        return shown(self, chunk)

    monkeypatch.setattr(Taught, "encode_by_teacher", watching)
    assert main(words_of(method, "run_dir=run")) == 0
    assert len(seen) >= 4  # two epochs of two batches, and IF-MMIN asks twice
    assert all(torch.equal(seen[0][key], late[key]) for late in seen for key in late)

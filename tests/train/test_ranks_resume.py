"""Ranks that stop, fail and resume together, with any number of them."""

import math
import os
import signal

import pytest
import torch
from lightning.pytorch import Callback, Trainer
from tests.methods.catalogue import build_method, incomplete_batch
from tests.methods.harness import Loader
from tests.train.rank_processes import Recorder, on_ranks, train

from mla_lightning import ranks
from mla_lightning.callbacks.checkpoint import RunCheckpoint
from mla_lightning.callbacks.signals import StopOnSignal, StopRequested, StopSignals
from mla_lightning.errors import RunError
from mla_lightning.module import MultimodalModule

NAMES = ("qmf", "mla own_momentum")


def interrupted(name, folder, num_ranks):
    """Train for four of six batches, into the second epoch, and write a checkpoint."""
    file = folder / f"{name}-{num_ranks}-{ranks.rank()}.ckpt"
    train(name, is_complete=False, num_ranks=num_ranks, recorder=Recorder(file, after=4))


def resumed(name, folder, num_ranks, written_by):
    file = folder / f"{name}-{written_by}-0.ckpt"
    return train(name, is_complete=False, num_ranks=num_ranks, resume=file)


def test_a_checkpoint_within_an_epoch_is_for_any_number_of_ranks(tmp_path):
    for name in NAMES:
        interrupted(name, tmp_path, 1)

    def of_two():
        for name in NAMES:
            interrupted(name, tmp_path, 2)
        return {name: resumed(name, tmp_path, 2, written_by=1) for name in NAMES}

    by_two = on_ranks(of_two)
    for name in NAMES:
        whole = train(name, is_complete=False)
        again = resumed(name, tmp_path, 1, written_by=1)
        torch.testing.assert_close(again["state"], whole["state"], rtol=0, atol=0)
        by_one = resumed(name, tmp_path, 1, written_by=2)
        for end in (by_one, by_two[0][name], by_two[1][name]):
            assert len(end["epochs"]) == 1
            torch.testing.assert_close(end["epochs"][0], whole["epochs"][1], rtol=0, atol=1e-10)
            torch.testing.assert_close(end["state"], whole["state"], rtol=0, atol=1e-10)
            torch.testing.assert_close(end["optimizer"], whole["optimizer"], rtol=0, atol=1e-10)
        torch.testing.assert_close(by_two[1][name], by_two[0][name], rtol=0, atol=0)


class BadLoss(Callback):
    """Makes an input of one rank's second batch infinite."""

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        if ranks.rank() == 1 and batch_idx == 1:
            batch["inputs"]["audio"][:] = math.inf


def test_a_loss_that_is_not_finite_on_one_rank_is_an_error_of_all():
    def reason():
        with pytest.raises(RunError) as raised:
            train("late_fusion", num_ranks=2, callbacks=[BadLoss()])
        return str(raised.value)

    first, second = on_ranks(reason)
    assert first == second
    assert first.startswith("The audio loss is nan in epoch 1, batch 2.")


def test_losses_of_other_names_are_an_error_and_not_a_wrong_sum(monkeypatch):
    step_on = MultimodalModule.step_on

    def renamed(self, *args, **options):
        losses = step_on(self, *args, **options)
        return {f"{name}{ranks.rank()}": loss for name, loss in losses.items()}

    monkeypatch.setattr(MultimodalModule, "step_on", renamed)

    def reason():
        with pytest.raises(RunError, match="losses of different names") as raised:
            train("late_fusion", num_ranks=2)
        return str(raised.value)

    assert "audio0" in on_ranks(reason)[0]


class SignalToOne(Callback):
    """Sends a signal to one rank, after the step of its second batch has agreed on none."""

    def __init__(self, batch_idx):
        self.batch_idx = batch_idx

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        if ranks.rank() == 1 and (trainer.current_epoch, batch_idx) == (0, self.batch_idx):
            os.kill(os.getpid(), signal.SIGTERM)


@pytest.mark.parametrize(("batch_idx", "stopped"), [(0, ["epoch=0000-batch=000002.ckpt"]), (2, [])])
def test_a_signal_to_one_rank_stops_all_after_the_same_batch(batch_idx, stopped, tmp_path):
    def ended():
        folder = tmp_path / f"{batch_idx}-{ranks.rank()}"
        folder.mkdir()
        checkpoint = RunCheckpoint(folder)
        with StopSignals() as signals:
            callbacks = [SignalToOne(batch_idx), StopOnSignal(checkpoint, signals), checkpoint]
            with pytest.raises(StopRequested):
                train("mla", num_ranks=2, callbacks=callbacks)
        return signals.received, sorted(path.name for path in folder.glob("epoch*.ckpt"))

    first, second = on_ranks(ended)
    assert first == second
    received, files = first
    assert received == signal.SIGTERM
    assert files == (stopped or ["epoch=0001-batch=000000.ckpt"])  # of the end of the epoch


class StopOne(Callback):
    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        if ranks.rank() == 1 and batch_idx == 1:
            trainer.should_stop = True


def test_a_rank_that_ends_training_ends_it_for_all():
    recorders = on_ranks(
        lambda: train("concat", num_ranks=2, callbacks=[StopOne()])["epochs"],
    )
    assert recorders[0] == recorders[1]
    assert len(recorders[0]) == 1


@pytest.mark.filterwarnings("ignore:.*sync_dist.*")
def test_a_trainer_of_the_user_that_only_evaluates_is_left_alone():
    def score():
        all_batches = [incomplete_batch(2, is_complete=True, seed=seed) for seed in (0, 1)]
        module = build_method("late_fusion", all_batches[0])
        plain = [
            {"label": b["label"], **{m: x.float() for m, x in b["inputs"].items()}}
            for b in all_batches
        ]
        trainer = Trainer(accelerator="cpu", logger=False, enable_progress_bar=False)
        return trainer.validate(module, Loader(plain), verbose=False)[0]["val/acc"]

    assert on_ranks(score) == [score()] * 2

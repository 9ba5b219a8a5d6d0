"""The loop over batches calls, counts and computes what Lightning's own loop does."""

import pytest
import torch
from lightning.pytorch import Callback
from lightning.pytorch.loops.training_epoch_loop import _TrainingEpochLoop
from lightning.pytorch.profilers import PassThroughProfiler
from tests.train.jobs import make_job

from mla_lightning.callbacks.checkpoint import RunCheckpoint
from mla_lightning.methods import MLA
from mla_lightning.run.build import build_data, build_module
from mla_lightning.run.epoch_loop import EpochLoop, NoProfiler
from mla_lightning.run.trainer import build_trainer

HOOKS = (
    "on_train_batch_start",
    "on_before_backward",
    "on_after_backward",
    "on_before_optimizer_step",
    "on_train_batch_end",
)


class Recorder(Callback):
    """Records every call of a hook, with the counters at that time."""

    def __init__(self):
        self.calls = []


def _recording(name):
    def hook(self, trainer, module, *arguments):
        loop = trainer.fit_loop.epoch_loop
        numbers = [x if isinstance(x, int) else type(x).__name__ for x in arguments]
        current = loop.batch_progress.state_dict()
        entry = (name, numbers, current, trainer.global_step, module._current_fx_name)
        self.calls.append(repr((*entry, trainer._logger_connector._first_loop_iter)))

    return hook


for _name in HOOKS:
    setattr(Recorder, _name, _recording(_name))


class Quitter(MLA):
    """Ends every epoch after two batches, as Lightning lets a module do."""

    def on_train_batch_start(self, batch, batch_idx):
        super().on_train_batch_start(batch, batch_idx)
        return -1 if batch_idx == 2 else None


def trained(folder, loop, callbacks, *, method=MLA, **words):
    folder.mkdir()
    job = make_job(folder, *(f"{key}={value}" for key, value in words.items()))
    data = build_data(job.config)
    module = build_module(job.config, data)
    module.__class__ = method
    trainer = build_trainer(job.config, folder, RunCheckpoint(folder), [], callbacks)
    trainer.callbacks = callbacks
    assert type(trainer.fit_loop.epoch_loop) is EpochLoop
    trainer.fit_loop.epoch_loop = loop(trainer)
    trainer.fit(module, data.train_dataloader(), data.val_dataloader())
    state = {key: value.tolist() for key, value in module.state_dict().items()}
    return state, module.epoch_metrics, trainer.fit_loop.state_dict(), trainer.global_step


@pytest.mark.parametrize("method", [MLA, Quitter])
def test_equals_lightnings_loop(tmp_path, method):
    theirs, ours = Recorder(), Recorder()
    expected = trained(tmp_path / "1", _TrainingEpochLoop, [theirs], method=method)
    assert trained(tmp_path / "2", EpochLoop, [ours], method=method) == expected
    assert ours.calls == theirs.calls
    num_batches = 2 * (10 if method is MLA else 2)
    assert sum("'on_before_backward'" in call for call in ours.calls) == 2 * num_batches
    assert trained(tmp_path / "3", EpochLoop, [], method=method) == expected


class StepCounter(Callback):
    """Has no hook but the one before an optimiser's step."""

    def __init__(self):
        self.names = []

    def on_before_optimizer_step(self, trainer, module, optimizer):
        self.names.append(module._current_fx_name)


def test_a_hook_before_the_step_alone_is_called(tmp_path):
    counter = StepCounter()
    plain, *_ = trained(tmp_path / "1", EpochLoop, [])
    counted, *_ = trained(tmp_path / "2", EpochLoop, [counter])
    assert counter.names == ["on_before_optimizer_step"] * 2 * 2 * 10  # epochs, steps, batches
    assert counted == plain


def test_own_hook_of_a_module_before_the_step(tmp_path):
    names = []

    class Named(MLA):
        def on_before_optimizer_step(self, optimizer):
            names.append(self._current_fx_name)
            super().on_before_optimizer_step(optimizer)

    plain, *_ = trained(tmp_path / "1", EpochLoop, [])
    named, *_ = trained(tmp_path / "2", EpochLoop, [], method=Named)
    assert names == ["on_before_optimizer_step"] * 40
    assert named == plain


class Logger(MLA):
    """Logs in its training step, as any LightningModule may, from the fourth batch on."""

    def training_step(self, batch, batch_idx):
        super().training_step(batch, batch_idx)
        if batch_idx >= 3:
            self.log("number", float(batch_idx), on_step=True, on_epoch=True, prog_bar=True)


class Metrics(Callback):
    """Reads what has been logged after every batch and every epoch."""

    def __init__(self):
        self.read = []

    def on_train_batch_start(self, trainer, module, batch, batch_idx):
        self.on_train_epoch_end(trainer, module)

    def on_train_epoch_end(self, trainer, module):
        both = trainer.callback_metrics, trainer.progress_bar_metrics, trainer.logged_metrics
        self.read.append(repr([{k: float(v) for k, v in metrics.items()} for metrics in both]))


def test_what_a_module_logs_is_what_lightning_logs(tmp_path):
    theirs, ours = Metrics(), Metrics()
    trained(tmp_path / "1", _TrainingEpochLoop, [theirs], method=Logger)
    trained(tmp_path / "2", EpochLoop, [ours], method=Logger)
    assert ours.read == theirs.read
    assert "'number_epoch': 6.0" in ours.read[-1]


def test_own_hooks_of_a_module_around_the_backward_pass(tmp_path):
    class Scaled(MLA):
        def backward(self, loss, *arguments, **options):
            super().backward(0 * loss, *arguments, **options)

    plain, *_ = trained(tmp_path / "1", EpochLoop, [])
    zero, *_ = trained(tmp_path / "2", EpochLoop, [], method=Scaled)
    assert zero.keys() == plain.keys()
    assert zero != plain


def test_full_precision_ends_autocast_and_the_graph():
    module = MLA(
        encoders={name: torch.nn.Linear(2, 3) for name in ("audio", "visual")},
        num_classes=2,
        optimizer=torch.optim.SGD,
    )
    x = torch.ones(2, 2, requires_grad=True)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert (x @ x).dtype == torch.bfloat16
        with module.full_precision():
            assert (x @ x).dtype == torch.float32
            assert not (x @ x).requires_grad
        assert (x @ x).dtype == torch.bfloat16
    with module.full_precision():
        assert not (x @ x).requires_grad


def test_the_profiler_measures_nothing():
    with NoProfiler().profile("a"), NoProfiler().profile("b"):
        pass
    assert isinstance(NoProfiler(), PassThroughProfiler)

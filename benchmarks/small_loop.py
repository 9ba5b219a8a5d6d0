"""P4, P5: the whole training loop of small encoders against the bare loop, and logging alone."""

from __future__ import annotations

import statistics
import tempfile
from collections.abc import Callable, Iterator
from functools import wraps
from pathlib import Path
from typing import Any

from benchmarks.measure import Row, cpu
from benchmarks.setups import OPENMOJI, TINY, Bare, Setup, as_written_by_hand
from mla_lightning.callbacks.epoch_table import EpochTable
from mla_lightning.data.loading import TrainLoader, loader_options

LIMIT = 1.9
HOW = (
    "Process CPU time of whole epochs (loader, hooks, finite guard, logging, epoch table, "
    "checkpoints; validation excluded) against the bare loop's steps on the same batches, ready "
    "and in the same memory layout, each run just before the Trainer gets it; median over epochs"
)
HOW_LOGGING = (
    "Process CPU time inside reading the losses, the loggers and the epoch table, divided by the "
    "number of batches (500 an epoch), against the bare step of the same two perceptrons"
)


class Stopwatch:
    """Adds up the time spent in some calls; calls within calls count once."""

    def __init__(self) -> None:
        """Start at nothing."""
        self.seconds = 0.0
        self._is_running = False

    def around(self, owner: Any, name: str) -> None:
        """Time a method of one object from now on."""
        setattr(owner, name, self._timed(getattr(owner, name)))

    def _timed(self, call: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(call)
        def timed(*arguments: Any, **options: Any) -> Any:
            if self._is_running:
                return call(*arguments, **options)
            self._is_running, begin = True, cpu()
            try:
                return call(*arguments, **options)
            finally:
                self.seconds += cpu() - begin
                self._is_running = False

        return timed


class Beside(TrainLoader):
    """The training loader; it runs the bare loop on each batch before it hands it out."""

    bare: Bare
    validation: Stopwatch
    logging: Stopwatch

    def prepare(self, bare: Bare) -> None:
        """Start measuring."""
        self.bare = bare
        self.validation, self.logging = Stopwatch(), Stopwatch()
        self.steps: list[list[float]] = []
        self.marks: list[tuple[float, float, float]] = []

    def __iter__(self) -> Iterator[Any]:
        """Yield an epoch's batches."""
        self.marks.append((cpu(), self.validation.seconds, self.logging.seconds))
        self.steps.append([])
        for batch in super().__iter__():
            with as_written_by_hand():
                begin = cpu()
                self.bare(batch)
                took = cpu() - begin
            self.steps[-1].append(took)
            yield batch

    def epochs(self) -> list[tuple[float, float, float]]:
        """Tell for each epoch but the first and last: bare, ours, logging; seconds per batch."""
        found = []
        for k in range(1, len(self.marks) - 1):
            whole, validation, logging = (
                after - before
                for before, after in zip(self.marks[k], self.marks[k + 1], strict=True)
            )
            bare, number = sum(self.steps[k]), len(self.steps[k])
            found.append(((bare / number), (whole - bare - validation) / number, logging / number))
        return found


def train(num_epochs: int, *overrides: str) -> tuple[float, float, float]:
    """Train, and tell the medians per batch in seconds: bare, ours, logging."""
    with tempfile.TemporaryDirectory() as folder:
        epochs = f"trainer.max_epochs={num_epochs + 2}"
        setup = Setup(Path(folder) / "run", *overrides, epochs, "trainer.progress_bar=false")
        plain = setup.data.train_dataloader()
        loader = Beside(plain.dataset, sampler=plain.sampler, **loader_options(0))
        loader.prepare(setup.bare())
        loader.validation.around(setup.trainer.fit_loop.epoch_loop.val_loop, "run")
        for logger in setup.trainer.loggers:
            loader.logging.around(logger, "log_metrics")
        loader.logging.around(setup.module, "check_losses")
        for callback in setup.trainer.callbacks:
            if isinstance(callback, EpochTable):
                loader.logging.around(callback, "on_train_epoch_end")
        setup.trainer.fit(setup.module, loader, setup.data.val_dataloader())
    bare, ours, logging = zip(*loader.epochs(), strict=True)
    return statistics.median(bare), statistics.median(ours), statistics.median(logging)


def measure() -> list[Row]:
    """Measure OpenMoji's encoders and the tiny ones, the latter with loggers, too."""
    rows = []
    bare, ours, _ = train(8, *OPENMOJI)
    detail = f"{bare * 1e6:.0f} → {ours * 1e6:.0f} µs a batch, 31 batches an epoch"
    what = "whole loop / bare, small CNN and bag of tokens, batch 32"
    rows.append(Row("P4", what, ours / bare, LIMIT, "x", HOW, detail))
    bare, ours, logging = train(4, *TINY)
    detail = f"{bare * 1e6:.0f} → {ours * 1e6:.0f} µs a batch, 500 batches an epoch"
    what = "whole loop / bare, perceptrons 128-128-64, batch 64"
    rows.append(Row("P4", what, ours / bare, LIMIT, "x", HOW, detail))
    detail = f"{logging * 1e6:.1f} of {bare * 1e6:.0f} µs"
    rows.append(Row("P5", "logging / tiny step", logging / bare, 0.05, "x", HOW_LOGGING, detail))
    bare, _, logging = train(4, *TINY, "logger=tensorboard")
    detail = f"{logging * 1e6:.1f} of {bare * 1e6:.0f} µs"
    what = "logging / tiny step, with TensorBoard"
    rows.append(Row("P5", what, logging / bare, 0.05, "x", HOW_LOGGING, detail))
    return rows

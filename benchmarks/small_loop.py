"""P4, P5: the whole training loop of small encoders against a bare loop, and logging alone."""

from __future__ import annotations

import statistics
import tempfile
from collections.abc import Callable, Iterator
from functools import wraps
from pathlib import Path
from typing import Any

from benchmarks.measure import Measurement, cpu_clock
from benchmarks.setups import OPENMOJI, TINY, BareLoop, Setup, nondeterministic_algorithms
from mla_lightning.callbacks.epoch_table import EpochTable
from mla_lightning.data.loading import TrainLoader, loader_options
from mla_lightning.run.allocator import keep_freed_memory

TARGET, TARGET_TINY = 1.3, 1.5
PROCEDURE = (
    "Process CPU time of whole epochs (loader, hooks, finite guard, logging, epoch table, "
    "checkpoints; validation excluded) against the bare loop's steps on the same batches, which "
    "are in memory in the same layout; each step runs just before the Trainer gets the batch; "
    "freed memory is kept for both, as the command does; median over epochs"
)
PROCEDURE_LOGGING = (
    "Process CPU time inside reading the losses, the loggers and the epoch table, divided by the "
    "number of batches (500 an epoch), against the bare step of the same two perceptrons"
)


class Stopwatch:
    """Sum of the CPU time spent in some calls; a call within another one counts once."""

    def __init__(self) -> None:
        """Start at zero."""
        self.seconds = 0.0
        self._is_running = False

    def time_method(self, owner: Any, name: str) -> None:
        """Time a method of one object from now on."""
        setattr(owner, name, self._timed(getattr(owner, name)))

    def _timed(self, function: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(function)
        def timed(*arguments: Any, **options: Any) -> Any:
            if self._is_running:
                return function(*arguments, **options)
            self._is_running, start = True, cpu_clock()
            try:
                return function(*arguments, **options)
            finally:
                self.seconds += cpu_clock() - start
                self._is_running = False

        return timed


class ComparingLoader(TrainLoader):
    """The training loader, which runs the bare loop on each batch before it yields the batch."""

    bare_loop: BareLoop
    validation: Stopwatch
    logging: Stopwatch

    def start(self, bare_loop: BareLoop) -> None:
        """Start to measure."""
        self.bare_loop = bare_loop
        self.validation, self.logging = Stopwatch(), Stopwatch()
        self.bare_steps: list[list[float]] = []
        self.outside_s = 0.0  # CPU time that is not the Trainer's
        self.epoch_starts: list[tuple[float, float, float]] = []

    def __iter__(self) -> Iterator[Any]:
        """Yield an epoch's batches."""
        now = cpu_clock() - self.outside_s
        self.epoch_starts.append((now, self.validation.seconds, self.logging.seconds))
        self.bare_steps.append([])
        for batch in super().__iter__():
            before = cpu_clock()
            with nondeterministic_algorithms():
                start = cpu_clock()
                self.bare_loop(batch)
                self.bare_steps[-1].append(cpu_clock() - start)
            self.outside_s += cpu_clock() - before
            yield batch

    def epochs(self) -> list[tuple[float, float, float]]:
        """Return seconds per batch of each epoch but the first and the last.

        Returns:
            One (bare loop, whole loop, logging) per epoch.
        """
        rows = []
        for k in range(1, len(self.epoch_starts) - 1):
            whole, validation, logging = (
                after - before
                for before, after in zip(
                    self.epoch_starts[k], self.epoch_starts[k + 1], strict=True
                )
            )
            bare, num = sum(self.bare_steps[k]), len(self.bare_steps[k])
            rows.append((bare / num, (whole - validation) / num, logging / num))
        return rows


def train(num_epochs: int, *overrides: str) -> tuple[float, float, float]:
    """Train, and return the median seconds per batch.

    Args:
        num_epochs: Number of measured epochs.
        *overrides: The words after ``mla train``.

    Returns:
        Bare loop, whole loop, logging.
    """
    keep_freed_memory()
    with tempfile.TemporaryDirectory() as folder:
        epochs = f"trainer.max_epochs={num_epochs + 2}"
        setup = Setup(Path(folder) / "run", *overrides, epochs, "trainer.progress_bar=false")
        plain = setup.data.train_dataloader()
        loader = ComparingLoader(plain.dataset, sampler=plain.sampler, **loader_options(0))
        loader.start(setup.bare_loop())
        loader.validation.time_method(setup.trainer.fit_loop.epoch_loop.val_loop, "run")
        for logger in setup.trainer.loggers:
            loader.logging.time_method(logger, "log_metrics")
        loader.logging.time_method(setup.module.losses, "read")
        for callback in setup.trainer.callbacks:
            if isinstance(callback, EpochTable):
                loader.logging.time_method(callback, "on_train_epoch_end")
        setup.trainer.fit(setup.module, loader, setup.data.val_dataloader())
    bare, whole, logging = zip(*loader.epochs(), strict=True)
    return statistics.median(bare), statistics.median(whole), statistics.median(logging)


def measure() -> list[Measurement]:
    """Measure OpenMoji's encoders and the tiny ones, the latter also with TensorBoard."""
    bare, whole, _ = train(8, *OPENMOJI)
    openmoji = Measurement(
        "P4",
        "whole loop / bare, small CNN and bag of tokens, batch 32",
        whole / bare,
        TARGET,
        "x",
        PROCEDURE,
        f"{bare * 1e6:.0f} → {whole * 1e6:.0f} µs a batch, 31 batches an epoch",
    )
    bare, whole, logging = train(4, *TINY)
    tiny = Measurement(
        "P4",
        "whole loop / bare, perceptrons 128-128-64, batch 64",
        whole / bare,
        TARGET_TINY,
        "x",
        PROCEDURE,
        f"{bare * 1e6:.0f} → {whole * 1e6:.0f} µs a batch, 500 batches an epoch",
    )
    plain = measure_logging("logging / tiny step", bare, logging)
    bare, _, logging = train(4, *TINY, "logger=tensorboard")
    board = measure_logging(f"{plain.title}, with TensorBoard", bare, logging)
    return [openmoji, tiny, plain, board]


def measure_logging(title: str, bare: float, logging: float) -> Measurement:
    """Return the seconds per batch of logging, compared with those of a bare step."""
    detail = f"{logging * 1e6:.1f} of {bare * 1e6:.0f} µs"
    return Measurement("P5", title, logging / bare, 0.05, "x", PROCEDURE_LOGGING, detail)

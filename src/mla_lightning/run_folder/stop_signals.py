"""Signals that ask a run to stop, and the exit code that follows from each."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from mla_lightning.errors import Interrupted, Preempted

#: Signals that schedulers send some time before a limit (``sbatch --signal=USR1@120``), to a
#: process or to all of a job. By default they would end a process without a checkpoint.
WARNINGS = (signal.SIGUSR1, signal.SIGUSR2)
STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, *WARNINGS)


def exit_code_of_signal(number: int) -> int:
    """Return the exit code of a run that a signal has stopped.

    Args:
        number: One of :data:`STOP_SIGNALS`.

    Example:
        >>> [exit_code_of_signal(number) for number in (signal.SIGINT, signal.SIGUSR1)]
        [130, 143]
    """
    return Interrupted.exit_code if number == signal.SIGINT else Preempted.exit_code


@contextmanager
def collected_signals() -> Iterator[list[signal.Signals]]:
    """Collect stop signals in a list, so that they do not interrupt the launcher's own work.

    Example:
        >>> with collected_signals() as signals:
        ...     signal.raise_signal(signal.SIGTERM)
        >>> signals
        [<Signals.SIGTERM: 15>]
    """
    signals: list[signal.Signals] = []

    def collect(number: int, _frame: object) -> None:
        signals.append(signal.Signals(number))

    before = {number: signal.signal(number, collect) for number in STOP_SIGNALS}
    try:
        yield signals
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def ended_by_warnings() -> Iterator[None]:
    """End the process with exit code 143 at a scheduler's warning, while no run is in progress.

    By default it would be killed, with a code that schedulers take for a failure. A run in
    progress has handlers of its own, which write a checkpoint. Nothing is raised: an exception
    within an import would leave half of a module behind.

    Example:
        >>> before = signal.getsignal(signal.SIGUSR1)
        >>> with ended_by_warnings():
        ...     signal.getsignal(signal.SIGUSR1) is before
        False
        >>> signal.getsignal(signal.SIGUSR1) is before
        True
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    process = os.getpid()

    def end(number: int, frame: object) -> None:
        if os.getpid() == process:  # not a forked process that has just started
            os._exit(exit_code_of_signal(number))

    before = {number: signal.signal(number, end) for number in WARNINGS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)

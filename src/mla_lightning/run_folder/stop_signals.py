"""Signals that ask a run to stop, and the exit code that follows from each."""

from __future__ import annotations

import signal

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

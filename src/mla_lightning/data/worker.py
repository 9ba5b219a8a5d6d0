"""The start of a loader's worker process."""

from __future__ import annotations

import signal

from mla_lightning.run_folder.forks import end_with_parent
from mla_lightning.run_folder.stop_signals import STOP_SIGNALS


def begin_worker(number: int) -> None:
    """Prepare a loader's worker: it leaves signals to its parent, and ends with it.

    Schedulers send signals to all processes of a job. A worker that died of one would end training
    by an error, before the batch is finished and its checkpoint is written.

    Args:
        number: The number of the worker, from 0.
    """
    for stop in STOP_SIGNALS:
        signal.signal(stop, signal.SIG_IGN)
    end_with_parent(signal.SIGKILL)

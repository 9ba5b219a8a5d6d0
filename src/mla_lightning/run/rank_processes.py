"""Forked ranks of a job, and the watch over all ranks while they train."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import sys
import threading
import traceback
from collections.abc import Callable, Iterator, Sequence
from typing import NoReturn

import torch
from torch.distributed import TCPStore  # type: ignore[attr-defined]

from mla_lightning.errors import ConfigError, Interrupted, Preempted, RunError
from mla_lightning.run.rank_group import (
    PATIENCE,
    LostRank,
    RankFailure,
    RankGroup,
    is_lost_connection,
)
from mla_lightning.run.trainer import devices_of_ranks
from mla_lightning.run_folder.config import TrainerConfig
from mla_lightning.run_folder.forks import end_with_parent, fork, reset_multiprocessing
from mla_lightning.run_folder.rank_variables import StartedRank
from mla_lightning.run_folder.stop_signals import STOP_SIGNALS

_LOOPBACK = "127.0.0.1"
#: Seconds between looks at the ranks.
_LOOK_S = 0.1
#: Seconds from the end of a rank until this process is ended, too, if it does not notice itself:
#: a collective operation of GPUs waits for a lost rank without end.
_GRACE_S = 5.0
#: Seconds from the end of a rank in which it may have said why.
_REASON_S = 1.0
#: Exit codes of ranks that a signal has stopped.
_STOPS = (Interrupted.exit_code, Preempted.exit_code)
#: Seconds in which the other ranks end after training.
_END_S = 30.0


def check_machine(options: TrainerConfig) -> None:
    """Check that this machine can run all processes of a job, each on a device of its own.

    Args:
        options: The settings of the trainer.

    Raises:
        ConfigError: If it has too few cores or GPUs.

    Example:
        >>> from mla_lightning.config import compose_jobs
        >>> (job,) = compose_jobs(["data=synthetic", "trainer.devices=900", "method=concat"])
        >>> check_machine(job.config.trainer)
        Traceback (most recent call last):
        mla_lightning.errors.ConfigError: trainer.devices=900 ... needs 900 cores, ...
    """
    devices, threads = options.devices, options.threads
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    if cores is not None and threads > cores:
        raise ConfigError(
            f"trainer.threads={threads} needs {threads} cores, and this process may use {cores}. "
            f"Use trainer.threads={cores}."
        )
    if cores is not None and devices * threads > cores:
        raise ConfigError(
            f"trainer.devices={devices} with trainer.threads={threads} needs {devices * threads} "
            f"cores, and this process may use {cores}: processes that wait for a core make every "
            f"step of all others wait. Write trainer.devices={cores // threads}."
        )
    devices_of_ranks(options.accelerator, devices)


@contextlib.contextmanager
def ranks_together(
    num_ranks: int,
    group: RankGroup | None,
    function: Callable[[RankGroup], int],
    end_with: Callable[[RankFailure], None],
) -> Iterator[RankGroup]:
    """Let all ranks of a job train within the context, of which this process is the first.

    Args:
        num_ranks: Number of ranks.
        group: The ranks that srun or torchrun has started; None to fork them here.
        function: What every other rank runs if it is forked; returns its exit code.
        end_with: Records a failure, before this process is ended in the middle of its work.

    Yields:
        The ranks.

    Raises:
        RunError: If another rank has failed, with its reason; or CUDA was initialised before.
    """
    pids: list[int] = []
    if group is None:
        group, pids = _fork_ranks(num_ranks, function)
    with watched(group, end_with, pids):
        yield group


@contextlib.contextmanager
def watched(
    group: RankGroup, end_with: Callable[[RankFailure], None], pids: Sequence[int] = ()
) -> Iterator[None]:
    """Let the failure of another rank end the context of this one, with that rank's reason.

    Args:
        group: The ranks.
        end_with: Records a failure, before this process is ended in the middle of its work.
        pids: The processes of forked ranks, in their order, which end with the context.

    Raises:
        RunError: If another rank has failed, with its reason.
    """
    watch = _Watch(group, pids, end_with)
    watch.start()
    has_failed = True
    try:
        yield
        has_failed = False
        watch.stop()
        watch.wait_for_processes()
    except BaseException as error:
        watch.stop()
        if failure := _failure_behind(error, group, watch):
            raise failure.error() from error
        if is_lost_connection(error):
            raise LostRank from error
        raise
    finally:
        watch.stop()
        watch.kill()
        with contextlib.suppress(RuntimeError):  # of ranks that are gone
            group.disconnect(aborts=has_failed)


def _failure_behind(error: BaseException, group: RankGroup, watch: _Watch) -> RankFailure | None:
    """Return the failure of another rank that has caused an error of this one; None for none."""
    if is_lost_connection(error):
        known = group.failure() or watch.lost_rank()
        return known or group.failure(_REASON_S) or watch.lost_rank()
    if isinstance(error, Exception):  # its own, perhaps the same on all ranks
        return None
    failure = group.failure()  # torchrun and srun stop all ranks when one has failed
    return failure if failure and failure.exit_code not in _STOPS else None


def _fork_ranks(
    num_ranks: int, function: Callable[[RankGroup], int]
) -> tuple[RankGroup, list[int]]:
    """Fork the ranks after the first; return the group of this process, and their processes."""
    if torch.cuda.is_initialized():
        raise RunError(
            "CUDA was initialised before the ranks of the job were forked, and a forked process "
            "cannot use it. Train in a process of its own: `mla train trainer.devices=...`."
        )
    parent = os.getpid()
    listener = socket.create_server((_LOOPBACK, 0))
    port = listener.getsockname()[1]
    pids = []
    signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS)
    try:
        for rank in range(1, num_ranks):
            place = StartedRank(rank, num_ranks, rank, _LOOPBACK, port)
            pid = fork()
            if pid == 0:
                listener.close()
                _run_rank(place, function, parent)
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.setpgid(pid, pid)  # here and in the rank: either may be first
            pids.append(pid)
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, STOP_SIGNALS)
    store = TCPStore(
        _LOOPBACK,
        port,
        num_ranks,
        is_master=True,
        timeout=PATIENCE,
        wait_for_workers=False,
        master_listen_fd=listener.detach(),
    )
    return RankGroup(StartedRank(0, num_ranks, 0, _LOOPBACK, port), store, is_forked=True), pids


def _run_rank(place: StartedRank, function: Callable[[RankGroup], int], parent: int) -> NoReturn:
    """Run a forked rank and end, without the parent's exit handlers and buffered output."""
    code = RunError.exit_code
    try:
        os.setpgid(0, 0)  # Ctrl-C reaches the first rank only, which tells the others
        end_with_parent(signal.SIGKILL, parent)
        reset_multiprocessing()
        store = TCPStore(
            place.address, place.port, place.num_ranks, timeout=PATIENCE, wait_for_workers=False
        )
        code = function(RankGroup(place, store, is_forked=True))
    except BaseException:
        traceback.print_exc()
    finally:
        try:
            sys.stdout.flush()
            sys.stderr.flush()
        finally:
            os._exit(code & 0xFF)


class _Watch(threading.Thread):
    """Ends this process if another rank has ended, and this one waits for it without end."""

    def __init__(
        self, group: RankGroup, pids: Sequence[int], end_with: Callable[[RankFailure], None]
    ) -> None:
        super().__init__(name="ranks", daemon=True)
        self.group, self.end_with = group.watched(), end_with
        self._running = dict(zip(pids, range(1, len(pids) + 1), strict=True))
        self._groups = list(pids)
        self._exits: dict[int, int] = {}
        self._is_stopped = threading.Event()
        self._lock = threading.Lock()

    def run(self) -> None:
        """Look at the ranks until the watch is stopped."""
        while not self._is_stopped.wait(_LOOK_S):
            failure = self.group.failure() or self.lost_rank()
            if failure is None or self._is_stopped.wait(_GRACE_S):
                continue
            failure = self.group.failure() or failure
            self.end_with(failure)
            self.kill()
            os._exit(failure.exit_code & 0xFF)

    def stop(self) -> None:
        """Leave it to this process to end by itself."""
        self._is_stopped.set()

    def lost_rank(self) -> RankFailure | None:
        """Return the failure of a forked rank that has ended without a word; None for none."""
        self._collect()
        for rank, code in self._exits.items():
            if code < 0:
                name = signal.Signals(-code).name
                hint = " (out of memory?)" if -code == signal.SIGKILL else ""
                return RankFailure(rank, RunError.exit_code, f"killed by {name}{hint}")
            if code > 0:
                return self.group.failure(_REASON_S) or RankFailure(
                    rank, RunError.exit_code, f"ended with exit code {code}"
                )
        return None

    def wait_for_processes(self) -> None:
        """Wait for the other ranks to end, which have trained as long as this one."""
        for _ in range(int(_END_S / _LOOK_S)):
            self._collect()
            if not self._running:
                return
            threading.Event().wait(_LOOK_S)

    def kill(self) -> None:
        """Kill the forked ranks and the processes that they have started."""
        for pid in self._groups:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(pid, signal.SIGKILL)
        while self._running:
            self._collect()
            threading.Event().wait(0.01)

    def _collect(self) -> None:
        with self._lock:
            for pid, rank in list(self._running.items()):
                ended, status = os.waitpid(pid, os.WNOHANG)
                if ended:
                    del self._running[pid]
                    self._exits[rank] = os.waitstatus_to_exitcode(status)

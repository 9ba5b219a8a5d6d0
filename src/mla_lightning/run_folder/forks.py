"""What is done around every fork, whatever the forked process then runs."""

from __future__ import annotations

import contextlib
import ctypes
import gc
import os
import re
import signal
import sys
import warnings
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from mla_lightning.run_folder.stop_signals import STOP_SIGNALS

#: Variables by which numerical libraries choose their number of threads when they are imported.
THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
_OMP_PAUSE_HARD = 2
_PR_SET_PDEATHSIG = 1


def fork() -> int:
    """Fork this process.

    Stop signals are blocked in the new process until it has set its handlers and unblocks them.

    Returns:
        The new process; 0 there.

    Raises:
        OSError: If no process can be started.

    Example:
        >>> pid = fork()
        >>> if pid == 0:
        ...     os._exit(3)
        >>> os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        3
    """
    sys.stdout.flush()  # the new process would write buffered text a second time
    sys.stderr.flush()
    end_idle_threads()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS)
    pid = -1
    try:
        with warnings.catch_warnings():
            # Python 3.12 counts idle threads of a BLAS library, which its fork handlers stop
            warnings.filterwarnings("ignore", ".*multi-threaded.*", DeprecationWarning)
            pid = os.fork()
    finally:
        if pid != 0:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
    return pid


def end_with_parent(number: signal.Signals, parent: int | None = None, exit_code: int = 1) -> None:
    """Let the kernel send a signal to this process when its parent ends for any reason.

    Args:
        number: The signal.
        parent: The parent; this process ends at once if it has another one by now.
        exit_code: The exit code in that case.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, number, 0, 0, 0)
    if parent is not None and os.getppid() != parent:
        os._exit(exit_code)


def reset_multiprocessing() -> None:
    """Reset multiprocessing's state in a forked process, as multiprocessing's own fork does.

    If the parent has used loader workers, it has a server that sends file descriptors to them.
    Without the reset, this process's workers would request its descriptors from that server.
    """
    from multiprocessing import util

    util._run_after_forkers()  # type: ignore[attr-defined]


def end_idle_threads() -> None:
    """End the idle threads of OpenMP, before a fork.

    A forked process has none of them, but would wait for them at its first computation with
    several threads, without end. They are started again when this process needs them.

    Example:
        >>> end_idle_threads()
    """
    with contextlib.suppress(OSError, AttributeError):  # no Linux, or an old library
        maps = Path("/proc/self/maps").read_text(encoding="utf-8")
        for library in sorted(set(re.findall(r"/\S*lib(?:gomp|iomp5|omp)\b\S*", maps))):
            ctypes.CDLL(library).omp_pause_resource_all(_OMP_PAUSE_HARD)


@cache
def never_destroy_inherited_objects() -> None:
    """Let forked processes, also those of loaders, never collect what they have inherited.

    The destructor of a store or process group of torch waits for the object's threads, and a forked
    process has none of them: it would wait without end, or be aborted.

    Example:
        >>> never_destroy_inherited_objects()
    """
    os.register_at_fork(after_in_child=gc.freeze)


@contextlib.contextmanager
def limited_threads(threads: int) -> Iterator[None]:
    """Limit the thread pools of libraries imported in the context, also in child processes.

    Args:
        threads: Number of threads of each pool.

    Example:
        >>> with limited_threads(2):
        ...     os.environ["OMP_NUM_THREADS"]
        '2'
    """
    before = {name: os.environ.get(name) for name in THREAD_VARIABLES}
    os.environ.update(dict.fromkeys(THREAD_VARIABLES, str(threads)))
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value

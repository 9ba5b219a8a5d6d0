"""Commands in forked processes that may be killed, with their output and a time limit."""

from __future__ import annotations

import contextlib
import ctypes
import os
import select
import signal
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass

from mla_lightning.run_folder.forks import reset_multiprocessing

#: Seconds after which a command counts as hung; the commands here take about one.
LIMIT_S = 120.0
LIBC = ctypes.CDLL(None, use_errno=True)
PR_SET_PDEATHSIG = 1
CLONE_NEWNS, CLONE_NEWUTS, CLONE_NEWPID = 0x00020000, 0x04000000, 0x20000000
MS_RDONLY, MS_REMOUNT, MS_BIND, MS_REC, MS_PRIVATE = 1, 32, 4096, 16384, 1 << 18


@dataclass(frozen=True)
class Ended:
    """How a command ended.

    Attributes:
        code: Exit code; -n if signal n killed it.
        output: Standard output and error.
        seconds: Wall time.
        is_hung: Whether it was killed at its time limit.
    """

    code: int
    output: str
    seconds: float
    is_hung: bool = False

    def last_line(self) -> str:
        """Return the last line of the output."""
        return (self.output.strip().splitlines() or ["(no output)"])[-1][:300]


class Child:
    """A forked process, the first of a process group of its own."""

    def __init__(self, action: Callable[[], int | None]) -> None:
        """Start a function in a forked process, which ends with its return value."""
        self._read, write = os.pipe()
        self.started = time.monotonic()
        self._output = b""
        self._status: int | None = None
        sys.stdout.flush()
        sys.stderr.flush()
        self.pid = os.fork()
        if self.pid == 0:
            _run(action, write)
        os.close(write)
        os.set_blocking(self._read, False)
        with contextlib.suppress(OSError):
            os.setpgid(self.pid, self.pid)

    def wait(self, *, limit_s: float = LIMIT_S, kill_after_s: float | None = None) -> Ended:
        """Wait for its end.

        Args:
            limit_s: Seconds until it is killed and counts as hung.
            kill_after_s: Seconds from its start until SIGKILL, None for none.
        """
        is_hung = False
        while not self.has_ended():
            self._drain(0.02)
            age = time.monotonic() - self.started
            if kill_after_s is not None and age > kill_after_s:
                self.send(signal.SIGKILL)
                kill_after_s = None
            if age > limit_s:
                is_hung = True
                self.send(signal.SIGKILL, group=True)
        self._drain(0.0)
        os.close(self._read)
        assert self._status is not None
        code = os.waitstatus_to_exitcode(self._status)
        text = self._output.decode("utf-8", "replace")
        return Ended(code, text, time.monotonic() - self.started, is_hung)

    def has_ended(self) -> bool:
        """Return whether the process has ended."""
        if self._status is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self._status = status
        return self._status is not None

    def send(self, number: int, *, group: bool = False) -> None:
        """Send a signal to the process, or to its group."""
        with contextlib.suppress(ProcessLookupError):
            if group:
                os.killpg(self.pid, number)
            elif not self.has_ended():
                os.kill(self.pid, number)

    def _drain(self, wait_s: float) -> None:
        if select.select([self._read], [], [], wait_s)[0]:
            with contextlib.suppress(BlockingIOError):
                while chunk := os.read(self._read, 1 << 16):
                    self._output += chunk
        elif wait_s == 0.0:
            return
        if not self.has_ended():
            time.sleep(0.002)  # a closed pipe is always ready


def _run(action: Callable[[], int | None], write: int) -> None:
    code = 99
    try:
        os.setpgid(0, 0)
        LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        os.dup2(write, 1)
        os.dup2(write, 2)
        os.close(write)
        sys.stdin = open(0, closefd=False)  # noqa: SIM115
        sys.stdout = open(1, "w", 1, "utf-8", closefd=False)  # noqa: SIM115
        sys.stderr = open(2, "w", 1, "utf-8", closefd=False)  # noqa: SIM115
        reset_multiprocessing()
        signal.signal(signal.SIGINT, signal.default_int_handler)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        code = action() or 0
    except SystemExit as error:
        code = error.code if isinstance(error.code, int) else 1
    except KeyboardInterrupt:
        traceback.print_exc()
        code = 130
    except BaseException:
        traceback.print_exc()
    finally:
        with contextlib.suppress(Exception):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code & 0xFF)


def children_of(pid: int) -> list[int]:
    """Return the processes that a process has started."""
    try:
        with open(f"/proc/{pid}/task/{pid}/children") as file:
            return [int(text) for text in file.read().split()]
    except OSError:
        return []


# ------------------------------------------------------------------ namespaces and mounts


def unshare(flags: int) -> None:
    """Give this process namespaces of its own.

    Raises:
        PermissionError: If it may not.
    """
    _check(LIBC.unshare(flags))


def mount(source: str, target: str, kind: str, flags: int, options: str = "") -> None:
    """Mount a file system.

    Raises:
        PermissionError: If this process may not.
    """
    texts = [text.encode() for text in (source, target, kind)]
    _check(LIBC.mount(*texts, ctypes.c_ulong(flags), options.encode()))


def private_mounts() -> None:
    """Let mounts of this process be seen by its children only, and vanish with them."""
    unshare(CLONE_NEWNS)
    mount("none", "/", "", MS_REC | MS_PRIVATE)


def read_only(folder: str, value: bool = True) -> None:
    """Mount a folder onto itself, read-only or not."""
    if value:
        mount(folder, folder, "", MS_BIND)
    flags = MS_RDONLY if value else 0
    mount("none", folder, "", MS_REMOUNT | MS_BIND | flags)


def can_mount() -> bool:
    """Return whether this user may mount file systems in a namespace."""
    return Child(lambda: private_mounts()).wait().code == 0


def in_container(action: Callable[[], int | None], *, host: str = "") -> Callable[[], int]:
    """Return the action in a PID namespace with its own /proc, and with a host name of its own."""

    def contained() -> int:
        unshare(CLONE_NEWPID | CLONE_NEWNS | (CLONE_NEWUTS if host else 0))
        mount("none", "/", "", MS_REC | MS_PRIVATE)
        if host:
            _check(LIBC.sethostname(host.encode(), len(host)))

        def first() -> int | None:
            mount("proc", "/proc", "proc", 0)
            return action()

        pid = os.fork()  # the first process of the namespace
        if pid == 0:
            code = 99
            try:
                code = first() or 0
            except BaseException:
                traceback.print_exc()
            finally:
                os._exit(code & 0xFF)
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])

    return contained


def _check(result: int) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise PermissionError(number, os.strerror(number))

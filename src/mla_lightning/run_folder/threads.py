"""Threads of numerical libraries around a fork."""

from __future__ import annotations

import contextlib
import ctypes
import re
from pathlib import Path

_OMP_PAUSE_HARD = 2


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

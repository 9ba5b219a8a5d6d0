"""Work in several processes at once, which share what the first one has read."""

from __future__ import annotations

import os
import pickle
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from itertools import pairwise
from multiprocessing import get_context
from multiprocessing.connection import wait
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from multiprocessing.connection import Connection
    from multiprocessing.context import ForkProcess

T = TypeVar("T")
R = TypeVar("R")
#: Largest number of processes: each has figures and diagnostics in memory, about 80 MB for 1000
#: runs, and all together stay below 400 MB for 2000 runs.
MAX_PROCESSES = 2


def num_processes() -> int:
    """Return how many processes to draw in: one per core, or one where forking is not safe.

    Only a forked process inherits runs and drawing functions. Threads, among them those of torch,
    do not survive a fork, and macOS crashes in forked processes.

    Example:
        >>> 1 <= num_processes() <= MAX_PROCESSES
        True
    """
    is_alone = threading.active_count() == 1 and "torch" not in sys.modules
    if sys.platform != "linux" or not is_alone:
        return 1
    return min(len(os.sched_getaffinity(0)), MAX_PROCESSES)


def split_evenly(items: Sequence[T], num_parts: int) -> list[Sequence[T]]:
    """Split a sequence into parts of neighbours, as equal in length as possible and none empty.

    Args:
        items: The sequence.
        num_parts: Largest number of parts.

    Example:
        >>> split_evenly("abcde", 2), split_evenly("a", 2)
        (['ab', 'cde'], ['a'])
    """
    ends = [len(items) * part // num_parts for part in range(num_parts + 1)]
    parts = [items[start:end] for start, end in pairwise(ends)]
    return [part for part in parts if len(part)]


def map_in_processes(function: Callable[[T], R], parts: Sequence[Sequence[T]]) -> Iterator[R]:
    """Apply a function to all items, each part in a forked process of its own.

    The processes are started at once, not when the first result is asked for.

    Args:
        function: The function. Its results must be picklable; items and function need not be.
        parts: The items; a single part is worked on in this process.

    Returns:
        Iterator over the results, in the order in which they are ready. Results are missing of
        a process that ended early: the caller calls the function again, and meets the error itself.

    Example:
        >>> sorted(map_in_processes(abs, [[-1, 2]]))
        [1, 2]
    """
    if len(parts) < 2:
        return (function(item) for part in parts for item in part)
    context = get_context("fork")
    workers = {}
    for part in parts:
        receiver, sender = context.Pipe(duplex=False)
        process = context.Process(target=_work, args=(sender, function, part), daemon=True)
        process.start()
        sender.close()  # otherwise the end of the process would not end the pipe
        workers[receiver] = process
    return _results(workers)


def _results(workers: dict[Connection[Any, Any], ForkProcess]) -> Iterator[Any]:
    try:
        while workers:
            ready = wait(list(workers))
            for receiver in [receiver for receiver in workers if receiver in ready]:
                try:
                    yield receiver.recv()
                except (EOFError, OSError, pickle.UnpicklingError):  # it ended, or was killed
                    workers.pop(receiver).join()
                    receiver.close()
    finally:
        for receiver, process in workers.items():  # this process was interrupted
            process.terminate()
            process.join()
            receiver.close()


def _work(sender: Connection[Any, Any], function: Callable[[T], R], items: Sequence[T]) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the first process ends this one
    with suppress(Exception):  # the first process meets it again
        for item in items:
            sender.send(function(item))

"""Worker processes that continue when one of them crashes, and that end with their parent."""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Generic, TypeVar

Task = TypeVar("Task")
Result = TypeVar("Result")

#: Number of tasks that a worker has at a time: the present one and the next one.
_DEPTH = 2


class Crash:
    """Result of a task whose process crashed.

    Attributes:
        reason: How the process ended, such as ``signal 11 (SIGSEGV)``.
    """

    def __init__(self, code: int | None) -> None:
        if code is not None and code < 0:
            self.reason = f"signal {-code} ({signal.Signals(-code).name})"
        else:
            self.reason = f"exit code {code}"


class _Worker(Generic[Task]):
    def __init__(self, function: Callable[[Task], object]) -> None:
        context = multiprocessing.get_context("fork")  # workers inherit items and open files
        self.pipe, worker_end = context.Pipe()
        self.process: BaseProcess = context.Process(
            target=_serve, args=(function, worker_end, self.pipe, os.getpid()), daemon=True
        )
        self.process.start()
        worker_end.close()
        self.tasks: deque[Task] = deque()


def _serve(
    function: Callable[[Task], object], pipe: Connection, parent_end: Connection, parent: int
) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent handles Ctrl-C
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    parent_end.close()
    try:
        while True:
            # Other workers have copies of the parent's end, so its closing is not seen here.
            while not pipe.poll(0.5):
                if os.getppid() != parent:
                    return
            task = pipe.recv()
            if task is None:
                return
            pipe.send(function(task))
    except (EOFError, BrokenPipeError, ConnectionResetError):
        return


def run_in_workers(
    function: Callable[[Task], Result], tasks: Iterable[Task], jobs: int
) -> Iterator[tuple[Task, Result | Crash]]:
    """Run a function on tasks in worker processes.

    Args:
        function: The function. Processes are forked, so it need not pickle. It must not raise.
        tasks: Its arguments; they are sent to the processes, so they must pickle.
        jobs: Number of processes.

    Yields:
        Each task with its result, in the order in which they finish. The result of a task that
        crashes its process is a :class:`Crash`; a new process takes the other tasks.
    """
    waiting = deque(tasks)
    workers: list[_Worker[Task]] = []

    def feed(worker: _Worker[Task]) -> None:
        while waiting and len(worker.tasks) < _DEPTH:
            worker.tasks.append(waiting.popleft())
            worker.pipe.send(worker.tasks[-1])

    try:
        for _ in range(min(jobs, len(waiting))):
            workers.append(_Worker(function))
            feed(workers[-1])
        while any(worker.tasks for worker in workers):
            busy = {worker.pipe: worker for worker in workers if worker.tasks}
            for pipe in wait(list(busy)):
                worker = busy[pipe]  # type: ignore[index]
                try:
                    result = worker.pipe.recv()
                except (EOFError, ConnectionResetError):
                    worker.process.join()
                    workers.remove(worker)
                    worker.pipe.close()
                    crashed_task = worker.tasks.popleft()
                    waiting.extendleft(reversed(worker.tasks))
                    yield crashed_task, Crash(worker.process.exitcode)
                    if waiting:
                        workers.append(_Worker(function))
                        feed(workers[-1])
                    continue
                task = worker.tasks.popleft()
                feed(worker)
                yield task, result
    finally:
        for worker in workers:
            if worker.tasks:
                worker.process.terminate()
            else:
                worker.pipe.send(None)
        for worker in workers:
            worker.process.join()
            worker.pipe.close()

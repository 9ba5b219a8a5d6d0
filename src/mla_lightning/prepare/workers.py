"""Worker processes that outlive a crash of one of them, and do not outlive their parent."""

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

#: Tasks that a worker has at a time: the one it works on, and the next one.
_DEPTH = 2


class Died:
    """Stands for the result of a task whose process died over it.

    Attributes:
        reason: How it died, such as ``signal 11 (SIGSEGV)``.
    """

    def __init__(self, code: int | None) -> None:
        if code is not None and code < 0:
            self.reason = f"signal {-code} ({signal.Signals(-code).name})"
        else:
            self.reason = f"exit code {code}"


class _Worker(Generic[Task]):
    def __init__(self, function: Callable[[Task], object]) -> None:
        context = multiprocessing.get_context("fork")  # items and files are inherited, not sent
        self.pipe, theirs = context.Pipe()
        self.process: BaseProcess = context.Process(
            target=_serve, args=(function, theirs, self.pipe, os.getpid()), daemon=True
        )
        self.process.start()
        theirs.close()
        self.tasks: deque[Task] = deque()


def _serve(
    function: Callable[[Task], object], pipe: Connection, parents: Connection, parent: int
) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    parents.close()
    try:
        while True:
            # Siblings hold copies of the pipe's other end, so its closing does not tell.
            while not pipe.poll(0.5):
                if os.getppid() != parent:
                    return
            task = pipe.recv()
            if task is None:
                return
            pipe.send(function(task))
    except (EOFError, BrokenPipeError, ConnectionResetError):
        return


def in_workers(
    function: Callable[[Task], Result], tasks: Iterable[Task], jobs: int
) -> Iterator[tuple[Task, Result | Died]]:
    """Work on tasks in processes.

    Args:
        function: What to do; it is forked, so it may hold anything. It must not raise.
        tasks: Tasks, which are sent and so must pickle.
        jobs: Number of processes.

    Yields:
        Each task with its result, in the order of their ends. A task that kills its process comes
        with :class:`Died`; the others go on in a new process.
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
                    broken = worker.tasks.popleft()
                    waiting.extendleft(reversed(worker.tasks))
                    yield broken, Died(worker.process.exitcode)
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

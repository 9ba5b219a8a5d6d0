"""An imitation of Ray: tasks in forked processes, with retries, cancellation and dead nodes."""

from __future__ import annotations

import os
import pickle
import signal
import sys
import time
from importlib.machinery import ModuleSpec
from types import ModuleType, SimpleNamespace


class RayError(Exception):
    """An error of Ray."""


class TaskCancelledError(RayError):
    """The task was cancelled."""


class WorkerCrashedError(RayError):
    """The worker was killed, after all retries."""


class RayTaskError(RayError):
    """The function raised."""

    def __init__(self, cause):
        super().__init__("a traceback")
        self.cause = cause


class Task:
    """One call of a remote function."""

    def __init__(self, ray, function, options, arguments):
        self.ray, self.function, self.options, self.arguments = ray, function, options, arguments
        self.attempt, self.pid, self.outcome, self.is_cancelled = 0, None, None, False

    def start(self):
        """Fork its process."""
        reader, writer = os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            os.setpgid(0, 0)
            os.environ |= self.options["runtime_env"]["env_vars"]
            self.ray.task = self
            try:
                outcome = "value", self.function(*self.arguments)
            except BaseException as error:
                outcome = "error", error
            os.write(writer, pickle.dumps(outcome))
            os._exit(0)
        os.close(writer)
        self.reader = reader

    def has_ended(self):
        """Return whether it has; it may be started again instead."""
        if self.outcome is None and self.pid is not None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid == 0:
                return False
            self.pid = None
            with os.fdopen(self.reader, "rb") as file:
                text = file.read()
            outcome = pickle.loads(text) if text else ("error", WorkerCrashedError(status))
            retried = (WorkerCrashedError, *self.options["retry_exceptions"])
            is_again = outcome[0] == "error" and isinstance(outcome[1], retried)
            if is_again and self.attempt < self.options["max_retries"] and not self.is_cancelled:
                self.attempt += 1
                self.start()
            else:
                self.outcome = outcome
        return self.outcome is not None


class RemoteFunction:
    """A function that is run by tasks."""

    def __init__(self, ray, function, options):
        self.ray, self.function, self._options = ray, function, options

    def options(self, **more):
        """Return the function with further options."""
        return RemoteFunction(self.ray, self.function, {**self._options, **more})

    def remote(self, *arguments):
        """Start a task."""
        self.ray.tasks.append(Task(self.ray, self.function, self._options, arguments))
        return self.ray.tasks[-1]


class Ray(ModuleType):
    """The module ``ray``, with one node unless ``node_list`` is set."""

    def __init__(self):
        super().__init__("ray")
        self.__spec__ = ModuleSpec("ray", None)
        self.exceptions = SimpleNamespace(
            **{c.__name__: c for c in (RayError, TaskCancelledError, RayTaskError)}
        )
        self.tasks, self.inits, self.task = [], [], None
        self.is_up, self.capacity = False, 2
        self.node_list = [self.node("a", CPU=2.0)]
        self.refusal = None

    @staticmethod
    def node(name, alive=True, **resources):
        """Return a node."""
        return {"NodeID": name, "Alive": alive, "Resources": resources}

    def install(self, monkeypatch):
        """Let ``import ray`` find it."""
        worker = ModuleType("ray._private.worker")
        core = SimpleNamespace(get_current_task_attempt_number=lambda: self.task.attempt)
        worker.global_worker = SimpleNamespace(core_worker=core)
        modules = {"ray": self, "ray._private": ModuleType("ray._private")}
        for name, module in {**modules, "ray._private.worker": worker}.items():
            monkeypatch.setitem(sys.modules, name, module)

    def init(self, **options):
        """Start."""
        self.inits.append(options)
        if self.refusal is not None:
            raise self.refusal
        self.is_up = True
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(15))  # as Ray does

    def shutdown(self):
        """Stop."""
        self.is_up = False

    def is_initialized(self):
        """Return whether it was started."""
        return self.is_up

    def nodes(self):
        """Return all nodes."""
        return self.node_list

    def cluster_resources(self):
        """Return the sums of the resources."""
        names = {name for node in self.node_list for name in node["Resources"]}
        return {
            name: sum(node["Resources"].get(name, 0) for node in self.node_list) for name in names
        }

    def get_runtime_context(self):
        """Return where this is."""
        return SimpleNamespace(
            get_session_name=lambda: "session_1",
            get_task_id=lambda: f"task{self.tasks.index(self.task)}",
            get_node_id=lambda: "a",
        )

    def remote(self, **options):
        """Return a decorator of functions."""
        return lambda function: RemoteFunction(self, function, options)

    def wait(self, tasks, num_returns=1, timeout=None):
        """Wait until a task has ended."""
        until = time.monotonic() + timeout
        while True:
            running = [t for t in self.tasks if t.outcome is None and t.pid is not None]
            for task in tasks:
                if task.outcome is None and task.pid is None and len(running) < self.capacity:
                    task.start()
                    running.append(task)
            done = [task for task in tasks if task.has_ended()][:num_returns]
            if done or time.monotonic() > until:
                return done, [task for task in tasks if task not in done]
            time.sleep(0.02)

    def get(self, task):
        """Return the value of a task, or raise its error."""
        kind, value = task.outcome
        if kind == "value":
            return value
        if task.is_cancelled:
            raise TaskCancelledError
        if isinstance(value, (RayError, *task.options["retry_exceptions"])):
            raise value
        raise RayTaskError(value)

    def cancel(self, task, force=False):
        """Interrupt or kill the process of a task."""
        task.is_cancelled = True
        if task.pid is None:
            task.outcome = task.outcome or ("error", TaskCancelledError())
        else:
            os.kill(task.pid, signal.SIGKILL if force else signal.SIGINT)

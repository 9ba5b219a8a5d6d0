"""Runs tests against faults: each fault in a fork of a process that has collected all tests."""

from __future__ import annotations

import gc
import importlib
import json
import multiprocessing
import os
import sys
import time
import types
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from doctest import DocTestFailure
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

import pytest
from _pytest.doctest import MultipleDoctestFailures

from tests.mutants.faults import Fault

#: Outcomes: a test found a wrong value; the code raised; no test failed; no test calls the code.
CAUGHT, CRASHED, SURVIVED, UNCALLED, HUNG = "caught", "crashed", "survived", "uncalled", "hung"
#: Fork, so that torch and all tests are imported and collected once.
FORK = multiprocessing.get_context("fork")


@dataclass
class Verdict:
    """The outcome of a fault.

    Attributes:
        outcome: One of the outcomes above.
        test: The test that failed first.
        error: Its exception.
        num_tests: Number of tests that call the function.
        seconds: Duration.
    """

    outcome: str
    test: str = ""
    error: str = ""
    num_tests: int = 0
    seconds: float = 0.0


@dataclass
class Job:
    """A fault whose tests run in a process of their own.

    Attributes:
        fault: The fault.
        tests: The tests that call its function.
        usual_s: Their duration without the fault.
    """

    fault: Fault
    tests: list[pytest.Item]
    usual_s: float

    def start(self, campaign: Campaign) -> None:
        """Start the process."""
        self.began = time.perf_counter()
        self.connection, self.process = in_fork(
            lambda: asdict(campaign.judge(self.fault, self.tests))
        )

    def verdict(self) -> Verdict | None:
        """Return the verdict, or None if there is none yet."""
        seconds, limit_s = time.perf_counter() - self.began, 60 + 4 * self.usual_s
        if self.connection.poll():
            verdict = Verdict(**received(self.connection))
        elif seconds > limit_s:
            self.process.kill()
            verdict = Verdict(HUNG, error=f"over {limit_s:.0f} s")
        else:
            return None
        self.process.join()
        verdict.num_tests, verdict.seconds = len(self.tests), round(seconds, 1)
        return verdict


def in_fork(function: Callable[[], Any]) -> tuple[Connection, Any]:
    """Call a function in a fork of this process, without output.

    Args:
        function: Returns a value for JSON.

    Returns:
        The connection that the value comes through, and the process.
    """
    ours, theirs = FORK.Pipe()

    def work() -> None:
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, 1)
        os.dup2(null, 2)
        try:
            value = function()
        except BaseException as error:  # also pytest.exit and KeyboardInterrupt
            value = {"outcome": CRASHED, "error": f"{type(error).__name__}: {error}"}
        theirs.send_bytes(json.dumps(value).encode())
        os._exit(0)

    process = FORK.Process(target=work)
    process.start()
    theirs.close()
    return ours, process


def received(connection: Connection) -> dict[str, Any]:
    """Return the value of a fork; the fields of a verdict if it ended without one."""
    try:
        value: dict[str, Any] = json.loads(connection.recv_bytes())
    except EOFError:
        value = {"outcome": CRASHED, "error": "the process ended"}
    return value


class Campaign:
    """A pytest plugin that runs the collected tests once, and then the concerned ones per fault.

    Attributes:
        verdicts: The faults with their verdicts, in the order of the draw.
        left_out: Tests that fail without a fault, which catch nothing.
    """

    def __init__(
        self,
        files: list[Path],
        drawn: Callable[[], Iterator[Fault]],
        number: int,
        *,
        root: Path,
        jobs: int = 1,
    ) -> None:
        """Prepare a campaign.

        Args:
            files: Files with faults.
            drawn: Returns the faults in the order of the draw.
            number: Number of faults to judge, without those that crash.
            root: Root of the project.
            jobs: Number of faults at a time.
        """
        self.files = {str(path) for path in files}
        self.drawn, self.number, self.root = drawn, number, root
        self.jobs = jobs
        self.verdicts: list[tuple[Fault, Verdict]] = []
        self.left_out: list[str] = []
        self._excinfo: Any = None
        self._failed = False

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(self, item: pytest.Item, call: pytest.CallInfo) -> Any:
        """Remember whether a test fails, and its exception."""
        if call.excinfo is not None:
            self._excinfo = self._excinfo or call.excinfo
        report = yield
        self._failed = self._failed or report.failed
        return report

    def _fails(self, item: pytest.Item, following: pytest.Item | None) -> bool:
        """Run a test as pytest does, with the filters of warnings; return whether it fails."""
        self._excinfo, self._failed = None, False
        item.ihook.pytest_runtest_protocol(item=item, nextitem=following)
        return self._failed

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        """Run the campaign instead of the tests."""
        if session.testsfailed:
            raise session.Interrupted(f"{session.testsfailed} errors in collection")
        items = session.items
        for path in self.files:  # a fault can be put into code that is loaded before the forks
            name = Path(path).relative_to(self.root).with_suffix("")
            importlib.import_module(".".join(name.parts[name.parts[0] == "src" :]))
        start = time.perf_counter()
        connection, process = in_fork(lambda: self._record_calls(items))
        calls = received(connection)
        process.join()
        if "outcome" in calls:
            raise session.Interrupted(f"the tests end the process: {calls['error']}")
        self.left_out = [nodeid for nodeid, (failed, _, _) in calls.items() if failed]
        print(f"\n{len(items)} tests, {time.perf_counter() - start:.0f} s without a fault")
        print(*[f"fails without a fault: {name}" for name in self.left_out], sep="\n", flush=True)
        items = [item for item in items if item.nodeid not in self.left_out]
        tests = self._concerned(items, calls)
        stream = self.drawn()
        running: list[Job] = []
        order: list[Fault] = []
        verdicts: dict[int, Verdict] = {}

        def is_enough() -> bool:
            judged = sum(verdict.outcome != CRASHED for verdict in verdicts.values())
            return judged + len(running) >= self.number

        while True:
            while len(running) < self.jobs and not is_enough() and (fault := next(stream, None)):
                order.append(fault)
                concerned = tests.get((fault.path, fault.function), [])
                job = Job(fault, concerned, sum(calls[item.nodeid][1] for item in concerned))
                job.start(self)
                running.append(job)
            if not running:
                break
            wait([job.connection for job in running], timeout=1.0)
            for job in list(running):
                if (verdict := job.verdict()) is not None:
                    running.remove(job)
                    verdicts[id(job.fault)] = verdict
                    self._show(job.fault, verdict)
        self.verdicts = [(fault, verdicts[id(fault)]) for fault in order]
        return True

    @staticmethod
    def _show(fault: Fault, verdict: Verdict) -> None:
        change = f"{fault.before[:50]} -> {fault.after[:50]}".replace("\n", " ")
        place = f"{fault.path.removeprefix('src/mla_lightning/')}:{fault.line}"
        reason = f"{verdict.test} {verdict.error}"
        print(f"{verdict.outcome:9} {verdict.seconds:5.1f} s {place} {change} {reason}", flush=True)

    def _concerned(
        self, items: list[pytest.Item], calls: dict[str, Any]
    ) -> dict[tuple[str, str], list[pytest.Item]]:
        """Return the tests that call each function, by file, those of fast files first."""
        of_function: dict[tuple[str, str], list[pytest.Item]] = {}
        for item in items:
            for path, name in calls[item.nodeid][2]:
                of_function.setdefault((path, name), []).append(item)
        for tests in of_function.values():
            totals: dict[str, float] = {}
            for item in tests:
                file = item.nodeid.partition("::")[0]
                totals[file] = totals.get(file, 0.0) + calls[item.nodeid][1]
            tests.sort(key=lambda i: (totals[i.nodeid.partition("::")[0]], i.nodeid.split("::")[0]))
        return of_function

    def _record_calls(self, items: list[pytest.Item]) -> dict[str, Any]:
        """Run all tests; return test -> whether it failed, seconds, functions that it calls.

        Functions that are called while a test is set up may serve a fixture of several tests, so
        they count for all tests of its file.
        """
        functions: set[tuple[str, str]] = set()
        files, root = self.files, self.root
        paths = {file: Path(file).relative_to(root).as_posix() for file in files}

        def trace(frame: types.FrameType, event: str, argument: object) -> None:
            if event == "call" and (code := frame.f_code).co_filename in files:
                name = code.co_qualname.partition(".<locals>")[0]
                functions.add((paths[code.co_filename], name))

        calls: dict[str, Any] = {}
        of_setup: dict[str, set[tuple[str, str]]] = {}
        in_setup: set[tuple[str, str]] = set()

        class Phases:
            @pytest.hookimpl(wrapper=True)
            def pytest_runtest_setup(self) -> Any:
                value = yield
                in_setup.update(functions)
                return value

        phases = Phases()
        items[0].config.pluginmanager.register(phases)
        for item, following in zip(items, [*items[1:], None], strict=True):
            functions.clear()
            in_setup.clear()
            start = time.perf_counter()
            sys.settrace(trace)  # for each test, because some set it themselves
            failed = self._fails(item, following)
            sys.settrace(None)
            of_setup.setdefault(item.nodeid.partition("::")[0], set()).update(in_setup)
            calls[item.nodeid] = (failed, time.perf_counter() - start, sorted(functions))
        for nodeid, (failed, seconds, called) in calls.items():
            shared = of_setup[nodeid.partition("::")[0]]
            calls[nodeid] = (failed, seconds, sorted(shared | set(called)))
        return calls

    def judge(self, fault: Fault, tests: list[pytest.Item]) -> Verdict:
        """Put a fault into this process and run tests until one fails."""
        if not tests:
            return Verdict(UNCALLED)
        try:
            put(fault, self.root)
        except (ValueError, SyntaxError) as error:
            return Verdict(CRASHED, error=f"cannot be compiled: {error}")
        for item, following in zip(tests, [*tests[1:], None], strict=True):
            if self._fails(item, following):
                raised = self._excinfo.value if self._excinfo else AssertionError()
                outcome = CAUGHT if is_wrong_value(raised) else CRASHED
                return Verdict(outcome, item.nodeid, type(raised).__name__)
        return Verdict(SURVIVED)


def is_wrong_value(error: BaseException) -> bool:
    """Return whether a test failed by a comparison, not because the code raised."""
    if isinstance(error, MultipleDoctestFailures):
        return any(isinstance(failure, DocTestFailure) for failure in error.failures)
    if isinstance(error, ExceptionGroup):
        return any(map(is_wrong_value, error.exceptions))
    return isinstance(error, AssertionError | DocTestFailure | pytest.fail.Exception)


def put(fault: Fault, root: Path) -> None:
    """Give the functions of this process the code with a fault.

    Args:
        fault: The fault.
        root: Root of the project.

    Raises:
        ValueError: If the function's code with the fault cannot replace the one without.
        LookupError: If no such function is loaded.
    """
    path = str(root / fault.path)
    take_out = fault.put()
    try:
        module = compile(fault.tree, path, "exec", dont_inherit=True)
    finally:
        take_out()
    (new,) = (code for code in _codes(module) if code.co_qualname == fault.function)
    is_loaded = False
    gc.unfreeze()  # forked processes of runs freeze what they inherit, which is not listed then
    objects = gc.get_objects()
    gc.freeze()
    for value in objects:
        if type(value) is types.FunctionType:  # isinstance would ask objects that stand for others
            old = value.__code__
            if old.co_filename == path and old.co_qualname == fault.function:
                value.__code__ = new
                is_loaded = True
    if not is_loaded:
        raise LookupError(f"{fault.function} of {fault.path} is not loaded")


def _codes(code: types.CodeType) -> Iterator[types.CodeType]:
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield constant
            if "<locals>" not in constant.co_qualname:
                yield from _codes(constant)

"""SIGTERM and SIGINT to a whole process group, as schedulers, ``timeout`` and Ctrl-C send them."""

from __future__ import annotations

import os
import select
import signal
import time
from collections.abc import Callable
from pathlib import Path

from tests.faults.children import Child, Ended
from tests.faults.kills import compare_sweeps, sweep_command
from tests.faults.points import Point, draw_point
from tests.faults.runs import (
    Case,
    at_point,
    check_tidy,
    compare_runs,
    draw_scenario,
    finish,
    raise_if_hung,
)
from tests.faults.verdicts import Failed, Verdict

from mla_lightning.cli.main import main

#: Signal -> exit codes; a process that a signal ends has 128 plus its number in a shell.
CODES = {signal.SIGTERM: (143, -signal.SIGTERM), signal.SIGINT: (130, -signal.SIGINT)}
PAUSE_S = 0.4


def paused(
    action: Callable[[], int | None], root: Path, point: Point
) -> tuple[Callable[[], int | None], int]:
    """Return an action that pauses at a point, and a descriptor that is readable from then on."""
    read, write = os.pipe()

    def act() -> None:
        os.write(write, b"x")
        until = time.monotonic() + PAUSE_S
        while (left := until - time.monotonic()) > 0:
            time.sleep(left)

    return at_point(action, root, point, act), read


def wait_for(child: Child, ready: int, limit_s: float = 60.0) -> bool:
    """Wait until a child pauses; return False if it ended before."""
    until = time.monotonic() + limit_s
    while time.monotonic() < until:
        if select.select([ready], [], [], 0.02)[0]:
            return True
        if child.has_ended():
            return bool(select.select([ready], [], [], 0.0)[0])
    return False


def check_stop(ended: Ended, number: signal.Signals, *, is_certain: bool) -> None:
    """Check exit code and message of a command that was asked to stop."""
    raise_if_hung(ended)
    if ended.code == 0 and not is_certain:
        return  # it had ended before
    if ended.code not in CODES[number]:
        text = f"exit {ended.code} after {number.name}: {ended.last_line()}"
        raise Failed(Verdict.UNCLEAR, text)
    if "Traceback (most recent call last)" in ended.output:
        raise Failed(Verdict.UNCLEAR, f"traceback after {number.name}: {ended.last_line()}")


def stop_run(case: Case) -> None:
    """Stop a run in training or final evaluation, with and without loader workers."""
    scenario = draw_scenario(case.rng)
    base = case.uninterrupted_run(scenario)
    number = (signal.SIGTERM, signal.SIGINT)[case.index % 2]
    workers = case.index // 2 % 2 * 2
    group = ("training", "evaluation", "validation")[case.index // 4 % 3]
    point = draw_point(base.points, case.rng, (group,))
    command = scenario.command(case.folder, f"data.num_workers={workers}")
    action, ready = paused(lambda: main(command), case.folder, point)
    child = Child(action)
    is_reached = wait_for(child, ready)
    child.send(number, group=True)
    ended = child.wait()
    if is_reached:
        case.fault(f"{number.name} at {point[2]}. {point[1]}")
    case.what.insert(0, f"{scenario.name} data.num_workers={workers}")
    state = _state(case.folder / "run")
    finish(lambda: main(command))
    compare_runs(base.run, case.folder / "run")
    check_tidy(base.folder, case.folder)
    check_stop(ended, number, is_certain=is_reached and not _is_last(point))
    if ended.code in (130, 143) and state not in ("interrupted", "preempted"):
        raise Failed(Verdict.UNCLEAR, f"exit {ended.code}, but the state is {state}")


def _is_last(point: Point) -> bool:
    return point[1].startswith("after") and point[0] == "evaluation"


def _state(run: Path) -> str:
    from mla_lightning.run_folder import state_of

    return str(state_of(run))


def stop_sweep(case: Case) -> None:
    """Stop a sweep at a random time."""
    base = case.uninterrupted("sweep", lambda folder: lambda: main(sweep_command(folder)))
    number = (signal.SIGTERM, signal.SIGINT)[case.index % 2]
    command = sweep_command(case.folder)
    seconds = case.rng.uniform(0.2, 0.9) * base.seconds
    child = Child(lambda: main(command))
    while not child.has_ended() and time.monotonic() - child.started < seconds:
        time.sleep(0.005)
    child.send(number, group=True)
    ended = child.wait()
    case.fault(f"sweep, {number.name} after {seconds:.2f} s")
    finish(lambda: main(command))
    compare_sweeps(base.folder, case.folder)
    check_stop(ended, number, is_certain=False)

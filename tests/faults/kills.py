"""Commands killed at random points, and repeated until they are finished."""

from __future__ import annotations

import os
import shutil
import time
from pathlib import Path

from tests.faults.children import Child, children_of
from tests.faults.points import draw_point
from tests.faults.runs import (
    METHODS,
    Case,
    at_point,
    check_tidy,
    compare_runs,
    draw_scenario,
    finish,
    raise_if_hung,
)
from tests.faults.verdicts import Failed, Verdict, check_message
from tests.train.jobs import TINY

from mla_lightning.cli.main import main

SWEEP = ("train", "-m", *TINY, "method=mla,concat", "seed=0,1", "launcher.jobs=2")


def kill_run(case: Case) -> None:
    """Kill a run of each method up to three times."""
    method = METHODS[case.index % len(METHODS)]
    workers = f"data.num_workers={case.index // len(METHODS) % 2 * 2}"
    more = ("diagnostics=epoch",) if case.rng.random() < 0.1 else ()
    scenario = draw_scenario(case.rng, method, *more)
    base = case.uninterrupted_run(scenario)
    case.what.append(f"{scenario.name} {workers}")
    command = scenario.command(case.folder, workers)
    for _ in range(case.rng.choice((1, 1, 2, 3))):
        case.killed(lambda: main(command), base, case.folder)
    finish(lambda: main(command))
    compare_runs(base.run, case.folder / "run")
    check_tidy(base.folder, case.folder)


def kill_overwrite(case: Case) -> None:
    """Kill a run that replaces a finished one, whose result must not be lost until then."""
    scenario = draw_scenario(case.rng)
    base = case.uninterrupted_run(scenario)
    case.what.append(f"{scenario.name} overwrite=true")
    place = case.folder / "place"
    # Without stored first stages, whose rows lack what depends on the hidden modalities.
    shutil.copytree(base.folder, place, ignore=shutil.ignore_patterns("stages"))
    old = (place / "run" / "result.json").read_bytes()
    command = scenario.command(place, "overwrite=true")
    if case.killed(lambda: main(command), base, place):
        results = [path.read_bytes() for path in (place / "run").rglob("result.json")]
        has_new = (place / "run" / "result.json").exists() and results != [old]
        if old not in results and not has_new:
            raise Failed(Verdict.LOST, "neither the earlier result nor the new one is left")
        shutil.rmtree(place / "stages", ignore_errors=True)  # as above: it starts anew
        finish(lambda: main(command))
    compare_runs(base.run, place / "run")
    check_tidy(base.folder, place)


def kill_worker(case: Case) -> None:
    """Kill one of the loader's workers while a batch is trained."""
    scenario = draw_scenario(case.rng)
    base = case.uninterrupted_run(scenario)
    point = draw_point(base.points, case.rng, ("training", "validation"))
    command = scenario.command(case.folder, "data.num_workers=2")
    case.what.append(f"{scenario.name} data.num_workers=2")

    def act() -> None:
        for pid in children_of(os.getpid())[:1]:
            os.kill(pid, 9)

    ended = Child(at_point(lambda: main(command), case.folder, point, act)).wait()
    case.fault(f"worker killed at {point[2]}. {point[1]}")
    raise_if_hung(ended)
    finish(lambda: main(command))
    compare_runs(base.run, case.folder / "run")
    check_tidy(base.folder, case.folder)
    check_message(ended.code, ended.output)


# ------------------------------------------------------------------ sweeps


def sweep_command(folder: Path) -> list[str]:
    """Return a sweep of four jobs in a folder."""
    return [*SWEEP, f"paths.output_dir={folder}"]


def kill_sweep(case: Case) -> None:
    """Kill a sweep, or one of its jobs."""
    base = case.uninterrupted("sweep", lambda folder: lambda: main(sweep_command(folder)))
    command = sweep_command(case.folder)
    for _ in range(case.rng.choice((1, 2))):
        seconds = case.rng.uniform(0.0, base.seconds)
        of_job = case.rng.random() < 0.5
        child = Child(lambda: main(command))
        while not child.has_ended() and time.monotonic() - child.started < seconds:
            time.sleep(0.005)
        pids = children_of(child.pid) if of_job else [child.pid]
        if pids and not child.has_ended():
            os.kill(case.rng.choice(pids), 9)
            case.fault(f"{'a job' if of_job else 'the sweep'} killed after {seconds:.2f} s")
        raise_if_hung(child.wait())
    finish(lambda: main(command))
    compare_sweeps(base.folder, case.folder)


def compare_sweeps(expected: Path, folder: Path) -> None:
    """Compare all runs of two sweeps."""
    for run in sorted((expected / "train").iterdir()):
        if not (folder / "train" / run.name / "result.json").exists():
            raise Failed(Verdict.LOST, f"the job {run.name} has no result")
        compare_runs(run, folder / "train" / run.name)
    check_tidy(expected, folder)


# ------------------------------------------------------------------ real processes


def kill_process(case: Case) -> None:
    """Kill the process group of a command in a new interpreter, as a machine's end does."""
    import subprocess
    import sys

    scenario = draw_scenario(case.rng)
    base = case.uninterrupted_run(scenario)
    words = scenario.command(case.folder, f"data.num_workers={case.rng.choice((0, 2))}")
    command = [sys.executable, "-m", "mla_lightning.cli.main", *words]
    case.what.append(f"{scenario.name} in a new interpreter")
    process = subprocess.Popen(
        command, start_new_session=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    until, status = time.monotonic() + 60.0, case.folder / "run" / "status.json"
    while not status.exists() and process.poll() is None and time.monotonic() < until:
        time.sleep(0.01)
    seconds = case.rng.uniform(0.0, base.seconds)
    time.sleep(seconds)
    if process.poll() is None:
        os.killpg(process.pid, 9)
        case.fault(f"its group killed {seconds:.2f} s after the first file")
    process.wait()
    again = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    if again.returncode != 0:
        check_message(again.returncode, again.stderr)
        raise Failed(Verdict.LOST, f"cannot be finished: {again.stderr[-300:]}")
    compare_runs(base.run, case.folder / "run")
    check_tidy(base.folder, case.folder)

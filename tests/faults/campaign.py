"""A campaign: faults of all kinds, drawn from a seed and judged in forked processes."""

from __future__ import annotations

import contextlib
import json
import os
import select
import shutil
import signal
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from random import Random

from tests.faults import disks, flips, kills, owners, stops, stores
from tests.faults.children import LIBC, PR_SET_PDEATHSIG, can_mount
from tests.faults.runs import Case
from tests.faults.verdicts import Failed, Record, Verdict

#: Seconds until a case is given up as hung; its commands have limits of their own.
CASE_LIMIT_S = 420.0


@dataclass(frozen=True)
class Kind:
    """A kind of faults.

    Attributes:
        title: Its row of the table.
        inject: Runs one case.
        weight: Its share of the cases.
        needs_root: Whether it mounts file systems.
    """

    title: str
    inject: Callable[[Case], None]
    weight: int
    needs_root: bool = False


KINDS = {
    "kill-run": Kind("SIGKILL of a run", kills.kill_run, 138),
    "kill-overwrite": Kind("SIGKILL of a run with overwrite=true", kills.kill_overwrite, 16),
    "kill-worker": Kind("SIGKILL of a loader's worker", kills.kill_worker, 12),
    "kill-sweep": Kind("SIGKILL of a sweep or its job", kills.kill_sweep, 14),
    "kill-process": Kind("SIGKILL of a new interpreter's group", kills.kill_process, 4),
    "kill-import": Kind("SIGKILL of an import", stores.kill_import, 32),
    "full-disk": Kind("full disk, run", disks.full_disk, 32, True),
    "full-disk-import": Kind("full disk, import", disks.full_disk_import, 16, True),
    "file-size": Kind("limit of file sizes, run", disks.limited_files, 16),
    "read-only": Kind("read-only folder", disks.read_only_folder, 12, True),
    "flip-finished": Kind("flipped bit, finished run", flips.flip_finished, 60),
    "flip-unfinished": Kind("flipped bit, unfinished run", flips.flip_unfinished, 40),
    "flip-store": Kind("flipped bit, store", stores.flip_store, 40),
    "flip-source": Kind("flipped bit, source of an import", stores.change_source, 16),
    "stop-run": Kind("SIGTERM or SIGINT to a run's group", stops.stop_run, 36),
    "stop-sweep": Kind("SIGTERM or SIGINT to a sweep's group", stops.stop_sweep, 8),
    "start-twice": Kind("several starts of one run", owners.start_twice, 16),
    "containers": Kind("... in PID namespaces", owners.start_in_containers, 12, True),
}


def plan(kinds: Sequence[str], number: int) -> list[tuple[str, int]]:
    """Return the cases, (kind, index), of all kinds in turn.

    Args:
        kinds: Names of kinds.
        number: Number of cases; each kind has at least one.
    """
    total = sum(KINDS[kind].weight for kind in kinds)
    sizes = {kind: max(1, round(number * KINDS[kind].weight / total)) for kind in kinds}
    cases = [(i / sizes[kind], kind, i) for kind in kinds for i in range(sizes[kind])]
    return [(kind, index) for _, kind, index in sorted(cases)]


def possible(kinds: Sequence[str]) -> tuple[list[str], list[str]]:
    """Return the kinds that are possible for this user, and the others."""
    has_root = can_mount()
    impossible = [kind for kind in kinds if KINDS[kind].needs_root and not has_root]
    return [kind for kind in kinds if kind not in impossible], impossible


def judge(kind: str, index: int, seed: int, root: Path) -> Record:
    """Run one case in this process.

    Args:
        kind: Name of the kind.
        index: Its number within the kind.
        seed: Seed of the campaign.
        root: Folder of the campaign.
    """
    folder = root / f"{kind}-{index}"
    folder.mkdir()
    case = Case(kind, index, Random(f"{seed}/{kind}/{index}"), folder, root / "uninterrupted")
    started = time.monotonic()
    verdict, detail = Verdict.SURVIVED, ""
    try:
        KINDS[kind].inject(case)
    except Failed as failed:
        verdict, detail = failed.verdict, failed.detail
    except Exception as error:
        verdict, detail = Verdict.BROKEN, f"{type(error).__name__}: {error}"[:500]
        traceback.print_exc()
    injected = max(case.injected, int(verdict is not Verdict.SURVIVED))
    what = "; ".join(text for text in case.what if text)
    seconds = round(time.monotonic() - started, 2)
    if verdict is Verdict.SURVIVED:
        shutil.rmtree(folder, ignore_errors=True)
    return Record(kind, index, what, verdict, detail, injected, seconds)


@dataclass
class _Running:
    kind: str
    index: int
    pid: int
    read: int
    started: float


def run_cases(
    cases: Sequence[tuple[str, int]], seed: int, root: Path, num_jobs: int
) -> Iterator[Record]:
    """Run cases in forked processes, several at a time, and yield their records.

    A case that hangs is killed and counted.
    """
    (root / "uninterrupted").mkdir(parents=True)
    waiting, running = list(cases), list[_Running]()
    try:
        while waiting or running:
            while waiting and len(running) < num_jobs:
                running.append(_start(*waiting.pop(0), seed, root))
            ready, _, _ = select.select([task.read for task in running], [], [], 0.5)
            for task in list(running):
                is_late = time.monotonic() - task.started > CASE_LIMIT_S
                if task.read in ready or is_late:
                    running.remove(task)
                    yield _end(task, is_late=task.read not in ready)
    finally:
        for task in running:
            _end(task, is_late=True)


def _start(kind: str, index: int, seed: int, root: Path) -> _Running:
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
            signal.signal(signal.SIGINT, signal.SIG_IGN)  # the campaign ends its cases itself
            os.close(read)
            record = judge(kind, index, seed, root)
            with open(write, "w") as file:
                file.write(json.dumps(asdict(record)))
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(0)
    os.close(write)
    return _Running(kind, index, pid, read, time.monotonic())


def _end(task: _Running, *, is_late: bool) -> Record:
    text = ""
    if is_late:
        with contextlib.suppress(ProcessLookupError):
            os.kill(task.pid, signal.SIGKILL)  # its children end with it
        os.close(task.read)
    else:
        with open(task.read) as file:
            text = file.read()
    os.waitpid(task.pid, 0)
    if text:
        values = json.loads(text)
        return Record(**{**values, "verdict": Verdict(values["verdict"])})
    seconds = time.monotonic() - task.started
    verdict = Verdict.HUNG if is_late else Verdict.BROKEN
    return Record(task.kind, task.index, "", verdict, "the case gave no answer", 1, seconds)

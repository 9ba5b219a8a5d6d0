"""Full disks, limits of file sizes, and read-only folders."""

from __future__ import annotations

import os
import resource
import shutil
from collections.abc import Callable
from pathlib import Path

from tests.faults.children import Child, mount, private_mounts, read_only
from tests.faults.points import draw_point
from tests.faults.runs import (
    Case,
    Uninterrupted,
    at_point,
    check_tidy,
    compare_runs,
    draw_scenario,
    finish,
    raise_if_hung,
)
from tests.faults.stores import (
    FORMATS,
    compare_stores,
    finish_import,
    import_action,
    imported,
    train_on,
)
from tests.faults.verdicts import Failed, Verdict, check_message

from mla_lightning.callbacks.checkpoint import newest_valid
from mla_lightning.cli.main import main

WORDS_OF_FULL = ("No space left", "is full", "are free", "is free", "too large")
PAGE = 4096


class Disk:
    """A small disk of its own, which vanishes with this process."""

    def __init__(self, folder: Path, size: int) -> None:
        """Mount the disk."""
        self.folder, self.ballast = folder, folder / "ballast"
        folder.mkdir(exist_ok=True)
        private_mounts()
        mount("tmpfs", str(folder), "tmpfs", 0, f"size={size}")

    def leave(self, num_bytes: int) -> None:
        """Fill it but for a number of bytes."""
        free = shutil.disk_usage(self.folder).free - num_bytes
        if free > 0:
            with self.ballast.open("wb") as file:
                os.posix_fallocate(file.fileno(), 0, free)

    def free(self) -> None:
        """Free it again."""
        self.ballast.unlink(missing_ok=True)


def size_of(folder: Path) -> int:
    """Return the bytes of a folder's files, in whole pages."""
    sizes = [path.stat().st_size for path in folder.rglob("*") if path.is_file()]
    return sum(-(-size // PAGE) * PAGE for size in sizes)


def start_run(case: Case, folder: Path) -> tuple[Uninterrupted, list[str]]:
    """Choose a run; half of the time it is killed after its first checkpoint."""
    scenario = draw_scenario(case.rng)
    base = case.uninterrupted_run(scenario)
    command = scenario.command(folder)
    case.what.append(scenario.name)
    if case.rng.random() < 0.5:
        point = draw_point(base.points, case.rng, ("training", "validation"))
        Child(at_point(lambda: main(command), folder, point)).wait()
        case.what.append("killed before")
    return base, command


def check_full(code: int, output: str) -> None:
    """Check that a failed command says that the disk is full."""
    check_message(code, output)
    if code and not any(words in output for words in WORDS_OF_FULL):
        line = (output.strip().splitlines() or ["nothing"])[-1]
        raise Failed(Verdict.UNCLEAR, f"the disk was full, but it says: {line}"[:300])


def checkpoint_of(run: Path) -> str:
    """Return the name of the checkpoint that a run resumes from; empty if it has none."""
    newest = newest_valid(run / "checkpoints")[0]
    return newest.name if newest else ""


def check_resumed(base: Uninterrupted, command: list[str], folder: Path, before: str) -> None:
    """Check that no checkpoint was lost, and that the run is finished as if never stopped.

    Args:
        base: The uninterrupted run.
        command: The words of the command.
        folder: Holds the folder of the run.
        before: Name of the newest valid checkpoint before the fault.
    """
    if (after := checkpoint_of(folder / "run")) < before:
        raise Failed(Verdict.LOST, f"the newest valid checkpoint is {after!r}, was {before!r}")
    finish(lambda: main(command))
    compare_runs(base.run, folder / "run")
    check_tidy(base.folder, folder)


def full_disk(case: Case) -> None:
    """Run on a disk that becomes full, then free some space and run again."""
    disk = Disk(case.folder / "disk", 64 << 20)
    base, command = start_run(case, disk.folder)
    before = checkpoint_of(disk.folder / "run")
    free = case.rng.randrange(0, size_of(base.folder) * 3 // 4, PAGE)
    disk.leave(free)
    ended = Child(lambda: main(command)).wait()
    raise_if_hung(ended)
    disk.free()
    if ended.code != 0:
        case.fault(f"disk full after {free} bytes")
    check_resumed(base, command, disk.folder, before)
    check_full(ended.code, ended.output)


def limited(action: Callable[[], int | None], num_bytes: int) -> Callable[[], int | None]:
    """Return an action that cannot write files above a size."""

    def acting() -> int | None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (num_bytes, num_bytes))
        return action()

    return acting


def limited_files(case: Case) -> None:
    """Run with a limit of the size of a file, which fails like a full disk but needs no root."""
    base, command = start_run(case, case.folder)
    before = checkpoint_of(case.folder / "run")
    largest = max(path.stat().st_size for path in base.folder.rglob("*") if path.is_file())
    limit = case.rng.randrange(largest)
    ended = Child(limited(lambda: main(command), limit)).wait()
    raise_if_hung(ended)
    if ended.code != 0:
        case.fault(f"no file above {limit} bytes")
    check_resumed(base, command, case.folder, before)
    check_full(ended.code, ended.output)


def full_disk_import(case: Case) -> None:
    """Import on a disk that becomes full, then free some space and import again."""
    name = FORMATS[case.index % len(FORMATS)]
    source, base = imported(case, name)
    disk = Disk(case.folder / "disk", 64 << 20)
    (disk.folder / "data").mkdir()
    free = case.rng.randrange(0, size_of(base.folder) * 3 // 4, PAGE)
    disk.leave(free)
    action = import_action(name, source, disk.folder)
    ended = Child(action).wait()
    raise_if_hung(ended)
    case.what.append(f"import of {name}")
    if ended.code != 0:
        case.fault(f"disk full after {free} bytes")
    disk.free()
    finish_import(action, disk.folder)
    compare_stores(base.folder, disk.folder)
    check_full(ended.code, ended.output)


# ------------------------------------------------------------------ read-only folders


def read_only_folder(case: Case) -> None:
    """Make the folder of a new, killed or finished run read-only, or that of its data."""
    private_mounts()
    (_new, _killed, _finished, _data)[case.index % 4](case)


def _new(case: Case) -> None:
    scenario = draw_scenario(case.rng)
    base = case.uninterrupted_run(scenario)
    (place := case.folder / "place").mkdir()
    _refused_then_finished(case, base, scenario.command(place), place)


def _killed(case: Case) -> None:
    (place := case.folder / "place").mkdir()
    base, command = start_run(case, place)
    _refused_then_finished(case, base, command, place)


def _refused_then_finished(
    case: Case, base: Uninterrupted, command: list[str], place: Path
) -> None:
    read_only(str(place))
    ended = Child(lambda: main(command)).wait()
    raise_if_hung(ended)
    case.fault("read-only run folder")
    if ended.code == 0 and not (place / "run" / "result.json").exists():
        raise Failed(Verdict.LOST, "exit 0 on a read-only disk")
    read_only(str(place), False)
    finish(lambda: main(command))
    compare_runs(base.run, place / "run")
    check_tidy(base.folder, place)
    check_message(ended.code, ended.output)


def _finished(case: Case) -> None:
    scenario = draw_scenario(case.rng)
    base = case.uninterrupted_run(scenario)
    place = case.folder / "place"
    shutil.copytree(base.folder, place)
    read_only(str(place))
    case.fault("read-only folder of a finished run")
    os.chdir(case.folder)
    report = ["report", "runs", str(place), "--output", str(case.folder / "report")]
    for words in (["eval", str(place / "run")], report):
        ended = Child(lambda words=words: main(words)).wait()
        raise_if_hung(ended)
        if ended.code != 0:
            raise Failed(Verdict.UNCLEAR, f"mla {words[0]}: {ended.last_line()}")
    ended = Child(lambda: main(scenario.command(place))).wait()
    raise_if_hung(ended)
    if ended.code != 0:
        text = f"mla train of a finished run on a read-only disk: {ended.last_line()}"
        raise Failed(Verdict.UNCLEAR, text)


def _data(case: Case) -> None:
    _, store = imported(case, "npz")
    base = case.uninterrupted("train-on-store", lambda folder: train_on(folder, store.folder))
    read_only(str(store.folder))
    case.fault("read-only data")
    finish(train_on(case.folder, store.folder))
    compare_runs(base.run, case.folder / "run")

"""Runs to inject faults into, the uninterrupted ones, and the comparison of two."""

from __future__ import annotations

import csv
import fcntl
import json
import os
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

import numpy as np
from tests.faults.children import Child, Ended
from tests.faults.points import Point, Points, draw_point
from tests.faults.verdicts import Failed, Verdict, check_message
from tests.methods.incomplete_runs import METHODS as INCOMPLETE
from tests.methods.incomplete_runs import words_of
from tests.train.jobs import TINY, same

from mla_lightning.callbacks.checkpoint import resumable
from mla_lightning.callbacks.checkpoint_io import read_checkpoint
from mla_lightning.cli.main import main

CONF = Path(__file__).parents[2] / "conf"
METHODS = tuple(sorted(path.stem for path in (CONF / "method").glob("*.yaml")))
#: Keys of ``result.json`` that differ between equal runs: times, and hashes of files with times.
DIFFERING = (
    *("train_time_s", "epoch_time_s", "step_time_s", "peak_memory_mb"),
    *("overrides", "files", "sha256"),
)
#: Files that a failed attempt leaves, and that checkpoints within an epoch add.
LEFT_BY_ATTEMPTS = ("error.txt", "lock", "log.txt")
#: Attempts to finish a command after its last fault, and seconds to wait for dying processes.
ATTEMPTS, PATIENCE_S = 4, 15.0


@dataclass(frozen=True)
class Scenario:
    """A command to train.

    Attributes:
        name: Its name, one per result.
        words: The words after ``mla train``, without folders.
    """

    name: str
    words: tuple[str, ...]

    def command(self, folder: Path, *more: str) -> list[str]:
        """Return the words after ``mla`` that train in the subfolder ``run`` of a folder."""
        words = [*self.words, f"paths.output_dir={folder}", f"run_dir={folder / 'run'}", *more]
        return ["train", *{word.partition("=")[0]: word for word in words}.values()]


def scenario_of(method: str, *more: str) -> Scenario:
    """Return a scenario of a method; those for missing modalities have some missing."""
    words = words_of(method)[1:] if method in INCOMPLETE else [*TINY, f"method={method}"]
    return Scenario("-".join((method, *more)).replace("=", "_"), (*words, *more))


def draw_scenario(rng: Random, method: str = "", *more: str) -> Scenario:
    """Draw a method, unless one is given, and how often checkpoints are written."""
    every = rng.choice(("null", "1", "3"))
    return scenario_of(method or rng.choice(METHODS), f"checkpoint.every_n_batches={every}", *more)


@dataclass(frozen=True)
class Uninterrupted:
    """An uninterrupted command: its folder, its points, and how long it took."""

    folder: Path
    seconds: float

    @property
    def run(self) -> Path:
        """The run folder."""
        return self.folder / "run"

    @property
    def points(self) -> Path:
        """The file of its points."""
        return self.folder / "points.json"


@dataclass
class Case:
    """One command with faults, and where it runs.

    Attributes:
        kind: The kind of faults.
        index: Its number within the kind.
        rng: The source of all its choices.
        folder: Its own empty folder.
        shared: Folder of the uninterrupted commands, for all cases.
        what: Description, which grows as faults are injected.
        injected: Number of faults so far.
    """

    kind: str
    index: int
    rng: Random
    folder: Path
    shared: Path
    what: list[str] = field(default_factory=list)
    injected: int = 0

    def fault(self, text: str) -> None:
        """Count a fault."""
        self.injected += 1
        self.what.append(text)

    def uninterrupted(
        self, name: str, make: Callable[[Path], Callable[[], int | None]]
    ) -> Uninterrupted:
        """Return an uninterrupted command, which the first caller runs.

        Args:
            name: Its name.
            make: Returns the command, given its folder.
        """
        folder = self.shared / name
        with open(self.shared / f".{name}.lock", "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            facts = self.shared / f".{name}.json"
            if not facts.exists():
                shutil.rmtree(folder, ignore_errors=True)  # of a failed attempt
                folder.mkdir()
                points = folder / "points.json"
                ended = Child(recorded(make(folder), folder, points)).wait()
                if ended.code != 0:
                    raise RuntimeError(f"{name} failed without a fault: {ended.output[-2000:]}")
                facts.write_text(json.dumps(ended.seconds))
        return Uninterrupted(folder, json.loads(facts.read_text()))

    def uninterrupted_run(self, scenario: Scenario) -> Uninterrupted:
        """Return the uninterrupted run of a scenario."""
        return self.uninterrupted(
            scenario.name, lambda folder: lambda: main(scenario.command(folder))
        )

    def killed(self, action: Callable[[], int | None], base: Uninterrupted, root: Path) -> bool:
        """Run a command and kill it at a random point or time; return whether it was killed."""
        if self.rng.random() < 0.25:
            seconds = self.rng.uniform(0.0, base.seconds)
            ended = Child(action).wait(kill_after_s=seconds)
            where = f"killed after {seconds:.2f} s"
        else:
            point = draw_point(base.points, self.rng)
            ended = Child(at_point(action, root, point)).wait()
            where = f"killed at {point[2]}. {point[1]}"
        if ended.code == -9 and not ended.is_hung:
            self.fault(where)
            return True
        if ended.code != 0 and "in use" not in ended.output:
            raise_if_hung(ended)
            check_message(ended.code, ended.output)
            raise Failed(Verdict.LOST, f"the resumed command failed: {ended.last_line()}")
        return False


def recorded(action: Callable[[], int | None], root: Path, path: Path) -> Callable[[], int | None]:
    """Return an action that also writes its points."""

    def recording() -> int | None:
        points = Points(root)
        code = action()
        points.write(path)
        return code

    return recording


def at_point(
    action: Callable[[], int | None],
    root: Path,
    point: Point,
    act: Callable[[], None] | None = None,
) -> Callable[[], int | None]:
    """Return an action that acts at a point; by default its process kills itself."""

    def acting() -> int | None:
        Points(root, point, act)
        return action()

    return acting


def raise_if_hung(ended: Ended) -> None:
    """Raise if a command was killed at its time limit."""
    if ended.is_hung:
        raise Failed(Verdict.HUNG, f"no end after {ended.seconds:.0f} s: {ended.last_line()}")


def finish(action: Callable[[], int | None]) -> Ended:
    """Repeat a command until it is finished.

    Raises:
        Failed: If it cannot be finished.
    """
    until = time.monotonic() + PATIENCE_S
    for attempt in range(1, 1000):
        ended = Child(action).wait()
        raise_if_hung(ended)
        if ended.code == 0:
            return ended
        if "in use" in ended.output and time.monotonic() < until:
            time.sleep(0.3)  # by workers of the killed process, which end by themselves
        elif attempt >= ATTEMPTS:
            break
    check_message(ended.code, ended.output)
    raise Failed(Verdict.LOST, f"cannot be finished: {ended.last_line()}")


# ------------------------------------------------------------------ comparison


def compare_runs(expected: Path, run: Path) -> None:
    """Compare a run with the uninterrupted one.

    Raises:
        Failed: With the first difference.
    """
    old, new = (json.loads((folder / "result.json").read_text()) for folder in (expected, run))
    num_old, num_new = old["num_batches_trained"], new["num_batches_trained"]
    rows_old, rows_new = _rows(expected), _rows(run)
    if num_new > num_old or len(rows_new) > len(rows_old):
        text = f"{num_new} batches and {len(rows_new)} epochs in place of {num_old} and"
        raise Failed(Verdict.DOUBLED, f"{text} {len(rows_old)}")
    if num_new < num_old or len(rows_new) < len(rows_old):
        text = f"{num_new} batches and {len(rows_new)} epochs in place of {num_old} and"
        raise Failed(Verdict.LOST, f"{text} {len(rows_old)}")
    if gone := set(old["notes"]) - set(new["notes"]):
        raise Failed(Verdict.LOST, f"the note {gone.pop()!r} is gone")
    if rows_old != rows_new:
        raise Failed(Verdict.SILENT, "other rows in metrics.csv")
    for key in sorted(old.keys() | new.keys()):
        if key not in DIFFERING and old.get(key) != new.get(key):
            raise Failed(Verdict.SILENT, f"{key} in result.json: {new.get(key)!r}"[:300])
    for name in ("predictions.npz", "planes.npz"):
        if (expected / name).exists() and not _same_arrays(expected / name, run / name):
            raise Failed(Verdict.SILENT, f"other arrays in {name}")
    _compare_weights(expected / "checkpoints", run / "checkpoints")


def _rows(run: Path) -> list[dict[str, str]]:
    with (run / "metrics.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    return [{k: v for k, v in row.items() if not str(k).startswith("time/")} for row in rows]


def _same_arrays(one: Path, other: Path) -> bool:
    if not other.exists():
        return False
    with np.load(one) as a, np.load(other) as b:
        return set(a.files) == set(b.files) and all(
            a[key].dtype == b[key].dtype and a[key].tobytes() == b[key].tobytes() for key in a.files
        )


def _compare_weights(expected: Path, folder: Path) -> None:
    for path in sorted(expected.glob("best-*.ckpt")):
        if not (folder / path.name).exists():
            raise Failed(Verdict.LOST, f"{path.name} is gone")
        if not same(read_checkpoint(path), read_checkpoint(folder / path.name)):
            raise Failed(Verdict.SILENT, f"other weights in {path.name}")
    last, other = (read_checkpoint(resumable(place)[0]) for place in (expected, folder))
    for key in ("state_dict", "optimizer_states", "lr_schedulers", "epoch", "global_step"):
        if not same(last[key], other[key]):
            raise Failed(Verdict.SILENT, f"another {key} in the last checkpoint")


def check_tidy(expected: Path, folder: Path, ignored: Sequence[str] = ()) -> None:
    """Check that a folder has no other files than the uninterrupted one."""
    left = _names(folder) - _names(expected)
    left = {name for name in left if name.split("/")[0] not in ignored}
    if left:
        text = ", ".join(sorted(left)[:3])
        raise Failed(Verdict.UNTIDY, f"{len(left)} files are left: {text}")


def _names(folder: Path) -> set[str]:
    names = set()
    for path, _, files in os.walk(folder):
        for name in files:
            relative = os.path.relpath(os.path.join(path, name), folder)
            if name not in LEFT_BY_ATTEMPTS and "checkpoints/epoch=" not in relative:
                names.add(relative)
    return names - {"points.json"}

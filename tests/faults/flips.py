"""Single bits of files flipped at random: named as damage, or without effect on any number."""

from __future__ import annotations

import contextlib
import io
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from random import Random

from tests.faults.children import Child
from tests.faults.runs import (
    Case,
    Uninterrupted,
    at_point,
    compare_runs,
    finish,
    raise_if_hung,
    scenario_of,
)
from tests.faults.verdicts import Failed, Verdict, check_message

import mla_lightning
from mla_lightning.cli.main import main
from mla_lightning.errors import MLAError

SCENARIO = scenario_of("mla", "checkpoint.every_n_batches=1")
READERS = ("eval", "report table1", "report runs", "train", "load")


def flip_a_bit(path: Path, rng: Random, *, keeps_time: bool = False) -> str:
    """Flip a bit of a file in place; return which, for people."""
    content = bytearray(path.read_bytes())
    if not content:
        path.write_bytes(b"\x01")
        return "a byte added to an empty file"
    status = path.stat()
    place, bit = rng.randrange(len(content)), rng.randrange(8)
    content[place] ^= 1 << bit
    with path.open("r+b") as file:
        file.write(content)
    if keeps_time:
        os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    return f"bit {bit} of byte {place} of {len(content)}"


def draw_file(folder: Path, rng: Random) -> Path:
    """Draw a file of a folder; those in its subfolders, such as checkpoints, less often."""
    files = sorted(p for p in folder.rglob("*") if p.is_file() and p.name != "lock")
    near = [path for path in files if path.parent == folder]
    return rng.choice(near if near and rng.random() < 0.6 else files)


# ------------------------------------------------------------------ finished runs


def flip_finished(case: Case) -> None:
    """Flip a bit of a finished run, and read it with every command."""
    base = case.uninterrupted_run(SCENARIO)
    shutil.copytree(base.folder, case.folder, dirs_exist_ok=True)
    clean = read_with_all(case.folder)
    path = draw_file(case.folder / "run", case.rng)
    name = path.relative_to(case.folder / "run").as_posix()
    before = path.read_bytes()
    case.fault(f"finished run, {name}: {flip_a_bit(path, case.rng)}")
    damaged = read_with_all(case.folder)
    case.what.append(surroundings(before, path.read_bytes() if path.exists() else b""))
    for reader in READERS:
        check_reader(reader, clean[reader], damaged[reader], name)


def read_with_all(folder: Path) -> dict[str, tuple[int, str, str]]:
    """Read a run with every command.

    Returns:
        Command -> exit code, output, and the numbers of its tables.
    """
    run, out = str(folder / "run"), folder / "out"
    commands = {
        "eval": ["eval", run],
        "report table1": ["report", "table1", run, "--output", str(out)],
        "report runs": ["report", "runs", run],
        "train": SCENARIO.command(folder),
        "load": ["load"],
    }
    answers = folder / "answers.json"

    def action() -> None:
        readings = {}
        for name, words in commands.items():
            shutil.rmtree(out, ignore_errors=True)
            text = io.StringIO()
            with contextlib.redirect_stdout(text), contextlib.redirect_stderr(text):
                try:
                    code = main(words) if words[0] != "load" else load_and_print(run)
                except Exception as error:  # a traceback reaches the user
                    code = 1
                    text.write(f"Traceback (most recent call last)\n{type(error).__name__}: ")
                    text.write(str(error))
            tables = "".join(p.read_text() for p in sorted(out.rglob("*.csv")))
            readings[name] = (code, text.getvalue(), tables)
        answers.write_text(json.dumps(readings))

    ended = Child(action).wait()
    raise_if_hung(ended)
    if ended.code != 0:
        raise Failed(Verdict.UNCLEAR, f"the reader ended with {ended.code}: {ended.last_line()}")
    return {key: tuple(value) for key, value in json.loads(answers.read_text()).items()}


def load_and_print(run: str) -> int:
    """Load a run from Python, and print its numbers; return an exit code."""
    try:
        loaded = mla_lightning.load(run)
        print(loaded.result, loaded.metrics)
    except MLAError as error:
        print(f"error: {error}")
        return error.exit_code
    return 0


def check_reader(
    reader: str, clean: tuple[int, str, str], damaged: tuple[int, str, str], name: str
) -> None:
    """Check that a command named the damage, or gave the same numbers."""
    code, output, tables = damaged
    check_message(code, output)
    if code != 0 or (output, tables) == clean[1:]:
        return
    new = set(output.splitlines()) - set(clean[1].splitlines())
    words = (name.rsplit("/", 1)[-1], "damaged", "broken", "unreadable", "changed", "cut off")
    if any(word in line for line in new for word in words):
        return
    line = next(iter(sorted(new)), "") or "other numbers in its CSV files"
    raise Failed(Verdict.SILENT, f"{reader}: {line.strip()}"[:300])


def surroundings(before: bytes, after: bytes) -> str:
    """Return the text around a flipped bit, for people."""
    if len(before) != len(after):
        return ""
    place = next((i for i, (x, y) in enumerate(zip(before, after, strict=True)) if x != y), 0)
    part = slice(max(place - 25, 0), place + 10)
    return f"{before[part]!r} -> {after[part]!r}"


# ------------------------------------------------------------------ unfinished runs


def unfinished(case: Case) -> tuple[Uninterrupted, Path]:
    """Return the uninterrupted run, and a shared one that was killed in its second epoch."""
    base = case.uninterrupted_run(SCENARIO)

    def make(folder: Path) -> Callable[[], int | None]:
        def action() -> int:
            command = SCENARIO.command(folder)
            point = ("training", "before training_step", 16)
            ended = Child(at_point(lambda: main(command), folder, point)).wait()
            return int(ended.code != -9)

        return action

    return base, case.uninterrupted("killed-mla", make).folder


def flip_unfinished(case: Case) -> None:
    """Flip a bit of a run that was killed, and run the same command again."""
    base, killed = unfinished(case)
    shutil.copytree(killed, case.folder, dirs_exist_ok=True)
    path = draw_file(case.folder / "run", case.rng)
    name = path.relative_to(case.folder / "run").as_posix()
    before = path.read_bytes()
    case.fault(f"unfinished run, {name}: {flip_a_bit(path, case.rng)}")
    case.what.append(surroundings(before, path.read_bytes()))
    command = SCENARIO.command(case.folder)
    ended = Child(lambda: main(command)).wait()
    raise_if_hung(ended)
    check_message(ended.code, ended.output)
    if ended.code != 0:
        finish(lambda: main([*command, "overwrite=true"]))
    compare_runs(base.run, case.folder / "run")

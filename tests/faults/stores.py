"""Imports and preparations of data that are killed, and sources that change meanwhile."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
from tests.fakes.mvsa import fake_mvsa
from tests.faults.children import Child, Ended
from tests.faults.flips import draw_file, flip_a_bit, surroundings
from tests.faults.runs import Case, Uninterrupted, compare_runs, finish, raise_if_hung
from tests.faults.verdicts import Failed, Verdict, check_message
from tests.prepare.test_importing import pets

from mla_lightning.cli.main import main

SMALL = ("size=16", "num_frames=20", "length=8")
FORMATS = ("csv", "npz", "npy", "mvsa")
TARGET = "data/my"


def write_source(folder: Path, name: str) -> Path:
    """Write the source files of a format into a folder; return the path to import."""
    folder.mkdir(parents=True)
    if name == "csv":
        return pets(folder)
    if name == "mvsa":
        return fake_mvsa(folder / "mvsa", per_class=8)
    rng = np.random.default_rng(0)
    label = np.arange(90) % 3
    arrays = {
        "label": label,
        "sound": rng.normal(size=(90, 8)).astype(np.float32) + label[:, None],
        "picture": rng.normal(size=(90, 12)).astype(np.float32) - label[:, None],
        "split": np.array(["train", "val", "test"])[np.arange(90) // 3 % 3],
    }
    if name == "npz":
        np.savez(folder / "my.npz", **arrays)
        return folder / "my.npz"
    for key, values in arrays.items():
        np.save(folder / f"{key}.npy", values)
    return folder


def import_action(name: str, source: Path, folder: Path) -> Callable[[], int | None]:
    """Return the command that imports a source to ``data/my`` in a folder."""
    if name == "mvsa":
        words = ["data", "prepare", "mvsa", f"raw={source}", f"target={TARGET}", "hashed=true"]
        words += ["image_size=16", "length=8", "jobs=2"]
    else:
        words = ["data", "import", str(source), f"target={TARGET}"]
        words += [*SMALL, "jobs=2"] if name == "csv" else []

    def action() -> int | None:
        os.chdir(folder)
        (folder / "data").mkdir(exist_ok=True)
        return main(words)

    return action


def source_of(case: Case, name: str) -> Path:
    """Return the path to import of a shared source."""

    def make(folder: Path) -> Callable[[], int | None]:
        def action() -> None:
            path = write_source(folder / "source", name)
            (folder / "path").write_text(str(path))

        return action

    return Path((case.uninterrupted(f"source-{name}", make).folder / "path").read_text())


def imported(case: Case, name: str) -> tuple[Path, Uninterrupted]:
    """Return a shared source, and its uninterrupted import."""
    source = source_of(case, name)
    return source, case.uninterrupted(f"store-{name}", lambda f: import_action(name, source, f))


def kill_import(case: Case) -> None:
    """Kill an import up to three times."""
    name = FORMATS[case.index % len(FORMATS)]
    source, base = imported(case, name)
    case.what.append(f"import of {name}")
    action = import_action(name, source, case.folder)
    for _ in range(case.rng.choice((1, 2, 3))):
        if not (case.folder / TARGET / "manifest.json").exists():  # else it would refuse the target
            case.killed(action, base, case.folder)
    finish_import(action, case.folder)
    compare_stores(base.folder, case.folder)


def finish_import(action: Callable[[], int | None], folder: Path) -> None:
    """Repeat an import until the store is complete."""
    if (folder / TARGET / "manifest.json").exists():
        ended = Child(action).wait()  # finished before the kill: it may say so in any way
        raise_if_hung(ended)
        check_message(ended.code, ended.output)
    else:
        finish(action)


def compare_stores(expected: Path, folder: Path) -> None:
    """Compare two stores, and the folders that they are in, byte for byte."""
    old, new = _content(expected / "data"), _content(folder / "data")
    for name in sorted(old.keys() - new.keys()):
        raise Failed(Verdict.LOST, f"{name} was not written")
    for name in sorted(old):
        if old[name] != new[name]:
            raise Failed(Verdict.SILENT, f"another content of {name}")
    if left := sorted(new.keys() - old.keys()):
        raise Failed(Verdict.UNTIDY, f"{len(left)} files are left: {', '.join(left[:3])}")


def _content(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and path.name != ".verified.json"  # of a first use
    }


def change_source(case: Case) -> None:
    """Flip a bit of a source, before its import or between a kill and the next attempt."""
    name = FORMATS[case.index % len(FORMATS)]
    shared, base = imported(case, name)
    root = shared.parent if shared.is_file() else shared
    copy = case.folder / "source"
    shutil.copytree(root, copy)
    source = copy / shared.relative_to(root)
    (place := case.folder / "killed").mkdir()
    action = import_action(name, source, place)
    case.what.append(f"import of {name}")
    if case.rng.random() < 0.5:
        case.killed(action, base, place)
    path = case.rng.choice(sorted(p for p in copy.rglob("*") if p.is_file()))
    case.fault(f"{path.relative_to(copy)}: {flip_a_bit(path, case.rng)}")
    had_finished = (place / TARGET / "manifest.json").exists()
    ended = Child(action).wait()
    raise_if_hung(ended)
    check_message(ended.code, ended.output)
    (fresh := case.folder / "fresh").mkdir()
    clean = Child(import_action(name, source, fresh)).wait()
    raise_if_hung(clean)
    check_message(clean.code, clean.output)
    if had_finished or ended.code != 0:
        return
    if clean.code != 0:
        raise Failed(Verdict.SILENT, f"a fresh import refuses the source: {clean.last_line()}")
    compare_stores(fresh, place)


# ------------------------------------------------------------------ stores


def flip_store(case: Case) -> None:
    """Flip a bit of a store, and train on it."""
    _, store = imported(case, "npz")
    base = case.uninterrupted("train-on-store", lambda folder: train_on(folder, store.folder))
    copy = case.folder / "copy"
    shutil.copytree(store.folder, copy)
    path = draw_file(copy / "data/my", case.rng)
    before = path.read_bytes()
    is_later = case.rng.random() < 0.3
    if is_later:  # after a first use, which may have stored that it is intact
        other = case.folder / "first"
        other.mkdir()
        _require(Child(train_on(other, copy)).wait())
    keeps_time = not is_later and case.rng.random() < 0.5
    text = flip_a_bit(path, case.rng, keeps_time=keeps_time)
    case.fault(f"store, {path.name}: {text}{', after a first use' if is_later else ''}")
    case.what.append(surroundings(before, path.read_bytes()))
    ended = Child(train_on(case.folder, copy)).wait()
    raise_if_hung(ended)
    check_message(ended.code, ended.output)
    if ended.code == 0:
        compare_runs(base.run, case.folder / "run")


def train_on(folder: Path, store: Path) -> Callable[[], int | None]:
    """Return the command that trains on a store."""
    words = (f"data.path={store / 'data/my'}", "optimizer.lr=0.05", "trainer.max_epochs=1")
    command = ["train", "data=store", *words, f"run_dir={folder / 'run'}"]
    return lambda: main([*command, f"paths.output_dir={folder}"])


def _require(ended: Ended) -> None:
    if ended.code != 0:
        raise RuntimeError(f"failed without a fault: {ended.output[-1000:]}")

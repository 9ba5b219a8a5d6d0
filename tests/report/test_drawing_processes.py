"""Figures of the page drawn in several processes: the same files and the same warnings."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from tests.report.synthetic_runs import write_run

from mla_lightning.run_folder import write_json

#: Makes a page in a process without torch and threads, as `mla report page` does. In the mode
#: `broken` a figure cannot be drawn, in the mode `killed` the second of two processes is killed.
SCRIPT = """
import os, sys
from pathlib import Path
from mla_lightning.report.figures import cache
from mla_lightning.report.main import write_report
from mla_lightning.report.page import content

num, mode = int(sys.argv[1]), sys.argv[2]
first, save = os.getpid(), cache.save
assert cache.num_processes() == min(2, len(os.sched_getaffinity(0)))
cache.num_processes = lambda: num

def broken(*_):
    raise ValueError("no")

def counted(figure, stem):
    with open("processes.txt", "a") as file:
        print(os.getpid() == first, os.getpid(), file=file)
    if mode == "killed" and os.getpid() != first and "mine-b" in stem.name:
        os.kill(os.getpid(), 9)
    return save(figure, stem)

cache.save = counted
if mode == "broken":
    content.curves_figure = broken
write_report("page", [Path("runs")], Path("page"))
"""


def bins(confidence):
    values = {"confidence": confidence, "accuracy": [0.4, 0.8], "num": [9, 11], "ece": 0.1}
    return {"width": values, "mass": values}


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Folder with the runs of two experiments, one with diagnostics."""
    root = tmp_path_factory.mktemp("runs")
    names = ("image", "text", "multi")
    measured = {"temperature": 1.5, "before": bins([0.5, 0.9]), "after": bins([0.4, 0.8])}
    entropies = {name: {"entropy": [0.1, 0.9], "accuracy": [0.9, 0.2]} for name in names}
    content = {"calibration": dict.fromkeys(names, measured), "entropy": entropies}
    write_json(write_run(root, "mla", 0, name="mine/a") / "diagnostics.json", content)
    write_run(root, "mla", 0, name="mine/b")
    return root


def make(folder, runs, num_processes, mode="plain"):
    """Return the files of the page, and whether each figure was drawn by the first process."""
    folder.mkdir()
    (folder / "runs").symlink_to(runs)
    (runs / ".read.json").unlink(missing_ok=True)
    command = [sys.executable, "-c", SCRIPT, str(num_processes), mode]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    files = {path.name: path.read_bytes() for path in sorted(Path(folder, "page").iterdir())}
    lines = [line.split() for line in (folder / "processes.txt").read_text().splitlines()]
    return files, {process: is_first == "True" for is_first, process in lines}


pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="figures are drawn in one process")


@pytest.fixture(scope="module")
def alone(runs, tmp_path_factory):
    """Files of the page that a single process makes."""
    files, processes = make(tmp_path_factory.mktemp("alone") / "a", runs, 1)
    assert list(processes.values()) == [True]
    assert sum(name.endswith(".pdf") for name in files) >= 8
    return files


def test_figures_drawn_in_two_processes_equal_those_drawn_in_one(runs, alone, tmp_path):
    files, processes = make(tmp_path / "b", runs, 2)
    assert list(processes.values()) == [False, False]
    assert files == alone


def test_a_figure_that_fails_in_a_process_is_reported_by_name(runs, alone, tmp_path):
    files, processes = make(tmp_path / "c", runs, 2, "broken")
    assert list(processes.values()) == [False, False]
    page = files["page.html"].decode()
    failed = [f"{name}-openmoji-curves" for name in ("mine-a", "mine-b")]
    for stem in failed:
        assert page.count(f"{stem} cannot be drawn: ValueError: no") == 1
    others = {name for name in alone if Path(name).stem not in failed}
    assert set(files) == others
    changed = {"page.html", ".drawn.json"}
    assert all(files[name] == alone[name] for name in others - changed)


def test_figures_of_a_killed_process_are_drawn_by_the_first_one(runs, alone, tmp_path):
    files, processes = make(tmp_path / "d", runs, 2, "killed")
    assert sorted(processes.values()) == [False, False, True]
    assert files == alone

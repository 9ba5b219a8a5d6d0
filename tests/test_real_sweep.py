"""A real sweep through the command line: killed half way, finished, reported."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

from mla_lightning.cli.main import main
from mla_lightning.run_folder import (
    CONFIG,
    PROVENANCE,
    RESULT,
    STATUS,
    find_runs,
    is_finished,
    read_json,
    read_metrics,
    state_of,
)

METHODS = "sum,concat,late_fusion,film,bigated,ogm_ge,qmf,mla,unimodal"
SWEEP = ["train", "-m", "data=synthetic", "name=table1/synthetic", f"method={METHODS}", "seed=0,1"]
MLA = [sys.executable, "-m", "mla_lightning.cli.main"]


def run(folder: Path, *words: str, **options):
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "COLUMNS": "200"}
    return subprocess.run(
        [*MLA, *words], cwd=folder, env=environment, capture_output=True, text=True, **options
    )


@pytest.fixture(scope="module")
def swept(tmp_path_factory):
    """A folder whose sweep was killed after some jobs and then started again."""
    folder = tmp_path_factory.mktemp("sweep")
    with (folder / "first.log").open("w") as log:
        first = subprocess.Popen([*MLA, *SWEEP], cwd=folder, stdout=log, stderr=log)
    until = time.monotonic() + 120
    while len(list(folder.rglob(RESULT))) < 4 and time.monotonic() < until:
        time.sleep(0.05)
    os.kill(first.pid, signal.SIGKILL)
    first.wait()
    before = -1  # a job that was at its end may still write its result
    while before != (before := len(list(folder.rglob(RESULT)))):
        time.sleep(1)
    done = {path: path.stat().st_mtime_ns for path in folder.rglob(RESULT)}
    return folder, done, run(folder, *SWEEP)


def test_the_second_start_finishes_what_is_left_and_repeats_nothing(swept):
    folder, done, second = swept
    assert second.returncode == 0, second.stdout + second.stderr
    assert 4 <= len(done) < 18
    assert f"18 jobs: {len(done)} finished before and not run again" in second.stdout
    assert {path: path.stat().st_mtime_ns for path in done} == done
    runs = list(find_runs(folder / "runs"))
    assert len(runs) == 18
    assert all(map(is_finished, runs))


def test_a_third_start_has_nothing_to_do(swept, monkeypatch, capfd):
    monkeypatch.chdir(swept[0])
    assert main(SWEEP) == 0
    assert "18 jobs: 18 finished before and not run again" in capfd.readouterr().out


def test_the_records_agree_with_each_other(swept):
    folder, done, _ = swept
    killed_at = max(time_ns for time_ns in done.values()) / 1e9
    cells = set()
    for path in find_runs(folder / "runs"):
        config = yaml.safe_load((path / CONFIG).read_text())
        result, status, provenance = (
            read_json(path / name) for name in (RESULT, STATUS, PROVENANCE)
        )
        assert result["seed"] == config["seed"]
        assert result["identity"] == provenance["identity"]
        assert f"-seed{result['seed']}-{result['identity'][:10]}" in path.name
        assert state_of(path) == "finished"
        # One may have been killed between its result, which counts, and its status.
        assert status["state"] == "finished" or status["updated"] <= killed_at
        assert status["started"] <= status["updated"]
        epochs = [int(row["epoch"]) for row in read_metrics(path) if row.get("val/acc")]
        assert epochs == list(range(1, config["trainer"]["max_epochs"] + 1))
        cells.add((result["method"], result["seed"]))
    assert cells == {(method, seed) for method in METHODS.split(",") for seed in (0, 1)}


def test_the_table_has_every_method_and_both_seeds(swept):
    folder, *_ = swept
    report = run(folder, "report", "table1", "runs/table1/synthetic")
    assert report.returncode == 0, report.stdout + report.stderr
    for part in ("bigated", "over 2 seeds", "not run: mla data prepare", "Late Fusion", "cremad"):
        assert part.lower() in report.stdout.lower(), part
    made = {path.suffix for path in (folder / "runs/table1/synthetic/report").iterdir()}
    assert {".md", ".tex", ".csv", ".svg", ".png"} <= made


def test_a_finished_run_can_be_evaluated_again(swept, monkeypatch, capfd):
    monkeypatch.chdir(swept[0])
    (path,) = Path("runs/table1/synthetic").glob("synthetic-mla-seed0-*")
    assert main(["eval", str(path)]) == 0
    assert "multi" in capfd.readouterr().out


def test_an_unknown_run_folder_is_named(tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    for words in (["eval", "nowhere"], ["report", "table1", "nowhere"]):
        assert main(words) != 0
        assert "nowhere" in capfd.readouterr().err

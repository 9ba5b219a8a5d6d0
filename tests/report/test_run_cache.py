"""The cache of runs: a second report reads only new and changed runs."""

import json
import os
import shutil

import pytest
from tests.report.synthetic_runs import unseal, write_run

from mla_lightning.cli.main import main
from mla_lightning.report.read import run_folders
from mla_lightning.report.read.cache import CACHE_FILE, RunCache
from mla_lightning.report.read.run_folders import read_runs
from mla_lightning.run_folder import PREDICTIONS, RESULT
from mla_lightning.run_folder.integrity import SEALED

SIZE = ["data.num_train=48", "data.num_val=20", "data.num_test=20", "trainer.max_epochs=1"]


def train(*words):
    grid = ["data=synthetic", *SIZE, "evaluate_probe=false", "name=table1/synthetic"]
    assert main(["train", "-m", *grid, *words]) == 0


def test_only_new_and_changed_runs_are_read(tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    train("method=concat,mla", "seed=0,1")
    runs = tmp_path / "runs"
    assert main(["report", "table1", "runs"]) == 0
    table = (runs / "report" / "table1.csv").read_bytes()
    names_read = []
    read_run = run_folders.read_run

    def recording_read_run(folder):
        names_read.append(folder.name)
        return read_run(folder)

    monkeypatch.setattr(run_folders, "read_run", recording_read_run)
    assert main(["report", "table1", "runs"]) == 0
    assert names_read == []
    assert (runs / "report" / "table1.csv").read_bytes() == table
    train("method=concat", "seed=2")
    assert main(["report", "table1", "runs"]) == 0
    assert len(names_read) == 1
    folder = next(runs.rglob("*concat*seed0*"))
    result = json.loads((folder / RESULT).read_text())
    result["test"]["multi"]["accuracy"] = 0.123
    (folder / RESULT).write_text(json.dumps(result))
    unseal(folder)
    (folder / PREDICTIONS).unlink()  # they have another accuracy
    os.utime(folder / RESULT, ns=(1, 1))
    assert main(["report", "table1", "runs"]) == 0
    assert len(names_read) == 2
    (changed,) = [r for r in read_runs([runs]) if r.path and r.path.name == folder.name]
    assert changed.scores["test"]["multi"]["accuracy_percent"] == 12.3


def test_cached_runs_equal_those_read_from_folders(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    train("method=mla", "seed=0", "optimizer.lr=0.1,0.2")
    cache = RunCache(tmp_path)
    first = read_runs([tmp_path / "runs"], cache)
    cache.write()
    reopened = RunCache(tmp_path)
    second = read_runs([tmp_path / "runs"], reopened)
    assert reopened.num_hits == 2
    assert [vars(run) for run in first] == [vars(run) for run in second]


def test_a_damaged_cache_is_ignored_and_unfinished_runs_are_not_cached(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    train("method=mla", "seed=0")
    (tmp_path / CACHE_FILE).write_text("{")
    cache = RunCache(tmp_path)
    (run,) = read_runs([tmp_path / "runs"], cache)
    cache.write()
    (run.path / RESULT).unlink()
    assert not read_runs([tmp_path / "runs"], RunCache(tmp_path))[0].is_finished


def test_the_cache_stays_valid_when_its_folder_moves_and_drops_removed_runs(tmp_path):
    for seed in (0, 1):
        write_run(tmp_path / "a", "mla", seed)
    cache = RunCache(tmp_path / "a")
    read_runs([tmp_path / "a"], cache)
    cache.write()
    (tmp_path / "a").rename(tmp_path / "b")
    moved = RunCache(tmp_path / "b")
    first, _ = read_runs([tmp_path / "b"], moved)
    assert moved.num_hits == 2
    assert first.path.parent == tmp_path / "b"
    shutil.rmtree(first.path)
    remaining = RunCache(tmp_path / "b")
    read_runs([tmp_path / "b"], remaining)
    remaining.write()
    assert len(json.loads((tmp_path / "b" / CACHE_FILE).read_text())["runs"]) == 1


@pytest.mark.parametrize("name", SEALED)
def test_a_run_is_read_again_when_a_file_with_its_measurements_changes(tmp_path, name):
    folder = write_run(tmp_path, "mla", 0)
    cache = RunCache(tmp_path)
    read_runs([tmp_path], cache)
    cache.write()
    with (folder / name).open("a") as file:
        file.write("5,0.5,0.5,0.5\n")
    reopened = RunCache(tmp_path)
    read_runs([tmp_path], reopened)
    assert reopened.num_hits == 0

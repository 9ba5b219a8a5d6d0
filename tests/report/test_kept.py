"""A second report reads only what is new."""

import json
import os
import shutil

import pytest
from tests.report.synthetic_runs import write_run

from mla_lightning.cli.main import main
from mla_lightning.report.read import run_folders as results
from mla_lightning.report.read.cache import KEPT, RunCache
from mla_lightning.report.read.run_folders import read_runs
from mla_lightning.run_folder import RESULT

SIZE = ["data.num_train=48", "data.num_val=20", "data.num_test=20", "trainer.max_epochs=1"]


def trained(*words):
    grid = ["data=synthetic", *SIZE, "evaluate_probe=false", "name=table1/synthetic"]
    assert main(["train", "-m", *grid, *words]) == 0


def test_only_new_and_changed_runs_are_read(tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    trained("method=concat,mla", "seed=0,1")
    runs = tmp_path / "runs"
    assert main(["report", "table1", "runs"]) == 0
    table = (runs / "report" / "table1.csv").read_bytes()
    read = []
    reader = results.read_run

    def counted(folder):
        read.append(folder.name)
        return reader(folder)

    monkeypatch.setattr(results, "read_run", counted)
    assert main(["report", "table1", "runs"]) == 0
    assert read == []
    assert (runs / "report" / "table1.csv").read_bytes() == table
    trained("method=concat", "seed=2")
    assert main(["report", "table1", "runs"]) == 0
    assert len(read) == 1
    folder = next(runs.rglob("*concat*seed0*"))
    result = json.loads((folder / RESULT).read_text())
    result["test"]["multi"]["accuracy"] = 0.123
    (folder / RESULT).write_text(json.dumps(result))
    os.utime(folder / RESULT, ns=(1, 1))
    assert main(["report", "table1", "runs"]) == 0
    assert len(read) == 2
    changed = [r for r in read_runs([runs]) if r.path and r.path.name == folder.name]
    assert changed[0].scores["test"]["multi"]["accuracy_percent"] == 12.3


def test_what_is_kept_is_what_was_read(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    trained("method=mla", "seed=0", "optimizer.lr=0.1,0.2")
    kept = RunCache(tmp_path)
    first = read_runs([tmp_path / "runs"], kept)
    kept.write()
    again = RunCache(tmp_path)
    second = read_runs([tmp_path / "runs"], again)
    assert again.num_used == 2
    assert [vars(run) for run in first] == [vars(run) for run in second]


def test_a_broken_file_and_a_gone_run_do_no_harm(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    trained("method=mla", "seed=0")
    (tmp_path / KEPT).write_text("{")
    kept = RunCache(tmp_path)
    (run,) = read_runs([tmp_path / "runs"], kept)
    kept.write()
    (run.path / RESULT).unlink()
    assert not read_runs([tmp_path / "runs"], RunCache(tmp_path))[0].is_finished


def test_what_is_kept_moves_with_the_folder_and_forgets_what_is_gone(tmp_path):
    for seed in (0, 1):
        write_run(tmp_path / "a", "mla", seed)
    kept = RunCache(tmp_path / "a")
    read_runs([tmp_path / "a"], kept)
    kept.write()
    (tmp_path / "a").rename(tmp_path / "b")
    moved = RunCache(tmp_path / "b")
    first, _ = read_runs([tmp_path / "b"], moved)
    assert moved.num_used == 2
    assert first.path.parent == tmp_path / "b"
    shutil.rmtree(first.path)
    left = RunCache(tmp_path / "b")
    read_runs([tmp_path / "b"], left)
    left.write()
    assert len(json.loads((tmp_path / "b" / KEPT).read_text())["runs"]) == 1


@pytest.mark.parametrize("name", ["metrics.csv", "diagnostics.json", "planes.npz"])
def test_a_run_is_read_again_when_what_it_measured_changes(tmp_path, name):
    folder = write_run(tmp_path, "mla", 0)
    kept = RunCache(tmp_path)
    read_runs([tmp_path], kept)
    kept.write()
    with (folder / name).open("a") as file:
        file.write("5,0.5,0.5,0.5\n")
    again = RunCache(tmp_path)
    read_runs([tmp_path], again)
    assert again.num_used == 0

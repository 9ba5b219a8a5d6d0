"""The commands that make runs again name these runs and no others."""

import itertools
import shlex

from tests.report.synthetic_runs import write_run

from mla_lightning.report.read.run import Run
from mla_lightning.report.read.run_folders import read_runs
from mla_lightning.report.tables.commands import commands


def run_of(command, path=None):
    return Run(run=command, where="", state="finished", retry=command, path=path)


def train(**values):
    return shlex.join(["mla", "train", *(f"{k}={v}" for k, v in values.items())])


def told(*given):
    return commands([run_of(command) for command in given])


def jobs_of(lines):
    """What the commands run, as Hydra splits them."""
    found = []
    for line in lines:
        words = [word for word in shlex.split(line)[2:] if word != "-m"]
        keys = [word.partition("=")[0] for word in words]
        values = [word.partition("=")[2].split(",") for word in words]
        found += [dict(zip(keys, chosen, strict=True)) for chosen in itertools.product(*values)]
    return found


def test_a_full_grid_is_one_line():
    grid = [train(method=m, seed=s) for m in ("mla", "concat") for s in (0, 10, 2)]
    assert told(*grid) == ["mla train -m method=concat,mla seed=0,2,10"]


def test_lines_hold_exactly_the_runs():
    cells = [("a", 0), ("a", 1), ("b", 0), ("b", 1), ("c", 1), ("c", 2), ("d", 0)]
    grid = [train(method=m, seed=s, lr="0.1") for m, s in cells]
    lines = told(*grid)
    assert len(lines) == 3
    assert sorted(map(str, jobs_of(lines))) == sorted(
        str({"method": m, "seed": str(s), "lr": "0.1"}) for m, s in cells
    )


def test_what_is_no_setting_stays_and_what_cannot_be_read_is_told_as_it_is():
    with_code = [f"mla train --config-dir my method=mine seed={s}" for s in (0, 1)]
    assert told(*with_code, "make it") == [
        "mla train -m --config-dir my method=mine seed=0,1",
        "make it",
    ]
    assert told("", "") == ["# 2 runs come from a table that does not tell their commands."]


def test_a_sweep_that_the_experiments_grid_would_make_larger_is_told_run_by_run(tmp_path):
    given = [train(experiment="table1/x", method=m) for m in ("mla", "concat")]
    (tmp_path / "config.yaml").write_text("grid: {seed: [0, 1], method: [mla, concat]}")
    assert commands([run_of(command, tmp_path) for command in given]) == given
    (tmp_path / "config.yaml").write_text("grid: {method: [mla, concat]}")
    assert commands([run_of(command, tmp_path) for command in given]) == [
        "mla train -m experiment=table1/x method=concat,mla"
    ]


def test_finished_runs_keep_their_command_also_in_a_table(tmp_path):
    from mla_lightning.report.read.results_csv import read_csv, write_csv

    for seed in (0, 1):
        write_run(tmp_path, "mla", seed)
    runs = read_runs([tmp_path])
    write_csv(tmp_path / "results.csv", runs)
    expected = ["mla train -m data=openmoji method=mla ablation=none seed=0,1"]
    assert commands(runs) == commands(read_csv(tmp_path / "results.csv")) == expected

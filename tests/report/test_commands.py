"""The joined commands of a set of runs start exactly these runs."""

import itertools
import shlex

from tests.report.synthetic_runs import write_run

from mla_lightning.report.read.run import Run
from mla_lightning.report.read.run_folders import read_runs
from mla_lightning.report.tables.commands import commands


def run_of(retry, path=None):
    return Run(run=retry, where="", state="finished", retry=retry, path=path)


def train(**values):
    return shlex.join(["mla", "train", *(f"{k}={v}" for k, v in values.items())])


def joined(*retries):
    return commands([run_of(retry) for retry in retries])


def jobs_of(lines):
    """Return the settings of every job of the commands, as Hydra expands them."""
    jobs = []
    for line in lines:
        words = [word for word in shlex.split(line)[2:] if word != "-m"]
        keys = [word.partition("=")[0] for word in words]
        values = [word.partition("=")[2].split(",") for word in words]
        jobs += [dict(zip(keys, chosen, strict=True)) for chosen in itertools.product(*values)]
    return jobs


def test_a_full_grid_is_one_line():
    grid = [train(method=m, seed=s) for m in ("mla", "concat") for s in (0, 10, 2)]
    assert joined(*grid) == ["mla train -m method=concat,mla seed=0,2,10"]


def test_joined_commands_start_exactly_the_runs():
    settings = [("a", 0), ("a", 1), ("b", 0), ("b", 1), ("c", 1), ("c", 2), ("d", 0)]
    grid = [train(method=m, seed=s, lr="0.1") for m, s in settings]
    lines = joined(*grid)
    assert len(lines) == 3
    assert sorted(map(str, jobs_of(lines))) == sorted(
        str({"method": m, "seed": str(s), "lr": "0.1"}) for m, s in settings
    )


def test_options_are_preserved_and_other_commands_are_unchanged():
    with_option = [f"mla train --config-dir my method=mine seed={s}" for s in (0, 1)]
    assert joined(*with_option, "make it") == [
        "mla train -m --config-dir my method=mine seed=0,1",
        "make it",
    ]
    assert joined("", "") == ["# The commands of 2 runs are not recorded in their table."]


def test_commands_are_not_joined_where_the_experiments_grid_would_add_runs(tmp_path):
    retries = [train(experiment="table1/x", method=m) for m in ("mla", "concat")]
    (tmp_path / "config.yaml").write_text("grid: {seed: [0, 1], method: [mla, concat]}")
    assert commands([run_of(retry, tmp_path) for retry in retries]) == retries
    (tmp_path / "config.yaml").write_text("grid: {method: [mla, concat]}")
    assert commands([run_of(retry, tmp_path) for retry in retries]) == [
        "mla train -m experiment=table1/x method=concat,mla"
    ]


def test_results_tables_hold_the_commands_of_finished_runs(tmp_path):
    from mla_lightning.report.read.results_csv import read_csv, write_csv

    for seed in (0, 1):
        write_run(tmp_path, "mla", seed)
    runs = read_runs([tmp_path])
    write_csv(tmp_path / "results.csv", runs)
    expected = ["mla train -m data=openmoji method=mla ablation=none seed=0,1"]
    assert commands(runs) == commands(read_csv(tmp_path / "results.csv")) == expected

"""`mla tune pruner=median`: the rule, what it leaves behind, and that it never depends on order."""

import csv
import json
import random

import optuna
import pytest
from optuna.trial import TrialState

from mla_lightning.cli.main import main
from mla_lightning.report.read.run_folders import read_runs
from mla_lightning.run_folder import State, state_of
from mla_lightning.run_folder.floor import stop_epoch
from mla_lightning.run_folder.reader import RunFiles
from mla_lightning.tune.pruning import NUM_STARTUP, best_so_far, median_floor

EPOCHS = 4
WORDS = [
    *("tune", "data=synthetic", "data.num_train=60", "data.num_val=40", "data.num_test=20"),
    *(f"trainer.max_epochs={EPOCHS}", "scheduler=null", "batch=3", "trials=9"),
    *("method=unimodal,concat", "checkpoint.keep=1", "search=rate"),
]


def curve(rng, length=9):
    best, values = 0.0, []
    for _ in range(length):
        best = max(best, rng.random())
        values.append(best)
    return values


@pytest.mark.parametrize("num", [4, 5, 8, 9])
def test_the_rule_is_that_of_optuna(num):
    rng = random.Random(num)
    pruner = optuna.pruners.MedianPruner(n_startup_trials=NUM_STARTUP, n_warmup_steps=4)
    study = optuna.create_study(direction="maximize", pruner=pruner)
    finished = [curve(rng) for _ in range(num)]
    for values in finished:
        trial = study.ask()
        for epoch, value in enumerate(values, start=1):
            trial.report(value, epoch)
        study.tell(trial, values[-1])
    floor = median_floor(finished, 9)
    num_pruned = 0
    for values in [curve(rng) for _ in range(20)]:
        trial, expected = study.ask(), None
        for epoch, value in enumerate(values[:-1], start=1):  # the last epoch ends no trial early
            trial.report(value, epoch)
            if trial.should_prune():
                expected = epoch
                break
        assert stop_epoch(values, floor) == expected
        num_pruned += expected is not None
        study.tell(trial, state=TrialState.FAIL)
    assert (0 < num_pruned < 20) if num >= NUM_STARTUP else num_pruned == 0


def test_curves_that_stop_early_keep_their_best_and_the_warm_up_prunes_nothing():
    floor = median_floor([[0.5]] * 5, 6)
    assert floor == (-float("inf"), -float("inf"), 0.5, 0.5, 0.5)
    rows = [{"val/acc": 0.9, "val/acc/a": 0.2, "val/acc/b": 0.4}, {"val/acc/a": 0.1}]
    rows[1] |= {"val/acc": 0.9, "val/acc/b": 0.6}
    assert best_so_far(rows, "unimodal") == pytest.approx([0.3, 0.4])
    assert best_so_far(rows, "mla") == [0.9, 0.9]
    assert best_so_far([], "mla") == best_so_far([], "unimodal") == []


def trials_of(folder):
    with (folder / "search" / "trials.csv").open() as file:
        return list(csv.DictReader(file))


def search(root, *words):
    assert main([*WORDS, *words, f"paths.output_dir={root}"]) == 0
    return root / "tune" / "synthetic"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return search(tmp_path_factory.mktemp("serial"), "launcher=serial", "pruner=median")


def pruned_of(folder):
    return [row for row in trials_of(folder) if row["reason"].startswith("pruned after")]


def test_pruned_trials_are_recorded_as_such_and_never_as_failed(folder):
    pruned, rows = pruned_of(folder), trials_of(folder)
    assert {row["method"] for row in pruned} == {"unimodal", "concat"}
    assert not [row for row in rows if row["reason"] and row not in pruned]
    assert len([row for row in rows if row["chosen"] and row not in pruned]) == 2
    states = {run.run: run for run in read_runs([folder])}
    for row in rows:
        run = RunFiles(folder / row["runs"])
        if row not in pruned:
            assert run.state == State.FINISHED
            continue
        assert run.state == state_of(run.folder) == states[row["runs"]].state == "pruned"
        assert run.result is None
        assert not (run.folder / "error.txt").exists()
        assert row["reason"] == states[row["runs"]].reason
        assert f"after epoch {len(run.metrics)} of {EPOCHS}: " in row["reason"]
        assert 2 <= len(run.metrics) < EPOCHS
    assert rows.index(pruned[0]) >= 6  # two rounds of three, until five have finished


def stamps(folder):
    return {path: path.stat().st_mtime_ns for path in folder.glob("*/*.json")}


def test_the_same_command_decides_the_same_repeats_nothing_and_counts_epochs(folder, capsys):
    rows, before = trials_of(folder), stamps(folder)
    search(folder.parent.parent, "launcher=serial", "pruner=median")
    assert trials_of(folder) == rows
    assert stamps(folder) == before
    num_epochs = sum(len(RunFiles(folder / row["runs"]).metrics) for row in rows)
    lines = [line for line in capsys.readouterr().out.splitlines() if " trials pruned, " in line]
    counts = [line.partition(" trials pruned, ")[2].split()[:3] for line in lines]
    assert sum(int(count[0]) for count in counts) == num_epochs
    assert [count[1:] for count in counts] == [["of", str(9 * EPOCHS)]] * 2


def test_jobs_at_the_same_time_change_no_decision(folder, tmp_path):
    parallel = search(tmp_path, "launcher=fork", "launcher.jobs=2", "pruner=median")
    assert trials_of(parallel) == trials_of(folder)


def test_a_pruned_run_goes_on_where_it_was_left_without_a_pruner(folder, tmp_path):
    rows = trials_of(folder)
    row = next(row for row in pruned_of(folder) if row["method"] == "concat")
    left = folder / row["runs"]
    words = RunFiles(left).status["retry"].split()[1:]
    assert main(words) == 0
    assert main([*words, f"run_dir={tmp_path / 'whole'}"]) == 0
    for name in ("val", "num_batches_trained", "best_epoch"):
        results = [
            json.loads((run / "result.json").read_text()) for run in (left, tmp_path / "whole")
        ]
        assert results[0][name] == results[1][name]
    search(folder.parent.parent, "launcher=serial", "pruner=median")
    assert trials_of(folder) == rows  # as this search had left it


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["pruner=hyperband"], "Unknown pruner=hyperband. Known: none, median"),
        (["pruner=medain"], "Did you mean 'median'?"),
        (["pruner=median", "seeds=1,2"], "compares trials of one seed"),
        (["pruner=median", "trials=8"], "no effect on the first 8 trials"),
        (["pruner=median", "trainer.max_epochs=1"], "trainer.max_epochs=1"),
        (["pruner=median", "method=mmin"], "its first epochs prepare"),
    ],
)
def test_a_pruner_without_effect_is_refused(tmp_path, capsys, words, message):
    words = [*(w for w in ("method=concat", "trials=30") if w[:6] not in str(words)), *words]
    assert main(["tune", "data=synthetic", *words, f"paths.output_dir={tmp_path}"]) == 2
    assert message in capsys.readouterr().err
    assert not list(tmp_path.iterdir())

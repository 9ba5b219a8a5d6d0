"""What the most frequent class alone would get is said wherever an accuracy is, if it matters."""

import json

import numpy as np
import pytest
from tests.report.test_table1 import report_of

from mla_lightning.cli.main import main
from mla_lightning.report.read.results_csv import RESULTS, read_csv, write_csv
from mla_lightning.report.read.run_folders import read_runs
from mla_lightning.report.tables.tuning import tuning
from mla_lightning.run_folder.majority import find_majority

WORDS = ("trainer.max_epochs=1", "evaluate_probe=false", "scheduler=null", "launcher=serial")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Runs on data of whose labels one in twenty is positive."""
    root = tmp_path_factory.mktemp("imbalanced")
    rng = np.random.default_rng(0)
    label = np.where(rng.random(400) < 0.05, "yes", "no")
    x = rng.normal(size=(2, 400, 3)) + (label == "yes")[:, None]
    np.savez(root / "my.npz", audio=x[0], visual=x[1], label=label)
    assert main(["data", "import", str(root / "my.npz"), f"target={root / 'my'}"]) == 0
    words = ("data=store", f"data.path={root / 'my'}", *WORDS, f"paths.output_dir={root}")
    for name, tested in (("tested", "true"), ("untested", "false")):
        run = ("train", "-m", *words, f"name={name}", "method=concat,majority")
        assert main([*run, f"evaluate_test={tested}"]) == 0
    assert main(["train", *words, "name=single", "method=concat", "seed=3"]) == 0
    return root


def results_of(folder):
    results = [json.loads(path.read_text()) for path in folder.rglob("result.json")]
    return {result["method"]: result for result in results}


@pytest.mark.parametrize(("name", "split"), [("tested", "test"), ("untested", "val")])
def test_the_end_of_a_run_says_the_accuracy_of_the_majority_method(folder, name, split):
    results = results_of(folder / name)
    percent = 100 * results["majority"][split]["multi"]["accuracy"]
    assert 90 < percent < 99
    words = {"test": "test", "val": "validation"}[split]
    (note,) = results["concat"]["notes"]
    assert note.startswith(f"{percent:.1f} % of the {words} samples have the most frequent class, ")
    assert results["majority"]["notes"] == []


def test_the_lines_of_a_run_and_of_a_sweep_show_it(folder, capsys):
    words = ("train", "data=store", f"data.path={folder / 'my'}", *WORDS, "method=concat")
    assert main([*words, f"paths.output_dir={folder}", "name=lines"]) == 0
    share = results_of(folder / "untested")["majority"]["val"]["multi"]["accuracy"]
    assert f"(most frequent class {share:.3f}, best epoch 1)" in capsys.readouterr().out
    words = [*words, f"paths.output_dir={folder}", "name=lines", "seed=1"]
    assert main([words[0], "-m", *words[1:]]) == 0
    assert f" (most frequent class {share:.3f})" in capsys.readouterr().out


def sentences(report):
    return [note for note in report.notes if "classes are imbalanced" in note]


def test_tables_without_the_majority_say_it_also_from_their_csv(folder, tmp_path):
    assert sentences(report_of(folder / "tested")) == []  # it has a column of its own
    percent = 100 * results_of(folder / "tested")["majority"]["test"]["multi"]["accuracy"]
    (note,) = sentences(report_of(folder / "single"))
    assert f"for every sample has an accuracy of {percent:.1f} % on test." in note
    runs = read_runs([folder / "single"])
    write_csv(tmp_path / RESULTS, runs)
    assert [run.scores for run in read_csv(tmp_path / RESULTS)] == [run.scores for run in runs]
    assert sentences(report_of(tmp_path / RESULTS)) == [note]


def test_tuning_says_it_of_validation(folder):
    runs = [run for run in read_runs([folder / "untested"]) if run.method == "concat"]
    percent = 100 * results_of(folder / "untested")["majority"]["val"]["multi"]["accuracy"]
    (note,) = sentences(tuning(runs))
    assert f"for every sample has an accuracy of {percent:.1f} % on val." in note


def counts(*train, test=(3, 1)):
    by_split = {"train": train, "test": test}
    names = "abcdefghij"
    return {
        "class_counts": {s: dict(zip(names, n, strict=False)) for s, n in by_split.items()},
        "num_test": sum(test),
    }


@pytest.mark.parametrize(
    ("train", "is_imbalanced"),
    [
        ((60, 40), True),
        ((59, 41), False),
        ((434, 283, 283), True),
        ((433, 284, 283), False),
        ((33, *[9] * 7, 4), False),  # less than a third, although others are far rarer
        ((34, *[9] * 7, 3), True),
        ((100, 0, 0), False),  # a single class: nothing to learn, and no majority
        ((60, 40, 0, 0), True),  # judged by the classes that occur
        ((59, 41, 0, 0), False),
        ((0, 0), False),
    ],
)
def test_which_classes_are_imbalanced(train, is_imbalanced):
    assert (find_majority(counts(*train)) is not None) == is_imbalanced


def test_other_records_have_no_majority():
    data = counts(90, 10)
    assert find_majority(data).accuracy == {"test": 0.75}
    assert find_majority({**data, "num_test": 9}).accuracy == {}  # not one label per sample
    assert find_majority({**data, "task": "multilabel"}) is None
    assert find_majority({}) is find_majority({"class_counts": None}) is None

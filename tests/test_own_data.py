"""Data that the framework does not know: the committed results, and the tutorial's commands."""

import csv
import re
import shlex
import sys
import types
from pathlib import Path

import numpy as np
import pytest
import yaml
from experiments.own_data import watch

from mla_lightning.cli.main import main
from mla_lightning.report.document.table import signed
from mla_lightning.report.read.block import blocks
from mla_lightning.report.read.results_csv import read_csv
from mla_lightning.report.tables.finding import finding
from tests.documents import read_blocks

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / "experiments/own_data"
SETS = sorted(path.parent for path in FOLDER.glob("*/results.csv"))
TUTORIAL = ROOT / "docs/own_data.md"
#: Words of the tutorial, and those of a small budget in their place.
TINY = {
    "trials=10": "trials=1",
    "seed=range(10)": "seed=0",
    "trainer.max_epochs=15": "trainer.max_epochs=1",
}
#: Commands of the tutorial that end with another exit code than 0.
EXIT_CODES = {"mla data import watch --plan": 2}


def rows_of(path):
    with path.open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


def named(folder):
    return folder.name


def block_of(folder):
    (block,) = blocks(read_csv(folder / "results.csv"))
    return block


@pytest.mark.parametrize("folder", SETS, ids=named)
def test_every_method_had_the_same_budget_and_the_recipe_has_its_best_trial(folder):
    trials, chosen = rows_of(folder / "trials.csv"), {}
    (score,) = [key for key in trials[0] if key.startswith("val_")]
    sign = -1 if "mae" in score else 1
    counts = {}
    for trial in trials:
        counts[trial["method"]] = counts.get(trial["method"], 0) + 1
    assert len(set(counts.values())) == 1
    for method in counts:
        own = [trial for trial in trials if trial["method"] == method and trial[score]]
        best = max(own, key=lambda trial: sign * float(trial[score]))
        (row,) = [trial for trial in own if trial["chosen"]]
        assert row == best
        chosen[method] = {
            key: float(text) for key, text in row.items() if "." in key and text and key != score
        }
    recipe = yaml.safe_load((folder / "tuned.yaml").read_text())
    assert recipe["tuned"] == chosen


@pytest.mark.parametrize("folder", SETS, ids=named)
def test_the_runs_have_the_values_of_the_recipe_and_ten_seeds(folder):
    recipe = yaml.safe_load((folder / "tuned.yaml").read_text())["tuned"]
    runs = read_csv(folder / "results.csv")
    methods = {run.method for run in runs}
    assert {"unimodal", "logistic", "majority", *recipe} == methods
    for method in methods:
        seeds = [run.seed for run in runs if run.method == method]
        assert sorted(seeds) == list(range(10))
    for run in runs:
        if run.method in recipe:
            assert run.lr == recipe[run.method]["optimizer.lr"]


@pytest.mark.parametrize("folder", SETS, ids=named)
def test_the_readme_has_the_numbers_and_the_finding_of_the_results(folder):
    text = (folder / "README.md").read_text(encoding="utf-8")
    prose = " ".join(text.split())
    for sentence in finding(block_of(folder)):
        assert sentence in prose
    with (folder / "table1.csv").open(encoding="utf-8") as file:
        _, *table = csv.reader(file)
    shown = [line.strip("| \n").split(" | ") for line in text.splitlines() if line.startswith("|")]
    numbers = {row[0]: row[1:] for row in shown if "±" in " ".join(row)}
    assert set(numbers) == {row[1] for row in table}
    for _, modality, *cells in table:
        assert numbers[modality] == [re.sub(r" \(10\)$", "", cell) for cell in cells]


def test_the_overview_compares_unimodal_networks_with_those_without_a_network():
    lines = (FOLDER / "README.md").read_text(encoding="utf-8").splitlines()
    rows = [line.strip("| ").split(" | ") for line in lines if line.startswith("| [")]
    expected = []
    for folder in SETS:
        block = block_of(folder)
        network, reference = (
            next(v for v in block.variants if v.method == name) for name in ("unimodal", "logistic")
        )
        for modality in block.modalities:
            means = [block.summary(v, modality).mean for v in (network, reference)]
            texts = [block.metric.text(mean) for mean in means]
            difference = signed(means[0] - means[1], block.metric.digits)
            name = f"[{folder.name}]({folder.name}/README.md)"
            expected.append([name, modality, block.metric.label, *texts, difference])
    assert [row[:6] for row in rows if len(row) == 7] == expected


@pytest.fixture
def package(monkeypatch):
    """Recordings of ten persons and two exercises, in place of those of the package."""
    rng = np.random.default_rng(0)
    subject, exercise = (axis.ravel() for axis in np.mgrid[1:11, :2])
    recordings = rng.normal(size=(20, 2 * watch.WINDOW * watch.STRIDE, 6))
    recordings += exercise[:, None, None]
    datasets = types.ModuleType("seglearn.datasets")
    datasets.load_watch = lambda: {
        "X": list(recordings),
        "y": exercise,
        "y_labels": ["PEN", "ROW"],
        "subject": subject,
    }
    monkeypatch.setitem(sys.modules, "seglearn", types.ModuleType("seglearn"))
    monkeypatch.setitem(sys.modules, "seglearn.datasets", datasets)


def test_the_commands_of_the_tutorial_run(package, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    shell = [b.code for b in read_blocks(TUTORIAL.read_text("utf-8")) if b.language == "bash"]
    lines = [line for code in shell for line in code.splitlines()]
    assert lines[:2] == [
        "pip install seglearn==1.2.5",
        "python -m experiments.own_data.watch watch",
    ]
    watch.write(Path("watch"))
    for line in lines[2:]:
        program, *words = [TINY.get(word, word) for word in shlex.split(line)]
        if words[0] == "reproduce":
            assert set(TINY) < set(shlex.split(line))
            words += ["method=mla,unimodal,majority", "launcher=serial", "diagnostics=off"]
        assert program == "mla"
        assert main(words) == EXIT_CODES.get(line, 0), line
    printed = capsys.readouterr().out
    assert "say arrays.rotation=sequence or spectrogram" in printed
    assert "Finding:\n  watch: " in printed
    for file in ("tune/watch/search/search.png", "table1/watch/report/page.html"):
        assert (tmp_path / "runs" / file).is_file()


def test_the_tutorial_shows_the_committed_results():
    shown = [b.code for b in read_blocks(TUTORIAL.read_text("utf-8")) if b.language == "text"]
    sentences = finding(block_of(FOLDER / "watch"))
    assert any(code.splitlines() == ["Finding:", *(f"  {s}" for s in sentences)] for code in shown)
    (table,) = [code for code in shown if "±" in code]
    with (FOLDER / "watch/table1.csv").open(encoding="utf-8") as file:
        cells = [cell for row in csv.reader(file) for cell in row if "±" in cell]
    assert sorted(re.findall(r"\d+\.\d ± \d+\.\d \(10\)", table)) == sorted(cells)
    best = [row for row in rows_of(FOLDER / "watch/trials.csv") if row["chosen"]]
    (search,) = [code for code in shown if "accuracy on validation with" in code]
    for row in best:
        assert f"{float(row['val_accuracy_percent']):.1f} % accuracy" in search

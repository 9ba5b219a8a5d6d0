"""Data that the framework does not know: the committed results."""

import csv
import re
from pathlib import Path

import pytest
import yaml

from mla_lightning.report.document.table import signed
from mla_lightning.report.read.block import blocks
from mla_lightning.report.read.results_csv import read_csv
from mla_lightning.report.tables.finding import finding

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / "experiments/own_data"
SETS = sorted(path.parent for path in FOLDER.glob("*/results.csv"))


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

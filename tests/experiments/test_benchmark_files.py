"""The benchmark's recipes and tables of trials say the same, and every method has one budget."""

import csv
from collections import Counter
from pathlib import Path

import pytest
import yaml
from experiments.benchmark.__main__ import main, recipe_text, trials_text

from mla_lightning.errors import RunError

ROOT = Path(__file__).parents[2]
FOLDERS = sorted((ROOT / "experiments" / "benchmark").glob("*/trials.csv"))
TUNED = """# @package _global_
# Chosen on validation by:
#   mla tune data=mfeat method=mla
defaults: [mfeat]
tuned:
  mla:
    optimizer.lr: 0.1
    optimizer.weight_decay: 1.0e-05
"""
TRIALS = (
    "method,trial,val_accuracy_percent,chosen,reason,optimizer.lr,runs\nmla,1,90.5,yes,,0.1,a b\n"
)


def test_a_recipe_has_the_chosen_values_and_starts_from_that_of_the_data_set():
    text = recipe_text(TUNED, "mfeat")
    content = yaml.safe_load(text)
    assert content == yaml.safe_load(TUNED)
    assert text.startswith("# @package _global_\n")
    assert all(len(line) <= 100 for line in text.splitlines())
    with pytest.raises(RunError, match=r"started from recipe=mfeat.*DATA=avdigits"):
        recipe_text(TUNED, "avdigits")


def test_the_table_of_trials_names_no_folder():
    assert trials_text(TRIALS).splitlines() == [
        "method,trial,val_accuracy_percent,chosen,reason,optimizer.lr",
        "mla,1,90.5,yes,,0.1",
    ]


def test_a_search_that_has_not_ended_is_named(tmp_path, capsys):
    assert main([str(tmp_path / "mfeat")]) == 1
    assert "`make benchmark-tune DATA=mfeat` writes it" in capsys.readouterr().err


@pytest.mark.parametrize("path", FOLDERS, ids=lambda path: path.parent.name)
def test_a_committed_search_gave_every_method_the_same_budget(path):
    data = path.parent.name
    rows = list(csv.DictReader(path.read_text(encoding="utf-8").splitlines()))
    budgets = Counter(row["method"] for row in rows)
    assert len(set(budgets.values())) == 1
    finalists = Counter(row["method"] for row in rows if row["val_accuracy_percent_all_seeds"])
    assert set(finalists.values()) <= {1, 2}  # of two, one may have diverged with another seed
    assert finalists.keys() == budgets.keys()
    experiment = yaml.safe_load((ROOT / f"conf/experiment/benchmark/{data}.yaml").read_text())
    assert budgets.keys() == {*experiment["grid"]["method"]} - {"logistic", "majority"}
    tuned = yaml.safe_load((ROOT / f"conf/recipe/benchmark_{data}.yaml").read_text())["tuned"]
    keys = [key for key in rows[0] if "." in key]
    for row in rows:
        if row["chosen"]:
            assert tuned[row["method"]] == {key: float(row[key]) for key in keys if row[key]}
    best: dict[str, float] = {}
    for row in rows:
        score = float(row["val_accuracy_percent_all_seeds"] or "-inf")
        best[row["method"]] = max(best.get(row["method"], score), score)
        assert not row["chosen"] or row["val_accuracy_percent_all_seeds"]
    chosen = {
        row["method"]: float(row["val_accuracy_percent_all_seeds"]) for row in rows if row["chosen"]
    }
    assert chosen == best

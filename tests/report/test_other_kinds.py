"""Table 3, tuning and the list of runs."""

import json

import pytest
import yaml
from tests.report.synthetic_runs import write_run

from mla_lightning.errors import RunError
from mla_lightning.report.read.block import Summary
from mla_lightning.report.read.paper import read_table3
from mla_lightning.report.read.run_folders import read_runs
from mla_lightning.report.tables.run_list import ledger
from mla_lightning.report.tables.table3 import table3
from mla_lightning.report.tables.tuning import choose, tuning
from mla_lightning.run_folder import write_json

ABLATIONS = {"no_hgm_no_df": 0.50, "no_hgm": 0.52, "no_df": 0.55, "none": 0.60}


def write_grid(root, seeds=(0, 1, 2), **options):
    for name, level in ABLATIONS.items():
        for seed in seeds:
            multi = level + 0.01 * seed * (1 + (name == "none"))
            accuracy = {"image": 0.4, "text": 0.5 + 0.02 * ("hgm" not in name), "multi": multi}
            write_run(root, "mla", seed, ablation=name, accuracy=accuracy, **options)


def test_table3_shows_the_ablations_with_late_fusion_and_the_papers_numbers(tmp_path):
    write_grid(tmp_path)
    write_run(tmp_path, "late_fusion", 0, accuracy={"image": 0.4, "text": 0.5, "multi": 0.5})
    table = table3(read_runs([tmp_path])).tables[0]
    assert table.columns == ("Late Fusion", "neither", "DF only", "HGM only", "HGM + DF")
    multi = table.sections[0].rows[-1]
    assert [cell.text for cell in multi.cells] == [
        "50.0 (1 of 3)",
        "51.0 ± 1.0 (3)",
        "53.0 ± 1.0 (3)",
        "56.0 ± 1.0 (3)",
        "62.0 ± 2.0 (3)",
    ]
    assert [cell.rank for cell in multi.cells] == [0, 0, 0, 2, 1]
    cremad = next(section for section in table.sections if section.title == "cremad")
    assert [cell.text for cell in cremad.rows[-1].cells] == [
        "66.32",
        "66.32",
        "72.79",
        "74.51",
        "79.70",
    ]


def test_table3_tests_the_effect_of_hgm_with_and_without_df_and_vice_versa(tmp_path):
    write_grid(tmp_path)
    effects = table3(read_runs([tmp_path])).tables[1].sections[0]
    texts = {row.label: [cell.text for cell in row.cells] for row in effects.rows}
    assert texts["HGM, static fusion: multi"][:2] == ["+5.0", "zero variance"]
    assert texts["HGM, dynamic fusion: multi"] == ["+9.0", "+6.5 to +11.5", "0.004", "0.012", "3"]
    assert texts["DF, without HGM: multi"][0] == "+2.0"
    assert texts["DF, with HGM: multi"][0] == "+6.0"
    assert texts["HGM, dynamic fusion: image"][2] == "1.000"
    assert not any("Late Fusion" in label for label in texts)  # it has no runs


def test_table3_without_runs_of_mla_is_an_error_with_the_command(tmp_path):
    write_run(tmp_path, "concat")
    with pytest.raises(RunError, match=r"ablation=no_hgm_no_df,no_hgm,no_df,none.*table3/openmoji"):
        table3(read_runs([tmp_path]))


def test_the_papers_table3_is_complete():
    paper = read_table3()
    assert len(paper.accuracy) == 64
    assert paper.get("cremad", "multi", "no_df") == 74.51  # HGM alone
    assert paper.get("cremad", "multi", "no_hgm") == 72.79  # DF alone


def summary(*values, expected=2, states=None):
    return Summary(dict(enumerate(values)), tuple(range(expected)), states or {})


def test_the_rate_with_the_best_mean_is_selected_and_of_equal_means_the_smaller_rate():
    grid = {0.02: summary(50, 52), 0.05: summary(60, 62), 0.1: summary(62, 60), 0.2: summary(9, 9)}
    assert choose(grid).lr == 0.05
    assert choose(grid).remarks == []


def test_a_choice_at_the_edge_of_the_grid_has_a_remark():
    assert choose({0.1: summary(1, 1), 0.2: summary(2, 2)}).remarks == ["at the edge of the grid"]
    assert choose({0.1: summary(1, 1)}).at_edge


def test_a_failed_rate_is_ruled_out_while_an_unfinished_one_makes_the_choice_provisional():
    diverged = summary(99, states={"failed": 1})
    running = summary(99, states={"running": 1})
    good, low = summary(60, 61), summary(50, 51)
    grid = {0.02: low, 0.05: good, 0.1: low, 0.2: diverged}
    assert (choose(grid).lr, choose(grid).is_provisional) == (0.05, False)
    grid[0.2] = running
    assert (choose(grid).lr, choose(grid).is_provisional) == (0.05, True)
    assert choose({0.1: diverged}).lr is None


def write_tuning(root, levels, method="mla", **options):
    for lr, by_seed in levels.items():
        for seed, level in enumerate(by_seed):
            accuracy = {"image": 0.4, "text": 0.5, "multi": level}
            overrides = {"optimizer.lr": lr}
            settings = {"lr": lr, "overrides": overrides, "test": False} | options
            write_run(root, method, seed, accuracy=accuracy, **settings)


def test_tuning_shows_the_grid_and_writes_the_selected_rates_as_yaml(tmp_path):
    write_tuning(tmp_path, {1e-5: (0.3, 0.3), 0.1: (0.5, 0.6), 0.2: (0.4, 0.5)})
    write_tuning(tmp_path, {1e-5: (0.6, 0.6), 0.1: (0.5, 0.6), 0.2: (0.4, 0.4)}, "concat")
    report = tuning(read_runs([tmp_path]))
    (table,) = report.tables
    assert table.columns == ("1.0e-05", "0.1", "0.2", "chosen")
    texts = {row.label: [cell.text for cell in row.cells] for row in table.sections[0].rows}
    assert texts["MLA"] == ["30.0 ± 0.0 (2)", "55.0 ± 7.1 (2)", "45.0 ± 7.1 (2)", "0.1"]
    assert texts["Concat"][-1] == "1.0e-05 (edge)"
    text = report.texts["tuned_lr-openmoji.yaml"]
    assert yaml.safe_load(text) == {"concat": 1e-5, "mla": 0.1}
    assert "at the edge of the grid" in text


def test_tuning_compares_by_what_selected_the_epochs(tmp_path):
    scores = {  # learning rate -> accuracy, macro F1 and recall, each with another best rate
        0.1: {"accuracy": 0.9, "macro_f1": 0.3, "macro_recall": 0.4},
        0.2: {"accuracy": 0.8, "macro_f1": 0.5, "macro_recall": 0.5},
        0.3: {"accuracy": 0.7, "macro_f1": 0.4, "macro_recall": 0.6},
    }
    rates = {"accuracy": 0.1, "macro_f1": 0.2, "balanced_accuracy": 0.3}
    for select_by, best in rates.items():
        folder = tmp_path / select_by
        write_tuning(folder, dict.fromkeys(scores, (0.5,)), dataset=select_by)
        for path in folder.glob("*/result.json"):
            result = json.loads(path.read_text())
            result |= {"select_by": select_by}
            result["val"] = dict.fromkeys(result["val"], scores[result["lr"]])
            write_json(path, result)
        report = tuning(read_runs([folder]))
        (row,) = report.tables[0].sections[0].rows
        assert row.cells[-1].text.split()[0] == str(best)
        names = {"macro_f1": "macro F1", "balanced_accuracy": "macro recall"}
        name = names.get(select_by, select_by)
        assert report.tables[0].title.startswith(f"Validation {name} (multi) in percent")
        assert f"best mean validation {name} over" in report.texts[f"tuned_lr-{select_by}.yaml"]
    assert tuning(read_runs([tmp_path])).tables[0].title.startswith("Validation score")


def test_tuning_does_not_depend_on_test_results(tmp_path):
    write_tuning(tmp_path, {0.1: (0.5,), 0.2: (0.6,)}, test=True)
    for folder in tmp_path.iterdir():
        content = (folder / "result.json").read_text()
        head, middle, tail = content.partition('"test"')
        (folder / "result.json").write_text(head + middle + tail.replace("0.5,", "0.99,"))
    (row,) = tuning(read_runs([tmp_path])).tables[0].sections[0].rows
    assert row.cells[0].text == "50.0 (1)"


def test_tuning_with_missing_runs_is_provisional(tmp_path):
    write_tuning(tmp_path, {0.05: (0.3, 0.3), 0.1: (0.5, 0.5), 0.2: (0.4, 0.4)})
    write_tuning(tmp_path, {0.05: (0.3, 0.3), 0.1: (0.5, 0.5)}, "concat")
    write_tuning(tmp_path, {0.2: (0.3, 0.3)}, "concat", state="running")
    report = tuning(read_runs([tmp_path]))
    rows = {row.label: row for row in report.tables[0].sections[0].rows}
    assert rows["Concat"].cells[2].text == "killed"
    assert rows["Concat"].cells[3].text == "0.1 (provisional)"
    assert "provisional" in report.texts["tuned_lr-openmoji.yaml"]


def test_tuning_without_any_learning_rate_is_an_error(tmp_path):
    write_run(tmp_path, "mla", lr=None)
    with pytest.raises(RunError, match="learning rate"):
        tuning(read_runs([tmp_path]))


def test_the_run_list_has_every_run_with_reason_and_retry_command(tmp_path):
    write_run(tmp_path, "mla", 0, accuracy={"image": 0.4, "text": 0.5, "multi": 0.6})
    write_run(tmp_path, "mla", 1, protocol="paper")
    failed = write_run(tmp_path, "film", 0, state="failed", reason="out of memory")
    broken = write_run(tmp_path, "sum", 0)
    (broken / "result.json").write_text("{")
    report = ledger(read_runs([tmp_path]))
    (table,) = report.tables
    rows = {row.label: [c.text for c in row.cells] for row in table.sections[0].rows}
    assert len(rows) == 4
    finished = next(v for k, v in rows.items() if "mla-seed0" in k)
    assert finished == ["finished", "12 of 20", "60.0", "60.0", "3.2 s", "validation"]
    assert next(v for k, v in rows.items() if "mla-seed1" in k)[-1] == "TEST"
    assert rows[failed.name][:4] == ["failed", "–", "–", "–"]
    notes = "\n".join(table.notes)
    assert f"{failed.name}: failed: out of memory" in notes
    assert "retry: mla train data=openmoji method=film ablation=none seed=0" in notes
    assert f"{broken.name}: unreadable" in notes
    assert report.title == "4 runs: 2 finished, 1 failed, 1 unreadable"

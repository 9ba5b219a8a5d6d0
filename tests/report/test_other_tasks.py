"""Reports of regression and of several labels: the metric, its unit and which values are better."""

import csv
import json

import pytest
from tests.report.synthetic_runs import change, unseal, write_run

from mla_lightning.api.runs import Runs
from mla_lightning.errors import RunError
from mla_lightning.publish.wandb_dashboard import describe_dashboard
from mla_lightning.report.figures.curves import curves_figure, read_curves
from mla_lightning.report.figures.modalities import modality_figure
from mla_lightning.report.figures.numbers import add_tooltips
from mla_lightning.report.figures.style import BELOW, PLAIN, TOOLTIP_SEPARATOR
from mla_lightning.report.read.block import Summary, blocks, limit_variants
from mla_lightning.report.read.results_csv import read_csv, write_csv
from mla_lightning.report.read.run_folders import read_runs
from mla_lightning.report.tables.run_list import ledger
from mla_lightning.report.tables.table1 import table1
from mla_lightning.report.tables.table2 import rate_figure, table2
from mla_lightning.report.tables.table3 import table3
from mla_lightning.report.tables.tuning import choose, tuning
from mla_lightning.run_folder.result import Result


def write_errors(root, method, errors, *, task="regression", **options):
    """Write one run per seed with these values of the primary metric (multi); image is worse."""
    for seed, error in enumerate(errors):
        values = {
            "image": (2 if task == "regression" else 0.5) * error,
            "text": error,
            "multi": error,
        }
        write_run(root, method, seed, task=task, dataset="mine", accuracy=values, **options)


@pytest.fixture
def regression(tmp_path):
    write_errors(tmp_path, "concat", (0.70, 0.71, 0.72))
    write_errors(tmp_path, "mla", (0.60, 0.62, 0.61))
    write_errors(tmp_path, "unimodal", (0.64, 0.66, 0.65))
    write_errors(tmp_path, "logistic", (0.5, 0.5, 0.5))
    write_errors(tmp_path, "majority", (0.705, 0.705, 0.705))
    return tmp_path


def cells_of(table, label, section=0):
    row = next(row for row in table.sections[section].rows if row.label == label)
    return dict(zip(table.columns, row.cells, strict=True))


def test_table1_names_the_error_and_ranks_the_smallest_first(regression):
    report = table1(read_runs([regression]))
    accuracy, differences, laziness, _, measures = report.tables
    assert accuracy.title == "Test MAE, lower is better"
    assert accuracy.columns == ("Concat", "MLA", "Unimodal", "Ridge", "Constant")
    multi = cells_of(accuracy, "multi")
    assert multi["MLA"].text == "0.610 ± 0.010 (3)"
    assert [multi[name].rank for name in ("Concat", "MLA", "Ridge")] == [2, 1, 0]
    assert differences.title == "Differences in test MAE (multi), negative is better"
    (row,) = differences.sections[0].rows
    assert (row.label, row.cells[0].text) == ("MLA", "−0.100")
    assert laziness.title == "Laziness gap: test MAE of a modality trained alone minus its MAE"
    assert cells_of(laziness, "image")["Concat"].text == "−0.120 ± 0.020 (3)"  # worse than alone
    assert cells_of(laziness, "image")["MLA"].text.startswith("+0.080")
    assert measures.sections[0].rows[0].label == "correlation, multi"
    texts = " ".join(["".join(t.title + " ".join(t.notes)) for t in report.tables])
    assert "accura" not in texts + " ".join(report.notes)
    assert "Constant: the median of train; a reference" in accuracy.notes[0]


def test_decimals_follow_the_size_of_the_target(tmp_path):
    for dataset, scale in (("small", 1e-3), ("large", 4e4)):
        for seed in (0, 1):
            values = dict.fromkeys(("image", "text", "multi"), scale * (1 + seed / 50))
            write_run(tmp_path, seed=seed, task="regression", dataset=dataset, accuracy=values)
    table = table1(read_runs([tmp_path])).tables[0]
    assert cells_of(table, "multi", 0)["MLA"].text == "40400 ± 566 (2)"
    assert cells_of(table, "multi", 1)["MLA"].text == "0.00101 ± 0.00001 (2)"


def test_notes_name_networks_worse_than_ridge_and_not_better_than_a_constant(regression):
    notes = table1(read_runs([regression])).notes
    (linear,) = [note for note in notes if "Ridge" in note and "than" in note]
    assert "(Unimodal) have a larger MAE on test than Ridge" in linear
    assert "image by 0.300 (corrected p = " in linear
    (constant,) = [note for note in notes if "not better than Constant" in note]
    assert "by test MAE (multi), Concat is not better" in constant
    assert not any("binomial" in note for note in notes)


@pytest.mark.parametrize(("alone", "is_named"), [(0.515, False), (0.53, True)])
def test_a_network_is_clearly_worse_by_a_twentieth_of_the_error(tmp_path, alone, is_named):
    write_errors(tmp_path, "logistic", (0.5,))
    write_errors(tmp_path, "unimodal", (alone,))
    notes = [note for note in table1(read_runs([tmp_path])).notes if "these encoders" in note]
    assert bool(notes) is is_named


def test_data_sets_of_several_tasks_have_a_section_each_with_its_metric(regression):
    write_run(regression, "mla", 0, dataset="mine", task="multilabel")
    write_run(regression, "mla", 0, dataset="openmoji")
    runs = read_runs([regression])
    table, differences, *_ = table1(runs).tables
    assert table.title == "Test scores, each data set by its own metric"
    titles = [section.title for section in table.sections if not section.is_terminal_only]
    assert titles == [
        "mine multilabel: micro F1 in percent",
        "mine regression: MAE, lower is better",
        "openmoji: accuracy in percent",
    ]
    assert "Logistic / Ridge" not in table.columns  # only the regression has it
    assert "Ridge" in table.columns
    assert differences.sections[0].title == (
        "mine regression: MAE, negative is better, compared with Concat"
    )
    listed = ledger(runs).tables[0]
    assert listed.columns[2:5] == ("metric", "val", "test")
    assert {row.cells[2].text for s in listed.sections for row in s.rows} == {
        "MAE (lower is better)",
        "accuracy (%)",
        "micro F1 (%)",
    }


def test_results_csv_has_the_columns_of_the_task_and_is_read_back(regression, tmp_path):
    runs = read_runs([regression])
    path = tmp_path / "results.csv"
    write_csv(path, runs)
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert {"mae", "correlation", "task"} <= rows[0].keys()
    assert not any("accuracy" in name or name == "ece" for name in rows[0])
    assert {row["task"] for row in rows} == {"regression"}
    again = read_csv(path)
    assert [run.scores for run in again] == [run.scores for run in runs]
    assert table1(again).tables[0] == table1(runs).tables[0]
    frame = Runs(regression).to_pandas()
    assert set(frame.task) == {"regression"}
    assert frame.mae.min() == 0.5


def test_a_score_outside_of_its_range_is_named(regression, tmp_path):
    path = tmp_path / "results.csv"
    write_csv(path, read_runs([regression]))
    text = path.read_text(encoding="utf-8")
    path.write_text(text.replace(",0.5,", ",1.5,", 1), encoding="utf-8")
    (reason,) = {run.reason for run in read_csv(path) if run.reason}
    assert "correlation is 1.5, not between -1 and 1" in reason


@pytest.mark.parametrize(
    ("scores", "message"),
    [
        ({"correlation": 0.5}, "test.multi has no mae"),
        ({"mae": -1.0}, "test.multi.mae must be at least 0, is -1.0"),
        ({"mae": 1.0, "correlation": 2.0}, "test.multi.correlation must be between -1 and 1"),
    ],
)
def test_a_result_has_the_primary_metric_of_its_task(tmp_path, scores, message):
    folder = write_run(tmp_path, task="regression")
    test = {"image": {"mae": 1.0}, "text": {"mae": 1.0}, "multi": scores}
    change(folder, "result.json", test=test)
    with pytest.raises(RunError, match=message):
        Result.from_json(json.loads((folder / "result.json").read_text()))


def test_a_result_of_classification_does_not_write_its_task(tmp_path):
    folder = write_run(tmp_path)
    content = json.loads((folder / "result.json").read_text())
    assert "task" not in content
    assert Result.from_json(content).task == "classification"
    other = json.loads((write_run(tmp_path, task="multilabel") / "result.json").read_text())
    assert other["task"] == "multilabel"
    with pytest.raises(RunError, match="task must be one of classification, regression"):
        Result.from_json(other | {"task": "ranking"})


def test_an_unfinished_run_has_the_task_of_the_other_runs_of_its_data(regression):
    write_run(regression, "film", 0, dataset="mine", state="failed")
    table = table1(read_runs([regression])).tables[0]
    assert len([s for s in table.sections if not s.is_terminal_only]) == 1
    assert cells_of(table, "multi")["FiLM"].text == "failed 1, missing 2"


def test_the_figure_colours_smaller_errors_as_better_and_says_so(regression):
    figure = modality_figure(blocks(read_runs([regression]))[0])
    assert figure.get_suptitle() == "mine: test MAE (lower is better)"
    axis = figure.axes[0]
    colours = {
        line.get_gid().partition(TOOLTIP_SEPARATOR)[0]: line.get_color()
        for line in axis.get_lines()
        if line.get_marker() == "o"
    }
    assert colours == {"column:Concat": BELOW, "column:MLA": PLAIN}
    labels = [text.get_text() for text in figure.legends[0].get_texts()]
    assert labels[1:3] == ["significantly worse", "significantly better"]
    low, high = axis.get_xlim()
    assert 0 < high - low < 1  # not 1 point, which is for percent


def test_curves_are_in_the_unit_of_the_target_and_tooltips_have_the_minimum(tmp_path):
    values = dict.fromkeys(("image", "text", "multi"), 0.5)
    write_run(tmp_path, task="regression", accuracy=values, curve=[0.9, 0.5, 0.7])
    curves = read_curves(blocks(read_runs([tmp_path]))[0], ("multi",))
    assert curves.lines["multi"]["MLA"][0] == (0.9, 0.5, 0.7)
    figure = curves_figure(curves, "mine")
    assert figure.axes[0].get_ylabel() == "validation MAE (lower is better)"
    add_tooltips(figure)
    assert figure.axes[0].get_lines()[0].get_gid().endswith("0.7 at 3, minimum 0.5 at 2")


def test_the_variants_with_the_smallest_errors_are_drawn(tmp_path):
    for place, method in enumerate(("concat", "sum", "film", "qmf")):
        write_errors(tmp_path, method, (0.5 + 0.1 * place,))
    limited, note = limit_variants(blocks(read_runs([tmp_path]))[0], 2)
    assert [variant.method for variant in limited.variants] == ["sum", "concat"]
    assert "best validation MAE (multi)" in note


def test_tuning_selects_the_smallest_error(tmp_path):
    for rate, error in ((0.01, 0.9), (0.1, 0.5), (1.0, 0.7)):
        overrides = {"optimizer.lr": rate}
        write_errors(tmp_path, "mla", (error,), lr=rate, overrides=overrides, test=False)
    report = tuning(read_runs([tmp_path]))
    table = report.tables[0]
    assert table.title == "Validation MAE (multi), lower is better, by learning rate"
    (row,) = table.sections[0].rows
    assert [cell.rank for cell in row.cells] == [0, 1, 0, 0]
    assert "with the lowest mean" in table.notes[0]
    (text,) = report.texts.values()
    assert "best mean validation MAE" in text
    assert "mla: 0.1" in text
    grid = {rate: Summary({0: error}, (0,)) for rate, error in ((0.1, 2.0), (0.2, 1.0))}
    assert (choose(grid).lr, choose(grid, lower_is_better=True).lr) == (0.1, 0.2)


def test_table2_ranks_the_smallest_error_of_each_rate_and_leaves_the_paper_out(tmp_path):
    for method, level in (("mla", 0.6), ("concat", 0.7)):
        for rate in ("0.1", "0.3"):
            overrides = {"missing.rate": rate}
            write_errors(tmp_path, method, (level + float(rate),), overrides=overrides)
    for folder in tmp_path.iterdir():
        patterns = {"test": {"image": {"num": 10, "mae": 0.75}}}
        missing = {"patterns": patterns, "realised_rate": {"test": 0.3}, "mask_sha256": "ab"}
        change(folder, "result.json", missing=missing)
        unseal(folder)
    runs = read_runs([tmp_path])
    report = table2(runs)
    assert [table.slug for table in report.tables] == ["", "correlation", "patterns"]
    table = report.tables[0]
    assert table.title == "Test MAE, lower is better, by missing rate"
    ranks = {row.label: [cell.rank for cell in row.cells] for row in table.sections[0].rows}
    assert (ranks["MLA"], ranks["Concat"]) == ([1, 1], [2, 2])
    assert cells_of(report.tables[-1], "MLA")["image"].text == "0.750"
    assert "paper" not in report.reading
    ((draw),) = report.figures.values()
    assert draw.func is rate_figure
    assert len(draw().axes) == 1


def test_table3_and_dashboards_name_the_metric(tmp_path):
    for ablation, error in (("none", 0.5), ("no_hgm", 0.6)):
        write_errors(tmp_path, "mla", (error, error + 0.01, error), ablation=ablation)
    runs = read_runs([tmp_path])
    table, effects = table3(runs).tables
    assert table.title == "Test MAE, lower is better"
    assert effects.title == "Effects on test MAE, negative is better"
    labels = {row.label: row.cells[0].text for row in effects.sections[0].rows}
    assert labels["HGM, dynamic fusion: multi"] == "−0.100"
    spec = describe_dashboard("table1", None, project="p", entity=None, runs=runs)
    first, *others = spec["workspace"]["sections"]
    assert first["name"] == "MAE (lower is better)"
    assert first["panels"][0]["metrics"] == "^val/mae$"
    assert first["panels"][2]["metrics"] == "result.test.multi.mae"
    assert "Reliability diagram (bins of equally many samples)" not in {s["name"] for s in others}
    assert not any(
        "acc" in p["metrics"] for s in spec["workspace"]["sections"] for p in s["panels"]
    )


def test_several_labels_are_shown_in_percent_of_micro_f1(tmp_path):
    write_errors(tmp_path, "mla", (0.6, 0.7), task="multilabel")
    write_errors(tmp_path, "concat", (0.5, 0.6), task="multilabel")
    report = table1(read_runs([tmp_path]))
    assert report.tables[0].title == "Test micro F1 in percent"
    assert cells_of(report.tables[0], "multi")["MLA"].text == "65.0 ± 7.1 (2)"
    assert report.tables[1].title == "Differences in test micro F1 (multi), percentage points"
    assert report.tables[2].title.startswith("Laziness gap: test micro F1 of a modality minus its")
    labels = [row.label for row in report.tables[-1].sections[0].rows]
    assert labels[:2] == ["macro F1, multi, percent", "mean AP, multi, percent"]

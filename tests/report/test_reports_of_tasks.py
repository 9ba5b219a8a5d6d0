"""Comparisons, pages and W&B content of true runs of regression and of several labels."""

import re
from html import escape

import numpy as np
import pytest
from matplotlib.colors import to_rgba
from scipy.stats import ttest_rel
from sklearn.metrics import f1_score

from mla_lightning.cli.main import main
from mla_lightning.loggers.wandb_result import charts_of, summary_of
from mla_lightning.report.figures.forgetting import forgetting
from mla_lightning.report.figures.panels import panels
from mla_lightning.report.figures.predictions import label_f1, predicted_values
from mla_lightning.report.figures.style import BELOW, save
from mla_lightning.report.figures.training import contribution
from mla_lightning.report.read.block import blocks
from mla_lightning.report.read.diagnostics import read_diagnostics
from mla_lightning.report.read.run_folders import read_runs
from mla_lightning.report.tables.bootstrap import paired_differences
from mla_lightning.report.tables.compare import compare_runs
from mla_lightning.run_folder.reader import RunFiles

SIZE = ["data.num_train=64", "data.num_val=32", "data.num_test=40", "trainer.max_epochs=1"]


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    root = tmp_path_factory.mktemp("tasks")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        for task in ("regression", "multilabel"):
            for method in ("mla", "concat"):
                words = ["train", "data=synthetic", f"data.task={task}", f"method={method}", *SIZE]
                words += ["diagnostics=epoch", f"name={task}", f"run_dir={task}/{method}"]
                assert main(words) == 0
    return root


def texts_of(report, slug):
    (table,) = [t for t in report.tables if t.slug == slug]
    return {row.label: [cell.text for cell in row.cells] for s in table.sections for row in s.rows}


def test_predicted_numbers_are_compared_by_their_errors(runs):
    report, different = compare_runs(runs / "regression/mla", runs / "regression/concat")
    a, b = (RunFiles(runs / "regression" / m).predictions for m in ("mla", "concat"))
    errors = [abs(arrays["logits_multi"][:, 0].astype(float) - a["label"]) for arrays in (a, b)]
    mae = texts_of(report, "mae")["multi"]
    assert [float(text) for text in mae[:2]] == pytest.approx(
        [error.mean() for error in errors], abs=6e-3
    )
    assert float(mae[4]) == pytest.approx(ttest_rel(*errors).pvalue, abs=6e-4)
    counts = texts_of(report, "counts")
    assert counts["A closer to the true value"] == [str(int((errors[0] < errors[1]).sum()))]
    assert "both correct" not in counts
    distance = abs(a["logits_multi"] - b["logits_multi"])[:, 0]
    assert different[0].index == a["index"][distance.argmax()]
    assert different[0].confidences is None
    (title,) = [table.title for table in report.tables if table.slug == "mae"]
    assert title == "Test MAE, lower is better"


def test_sets_of_labels_are_compared_by_f1(runs):
    report, different = compare_runs(runs / "multilabel/mla", runs / "multilabel/concat")
    a, b = (RunFiles(runs / "multilabel" / m).predictions for m in ("mla", "concat"))
    micro, macro = texts_of(report, "micro_f1")["multi"], texts_of(report, "macro_f1")["multi"]
    for column, arrays in enumerate((a, b)):
        predicted = arrays["logits_multi"] > 0
        expected = f1_score(a["label"], predicted, average="micro", zero_division=0)
        assert float(micro[column]) == pytest.approx(100 * expected, abs=0.06)
    assert len(micro) == 4  # no test of several labels
    assert len(macro) == 4
    sets = [arrays["logits_multi"] > 0 for arrays in (a, b)]
    assert len(different) == int((sets[0] != sets[1]).any(axis=1).sum())
    correct = [(predicted == a["label"]).all(axis=1) for predicted in sets]
    counts = texts_of(report, "counts")
    assert counts["only B correct"] == [str(int((~correct[0] & correct[1]).sum()))]


def test_runs_of_two_tasks_are_not_compared(runs, capsys):
    words = ["compare", str(runs / "regression/mla"), str(runs / "multilabel/mla")]
    assert main(words) == 1
    assert "is a run of regression and" in " ".join(capsys.readouterr().err.split())


def test_intervals_of_errors_are_close_to_the_normal_ones():
    rng = np.random.default_rng(0)
    target = rng.normal(size=400)
    near, far = (target[:, None] + scale * rng.normal(size=(400, 1)) for scale in (0.5, 1.0))
    result = paired_differences(target, (near, far), "regression")
    gain = abs(far[:, 0] - target) - abs(near[:, 0] - target)
    assert result["mae"].difference == pytest.approx(gain.mean())
    width = result["mae"].high - result["mae"].low
    assert width == pytest.approx(3.92 * gain.std() / 20, rel=0.1)
    expected = np.corrcoef(target, near[:, 0])[0, 1]
    assert result["correlation"].values[0] == pytest.approx(expected)
    labels = rng.random((400, 3)) < 0.3
    scores = np.where(rng.random((400, 3)) < 0.2, ~labels, labels) - 0.5
    f1 = paired_differences(labels.astype(float), (scores, scores), "multilabel")
    for average in ("micro", "macro"):
        expected = f1_score(labels, scores > 0, average=average)
        assert f1[f"{average}_f1"].values[0] == pytest.approx(expected)


@pytest.mark.usefixtures("only_svg")
def test_the_page_shows_each_task_in_its_own_words(runs, tmp_path, capsys):
    assert main(["report", "page", str(runs), "--output", str(tmp_path)]) == 0
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert "cannot be drawn" not in page
    sections = dict(re.findall(r"<h2>(\w+)</h2>(.*?)</section>", page, flags=re.DOTALL))
    numbers, labels = sections["regression"], sections["multilabel"]
    assert "Predicted and true values" in numbers
    assert "MAE, by the whole step" in numbers
    assert "F1 of each label" in labels
    for task, section in sections.items():
        for panel in panels() if task in ("regression", "multilabel") else ():
            shown = panel.for_task(task)
            is_own = "classification" not in panel.tasks and shown is not None
            assert not is_own or section.count(f"<figcaption>{escape(shown.reading)}") == 1, panel
    for section in (numbers, labels):
        assert "defined for classes alone, and left out: Fusion weights of correct" in section
        visible = re.sub(r"<[^>]*>|[^.]*left out:[^<]*", " ", section)
        assert "accura" not in visible.lower()
        assert "calibration" not in visible.lower()
    stems = {path.stem for path in tmp_path.glob("*.svg")}
    assert "regression-synthetic-predicted-values" in stems
    assert not any("calibration" in stem or "entropy" in stem for stem in stems)


def diagnosed(runs, task):
    return read_diagnostics(blocks(read_runs([runs / task]))[0])


def test_figures_of_predictions_show_those_of_the_runs(runs, tmp_path):
    diagnostics = diagnosed(runs, "regression")
    assert label_f1(diagnostics) is None
    figure = predicted_values(diagnostics)
    assert len(save(figure, tmp_path / "values")) == 3  # in every format
    arrays = RunFiles(runs / "regression/concat").predictions
    (axis,) = [a for a in figure.axes if a.get_title(loc="left").startswith("Concat")]
    points = np.asarray(axis.collections[0].get_offsets())
    np.testing.assert_allclose(points[:, 0], arrays["label"])
    np.testing.assert_allclose(points[:, 1], arrays["logits_multi"][:, 0])
    identity = axis.get_lines()[0]
    assert list(identity.get_xdata()) == list(identity.get_ydata())
    several = diagnosed(runs, "multilabel")
    assert predicted_values(several) is None
    figure = label_f1(several)
    assert len(save(figure, tmp_path / "labels")) == 3
    (axis,) = figure.axes
    names = [text.get_text() for text in axis.get_yticklabels()]
    arrays = RunFiles(runs / "multilabel/mla").predictions
    order = np.argsort(-arrays["label"].mean(axis=0), kind="stable")
    assert [name.partition(" (")[0] for name in names] == [f"label {k}" for k in order]
    expected = f1_score(arrays["label"], arrays["logits_multi"] > 0, average=None, zero_division=0)
    drawn = {
        int(line.get_ydata()[0]): line.get_xdata()[0]
        for line in axis.get_lines()
        if line.get_label() == "MLA"
    }
    assert [drawn[row] for row in range(len(order))] == pytest.approx(100 * expected[order])


def test_a_decrease_of_the_error_is_a_contribution_and_blue(runs):
    diagnostics = diagnosed(runs, "regression")
    (axis,) = contribution(diagnostics).axes
    assert axis.get_xlabel() == "Shapley value (decrease of MAE)"
    shapley = diagnostics.finals["MLA"][0]["shapley"]
    widths = [p.get_width() for p in axis.patches if p.get_gid() == "column:MLA"]
    assert widths == pytest.approx([-value for value in shapley.values()])
    (axis,) = [a for a in forgetting(diagnostics).axes if "MAE" in a.get_title(loc="left")]
    harm = axis.images[0].get_array()[0][1]  # of the second modality by a step on the first
    first, second = diagnostics.modalities
    (change,) = diagnostics.curve("MLA", f"forgetting/mae/{first}/{second}")
    assert harm == pytest.approx(1000 * np.mean([*change.values()]))  # a larger error is harm
    assert axis.images[0].cmap(1.0) == to_rgba(BELOW)


class FakeWandb:
    """Tables and charts as plain data."""

    class plot:
        """Charts as their arguments."""

        bar = scatter = line = staticmethod(lambda *arguments, **options: arguments)

    @staticmethod
    def Table(columns, data):
        return {"columns": columns, "data": data}


def test_charts_of_a_run_are_those_of_its_task(runs):
    folder = runs / "regression/mla"
    summary = summary_of(folder)
    result = RunFiles(folder).result
    assert summary["task"] == "regression"
    assert summary["result.test.multi.mae"] == result.test["multi"]["mae"]
    charts = charts_of(folder, FakeWandb)
    assert "tables/confusion" not in charts
    assert "tables/reliability" not in charts
    assert charts["charts/predictions"][1:] == ("true value", "predicted value")
    assert len(charts["tables/predictions"]["data"]) == result.num_test
    assert charts["tables/scores"]["columns"][-1] == "probe_mae"
    several = charts_of(runs / "multilabel/mla", FakeWandb)
    assert [row[0] for row in several["tables/label_f1"]["data"]] == [
        f"label {k}" for k in range(4)
    ]


@pytest.mark.parametrize("task", ["regression", "multilabel"])
def test_curves_and_tables_of_panels_are_those_that_a_run_has(runs, task):
    folder = runs / task / "mla"
    columns = {key for row in RunFiles(folder).metrics for key in row}
    tables = charts_of(folder, FakeWandb)
    for panel in filter(None, (panel.for_task(task) for panel in panels())):
        for regex in panel.curves:
            assert any(re.search(regex, name) for name in columns), (panel.slug, regex)
        assert set(panel.tables) <= set(tables), panel.slug

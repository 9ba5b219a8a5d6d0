"""Columns, curves and figures of the diagnostics of runs."""

import json

import numpy as np
import pytest
from matplotlib.text import Text

from mla_lightning.cli.main import main
from mla_lightning.report.document.table import BLANK
from mla_lightning.report.figures.evaluation import gap
from mla_lightning.report.figures.forgetting import forgetting, forgetting_over_epochs
from mla_lightning.report.figures.lines import line_styles
from mla_lightning.report.figures.numbers import figure_table
from mla_lightning.report.figures.planes import pca
from mla_lightning.report.figures.reliability import by_width, pooled
from mla_lightning.report.figures.style import SHARED, modality_colours
from mla_lightning.report.figures.training import angles, contribution, laziness
from mla_lightning.report.page.further_tables import _omissions, parameters
from mla_lightning.report.read.columns import cross_modality_changes, diagnostics_columns
from mla_lightning.report.read.diagnostics import BlockDiagnostics, _mean_flops
from mla_lightning.run_folder.reader import RunFiles


def write_run(folder, rows, numbers=None):
    folder.mkdir(parents=True, exist_ok=True)
    columns = list(dict.fromkeys(key for row in rows for key in row))
    lines = [",".join(columns)]
    lines += [",".join(str(row.get(key, "")) for key in columns) for row in rows]
    (folder / "metrics.csv").write_text("\n".join(lines) + "\n")
    (folder / "diagnostics.json").write_text(
        json.dumps({"calibration": {}, "entropy": {}, **(numbers or {})})
    )


def test_forgetting_is_the_effect_of_a_step_on_another_modality(tmp_path):
    rows = [
        {"epoch": 1, "step": 3, "forgetting/loss/a/a": -0.5, "forgetting/loss/a/b": 0.002},
        {"epoch": 2, "step": 6, "forgetting/loss/b/a": 0.004, "forgetting/own_loss/a/b": 0.001},
    ]
    write_run(tmp_path / "run", rows)
    assert cross_modality_changes(rows, "loss") == {"a > b": [2.0], "b > a": [4.0]}
    measures = diagnostics_columns(RunFiles(tmp_path / "run"))
    assert measures["forgetting"] == pytest.approx(3)
    assert measures["forgetting_own"] == pytest.approx(1)


@pytest.mark.parametrize("step", ["joint", "a+b", "a+b+joint+rank/a+rank/b"])
def test_a_step_on_all_modalities_is_no_forgetting(step):
    rows = [{f"forgetting/loss/{step}/{m}": -0.1 for m in "ab"}]
    assert cross_modality_changes(rows, "loss") == {}


def diagnosed(epochs=None, finals=None, planes=None, modalities=("a", "b"), protocol="validation"):
    epochs = epochs or {label: [[]] for label in finals or planes}
    return BlockDiagnostics("data", modalities, epochs, finals or {}, planes or {}, {}, protocol)


def texts_of(figure):
    return [text.get_text() for text in figure.findobj(Text)]


def panels_of(figure):
    return {axis.get_title(loc="left"): axis for axis in figure.axes}


def test_measures_missing_in_the_first_epoch_are_drawn_at_their_epochs():
    key = "gradient/raw/a/b"
    seeds = [
        [{"epoch": 1.0}, {"epoch": 2.0, key: 0.5}, {"epoch": 3.0, key: 0.1}],
        [{"epoch": 1.0}, {"epoch": 2.0, key: 0.3}, {"epoch": 3.0, key: 0.3}],
    ]
    diagnostics = diagnosed({"mla": seeds})
    assert diagnostics.keys("gradient/") == [key]
    (axis,) = angles(diagnostics).axes
    line = next(line for line in axis.get_lines() if line.get_label() == "mla")
    assert list(line.get_xdata()) == [2, 3]
    assert list(line.get_ydata()) == pytest.approx([0.4, 0.2])


def test_forgetting_is_drawn_as_loss_accuracy_own_gradient_and_over_epochs():
    rows = [
        {
            "epoch": float(epoch),
            **{
                f"forgetting/{kind}/{a}/{b}": value * epoch
                for kind, value in (("loss", 0.001), ("acc", -0.002), ("own_loss", 0.005))
                for a in "ab"
                for b in "ab"
            },
        }
        for epoch in (1, 3)
    ]
    diagnostics = diagnosed({"mla": [rows]})
    maps = {
        title.partition("\n")[2]: axis for title, axis in panels_of(forgetting(diagnostics)).items()
    }
    values = {title: {text.get_text() for text in axis.texts} for title, axis in maps.items()}
    assert values == {
        "loss, by the whole step": {"+2.0"},
        "loss, by its own gradient": {"+10.0"},
        "accuracy, by the whole step": {"−4.0"},
    }
    assert not any("$" in text for text in texts_of(forgetting(diagnostics)))  # shown as it is
    panels = panels_of(forgetting_over_epochs(diagnostics))
    line = panels["a > b: own gradient"].get_lines()[0]
    assert list(line.get_xdata()) == [1, 3]
    assert list(line.get_ydata()) == pytest.approx([5, 15])
    assert len(panels) == 4


def test_columns_may_have_other_modalities():
    plane = {"label": np.zeros(2), "present/a": np.array([True, False])}
    both = {**plane, "pca/a": np.array([[0.0, 1], [np.nan, np.nan]]), "pca/b": np.ones((2, 2))}
    one = {**plane, "pca/b": np.ones((2, 2))}
    figure = pca(diagnosed(planes={"one": one, "both": both}))
    assert {"a", "b"} <= set(texts_of(figure))


def test_what_was_not_measured_is_a_dash_and_the_split_is_named():
    agreement = {"only_a": 0.2, "only_b": 0.3, "several": 0.5, "only_together": 0, "never": 0}
    known = {"split": "val", "agreement": agreement, "shapley": {"a": 0.0, "b": 0.1}}
    finals = {"mla": [known], "unimodal": [{**known, "shapley": {}}]}
    diagnostics = diagnosed(finals=finals)
    texts = texts_of(contribution(diagnostics))
    assert texts.count(" –") == 1
    assert {"mla", "unimodal"} <= set(texts)
    assert "validation samples predicted correctly by (%)" in [t.replace("\n", " ") for t in texts]
    assert diagnosed(finals={"mla": [{}]}).split == "test"


def segments_of(figure, panel):
    """Return the segments of the only bar by name, from the table of the figure's numbers."""
    names, values = (
        [cell.text for cell in row.cells] for row in figure_table(figure).sections[panel].rows
    )
    return {name: value for name, value in zip(names, values, strict=True) if name != BLANK}


@pytest.mark.parametrize("num", [2, 6, 8])
def test_any_number_of_modalities_has_distinct_colours_and_numbers(num):
    names = tuple("abcdefgh"[:num])
    colours = [*modality_colours(names).values(), *SHARED.values()]
    assert len(set(colours)) == num + 3
    alone = {f"only_{m}": (k + 1) / 100 for k, m in enumerate(names)}
    agreement = {**alone, "several": 0.5, "only_together": 0.1, "never": 0.05}
    known = {"split": "test", "agreement": agreement, "shapley": dict.fromkeys(names, 0.1)}
    segments = segments_of(contribution(diagnosed(finals={"mla": [known]}, modalities=names)), 1)
    expected = {m: f"{k + 1}" for k, m in enumerate(names)}
    assert segments == {**expected, "several modalities": "50", "fusion only": "10", "none": "5"}


def test_columns_without_some_modalities_show_those_they_have():
    changes = {"epoch": 1, "forgetting/loss/b/b": -0.004, "forgetting/loss/b/c": 0.002}
    agreement = {"only_b": 0.4, "only_c": 0.2, "several": 0.4, "only_together": 0, "never": 0}
    known = {"split": "test", "agreement": agreement, "shapley": {"b": 0.2, "c": 0.3}}
    diagnostics = diagnosed({"mla": [[changes]]}, {"mla": [known]}, modalities=("a", "b", "c"))
    assert texts_of(forgetting(diagnostics)).count("+2.0") == 1
    assert not any("nan" in text for text in texts_of(forgetting(diagnostics)))
    rows = figure_table(forgetting(diagnostics)).sections[0].rows
    assert [cell.text for cell in rows[1].cells] == [BLANK, "−4.0", "+2.0"]
    assert [cell.text for cell in rows[2].cells] == [BLANK] * 3
    assert " –" not in texts_of(contribution(diagnostics))
    assert segments_of(contribution(diagnostics), 0) == {"b": "20", "c": "30"}


def test_bands_need_several_seeds():
    seeds = [[{"epoch": 1, "gap/a/b": value}, {"epoch": 2, "gap/a/b": 1.0}] for value in (0.2, 0.4)]
    diagnostics = diagnosed({"mla": seeds, "concat": seeds[:1]})
    assert diagnostics.band("mla", "gap/a/b")[1] == pytest.approx(
        (0.3 - 0.02**0.5, 0.3 + 0.02**0.5)
    )
    assert diagnostics.band("concat", "gap/a/b") == {}
    assert "data: mean over seeds, band: ± sd" in texts_of(gap(diagnostics))
    assert "data" in texts_of(gap(diagnosed({"mla": seeds[:1]})))


def test_the_reference_is_black_whatever_else_is_set():
    styles = line_styles(["MLA", "Unimodal lr=0.05", "Unimodal lr=0.1"])
    references = [styles[f"Unimodal lr={lr}"] for lr in (0.05, 0.1)]
    assert [reference["color"] for reference in references] == ["black"] * 2
    assert references[0] != references[1]
    assert styles["MLA"]["color"] != "black"


def test_bins_of_several_seeds_are_pooled_by_their_kind():
    first = {"num": [2, 8], "confidence": [0.1, 0.95], "accuracy": [0.5, 1.0]}
    second = {"num": [4], "confidence": [0.96], "accuracy": [0.5]}
    accuracy = (8 * 1.0 + 4 * 0.5) / 12
    assert pooled([first, second], "width") == [
        (pytest.approx(0.1), pytest.approx(0.5)),
        (pytest.approx((8 * 0.95 + 4 * 0.96) / 12), pytest.approx(accuracy)),
    ]
    by_number = pooled([first, second], "mass")
    assert by_number[1] == (pytest.approx(0.95), pytest.approx(1.0))
    bins = {"width": first, "mass": second}
    calibration = {name: {"before": bins, "after": bins} for name in ("a", "multi")}
    figure = by_width(diagnosed(finals={"mla": [{"split": "val", "calibration": calibration}]}))
    assert set(panels_of(figure)) == {"mla", "mla, scaled"}
    assert {"validation accuracy,\nbefore scaling", "a", "multi (fused)"} <= {*texts_of(figure)}


def test_accuracy_of_the_paper_protocol_is_that_of_the_test_split():
    rows = [{"epoch": 1.0, "val/acc/a": 0.5, "probe/acc/a": 0.5}]
    titles = set(panels_of(laziness(diagnosed({"mla": [rows]}, protocol="paper"))))
    assert titles == {"a: own logits, test", "a: ridge probe, validation"}
    titles = set(panels_of(laziness(diagnosed({"mla": [rows]}))))
    assert titles == {"a: own logits, validation", "a: ridge probe, validation"}


@pytest.mark.usefixtures("only_svg")
@pytest.mark.parametrize("name", ["table2/foo", "table3/synthetic"])
def test_an_experiment_that_does_not_fit_its_kind_has_the_plain_table(
    tmp_path, name, monkeypatch, capfd
):
    monkeypatch.chdir(tmp_path)
    size = ["data.num_train=32", "data.num_val=8", "data.num_test=8", "trainer.max_epochs=1"]
    assert main(["train", "data=synthetic", *size, f"name={name}", "method=concat"]) == 0
    assert main(["report", "page", "runs"]) == 0
    text = (tmp_path / "runs" / "report" / "page.html").read_text()
    assert f"Not shown as {name.partition('/')[0]}: " in text
    assert "Test accuracy" in text


def test_flops_of_stages_are_averaged_over_their_epochs():
    rows = [{"epoch": 1, "cost/step_flops": 10.0}, {"epoch": 2}, {"epoch": 3}]
    rows += [{"epoch": 4, "cost/step_flops": 30.0}]
    assert _mean_flops(rows) == pytest.approx(15)
    assert _mean_flops([{"epoch": 1}]) is None


def test_the_page_says_what_is_omitted_and_why():
    wide = {"widths": {"a": 16, "b": 64}, "uncounted": ["native_batch_norm"]}
    even = {"widths": {"a": 16, "b": 16}, "uncounted": []}
    texts = list(_omissions(diagnosed(finals={"concat": [wide], "mla": [even]})))
    assert len(texts) == 2
    assert "concat: no modality gap and no features in two dimensions" in texts[0]
    assert "a 16, b 64" in texts[0]
    assert "native_batch_norm" in texts[1]
    counts = {"a": 44, "b": 40, "fusion": 12, "other": 6}
    table = parameters(diagnosed(finals={"mla": [{"parameters": counts}]}), "stem")
    (row,) = table.sections[0].rows
    assert [cell.text for cell in row.cells] == ["44", "40", "12", "6", "102"]

"""Figures say what they leave out, name five methods at most, and fit the columns of a paper."""

from itertools import product
from pathlib import Path

import numpy as np
import pytest
from matplotlib.colors import to_rgba
from matplotlib.text import Text
from PIL import Image
from scipy.stats import ttest_1samp
from tests.report.diagnosed_runs import LABELS, diagnosed, final
from tests.report.paper_checks import check, fonts_of, sizes_of, width_of
from tests.report.synthetic_runs import write_table1

from mla_lightning.report.document.table import BLANK
from mla_lightning.report.figures.beside import beside
from mla_lightning.report.figures.cost import cost
from mla_lightning.report.figures.curves import curves_figure, read_curves
from mla_lightning.report.figures.evaluation import entropy, fusion, fusion_means
from mla_lightning.report.figures.forgetting import forgetting, forgetting_over_epochs
from mla_lightning.report.figures.lines import MAX_LINES, in_question
from mla_lightning.report.figures.modalities import modality_figure
from mla_lightning.report.figures.numbers import add_tooltips, figure_table
from mla_lightning.report.figures.planes import pca
from mla_lightning.report.figures.reliability import by_mass, by_width
from mla_lightning.report.figures.style import (
    BELOW,
    CONTEXT,
    FOREMOST_COLOUR,
    GID,
    ONE_COLUMN,
    OWN,
    TOOLTIP_SEPARATOR,
    TWO_COLUMNS,
    save,
)
from mla_lightning.report.figures.training import contribution, laziness
from mla_lightning.report.main import make_report
from mla_lightning.report.read.block import Summary, blocks
from mla_lightning.report.read.run_folders import read_runs

SHOWN = ["MLA", "Unimodal", "Concat", "Late Fusion", "Sum"]
LEFT_OUT = "Left out for lack of room: FiLM, BiGated, OGM-GE, QMF."
EXPERIMENTS = Path(__file__).parents[2] / "experiments"


def titles(figure):
    shown = [axis for axis in figure.axes if axis.get_visible()]
    return [axis.get_title(loc="left").replace("\n", " ") for axis in shown]


def coloured(axis):
    """Return the names of the lines of a panel that are not context."""
    return {
        line.get_label()
        for line in axis.get_lines()
        if str(line.get_gid() or "").startswith(GID) and line.get_color() != CONTEXT
    }


def test_the_methods_in_question_come_first():
    assert in_question(LABELS) == SHOWN
    assert in_question(("B", "A")) == ["B", "A"]
    settings = ["Concat", "MLA lr=1", "MLA", "MLA no_hgm", "QMF", "MLA (released code)"]
    assert in_question(settings, 4) == ["MLA", "Concat", "MLA lr=1", "MLA no_hgm"]


@pytest.mark.parametrize("draw", [laziness, entropy, by_mass, by_width])
def test_a_panel_names_five_lines_at_most(draw):
    figure = draw(diagnosed())
    assert figure.axes
    for axis in figure.axes:
        assert 1 <= len(coloured(axis)) <= MAX_LINES


def test_learning_curves_name_five_lines_and_draw_all(tmp_path):
    (block,) = blocks(read_runs([write_table1(tmp_path, seeds=(0,))]))
    figure = curves_figure(read_curves(block, (*block.modalities, "multi")), "openmoji")
    for axis in figure.axes:
        assert len(coloured(axis)) == MAX_LINES
        assert len(axis.get_lines()) == len(block.variants) == 12


def test_calibration_has_a_panel_per_method_in_question_and_says_which_are_left_out():
    figure = by_mass(diagnosed())
    assert titles(figure) == [*SHOWN, *(f"{label}, scaled" for label in SHOWN)]
    assert beside(figure).remark == LEFT_OUT
    for axis in figure.axes:
        assert coloured(axis) == {"image", "text", "multi"}
    assert beside(by_mass(diagnosed(labels=LABELS[:3]))).remark == ""


def test_calibration_shows_the_bins_of_its_kind_before_and_after_scaling():
    for draw, shift in ((by_width, 0.0), (by_mass, 0.1)):
        figure = draw(diagnosed(labels=("MLA",), finals={"MLA": [final(("image",))]}))
        before, after = figure.axes
        for axis, more in ((before, 0.0), (after, 0.2)):
            (line,) = [line for line in axis.get_lines() if line.get_label() == "multi"]
            assert list(line.get_xdata()) == pytest.approx([0.4, 0.8])
            assert list(line.get_ydata()) == pytest.approx([0.3, 0.6 + shift + more])
            assert [text.get_text() for text in axis.texts] == [f"ECE {100 * (shift + more):.1f} %"]


def test_calibration_of_many_modalities_is_that_of_the_fused_prediction():
    figure = by_mass(diagnosed(names=("a", "b", "c", "d", "e", "f"), labels=("MLA", "Sum")))
    assert all(coloured(axis) == {"multi"} for axis in figure.axes)
    assert beside(figure).remark == "Only multi is drawn: 6 modalities."


def test_tooltips_and_numbers_of_a_panel_name_the_modality():
    figure = by_mass(diagnosed(labels=("MLA",)))
    table = figure_table(figure)
    assert [part.title for part in table.sections] == ["MLA", "MLA, scaled"]
    assert [row.label for row in table.sections[0].rows] == ["image", "text", "multi"]
    add_tooltips(figure)
    (line,) = [line for line in figure.axes[0].get_lines() if line.get_label() == "text"]
    column, _, tooltip = line.get_gid().partition(TOOLTIP_SEPARATOR)
    assert column == f"{GID}MLA"
    assert tooltip.startswith("text 0.7")


def dots(axis):
    return {
        line.get_gid().removeprefix(GID).partition(TOOLTIP_SEPARATOR)[0]: line
        for line in axis.get_lines()
        if line.get_marker() == "o"
    }


def test_cost_is_score_by_time_with_spreads_and_a_name_beside_each_dot():
    diagnostics = diagnosed()
    figure = cost(diagnostics)
    (axis,) = figure.axes
    points = {k: (d.get_xdata()[0], d.get_ydata()[0]) for k, d in dots(axis).items()}
    assert points == {
        label: (diagnostics.times[label].mean, diagnostics.scores[label].mean) for label in LABELS
    }
    spans = [
        (np.ptp(line.get_xdata()), np.ptp(line.get_ydata()))
        for line in axis.get_lines()
        if line.get_gid().startswith(f"{GID}MLA") and line.get_marker() != "o"
    ]
    assert sorted(spans) == [pytest.approx((0.0, 2.0)), pytest.approx((0.2, 0.0))]  # 2 sd
    assert {text.get_text() for text in axis.texts} == set(LABELS)
    colours = {label: dot.get_color() for label, dot in dots(axis).items()}
    assert [label for label, colour in colours.items() if colour == FOREMOST_COLOUR] == ["MLA"]
    sizes = {label: dot.get_markersize() for label, dot in dots(axis).items()}
    assert max(sizes, key=sizes.get) == "MLA"
    assert axis.get_xlabel() == "training time of a run (s)"


def test_names_beside_dots_do_not_cover_each_other():
    same = Summary({0: 60.0, 1: 60.1}, (0, 1))
    times = {label: Summary({0: 8.0, 1: 8.0 + k / 50}, (0, 1)) for k, label in enumerate(LABELS)}
    figure = cost(diagnosed(scores=dict.fromkeys(LABELS, same), times=times))
    (axis,) = figure.axes
    boxes = [Text.get_window_extent(text) for text in axis.texts]
    frame = axis.get_window_extent()
    for place, box in enumerate(boxes):
        assert not any(box.overlaps(other) for other in boxes[place + 1 :])
        assert frame.contains(*box.min)
        assert frame.contains(*box.max)


def test_numbers_of_cost_have_the_same_decimals_in_a_column():
    costs = {
        "Sum": {"seconds per epoch": 4.0, "parameters, thousands": 287.2},
        "MLA": {"seconds per epoch": 3.957, "parameters, thousands": 1286.0},
    }
    times = {**diagnosed().times, "Sum": Summary({}, (0,))}
    figure = cost(diagnosed(costs=costs, scores=diagnosed().scores, times=times))
    table = figure_table(figure)
    columns = zip(*(row.cells for row in table.sections[0].rows), strict=True)
    texts = {
        name: [cell.text for cell in cells]
        for name, cells in zip(table.columns, columns, strict=True)
    }
    assert texts == {
        "test accuracy, %": ["61.0 ± 1.0", "68.0 ± 1.0"],
        "training time, s": [BLANK, "8.17 ± 0.10"],
        "seconds per epoch": ["4.00", "3.96"],
        "parameters, thousands": ["287", "1,286"],
    }
    assert beside(figure).remark == "Without a dot, for lack of a time or score: Sum."
    assert cost(diagnosed(times={})) is None


def forgotten(own=0.05, others=((0.001, 0.002, 0.003), (-0.004, 0.004, 0.003)), labels=("MLA",)):
    """Return diagnostics with changes of the loss by seed: own, image > text, text > image."""
    seeds = [
        [
            {
                "epoch": 1.0,
                "forgetting/loss/image/image": own,
                "forgetting/loss/text/text": own,
                "forgetting/loss/image/text": others[0][seed],
                "forgetting/loss/text/image": others[1][seed],
            }
        ]
        for seed in range(3)
    ]
    return diagnosed(epochs=dict.fromkeys(labels, seeds))


def cells(axis):
    return {text.get_position(): text for text in axis.texts}


def test_colours_of_forgetting_have_the_scale_of_the_other_modalities():
    small, large = (forgetting(forgotten(own=own)).axes[0] for own in (0.05, 5.0))
    for axis in (small, large):
        (image,) = axis.images
        assert image.get_clim() == pytest.approx((-2.0, 2.0))  # the mean of image > text
        assert np.ma.getmaskarray(image.get_array()).tolist() == [[True, False], [False, True]]
        assert image.to_rgba(2.0) == pytest.approx(to_rgba(BELOW))
        patches = {patch.get_xy(): patch.get_facecolor() for patch in axis.patches}
        assert patches == {xy: to_rgba(OWN) for xy in ((-0.5, -0.5), (0.5, 0.5))}
    assert cells(small)[0, 0].get_text() == "+50.0\n± 0.0"
    assert cells(large)[0, 0].get_text() == "+5000.0\n± 0.0"


def test_cells_of_forgetting_have_the_spread_and_evidence_is_bold():
    others = ((0.0019, 0.0020, 0.0021), (-0.004, 0.004, 0.003))
    figure = forgetting(forgotten(others=others))
    axis = figure.axes[0]
    for (x, y), values in (((1, 0), others[0]), ((0, 1), others[1])):
        mean, sd = 1000 * np.mean(values), 1000 * np.std(values, ddof=1)
        text = cells(axis)[x, y]
        assert text.get_text() == f"{mean:+.1f}\n± {sd:.1f}"
        p = ttest_1samp(values, 0).pvalue
        is_bold = text.get_fontweight() == "bold"
        assert is_bold == (2 * p < 0.05)  # Holm for the smaller of two; the other is far from it
    assert sorted(text.get_fontweight() for text in axis.texts).count("bold") == 1
    section = figure_table(figure).sections[0]
    assert section.title == "MLA: loss, by the whole step, thousandths"
    assert [cell.text for cell in section.rows[0].cells] == ["+50.0 ± 0.0", "+2.0 ± 0.1"]


def test_maps_of_forgetting_are_beside_each_other():
    figure = forgetting(forgotten(labels=("MLA", "MLA no_hgm", "Joint")))
    figure.draw_without_rendering()
    assert len({round(axis.get_position().y0, 6) for axis in figure.axes}) == 1
    assert figure.get_figwidth() == TWO_COLUMNS
    assert forgetting(forgotten()).get_figwidth() == ONE_COLUMN
    assert forgetting(diagnosed()) is None


def test_planes_name_their_classes_and_the_methods_that_they_leave_out():
    arrays = diagnosed().planes
    figure = pca(diagnosed(planes={k: arrays[k] for k in LABELS if k != "BiGated"}))
    (legend,) = figure.legends
    handles = {h.get_label(): h for h in legend.legend_handles if h.get_label()}
    assert set(handles) == {"image", "text", "cat", "dog", "bird"}
    assert all(handle.get_markersize() >= 5 for handle in handles.values())
    by_modality, by_class = figure.axes[0], figure.axes[len(SHOWN)]
    for scatter, name in zip(by_modality.collections, ("image", "text"), strict=True):
        assert tuple(scatter.get_facecolors()[0]) == to_rgba(handles[name].get_color())
    scatter = by_class.collections[0]
    shown = scatter.to_rgba(np.array([0, 1, 2]))
    for colour, name in zip(shown, ("cat", "dog", "bird"), strict=True):
        assert tuple(colour) == pytest.approx(to_rgba(handles[name].get_color()))
    assert titles(figure)[: len(SHOWN)] == SHOWN
    assert beside(figure).remark == (
        "Left out for lack of room: FiLM, OGM-GE, QMF. "
        "Not drawn: BiGated, whose modalities have no features in one space."
    )


def test_planes_of_many_classes_say_that_the_legend_does_not_name_them():
    figure = pca(diagnosed(labels=("MLA",), class_names=tuple(f"class {k}" for k in range(30))))
    names = [text.get_text() for text in figure.legends[0].get_texts()]
    assert names == ["image", "text"]
    assert beside(figure).remark == (
        "The 30 classes have colours, which repeat after 20, and no legend."
    )


@pytest.mark.parametrize("names", [("image", "text"), ("pix", "fou", "mor", "fac", "kar", "zer")])
@pytest.mark.parametrize(
    "draw", [laziness, entropy, by_mass, cost, pca, contribution, fusion, fusion_means]
)
def test_figures_fit_a_column_or_two_with_8_points(draw, names):
    check(draw(diagnosed(names=names)))


def test_figures_of_forgetting_fit_whatever_the_number_of_modalities():
    for num in (2, 3, 4, 6, 8):
        names = tuple("abcdefgh"[:num])
        triples = product(("loss", "own_loss", "acc"), names, names)
        row = {f"forgetting/{kind}/{a}/{b}": 0.1 for kind, a, b in triples}
        seeds = [[{"epoch": 1.0, **row}]] * 3
        figure = forgetting(diagnosed(names, epochs=dict.fromkeys(("QMF", "Sum", "MLA"), seeds)))
        check(figure)
        drawn = [axis.get_title(loc="left").split("\n")[0] for axis in figure.axes if axis.texts]
        assert drawn[0] == "MLA"
        others = [label for label in ("QMF", "Sum") if label not in drawn]
        named = f"Left out for lack of room: {', '.join(others)}." if others else ""
        assert beside(figure).remark == named
        titles_of_table = {part.title.split(":")[0] for part in figure_table(figure).sections}
        assert titles_of_table == {"QMF", "Sum", "MLA"}


def test_figures_over_epochs_fit_a_page_and_show_the_largest_changes():
    names = tuple("abcdef")
    pairs = [(a, b) for a in names for b in names if a != b]
    row = {f"forgetting/loss/{a}/{b}": k / 100 for k, (a, b) in enumerate(pairs)}
    figure = forgetting_over_epochs(
        diagnosed(names, epochs={"MLA": [[{"epoch": 1.0, **row}, {"epoch": 2.0, **row}]]})
    )
    assert titles(figure) == [f"{a} > {b}: whole step" for a, b in pairs[-15:]]
    assert beside(figure).remark == "Drawn: the 15 of 30 measures with the largest values."
    check(figure)


@pytest.mark.parametrize("kind", ["table1", "table2", "table3"])
def test_figures_of_tables_fit_a_column_or_two_with_8_points(kind):
    report = make_report(kind, sorted(EXPERIMENTS.glob(f"{kind}/*/results.csv")))
    assert report.figures
    for draw in report.figures.values():
        check(draw())


def test_a_written_pdf_has_the_width_of_the_paper_and_embedded_fonts(tmp_path):
    save(by_mass(diagnosed(labels=("MLA",))), tmp_path / "one")
    save(by_mass(diagnosed()), tmp_path / "two")
    for name, width in (("one", 3.3), ("two", 6.8)):
        path = tmp_path / f"{name}.pdf"
        assert width_of(path) == pytest.approx(width)
        assert sizes_of(path) == {8}
        assert fonts_of(path) == ({"Type0", "CIDFontType2"}, True)  # TrueType; Type 3 is outlines
        with Image.open(path.with_suffix(".png")) as image:
            assert image.width == pytest.approx(150 * width, abs=1)


def test_long_names_are_within_the_figure_in_every_resolution(tmp_path):
    methods, long = ("mla", "concat"), {"x.setting": "trained longer trained longer"}
    root = write_table1(tmp_path / "runs", methods=methods, overrides=long)
    write_table1(root, methods=methods)
    save(modality_figure(blocks(read_runs([root]))[0]), tmp_path / "figure")
    with Image.open(tmp_path / "figure.png") as image:
        pixels = np.asarray(image.convert("L"))
    assert pixels[:, :2].min() == pixels[:, -2:].min() == 255

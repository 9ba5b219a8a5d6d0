from itertools import pairwise

import pytest
from tests.report.synthetic_runs import LEVELS, write_run, write_table1

from mla_lightning.report.figures.curves import Curves, curves_figure, read_curves
from mla_lightning.report.figures.lines import line_styles
from mla_lightning.report.figures.modalities import modality_figure
from mla_lightning.report.figures.style import (
    ABOVE,
    BELOW,
    CONTEXT,
    GID,
    OTHERS,
    PLAIN,
    TOOLTIP_SEPARATOR,
    save,
)
from mla_lightning.report.read.block import blocks, limit_variants
from mla_lightning.report.read.run_folders import read_runs


def block_of(root):
    (block,) = blocks(read_runs([root]))
    return block


def means(axis):
    return [float(dot.get_xdata()[0]) for dot in dots(axis)]


def dots(axis):
    return [line for line in axis.get_lines() if line.get_marker() == "o"]


def levels(image, multi):
    return {"image": image, "text": 0.5, "multi": multi}


def test_dots_are_the_means_and_the_dashed_line_is_the_reference(tmp_path):
    for seed in (0, 1):
        write_run(tmp_path, "unimodal", seed, accuracy=levels(0.40, 0.55))
        write_run(tmp_path, "concat", seed, accuracy=levels(0.30 + seed / 50, 0.50))
        write_run(tmp_path, "mla", seed, accuracy=levels(0.44, 0.60))
    figure = modality_figure(block_of(tmp_path))
    image, _, multi = figure.axes
    assert [label.get_text() for label in image.get_yticklabels()] == ["Concat", "MLA"]
    assert means(image) == pytest.approx([31.0, 44.0])
    assert means(multi) == pytest.approx([50.0, 60.0])
    (alone,) = [line for line in image.get_lines() if line.get_gid() == "alone"]
    assert alone.get_xdata() == pytest.approx([40.0, 40.0])
    assert [dot.get_color() for dot in dots(image)] == [PLAIN, PLAIN]  # no test: equal differences
    assert image.get_ylim()[0] > image.get_ylim()[1]  # first method on top


def test_only_significant_differences_from_trained_alone_are_coloured(tmp_path):
    for seed, noise in enumerate((0.0, 0.002, 0.001)):
        write_run(tmp_path, "unimodal", seed, accuracy=levels(0.40 + noise, 0.55))
        write_run(tmp_path, "concat", seed, accuracy=levels(0.30, 0.50))
        write_run(tmp_path, "film", seed, accuracy=levels(0.40 + seed / 20, 0.50))
        write_run(tmp_path, "mla", seed, accuracy=levels(0.50, 0.60))
    figure = modality_figure(block_of(tmp_path))
    image, _, multi = figure.axes
    assert [dot.get_color() for dot in dots(image)] == [BELOW, PLAIN, ABOVE]  # FiLM: +4.9, p = 0.2
    assert {dot.get_color() for dot in dots(multi)} == {PLAIN}


def test_spread_and_each_seed_are_drawn(tmp_path):
    for seed in (0, 1, 2):
        write_run(tmp_path, "mla", seed, accuracy=levels(0.40 + seed / 100, 0.5))
    axis = modality_figure(block_of(tmp_path)).axes[0]
    data = [list(map(float, line.get_xdata())) for line in axis.get_lines()]
    assert pytest.approx([40.0, 42.0]) in data  # mean ± sd
    assert pytest.approx([40.0, 41.0, 42.0]) in data


def test_every_element_of_a_method_has_its_name_and_a_tooltip(tmp_path):
    write_run(tmp_path, "unimodal", 0, accuracy=levels(0.3, 0.4))
    for seed in (0, 1, 2):
        write_run(tmp_path, "mla", seed, accuracy=levels(0.40 + seed / 100, 0.5))
    axis = modality_figure(block_of(tmp_path)).axes[0]
    elements = [*axis.get_lines(), *axis.texts]
    gids = [element.get_gid() for element in elements if element.get_gid() != "alone"]
    assert set(gids) == {f"{GID}MLA{TOOLTIP_SEPARATOR}41.0 ± 1.0, seeds: 40.0, 41.0, 42.0"}
    assert len(gids) == 5  # difference from alone, spread, seeds, mean, number


def test_one_seed_has_no_spread_and_without_reference_no_colour(tmp_path):
    write_run(tmp_path, "mla", 0)
    axis = modality_figure(block_of(tmp_path)).axes[0]
    (dot,) = axis.get_lines()
    assert dot.get_color() == PLAIN


def test_panels_span_the_same_number_of_points(tmp_path):
    figure = modality_figure(block_of(write_table1(tmp_path)))
    spans = [axis.get_xlim()[1] - axis.get_xlim()[0] for axis in figure.axes]
    assert spans == pytest.approx([spans[0]] * 3)


def test_a_method_far_below_all_others_is_an_arrow_and_does_not_squeeze_them(tmp_path):
    write_table1(tmp_path / "usual")
    write_table1(tmp_path / "far", methods=[m for m in LEVELS if m != "bigated"])
    for seed in (0, 1, 2):
        write_run(tmp_path / "far", "bigated", seed, accuracy=levels(0.09, 0.56))
    usual, far = (modality_figure(block_of(tmp_path / name)).axes[0] for name in ("usual", "far"))
    spans = [axis.get_xlim()[1] - axis.get_xlim()[0] for axis in (usual, far)]
    assert spans[1] < 1.5 * spans[0]
    arrows = [line for line in far.get_lines() if line.get_marker() in ("<", ">")]
    (arrow,) = arrows
    assert arrow.get_gid().startswith(f"{GID}BiGated{TOOLTIP_SEPARATOR}9.0")
    assert (arrow.get_marker(), arrow.get_xdata()[0]) == ("<", far.get_xlim()[0])
    assert "9.0" in [text.get_text() for text in far.texts]
    assert not [line for line in usual.get_lines() if line.get_marker() in ("<", ">")]


def test_the_best_method_is_never_beyond_its_panel(tmp_path):
    write_table1(tmp_path, methods=[m for m in LEVELS if m != "mla"])
    for seed in (0, 1, 2):
        write_run(tmp_path, "mla", seed, accuracy=levels(0.95, 0.97))
    axis = modality_figure(block_of(tmp_path)).axes[0]
    assert axis.get_xlim()[1] > 95


def test_methods_without_numbers_show_their_state(tmp_path):
    write_run(tmp_path, "mla", 0)
    write_run(tmp_path, "film", 0, state="failed")
    texts = [text.get_text() for text in modality_figure(block_of(tmp_path)).axes[0].texts]
    assert "failed" in texts


def test_nothing_overlaps_at_full_size(tmp_path):
    root = write_table1(tmp_path, modalities=("image", "text", "audio"))
    figure = modality_figure(block_of(root))
    figure.draw_without_rendering()
    axes = [axis.get_tightbbox() for axis in figure.axes]
    for left, right in pairwise(axes):
        assert left.x1 <= right.x0
    legend = figure.legends[0].get_window_extent()
    assert legend.y1 <= min(box.y0 for box in axes)
    assert max(box.y1 for box in axes) <= figure._suptitle.get_window_extent().y0 + 1
    assert axes[0].x0 >= 0
    assert axes[-1].x1 <= figure.bbox.x1


def test_equal_figures_give_equal_files(tmp_path):
    block = block_of(write_table1(tmp_path / "runs", seeds=(0, 1)))
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        names = save(modality_figure(block), tmp_path / folder / "v1.5")
    assert names == ["v1.5.svg", "v1.5.png", "v1.5.pdf"]
    for name in names:
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
    assert b"<dc:date>" not in (tmp_path / "a" / "v1.5.svg").read_bytes()


def test_names_with_tex_commands_are_drawn_verbatim(tmp_path):
    write_run(tmp_path, "a$b_{$", 0, overrides={"x": "$\\frac{$"})
    write_run(tmp_path, "mla", 0)
    save(modality_figure(block_of(tmp_path)), tmp_path / "figure")


def test_the_users_matplotlib_settings_have_no_effect(tmp_path):
    import matplotlib

    block = block_of(write_table1(tmp_path / "runs", methods=("mla",)))
    save(modality_figure(block), tmp_path / "a")
    with matplotlib.rc_context({"font.size": 30, "axes.facecolor": "red"}):
        save(modality_figure(block), tmp_path / "b")
        assert matplotlib.rcParams["font.size"] == 30
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()


def test_curves_are_means_with_a_band_over_epochs_of_all_seeds(tmp_path):
    write_run(tmp_path, "mla", 0, curve=[0.1, 0.2, 0.3])
    write_run(tmp_path, "mla", 1, curve=[0.3, 0.4])
    write_run(tmp_path, "mla", 2, curve=[0.9], state="failed")
    curves = read_curves(block_of(tmp_path), ("multi", "image"))
    assert curves.epochs == 3
    axis = curves_figure(curves, "openmoji").axes[0]
    (line,) = axis.get_lines()
    assert list(line.get_xdata()) == [1, 2]
    assert list(line.get_ydata()) == pytest.approx([20.0, 30.0])
    (band,) = axis.collections
    low, high = band.get_datalim(axis.transData).intervaly
    assert (low, high) == pytest.approx((20 - 200**0.5, 30 + 200**0.5))


def test_an_incomplete_last_line_of_metrics_is_ignored(tmp_path):
    folder = write_run(tmp_path, "mla", 0, curve=[0.1, 0.2])
    with (folder / "metrics.csv").open("a") as file:
        file.write("3,0.9")
    assert read_curves(block_of(tmp_path), ("multi",)).lines["multi"]["MLA"][0] == pytest.approx(
        (10.0, 20.0)
    )


def test_of_many_curves_five_are_named_and_distinct_and_the_others_are_grey_context():
    lines = {f"variant {n}": {0: (10.0 + n, 20.0 + n)} for n in range(14)}
    lines |= {"MLA": {0: (10.0, 20.0)}, "Concat": {0: (10.0, 20.0)}}
    figure = curves_figure(Curves({"multi": lines, "image": lines}), "openmoji")
    figure.draw_without_rendering()
    legend = figure.legends[0]
    named = [text.get_text() for text in legend.get_texts()]
    assert named == ["MLA", "Concat", "variant 0", "variant 1", "variant 2"]
    drawn = {line.get_label(): line for line in figure.axes[0].get_lines()}
    assert drawn.keys() == lines.keys()  # nothing is left out
    styles = {(drawn[label].get_color(), drawn[label].get_linestyle()) for label in named}
    assert len(styles) == 5
    others = [label for label in lines if label not in named]
    assert {drawn[label].get_color() for label in others} == {CONTEXT}
    assert legend.get_title().get_text().replace("\n", " ") == f"grey: {', '.join(others)}"
    box = legend.get_window_extent()
    assert box.y1 <= min(axis.get_tightbbox().y0 for axis in figure.axes)
    assert figure.bbox.x0 <= box.x0
    assert box.x1 <= figure.bbox.x1


def test_a_column_has_one_colour_in_all_figures_and_the_reference_is_dashed(tmp_path):
    names = ["Unimodal", *(f"variant {n}" for n in range(16))]
    lines = {name: {0: (10.0, 20.0)} for name in names}
    figure = curves_figure(Curves({"multi": lines}), "openmoji")
    styles = line_styles(names)
    for line in figure.axes[0].get_lines():
        line_style = styles[str(line.get_label())]
        assert line.get_color() == line_style["color"]
        assert (line.get_linestyle() == "--") == (line.get_label() == "Unimodal")


def test_the_method_in_question_stands_out_in_the_same_colour_whatever_else_is_drawn():
    few = line_styles(["MLA", "Concat"])
    many = line_styles(["Sum", "Concat", "QMF", "FiLM", "MLA", "MLA no_hgm", "Unimodal"])
    assert few["MLA"] == many["MLA"]
    assert few["Concat"] == many["Concat"]
    widths = {label: line["linewidth"] for label, line in many.items()}
    assert max(widths, key=widths.get) == "MLA"
    others = {many[label]["color"] for label in ("Sum", "QMF", "FiLM")}
    assert others <= {*OTHERS, CONTEXT}
    assert many["MLA no_hgm"]["color"] == many["MLA"]["color"]
    assert many["MLA no_hgm"]["linestyle"] != many["MLA"]["linestyle"]


def test_of_many_columns_the_best_on_validation_and_the_reference_are_drawn(tmp_path):
    for n in range(20):
        write_run(tmp_path, "mla", overrides={"x": n}, accuracy=levels(0.4, 0.3 + n / 100))
    write_run(tmp_path, "unimodal", accuracy=levels(0.4, 0.1))
    block = block_of(tmp_path)
    chosen, remark = limit_variants(block, 5)
    assert {v.label for v in chosen.variants} == {
        "Unimodal",
        *(f"MLA x={n}" for n in range(15, 20)),
    }
    assert (
        remark == "Only the 5 columns with the best validation accuracy (multi) are drawn, of 20."
    )
    assert limit_variants(block, 20) == (block, "")
    assert len(block.variants) == 21

"""Names in other scripts: in a font that has them, or escaped, and never as boxes."""

import warnings

import numpy as np
import pytest
from fontTools.fontBuilder import FontBuilder
from fontTools.pens.ttGlyphPen import TTGlyphPen
from matplotlib import font_manager
from PIL import Image

from mla_lightning.data.splits import NamedSplit
from mla_lightning.data.store import write_store
from mla_lightning.prepare import sample_sheet
from mla_lightning.report.figures import figure_text, style

CAT, DOG = "猫", "犬"


@pytest.fixture(autouse=True)
def machine(monkeypatch):
    """Return a function that gives a font to a machine without any but those of matplotlib."""
    monkeypatch.setattr(figure_text, "_installed", list)
    figure_text._fonts_for.cache_clear()
    manager = font_manager.fontManager
    before = list(manager.ttflist)

    def install(path, characters):
        write_font(path, characters)
        manager.addfont(path)
        monkeypatch.setattr(figure_text, "_installed", lambda: [("Test Sans", str(path))])
        figure_text._fonts_for.cache_clear()

    yield install
    manager.ttflist[:] = before
    manager._findfont_cached.cache_clear()
    figure_text._fonts_for.cache_clear()


def write_font(path, characters):
    """Write a font in which every character is a triangle."""
    pen = TTGlyphPen(None)
    pen.moveTo((0, 0))
    for corner in ((900, 0), (450, 800)):
        pen.lineTo(corner)
    pen.closePath()
    names = [".notdef", *(f"c{ord(c):x}" for c in characters)]
    font = FontBuilder(1000, isTTF=True)
    font.setupGlyphOrder(names)
    font.setupCharacterMap({ord(c): f"c{ord(c):x}" for c in characters})
    empty = TTGlyphPen(None).glyph()
    font.setupGlyf({name: empty if name == ".notdef" else pen.glyph() for name in names})
    font.setupHorizontalMetrics(dict.fromkeys(names, (1000, 0)))
    font.setupHorizontalHeader(ascent=800, descent=-200)
    texts = {"familyName": "Test Sans", "styleName": "Regular", "psName": "TestSans-Regular"}
    font.setupNameTable(texts)
    font.setupOS2()
    font.setupPost()
    font.save(path)


def bars(names):
    with style.style():
        figure = style.new_figure(4, 2)
        axis = figure.subplots()
        axis.barh(range(len(names)), [1.0] * len(names), label=names[0])
        axis.set_yticks(range(len(names)), names)
        axis.set_title(f"{names[0]} größer")
        axis.legend()
    return figure


def texts_of(figure):
    axis = figure.axes[0]
    legend = [text.get_text() for text in axis.get_legend().get_texts()]
    return [axis.get_title(), *legend, *(label.get_text() for label in axis.get_yticklabels())]


def saved(figure, path):
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # matplotlib warns of characters that become boxes
        style.save(figure, path)
    return path.with_name(f"{path.name}.png")


def test_names_that_no_font_has_are_escaped_in_every_place(tmp_path):
    figure = bars([CAT, "mla", f"{DOG} 2"])
    written = saved(figure, tmp_path / "a")
    cat, dog = r"\u732b", r"\u72ac 2"
    assert texts_of(figure) == [f"{cat} größer", cat, cat, "mla", dog]
    same = saved(bars([cat, "mla", dog]), tmp_path / "b")
    assert written.read_bytes() == same.read_bytes()


def test_names_are_drawn_in_a_font_that_has_them(tmp_path, machine):
    machine(tmp_path / "test.ttf", CAT)
    figure = bars([CAT, "mla", DOG])
    drawn = np.asarray(Image.open(saved(figure, tmp_path / "a")).convert("L"))
    assert texts_of(figure) == [f"{CAT} größer", CAT, CAT, "mla", r"\u72ac"]
    assert "TestSans" in (tmp_path / "a.svg").read_text()
    escaped = np.asarray(Image.open(saved(bars([r"\u732b"] * 3), tmp_path / "b")).convert("L"))
    assert drawn.shape == escaped.shape
    assert (drawn != escaped).any()


def test_figures_in_the_usual_script_are_the_same_bytes(tmp_path, monkeypatch, machine):
    names = ["MLA", "größer – κ", "$x$"]
    machine(tmp_path / "test.ttf", CAT)
    files = [saved(bars(names), tmp_path / "a")]
    monkeypatch.setattr(style, "make_drawable", lambda figure: None)
    files.append(saved(bars(names), tmp_path / "b"))
    for ending in (".svg", ".png", ".pdf"):
        first, second = (file.with_suffix(ending).read_bytes() for file in files)
        assert first == second


@pytest.mark.parametrize("has_font", [True, False])
def test_a_sheet_of_classes_in_another_script(tmp_path, monkeypatch, capsys, machine, has_font):
    if has_font:
        machine(tmp_path / "test.ttf", CAT + DOG)
    figures, save = [], sample_sheet.save_sheet

    def collect(figure, *arguments, **options):
        figures.append(figure)
        return save(figure, *arguments, **options)

    monkeypatch.setattr(sample_sheet, "save_sheet", collect)
    write_store(
        tmp_path / "s",
        name="toy",
        class_names=(CAT, "dog"),
        ids=[f"{n}" for n in range(6)],
        label=np.arange(6) % 2,
        arrays={"text": np.ones((6, 4), dtype=np.int64)},
        kinds={"text": "tokens"},
        splits={"own": NamedSplit(np.array([0, 0, 1, 1, 2, 2], dtype=np.int8), "x")},
        attributes={"text": [DOG * 40] * 6},
    )
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        sample_sheet.class_sheet(tmp_path / "s", tmp_path / "a.png", per_class=2)
    texts = {text.get_text() for text in figures[0].texts}
    cells = [text.get_text() for axis in figures[0].axes for text in axis.texts]
    printed = capsys.readouterr().out
    if has_font:
        assert f"{CAT} (3 samples)" in texts
        assert cells[0].split("\n") == [DOG * 17, DOG * 17, DOG * 6]
        assert "No font" not in printed
    else:
        assert r"\u732b (3 samples)" in texts
        lines = cells[0].split("\n")
        assert lines[:6] == [r"\u72ac" * 5] * 6
        assert lines[6].endswith("…")
        assert rf"some are escaped: \u732b is {CAT}." in printed

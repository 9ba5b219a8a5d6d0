"""Checks of figures for papers, and what a PDF holds: its width, fonts and sizes of texts."""

import re
import zlib
from pathlib import Path

from matplotlib.text import Text

from mla_lightning.report.figures.style import ONE_COLUMN, TWO_COLUMNS


def width_of(path: Path) -> float:
    """Return the width of the page in inches."""
    box = re.search(rb"/MediaBox \[([^\]]+)\]", path.read_bytes())[1]
    left, _, right, _ = map(float, box.split())
    return (right - left) / 72


def sizes_of(path: Path) -> set[float]:
    """Return the sizes of all texts in points, from the operators that choose a font."""
    found = set()
    for stream in re.findall(rb"stream\r?\n(.*?)\r?\nendstream", path.read_bytes(), re.DOTALL):
        try:
            content = zlib.decompress(stream)
        except zlib.error:
            continue
        found |= set(map(float, re.findall(rb"/F\d+ ([0-9.]+) Tf", content)))
    return found


def fonts_of(path: Path) -> tuple[set[str], bool]:
    """Return the types of the fonts, and whether the file of each is within the PDF."""
    content = path.read_bytes()
    found = re.findall(rb"/Subtype /(Type\w+|TrueType|CIDFont\w+)", content)
    descriptors = content.count(b"/Type /FontDescriptor")
    types = {name.decode() for name in found}
    return types, descriptors > 0 and content.count(b"/FontFile2 ") == descriptors


def check(figure):
    """Check that a figure has the width of a paper, 8 points everywhere, and nothing cut off."""
    assert figure.get_figwidth() in (ONE_COLUMN, TWO_COLUMNS)
    figure.draw_without_rendering()
    texts = [text for text in figure.findobj(Text) if text.get_text() and text.get_visible()]
    assert {text.get_fontsize() for text in texts} == {8}
    box = figure.get_tightbbox()
    assert box.x0 >= -0.01
    assert box.x1 <= figure.get_figwidth() + 0.01
    assert box.y0 >= -0.01
    assert box.y1 <= figure.get_figheight() + 0.01
    assert figure.get_figheight() <= 13

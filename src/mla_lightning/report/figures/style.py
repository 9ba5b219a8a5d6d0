"""Common style of all figures: colours, line styles, fonts and reproducible files."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from textwrap import fill
from typing import TYPE_CHECKING, Any

from mla_lightning.report.figures.figure_text import FONT, make_drawable
from mla_lightning.run_folder import write_bytes

if TYPE_CHECKING:
    from matplotlib.figure import Figure

#: Widths of a figure in inches: one and two columns of a paper.
ONE_COLUMN, TWO_COLUMNS = 3.3, 6.8
#: Size of all texts in points, at these widths.
FONT_SIZE = 8
#: The colour-blind safe palette of Okabe and Ito without its pale yellow.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000")
#: Significantly better and worse: colours of evidence, of nothing else.
ABOVE, BELOW, PLAIN, GREY = COLOURS[0], COLOURS[1], "#444444", "#8A8A8A"
#: The method in question, in all figures.
FOREMOST, FOREMOST_COLOUR = "mla", "#AA3377"
#: The method that is trained jointly in the plainest way: a thin black line.
PLAINEST = "concat"
#: Greys of all other methods, which a reader of the page colours by choosing them.
OTHERS = ("#5A5A5A", "#9C9C9C")
#: The grey of context: lines beyond the first five, which the legend names together.
CONTEXT = "#C6C6C6"
#: The grey of cells that are not compared.
OWN = "#EDEDED"
#: Grid lines behind data.
GRID = "#E5E5E5"
#: Modalities, in no colour of a method or of evidence.
MODALITIES = ("#009E73", "#E69F00", "#56B4E9", "#8C6D31")
STYLE: dict[Any, Any] = {
    "font.family": FONT,  # comes with matplotlib: the same figure on every machine
    "font.size": FONT_SIZE,
    "axes.titlesize": FONT_SIZE,
    "figure.titlesize": FONT_SIZE,
    "figure.titleweight": "bold",
    "legend.title_fontsize": FONT_SIZE,
    "legend.frameon": False,
    "legend.handlelength": 1.8,
    "legend.columnspacing": 1.4,
    "axes.linewidth": 0.6,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "xtick.major.size": 2.5,
    "ytick.major.size": 2.5,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "text.parse_math": False,  # a name may hold dollar signs
    "text.hinting": "no_hinting",  # texts are as wide in every resolution as the layout expects
    "pdf.fonttype": 42,  # whole fonts as TrueType, which journals ask for; 3 would be outlines
    "svg.hashsalt": "mla_lightning",  # otherwise the ids in the SVG are random
    "svg.fonttype": "path",
}
PNG_DPI = 150
#: Samples that not exactly one modality predicts correctly -> colour, in the figure of agreement.
SHARED = {"several modalities": "#666666", "fusion only": "#222222", "none": "#E8E8E8"}
#: Prefix of the id of every element that is drawn for a column; the column's name follows.
GID = "column:"
#: Separates the column's name from the tooltip in an id; no name contains it.
TOOLTIP_SEPARATOR = "\u2003"


@contextmanager
def style() -> Iterator[None]:
    """Apply this package's matplotlib settings, and none of the user's, within a context."""
    import matplotlib

    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(STYLE)
        yield


def new_figure(width: float, height: float) -> Figure:
    """Create an empty figure outside of pyplot's global state.

    Args:
        width: Width in inches: :data:`ONE_COLUMN` or :data:`TWO_COLUMNS`, so that its texts have
            their size in a paper.
        height: Height in inches.

    Returns:
        The figure.

    Example:
        >>> float(new_figure(ONE_COLUMN, 2.0).get_figwidth())
        3.3
    """
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")


def set_title(figure: Figure, text: str) -> None:
    """Write the title of a figure, at the left as texts of the page are.

    Args:
        figure: The figure.
        text: The title.

    Example:
        >>> figure = new_figure(ONE_COLUMN, 2.0)
        >>> set_title(figure, "openmoji: mean over seeds")
        >>> figure.get_suptitle()
        'openmoji: mean over seeds'
    """
    figure.suptitle(fitted(text, figure.get_figwidth()), x=0.01, ha="left")


def fitted(text: str, width: float) -> str:
    """Break a text into lines of a width.

    Args:
        text: The text.
        width: The width in inches.

    Example:
        >>> fitted("image: ridge probe, validation", 1.2).count(chr(10))
        1
    """
    return fill(text, max(8, int(width * 72 / (0.6 * FONT_SIZE))))


def save(figure: Figure, stem: Path, kinds: Sequence[str] = ("svg", "png", "pdf")) -> list[str]:
    """Write a figure as SVG, PNG and PDF, or some of these; equal figures give equal bytes.

    Names in scripts that DejaVu Sans does not have are drawn in a font of the machine that has
    them; if there is none, they are escaped.

    Args:
        figure: The figure.
        stem: Path without extension.
        kinds: The extensions.

    Returns:
        Names of the files.
    """
    names = []
    metadata: dict[str, dict[str, Any]] = {
        "svg": {"Date": None, "Creator": None},
        "png": {"Software": None},
        "pdf": {"CreationDate": None, "Creator": None, "Producer": None},
    }
    with style():
        make_drawable(figure)
        if (layout := figure.get_layout_engine()) is not None:
            layout.execute(figure)
        figure.set_layout_engine(None)  # one layout for all files; "none" would draw each twice
        for extension in kinds:
            content = io.BytesIO()
            figure.savefig(content, format=extension, dpi=PNG_DPI, metadata=metadata[extension])
            path = stem.with_name(f"{stem.name}.{extension}")  # with_suffix would cut at a dot
            write_bytes(path, content.getvalue())
            names.append(path.name)
    return names


def modality_colours(modalities: Sequence[str]) -> dict[str, str]:
    """Assign a distinct colour to each modality, none of those of methods or evidence.

    Args:
        modalities: Any number of modalities.

    Returns:
        Modality -> colour.

    Example:
        >>> modality_colours(["audio", "visual"])
        {'audio': '#009E73', 'visual': '#E69F00'}
    """
    from matplotlib import colormaps
    from matplotlib.colors import to_hex

    colours = list(MODALITIES)
    if len(modalities) > len(colours):
        turbo = colormaps["turbo"]
        colours = [to_hex(turbo((k + 0.5) / len(modalities))) for k in range(len(modalities))]
    return dict(zip(modalities, colours, strict=False))

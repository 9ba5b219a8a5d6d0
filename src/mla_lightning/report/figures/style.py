"""Common style of all figures: colours, line styles, fonts and reproducible files."""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mla_lightning.report.figures.figure_text import FONT, make_drawable
from mla_lightning.report.read.variant import REFERENCE, method_label
from mla_lightning.run_folder import write_bytes

if TYPE_CHECKING:
    from matplotlib.figure import Figure

#: The colour-blind safe palette of Okabe and Ito without its pale yellow.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000")
#: Significantly better and worse: colours of evidence, of nothing else.
ABOVE, BELOW, PLAIN, GREY = COLOURS[0], COLOURS[1], "#444444", "#8A8A8A"
#: The method in question, in all figures.
FOREMOST, FOREMOST_COLOUR = "mla", "#AA3377"
#: The method that is trained jointly in the plainest way: a thin black line.
PLAINEST = "concat"
#: Greys of all other methods, which a reader of the page colours by choosing them.
OTHERS = ("#5A5A5A", "#707070", "#868686", "#9C9C9C", "#B0B0B0", "#C4C4C4")
#: Line styles of these; dashed is reserved for the reference.
OTHER_LINES = ("-", ":", "-.")
#: Modalities, in no colour of a method or of evidence.
MODALITIES = ("#009E73", "#E69F00", "#56B4E9", "#8C6D31")
STYLE: dict[Any, Any] = {
    "font.family": FONT,  # comes with matplotlib: the same figure on every machine
    "font.size": 9,
    "axes.titlesize": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "text.parse_math": False,  # a name may hold dollar signs
    "pdf.fonttype": 42,  # whole fonts as TrueType, which journals ask for; 3 would be outlines
    "svg.hashsalt": "mla_lightning",  # otherwise the ids in the SVG are random
    "svg.fonttype": "path",
}
PNG_DPI = 150
#: Line styles of ablations and other settings of one method.
LINES = ("-", ":", "-.", (0, (1, 3)))
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
        width: Width in inches.
        height: Height in inches.

    Returns:
        The figure.
    """
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")


def save(figure: Figure, stem: Path) -> list[str]:
    """Write a figure as SVG, PNG and PDF; equal figures give equal bytes.

    Names in scripts that DejaVu Sans does not have are drawn in a font of the machine that has
    them; if there is none, they are escaped.

    Args:
        figure: The figure.
        stem: Path without extension.

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
        for extension, fields in metadata.items():
            content = io.BytesIO()
            figure.savefig(content, format=extension, dpi=PNG_DPI, metadata=fields)
            path = stem.with_name(f"{stem.name}.{extension}")  # with_suffix would cut at a dot
            write_bytes(path, content.getvalue())
            names.append(path.name)
    return names


def line_styles(labels: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Assign to each column the same line in all figures: the method in question stands out.

    MLA is thick and coloured, with its ablations and other settings thinner in the same colour.
    The references are black: trained alone dashed, Concat solid. All others are grey.

    Args:
        labels: Labels of the columns.

    Returns:
        Label -> keyword arguments of ``plot``.

    Example:
        >>> styles = line_styles(["QMF", "MLA", "Unimodal"])
        >>> styles["MLA"]["linewidth"] > styles["QMF"]["linewidth"]
        True
        >>> styles["Unimodal"]["color"], styles["Unimodal"]["linestyle"]
        ('black', '--')
    """
    plain = method_label(REFERENCE)
    foremost = _of_method(FOREMOST, labels)
    reference = _of_method(REFERENCE, labels)
    concat = _of_method(PLAINEST, labels)
    styles: dict[str, dict[str, Any]] = {}
    for index, label in enumerate(foremost):
        width = 2.6 if index == 0 else 1.4
        styles[label] = _line(FOREMOST_COLOUR, LINES[index % len(LINES)], width, 5)
    for index, label in enumerate([plain, *(label for label in reference if label != plain)]):
        styles[label] = _line("black", ("--", ":", "-.")[index % 3], 1.3, 4)
    for index, label in enumerate(concat):
        styles[label] = _line("black", LINES[index % len(LINES)], 1.0, 4)
    others = [label for label in labels if label not in styles]
    for index, label in enumerate(others):
        turn, line = divmod(index, len(OTHER_LINES))
        width = 1.0 if turn < len(OTHERS) else 1.8
        styles[label] = _line(OTHERS[turn % len(OTHERS)], OTHER_LINES[line], width, 2)
    return styles


def is_prominent(line_style: Mapping[str, Any]) -> bool:
    """Return whether a line is of the method in question or of a reference; these have bands.

    Args:
        line_style: The line, of :func:`line_styles`.

    Example:
        >>> styles = line_styles(["MLA", "QMF"])
        >>> is_prominent(styles["MLA"]), is_prominent(styles["QMF"])
        (True, False)
    """
    return bool(line_style["color"] not in OTHERS)


def _of_method(method: str, labels: Sequence[str]) -> list[str]:
    """Return the columns of a method: alone first, then with ablations and other settings."""
    name = method_label(method)
    plain = [label for label in labels if label == name]
    return plain + [label for label in labels if label.startswith(f"{name} ")]


def _line(colour: str, line: Any, width: float, order: int) -> dict[str, Any]:
    return {"color": colour, "linestyle": line, "linewidth": width, "zorder": order}


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

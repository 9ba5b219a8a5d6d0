"""Common style of all figures: colours, line styles, fonts and reproducible files."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
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
ABOVE, BELOW, PLAIN, GREY = COLOURS[0], COLOURS[1], "#444444", "#8A8A8A"
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
#: Line styles of the columns once all colours are used; dashed is reserved for the reference.
LINES = ("-", ":", "-.", (0, (1, 3)))
#: Samples that not exactly one modality predicts correctly -> colour, in the figure of agreement.
SHARED = {"several modalities": "#666666", "fusion only": "#E69F00", "none": "#E8E8E8"}
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
    """Assign a colour and a line style to each column; the reference is black and dashed.

    Args:
        labels: Labels of the columns.

    Returns:
        Label -> keyword arguments of ``plot``.

    Example:
        >>> styles = line_styles(["MLA", "Unimodal"])
        >>> styles["MLA"]["linestyle"], styles["Unimodal"]
        ('-', {'color': 'black', 'linestyle': '--'})
    """
    plain = method_label(REFERENCE)
    reference = [label for label in labels if label == plain or label.startswith(f"{plain} ")]
    others = [label for label in labels if label not in reference]
    colours = COLOURS[:-1]
    styles: dict[str, dict[str, Any]] = {
        label: {
            "color": colours[index % len(colours)],
            "linestyle": LINES[index // len(colours) % len(LINES)],
        }
        for index, label in enumerate(others)
    }
    for index, label in enumerate([plain, *(label for label in reference if label != plain)]):
        styles[label] = {"color": "black", "linestyle": ("--", ":", "-.")[index % 3]}
    return styles


def modality_colours(modalities: Sequence[str]) -> dict[str, str]:
    """Assign a distinct colour to each modality, none of those of :data:`SHARED`.

    Args:
        modalities: Any number of modalities.

    Returns:
        Modality -> colour.

    Example:
        >>> modality_colours(["audio", "visual"])
        {'audio': '#0072B2', 'visual': '#D55E00'}
    """
    from matplotlib import colormaps
    from matplotlib.colors import to_hex

    colours = [colour for colour in COLOURS if colour not in SHARED.values()]
    if len(modalities) > len(colours):
        turbo = colormaps["turbo"]
        colours = [to_hex(turbo((k + 0.5) / len(modalities))) for k in range(len(modalities))]
    return dict(zip(modalities, colours, strict=False))

"""How all figures look: colours and dashes, fonts, and files that are the same byte for byte."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mla_lightning.report.read.variant import REFERENCE, method_label

if TYPE_CHECKING:
    from matplotlib.figure import Figure

#: Okabe and Ito's colours, which colour-blind readers tell apart; the pale yellow is left out.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000")
ABOVE, BELOW, PLAIN, GREY = COLOURS[0], COLOURS[1], "#444444", "#8A8A8A"
STYLE: dict[Any, Any] = {
    "font.family": "DejaVu Sans",  # comes with matplotlib: the same picture on every machine
    "font.size": 9,
    "axes.titlesize": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "text.parse_math": False,  # names are no formulas, whatever characters they hold
    "svg.hashsalt": "mla_lightning",  # else the ids in the SVG differ from run to run
    "svg.fonttype": "path",
}
PNG_DPI = 150
#: Of columns whose colour an earlier one has. Dashes are for the reference alone.
LINES = ("-", ":", "-.", (0, (1, 3)))
#: What is no single modality's, in the figure of contributions.
SHARED = {"several": "#666666", "only together": "#E69F00", "nobody": "#E8E8E8"}
#: Begins the id of what is drawn of a column; its name follows.
GID = "column:"
#: Stands between a column's name and what is told of it; no name has it.
TELLS = "\u2003"


@contextmanager
def style() -> Iterator[None]:
    """Draw with this package's settings, whatever the user's matplotlibrc says."""
    import matplotlib

    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(STYLE)
        yield


def new_figure(width: float, height: float) -> Figure:
    """Make an empty figure that no window system and no global state knows of.

    Args:
        width: In inches.
        height: In inches.

    Returns:
        The figure.
    """
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")


def save(figure: Figure, stem: Path) -> list[str]:
    """Write a figure as SVG, PNG and PDF, byte for byte the same for the same data.

    Args:
        figure: The figure.
        stem: Path without ending.

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
        figure.draw_without_rendering()
        figure.set_layout_engine("none")  # laid out once, so all files look alike
        for ending, about in metadata.items():
            content = io.BytesIO()
            figure.savefig(content, format=ending, dpi=PNG_DPI, metadata=about)
            path = stem.with_name(f"{stem.name}.{ending}")  # with_suffix would cut names with dots
            path.write_bytes(content.getvalue())
            names.append(path.name)
    return names


def paint(labels: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Choose colour and dashes of each column; the reference is black and dashed.

    Args:
        labels: The columns.

    Returns:
        Column -> what ``plot`` takes.
    """
    plain = method_label(REFERENCE)
    reference = [label for label in labels if label == plain or label.startswith(f"{plain} ")]
    others = [label for label in labels if label not in reference]
    colours = COLOURS[:-1]
    found: dict[str, dict[str, Any]] = {
        label: {
            "color": colours[place % len(colours)],
            "linestyle": LINES[place // len(colours) % len(LINES)],
        }
        for place, label in enumerate(others)
    }
    for place, label in enumerate([plain, *(label for label in reference if label != plain)]):
        found[label] = {"color": "black", "linestyle": ("--", ":", "-.")[place % 3]}
    return found


def shades(modalities: Sequence[str]) -> dict[str, str]:
    """Choose a colour for each modality, none of :data:`SHARED` and no two alike.

    Args:
        modalities: Any number of modalities.

    Returns:
        Modality -> colour.
    """
    from matplotlib import colormaps
    from matplotlib.colors import to_hex

    found = [colour for colour in COLOURS if colour not in SHARED.values()]
    if len(modalities) > len(found):
        turbo = colormaps["turbo"]
        found = [to_hex(turbo((k + 0.5) / len(modalities))) for k in range(len(modalities))]
    return dict(zip(modalities, found, strict=False))

"""Figures of features in a plane, by principal components, t-SNE or UMAP: a column per method."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from mla_lightning.report.figures.beside import beside
from mla_lightning.report.figures.lines import emphasis, in_question, left_out
from mla_lightning.report.figures.style import (
    GID,
    ONE_COLUMN,
    TWO_COLUMNS,
    modality_colours,
    new_figure,
    set_title,
    style,
)
from mla_lightning.report.read.diagnostics import BlockDiagnostics
from mla_lightning.run_folder.tasks import CLASSIFICATION, MULTILABEL, REGRESSION

if TYPE_CHECKING:
    import numpy as np
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

#: Task -> what colours the samples, and the map of colours; that of classes depends on how many.
COLOURED_BY = {
    CLASSIFICATION: ("class", ""),
    REGRESSION: ("true value", "viridis"),
    MULTILABEL: ("number of labels", "viridis"),
}
#: Maps of distinct colours for classes, by their number of colours; beyond the last they repeat.
CLASS_COLOURS = {10: "tab10", 20: "tab20"}
NUM_COLOURS = max(CLASS_COLOURS)
#: Largest number of classes that the legend names.
MAX_NAMED = 12
#: Diameter of the dots of a legend, in points.
DOT = 5.5


def pca(diagnostics: BlockDiagnostics) -> Figure | None:
    """Draw the features in the plane of their first two principal components."""
    return _projected_features(diagnostics, "pca")


def tsne(diagnostics: BlockDiagnostics) -> Figure | None:
    """Draw the features in the plane of a t-SNE."""
    return _projected_features(diagnostics, "tsne")


def umap(diagnostics: BlockDiagnostics) -> Figure | None:
    """Draw the features in the plane of a UMAP."""
    return _projected_features(diagnostics, "umap")


def _projected_features(diagnostics: BlockDiagnostics, projection: str) -> Figure | None:
    """Draw features in a plane, coloured by modality and by label, with a column per method."""
    planes = {
        label: arrays
        for label, arrays in diagnostics.planes.items()
        if any(name.startswith(f"{projection}/") for name in arrays)
    }
    labels = in_question(list(planes))
    if not labels:
        return None
    task = diagnostics.task or CLASSIFICATION
    colours = modality_colours(diagnostics.modalities)
    values = {label: _values(planes[label]) for label in labels}
    ends, colour_map = _scale([*values.values()], task)
    with style():
        is_narrow = len(labels) <= 2
        figure = new_figure(ONE_COLUMN if is_narrow else TWO_COLUMNS, 3.9)
        axes = figure.subplots(2, len(labels), squeeze=False)
        for column, label in enumerate(labels):
            above, below = axes[0][column], axes[1][column]
            for name, (xy, of_samples) in _points(
                planes[label], values[label], projection, diagnostics.modalities
            ).items():
                above.scatter(*xy.T, color=colours[name], s=4, linewidths=0)
                options: dict[str, Any] = {
                    "vmin": ends[0],
                    "vmax": ends[1],
                    "s": 4,
                    "linewidths": 0,
                }
                below.scatter(*xy.T, c=of_samples, cmap=colour_map, **options)
            for axis in (above, below):
                axis.set_gid(GID + label)
                axis.set_xticks([])
                axis.set_yticks([])
            above.set_title(label, loc="left", **emphasis(label))
        axes[0][0].set_ylabel("by modality")
        axes[1][0].set_ylabel(f"by {COLOURED_BY[task][0]}")
        _name_colours(figure, list(axes[1]), diagnostics, ends, colour_map)
        set_title(figure, diagnostics.title)
        beside(figure).remark = _remark(diagnostics, list(planes), labels)
    return figure


def _values(arrays: Mapping[str, np.ndarray]) -> np.ndarray:
    """Return what colours the samples (N,): class, true value or number of labels."""
    labelled = arrays["label"]
    return labelled.sum(axis=1) if labelled.ndim == 2 else labelled


def _scale(values: Sequence[np.ndarray], task: str) -> tuple[tuple[float, float], str]:
    """Return the ends of the scale of colours and its map, the same for all columns."""
    largest = float(max(v.max() for v in values))
    if task == CLASSIFICATION:
        num = next((num for num in CLASS_COLOURS if largest < num), NUM_COLOURS)
        return (-0.5, num - 0.5), CLASS_COLOURS[num]
    return (float(min(v.min() for v in values)), largest), COLOURED_BY[task][1]


def _points(
    arrays: Mapping[str, np.ndarray], values: np.ndarray, projection: str, names: Sequence[str]
) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Return modality -> positions (N, 2) and values (N,) of the samples that have it."""
    points = {}
    for name in names:
        if f"{projection}/{name}" not in arrays:
            continue
        xy, of_samples = arrays[f"{projection}/{name}"], values
        if (is_present := arrays.get(f"present/{name}")) is not None:
            xy, of_samples = xy[is_present], of_samples[is_present]
        points[name] = xy, of_samples % NUM_COLOURS if of_samples.dtype.kind == "i" else of_samples
    return points


def _name_colours(
    figure: Figure,
    below: list[Axes],
    diagnostics: BlockDiagnostics,
    ends: tuple[float, float],
    colour_map: str,
) -> None:
    """Add a legend of modalities and classes, or a bar of colours for values."""
    from matplotlib import colormaps
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize
    from matplotlib.lines import Line2D

    task = diagnostics.task or CLASSIFICATION
    rows = [dict[str, Any](modality_colours(diagnostics.modalities))]
    classes = diagnostics.class_names
    if task == CLASSIFICATION:
        if len(classes) <= MAX_NAMED:
            colours = colormaps[colour_map]
            rows.append({name: colours(place) for place, name in enumerate(classes)})
    else:
        values = ScalarMappable(Normalize(*ends), colour_map)
        figure.colorbar(values, ax=below, label=COLOURED_BY[task][0], aspect=12)
    longest = max(len(name) for row in rows for name in row)
    num = max(1, int(figure.get_figwidth() * 72 / (4.8 * longest + 26)))
    num = min(num, max(map(len, rows)))
    starts = [(row, start) for row in rows for start in range(0, len(row), num)]
    lines = [[*row.items()][start : start + num] for row, start in starts]
    padded = [[*line, *[("", "none")] * (num - len(line))] for line in lines]
    handles = [  # a legend is filled from top to bottom
        Line2D([], [], linestyle="", marker="o", markersize=DOT, color=colour, label=name)
        for column in zip(*padded, strict=True)
        for name, colour in column
    ]
    figure.legend(
        handles=handles,
        loc="outside lower left",
        ncols=num,
        columnspacing=1.0,
        handletextpad=0.1,
    )


def _remark(diagnostics: BlockDiagnostics, with_plane: Sequence[str], shown: Sequence[str]) -> str:
    without = [label for label in diagnostics.labels if label not in with_plane]
    sentences = [left_out(with_plane, shown)]
    if without:
        sentences.append(
            f"Not drawn: {', '.join(without)}, whose modalities have no features in one space."
        )
    num = len(diagnostics.class_names)
    if not diagnostics.task and num > MAX_NAMED:
        repeat = f", which repeat after {NUM_COLOURS}" if num > NUM_COLOURS else ""
        sentences.append(f"The {num} classes have colours{repeat}, and no legend.")
    return " ".join(sentence for sentence in sentences if sentence)

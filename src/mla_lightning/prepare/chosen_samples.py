"""Sheet of chosen samples of a split, each with lines of text that may be right or wrong."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from mla_lightning.data.base import MultimodalDataModule
from mla_lightning.data.order import Request
from mla_lightning.prepare.sample_sheet import (
    draw,
    draw_absent,
    escape_dollars,
    frames_first,
    save_sheet,
)
from mla_lightning.prepare.sheet_text import without_middle
from mla_lightning.report.figures.figure_text import drawable
from mla_lightning.report.figures.style import ABOVE, BELOW

#: A line below a sample's name, and whether it is right; None where that is not asked.
Line = tuple[str, bool | None]
#: Whether a line is right -> its mark and colour.
MARKS = {True: ("✓ ", ABOVE), False: ("✗ ", BELOW), None: ("", "black")}
#: Samples beside each other, and the sizes of the sheet in pixels.
COLUMNS = 8
_DPI, _TITLE, _WIDTH, _IMAGE, _TEXT, _LINE, _GAP = 96, 34, 180, 120, 44, 16, 8
#: Letters of 8 pt that fit into a cell.
_LETTERS = 26
#: Images whose encoders take white as 0 and black as 1.
WHITE_IS_ZERO = (("openmoji", "image"),)


def chosen_samples(
    data: MultimodalDataModule,
    split: str,
    numbers: Sequence[int],
    lines: Sequence[Sequence[Line]],
    output: Path,
    *,
    title: str = "",
) -> Path:
    """Draw chosen samples of a split: a cell per sample with its name, lines, and modalities.

    Args:
        data: The data.
        split: ``train``, ``val`` or ``test``.
        numbers: Numbers of the samples in the split.
        lines: The lines of each sample. Those that are right have a tick, those that are wrong a
            cross.
        output: The image file; its suffix sets the format.
        title: Title of the sheet.

    Returns:
        The file.

    Raises:
        ConfigError: If the file cannot be written.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    batch = data.splits[split][Request(0, torch.tensor(list(numbers)))]
    heights = {name: _height(batch["inputs"][name]) for name in data.modalities}
    head = _LINE * (1 + max(map(len, lines))) + _GAP
    cell = head + sum(heights.values()) + 2 * _GAP
    width = COLUMNS * _WIDTH
    height = _TITLE + cell * -(-len(numbers) // COLUMNS)
    figure = Figure(figsize=(width / _DPI, height / _DPI), dpi=_DPI)
    FigureCanvasAgg(figure)

    def write(x: float, y: float, content: str, **style: Any) -> None:
        figure.text(x / width, 1 - y / height, escape_dollars(content), va="top", **style)

    write(_GAP, _GAP, title, fontsize=10, weight="bold")
    names = data.sample_names(split, numbers)
    for position, name in enumerate(names):
        row, column = divmod(position, COLUMNS)
        left, top = column * _WIDTH + _GAP, _TITLE + row * cell
        write(left, top, without_middle(drawable(name), _LETTERS), fontsize=8, weight="bold")
        for place, (text, is_right) in enumerate(lines[position], start=1):
            mark, colour = MARKS[is_right]
            content = mark + without_middle(drawable(text), _LETTERS)
            write(left, top + _LINE * place, content, fontsize=8, color=colour)
        below = top + head
        for modality, extent in heights.items():
            below += extent
            bottom = (height - below) / height
            size = ((_WIDTH - 2 * _GAP) / width, (extent - _GAP) / height)
            axis = figure.add_axes((left / width, bottom, *size))
            axis.set_axis_off()
            if not bool(batch["present"][modality][position]):
                draw_absent(axis)
                continue
            values = batch["inputs"][modality][position].numpy()
            if (data.name, modality) in WHITE_IS_ZERO:
                values = 1 - values
            if values.ndim == 4:  # the middle one of the frames
                frames = frames_first(values)
                values = frames[len(frames) // 2]
            draw(axis, values, modality, name)
    return save_sheet(figure, output)


def _height(inputs: torch.Tensor) -> int:
    """Return the height of a modality: a line of words needs less than an image."""
    is_words = not inputs.is_floating_point() and inputs.ndim == 2
    return _TEXT if is_words else _IMAGE

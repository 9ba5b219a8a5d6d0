"""Pictures of chosen samples, as encoders are given them."""

from __future__ import annotations

import textwrap
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from mla_lightning.data.base import MultimodalDataModule
from mla_lightning.data.loading import Request

if TYPE_CHECKING:
    from matplotlib.axes import Axes

COLUMNS = 8
#: Pictures whose encoders are given white as 0 and black as 1.
WHITE_IS_ZERO = (("openmoji", "image"),)


def sample_sheet(
    data: MultimodalDataModule,
    split: str,
    numbers: Sequence[int],
    captions: Sequence[str],
    output: Path,
) -> Path:
    """Draw samples: a cell each, a line per modality, what they are called and a caption.

    Args:
        data: The data.
        split: The split.
        numbers: Numbers of the samples in the split.
        captions: A caption each.
        output: The picture; its ending says in which format.

    Returns:
        The file.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    names = data.modalities
    rows = -(-len(numbers) // COLUMNS)
    figure = Figure(figsize=(2.1 * COLUMNS, (1.5 * len(names) + 0.9) * rows), dpi=80)
    FigureCanvasAgg(figure)
    axes = figure.subplots(rows * len(names), COLUMNS, squeeze=False)
    for axis in axes.flat:
        axis.set_axis_off()
    dataset = data.splits[split]
    batch = dataset[Request(0, torch.tensor(list(numbers)))]
    called = data.called(split, numbers)
    for place, (name, caption) in enumerate(zip(called, captions, strict=True)):
        row, column = divmod(place, COLUMNS)
        for line, modality in enumerate(names):
            axis = axes[row * len(names) + line][column]
            if line == 0:
                axis.set_title(_plain(f"{_wrapped(name)}\n{caption}"), fontsize=7)
            if bool(batch["present"][modality][place]):
                values = batch["inputs"][modality][place].numpy()
                if (data.name, modality) in WHITE_IS_ZERO:
                    values = 1 - values
                _draw(axis, values, modality, name)
            else:
                axis.text(0.5, 0.5, "absent", ha="center", va="center", fontsize=8, color="grey")
    output.parent.mkdir(parents=True, exist_ok=True)
    with warnings.catch_warnings():
        # Signs that the font lacks, such as Chinese ones, are drawn as boxes.
        warnings.filterwarnings("ignore", message="Glyph", category=UserWarning)
        figure.tight_layout()
        figure.savefig(output)
    return output


def _draw(axis: Axes, values: np.ndarray, modality: str, name: str) -> None:
    if values.dtype.kind in "iu" and values.ndim == 1:
        # Tokens are numbers; what they stand for is in the sample's name.
        said = textwrap.fill(_plain(_wrapped(name)), 22)
        axis.text(0.5, 0.5, f"{modality}:\n{said}", ha="center", va="center", fontsize=7)
    elif values.ndim == 4:  # frames: one of the middle
        axis.imshow(_picture(values[:, values.shape[1] // 2]))
    elif values.ndim == 3 and values.shape[0] in {1, 3}:
        picture = _picture(values)
        axis.imshow(picture if values.shape[0] == 3 else picture[..., 0], cmap="gray")
    elif values.ndim == 2:
        image = values.T if values.shape[0] > values.shape[1] else values
        axis.imshow(image.astype(np.float32), aspect="auto", origin="lower", cmap="magma")
    else:
        axis.plot(values.reshape(-1).astype(np.float32), linewidth=0.7)


def _picture(values: np.ndarray) -> np.ndarray:
    picture = values.transpose(1, 2, 0).astype(np.float32)
    low, high = float(picture.min()), float(picture.max())
    if low >= 0 and high <= 1:
        return picture
    return (picture - low) / max(high - low, 1e-6)


def _wrapped(text: str) -> str:
    return textwrap.shorten(text, 60, placeholder="…")


def _plain(text: str) -> str:
    return text.replace("$", r"\$")

"""Sheets of samples as images: of every class of a store, or of chosen samples of a split."""

from __future__ import annotations

import io
import textwrap
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from mla_lightning.data.base import MultimodalDataModule
from mla_lightning.data.loading import Request
from mla_lightning.data.prepared import TEXTS
from mla_lightning.data.splits import SPLITS
from mla_lightning.data.store import OpenStore, open_store
from mla_lightning.errors import ConfigError, check_number
from mla_lightning.randomness import derive_seed
from mla_lightning.run_folder import write_bytes

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

#: Largest number of classes on one sheet; more would not be legible.
MAX_CLASSES = 40
#: Stands for the class of samples without labels.
NO_LABEL = "no label"
#: Columns of a sheet of chosen samples.
COLUMNS = 8
#: Images whose encoders take white as 0 and black as 1.
WHITE_IS_ZERO = (("openmoji", "image"),)


def class_sheet(
    store: Path, output: Path, *, per_class: int = 4, seed: int = 0, split: str | None = None
) -> Path:
    """Draw samples of every class of a store, with their labels and ids.

    Args:
        store: The store.
        output: The PNG file.
        per_class: Number of samples of each class, drawn at random.
        seed: Seed of the draw.
        split: Name of the split whose train, val or test is written beside the ids; None for the
            store's default one.

    Returns:
        The file.

    Raises:
        ConfigError: If a number is out of range or the file cannot be written.
        DataError: If the folder is not a store.
    """
    check_number("per_class", per_class, 1, 50)
    if output.suffix.lower() != ".png":
        raise ConfigError(f"output={output}: the sheet is a .png file")
    opened = open_store(store)
    manifest, modalities = opened.manifest, opened.modalities
    class_names = list(manifest["class_names"]) or [NO_LABEL]
    drawn_names = class_names[:MAX_CLASSES]
    if len(drawn_names) < len(class_names):
        print(f"Showing the first {len(drawn_names)} of {len(class_names)} classes.")
    codes = np.asarray(opened.split(split or manifest["default_split"]))
    label = np.asarray(opened.label) if manifest["class_names"] else np.zeros(len(codes), int)
    num_lines = len(drawn_names) * len(modalities)
    figure, axes = _subplots((2.6 * per_class + 1, 1.9 * num_lines + 0.6), num_lines, per_class)
    for number, class_name in enumerate(drawn_names):
        rng = np.random.default_rng(derive_seed(seed, number))
        rows = rng.permutation(np.flatnonzero(label == number))[:per_class]
        for line, modality in enumerate(modalities):
            for column in range(per_class):
                axis = axes[number * len(modalities) + line][column]
                axis.set_xticks([])
                axis.set_yticks([])
                if column >= len(rows):
                    axis.axis("off")
                    continue
                row = int(rows[column])
                _draw_row(axis, opened, modality, row)
                if line == 0:
                    split_name = (*SPLITS, "unused")[int(codes[row])]
                    axis.set_title(f"{_last(str(opened.ids[row]), 28)} ({split_name})", fontsize=7)
                if column == 0:
                    axis.set_ylabel(f"{_last(class_name, 20)}\n{modality}", fontsize=8)
    figure.suptitle(
        f"{manifest['name']}: {len(label)} samples, {len(manifest['class_names'])} classes"
    )
    return _save(figure, output)


def sample_sheet(
    data: MultimodalDataModule,
    split: str,
    numbers: Sequence[int],
    captions: Sequence[str],
    output: Path,
) -> Path:
    """Draw chosen samples of a split: a cell per sample with a line per modality, name and caption.

    Args:
        data: The data.
        split: ``train``, ``val`` or ``test``.
        numbers: Numbers of the samples in the split.
        captions: A caption per sample.
        output: The image file; its suffix sets the format.

    Returns:
        The file.

    Raises:
        ConfigError: If the file cannot be written.
    """
    modalities = data.modalities
    num_rows = -(-len(numbers) // COLUMNS)
    size = (2.1 * COLUMNS, (1.5 * len(modalities) + 0.9) * num_rows)
    figure, axes = _subplots(size, num_rows * len(modalities), COLUMNS)
    for axis in axes.flat:
        axis.set_axis_off()
    batch = data.splits[split][Request(0, torch.tensor(list(numbers)))]
    names = data.sample_names(split, numbers)
    for position, (name, caption) in enumerate(zip(names, captions, strict=True)):
        row, column = divmod(position, COLUMNS)
        for line, modality in enumerate(modalities):
            axis = axes[row * len(modalities) + line][column]
            if line == 0:
                title = f"{textwrap.shorten(name, 60, placeholder='…')}\n{caption}"
                axis.set_title(_escaped(title), fontsize=7)
            if bool(batch["present"][modality][position]):
                values = batch["inputs"][modality][position].numpy()
                if (data.name, modality) in WHITE_IS_ZERO:
                    values = 1 - values
                if values.ndim == 4:  # the middle one of the frames
                    frames = _frames(values)
                    values = frames[len(frames) // 2]
                _draw(axis, values, modality, name)
            else:
                _draw_absent(axis)
    return _save(figure, output)


# ---------------------------------------------------------------------- cells


def _draw_row(axis: Axes, store: OpenStore, modality: str, row: int) -> None:
    """Draw a modality of one row of a store."""
    present = store.present(modality)
    if present is not None and not bool(present[row]):
        _draw_absent(axis)
        return
    values = store.array(modality)[row]
    text_attributes = [name for name in TEXTS if name in store.attributes]
    if text_attributes:
        text = store.attribute(text_attributes[0])[row]
    else:
        ids = values[values != 0].tolist()
        text = f"{len(ids)} tokens: " + " ".join(map(str, ids[:24]))
    _draw(axis, values, modality, text)


def _draw(axis: Axes, values: np.ndarray, modality: str, text: str) -> None:
    """Draw an input by its type and shape; the text stands for token ids."""
    if values.dtype.kind in "iu" and values.ndim == 1:
        wrapped = textwrap.fill(_escaped(textwrap.shorten(text, 200, placeholder="…")), 26)
        axis.text(0.5, 0.5, f"{modality}:\n{wrapped}", ha="center", va="center", fontsize=7)
    elif values.ndim == 4:
        images = [_pixels(frame) for frame in _frames(values)]
        axis.imshow(np.concatenate(images, axis=1), cmap="gray")
    elif values.ndim == 3 and values.shape[0] in {1, 3}:
        axis.imshow(_pixels(values), cmap="gray")
    elif values.ndim == 2:
        # Time to the right: time is the first and longer axis of log-mel arrays.
        image = values.T if values.shape[0] > values.shape[1] else values
        axis.imshow(image.astype(np.float32), aspect="auto", origin="lower", cmap="magma")
    else:
        axis.plot(values.reshape(-1).astype(np.float32), linewidth=0.7)


def _draw_absent(axis: Axes) -> None:
    axis.text(0.5, 0.5, "absent", ha="center", va="center", fontsize=8, color="grey")


def _frames(values: np.ndarray) -> np.ndarray:
    """Return frames as (T, C, H, W): a store has channels second, encoders take them first."""
    return values if values.shape[1] in {1, 3} else values.transpose(1, 0, 2, 3)


def _pixels(values: np.ndarray) -> np.ndarray:
    """Convert an image (C, H, W) to (H, W, C) with values from 0 to 1."""
    pixels = values.transpose(1, 2, 0).astype(np.float32)
    if values.dtype == np.uint8:
        return pixels / 255.0
    low, high = float(pixels.min()), float(pixels.max())
    return pixels if low >= 0 and high <= 1 else (pixels - low) / max(high - low, 1e-6)


def _last(text: str, length: int) -> str:
    """Return the last characters of a long text."""
    return _escaped(text if len(text) <= length else f"…{text[-length + 1 :]}")


def _escaped(text: str) -> str:
    """Escape dollar signs, which would start a formula."""
    return text.replace("$", r"\$")


# ---------------------------------------------------------------------- figures


def _subplots(size: tuple[float, float], rows: int, columns: int) -> tuple[Figure, np.ndarray]:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=size, dpi=80)
    FigureCanvasAgg(figure)
    return figure, figure.subplots(rows, columns, squeeze=False)


def _save(figure: Figure, output: Path) -> Path:
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        with warnings.catch_warnings():
            # Characters that the font does not have, such as Chinese ones, are drawn as boxes.
            warnings.filterwarnings("ignore", message="Glyph", category=UserWarning)
            figure.tight_layout()
            content = io.BytesIO()
            figure.savefig(content, format=output.suffix.lower().removeprefix(".") or None)
        write_bytes(output, content.getvalue())
    except OSError as error:
        raise ConfigError(f"{output} cannot be written: {error.strerror}") from error
    return output

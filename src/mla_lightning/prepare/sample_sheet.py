"""Sheets of samples of every class of a store, as images."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mla_lightning.data.manifest import TEXTS
from mla_lightning.data.splits import SPLITS
from mla_lightning.data.store import OpenStore, open_store
from mla_lightning.data.targets import range_text, targets_of
from mla_lightning.errors import ConfigError, check_number
from mla_lightning.prepare.sheet_text import without_middle, without_start, wrapped
from mla_lightning.randomness import derive_seed
from mla_lightning.report.figures.figure_text import drawable, is_escaped, make_drawable
from mla_lightning.run_folder import write_bytes
from mla_lightning.run_folder.tasks import MULTILABEL, REGRESSION

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

#: Largest number of pages; the first classes are drawn.
MAX_PAGES = 20
#: Sizes in pixels: a page, the line of its title, a class's name, the ids of samples, a cell with
#: the gap to the next one, and the margin with the names of the modalities.
_SCREEN, _CELL = (1700, 1000), (200, 108)
_TITLE, _HEADING, _CAPTION, _GAP, _MARGIN = 30, 26, 16, 6, 26
_DPI, _LEAST_WIDTH = 96, 480
#: Stands for the class of samples without labels.
NO_LABEL = "no label"
#: Number of parts of the range of a target, of about equally many samples, that are drawn.
NUM_RANGES = 5
#: Largest number of escaped names that are printed.
MAX_NAMED = 10
#: Most samples beside each other.
COLUMNS = 8


def class_sheet(
    store: Path, output: Path, *, per_class: int = 4, seed: int = 0, split: str | None = None
) -> Path:
    """Draw samples of every class of a store, with their labels and ids, on pages of a screen.

    Of a regression target, samples of five parts of its range are drawn, with their targets; of
    several labels per sample, those that have each label.

    Args:
        store: The store.
        output: The PNG file of the first page; further pages are beside it, ``NAME-2.png``, ...
        per_class: Number of samples of each class, drawn at random.
        seed: Seed of the draw.
        split: Name of the split whose train, val or test is written beside the ids; None for the
            store's default one.

    Returns:
        The file of the first page.

    Raises:
        ConfigError: If a number is out of range or the file cannot be written.
        DataError: If the folder is not a store.
    """
    from matplotlib.text import Text

    check_number("per_class", per_class, 1, 50)
    if output.suffix.lower() != ".png":
        raise ConfigError(f"output={output}: the sheet is a .png file")
    opened = open_store(store)
    manifest, modalities = opened.manifest, opened.modalities
    members_of = _members(opened)
    codes = np.asarray(opened.split(split or manifest["default_split"]))
    pages = _pages(len(members_of), per_class, len(modalities))
    if len(pages) > MAX_PAGES:
        pages = pages[:MAX_PAGES]
        print(f"Showing the first {pages[-1].stop} of {len(members_of)} classes.")
    phrase = targets_of(opened.task, str(store)).phrase(opened.label, manifest["class_names"])
    has_escapes = False
    for page, classes in enumerate(pages):
        title = f"{manifest['name']}: {len(opened)} samples, {phrase}"
        if len(pages) > 1:
            title += f"; page {page + 1} of {len(pages)}"
        blocks = []
        for number in classes:
            rng = np.random.default_rng(derive_seed(seed, number))
            name, members = members_of[number]
            rows = rng.permutation(members)[:per_class].tolist()
            blocks.append((f"{name} ({len(members)} samples)", rows))
        figure = _page(opened, title, blocks, codes, per_class)
        save_sheet(figure, _page_file(output, page))
        has_escapes |= any(is_escaped(text.get_text()) for text in figure.findobj(Text))
    if len(pages) > 1:
        print(f"Further pages: {_page_file(output, 1)} to {_page_file(output, len(pages) - 1)}")
    _print_escapes([name for name, _ in members_of], has_escapes)
    return output


def _members(store: OpenStore) -> list[tuple[str, np.ndarray]]:
    """Return the samples of each class, label, or part of the range of a target, with its name."""
    label, names = np.asarray(store.label), list(store.manifest["class_names"])
    if not store.is_labelled:
        return [(NO_LABEL, np.arange(len(label)))]
    if store.task == REGRESSION:
        edges = np.unique(np.quantile(label, np.linspace(0, 1, NUM_RANGES + 1)[1:-1]))
        part = np.searchsorted(edges, label, side="right")
        rows_of = [np.flatnonzero(part == number) for number in np.unique(part)]
        return [(f"target {range_text(label[rows])}", rows) for rows in rows_of]
    if store.task == MULTILABEL:
        members = [(name, np.flatnonzero(label[:, k])) for k, name in enumerate(names)]
        rest = np.flatnonzero(label.sum(axis=1) == 0)
        return [*members, *([("none of the labels", rest)] if len(rest) else [])]
    return [(name, np.flatnonzero(label == number)) for number, name in enumerate(names)]


def _page_file(output: Path, page: int) -> Path:
    return output.with_stem(f"{output.stem}-{page + 1}") if page else output


def _lines_per_class(per_class: int) -> int:
    return -(-per_class // COLUMNS)


def _block_size(per_class: int, num_modalities: int) -> tuple[int, int]:
    """Return width and height of the samples of a class, in pixels."""
    height = _HEADING + _lines_per_class(per_class) * (_CAPTION + num_modalities * _CELL[1])
    return _MARGIN + min(per_class, COLUMNS) * _CELL[0], height


def _pages(num_classes: int, per_class: int, num_modalities: int) -> list[range]:
    """Divide the classes into pages that are at most as large as a screen, if a class is."""
    width, height = _block_size(per_class, num_modalities)
    per_page = max(1, _SCREEN[0] // width) * max(1, (_SCREEN[1] - _TITLE) // height)
    return [
        range(start, min(start + per_page, num_classes))
        for start in range(0, num_classes, per_page)
    ]


def _page(
    store: OpenStore,
    title: str,
    blocks: Sequence[tuple[str, Sequence[int]]],
    codes: np.ndarray,
    per_class: int,
) -> Figure:
    """Draw a page: a block per class, with a line per modality below the ids of the samples."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    width, height = _block_size(per_class, len(store.modalities))
    across = min(len(blocks), max(1, _SCREEN[0] // width))
    down = -(-len(blocks) // across)
    size = (max(across * width, _LEAST_WIDTH), _TITLE + down * height)
    figure = Figure(figsize=(size[0] / _DPI, size[1] / _DPI), dpi=_DPI)
    FigureCanvasAgg(figure)

    def text(x: float, y: float, content: str, **style: Any) -> None:
        figure.text(x / size[0], 1 - y / size[1], escape_dollars(content), va="top", **style)

    text(8, 6, title, fontsize=10, weight="bold")
    for number, (heading, rows) in enumerate(blocks):
        left, top = number % across * width, _TITLE + number // across * height
        text(
            left + 8,
            top + 6,
            without_middle(drawable(heading), (width - 16) // 8),
            fontsize=9,
            weight="bold",
        )
        for position, row in enumerate(rows):
            line, column = divmod(position, COLUMNS)
            x = left + _MARGIN + column * _CELL[0]
            y = top + _HEADING + line * (_CAPTION + len(store.modalities) * _CELL[1])
            split_name = (*SPLITS, "unused")[int(codes[row])]
            value = f" = {store.label[row]:.3g}" if store.task == REGRESSION else ""
            name = without_start(drawable(str(store.ids[row])), 22 - len(value))
            text(x, y, f"{name}{value} ({split_name})", fontsize=7)
            for place, modality in enumerate(store.modalities):
                below = y + _CAPTION + (place + 1) * _CELL[1] - _GAP
                shape = (_CELL[0] - _GAP, _CELL[1] - _GAP)
                bounds = (x / size[0], 1 - below / size[1], shape[0] / size[0], shape[1] / size[1])
                axis = figure.add_axes(bounds)
                axis.set_xticks([])
                axis.set_yticks([])
                _draw_row(axis, store, modality, row)
                if column == 0:
                    middle = below - shape[1] / 2
                    name = without_middle(modality, 14)
                    place_x, place_y = (left + 14) / size[0], 1 - middle / size[1]
                    style: dict[str, Any] = {"rotation": 90, "ha": "center", "va": "center"}
                    figure.text(place_x, place_y, escape_dollars(name), fontsize=8, **style)
    return figure


# ---------------------------------------------------------------------- cells


def _draw_row(axis: Axes, store: OpenStore, modality: str, row: int) -> None:
    """Draw a modality of one row of a store."""
    present = store.present(modality)
    if present is not None and not bool(present[row]):
        draw_absent(axis)
        return
    values = store.array(modality)[row]
    text_attributes = [name for name in (modality, *TEXTS) if name in store.attributes]
    if text_attributes:
        text = str(store.attribute(text_attributes[0])[row])
    else:
        ids = values[values != 0].tolist()
        text = f"{len(ids)} tokens: " + " ".join(map(str, ids[:24]))
    options = store.manifest["modalities"][modality]["options"]
    if values.ndim == 2 and options.get("extractor") != "stft":
        values = values.T  # time is the first axis of all arrays but those of released STFTs
    draw(axis, values, modality, text, is_time_last=True)


def draw(
    axis: Axes, values: np.ndarray, modality: str, text: str, *, is_time_last: bool = False
) -> None:
    """Draw an input by its type and shape; the text stands for token ids."""
    if values.dtype.kind in "iu" and values.ndim == 1:
        content = escape_dollars("\n".join(wrapped(text)))
        axis.text(0.5, 0.5, content, ha="center", va="center", fontsize=6.5)
    elif values.ndim == 4:
        images = [_pixels(frame) for frame in frames_first(values)]
        axis.imshow(np.concatenate(images, axis=1), cmap="gray")
    elif values.ndim == 3 and values.shape[0] in {1, 3}:
        axis.imshow(_pixels(values), cmap="gray")
    elif values.ndim == 2:
        # Time to the right: time is the first and longer axis of log-mel arrays.
        is_turned = values.shape[0] > values.shape[1] and not is_time_last
        image = values.T if is_turned else values
        axis.imshow(image.astype(np.float32), aspect="auto", origin="lower", cmap="magma")
    else:
        vector = values.reshape(-1).astype(np.float32)
        if len(vector) <= 64:
            axis.bar(np.arange(len(vector)), vector)
            axis.axhline(0, color="black", linewidth=0.5)
        else:
            axis.plot(vector, linewidth=0.7)
        extent = f"{vector.min():.3g} to {vector.max():.3g}"
        axis.set_ylim(*_with_room(axis.get_ylim()))
        axis.text(0.02, 0.97, extent, ha="left", va="top", fontsize=6.5, transform=axis.transAxes)


def draw_absent(axis: Axes) -> None:
    """Draw that a sample has no values of a modality."""
    axis.text(0.5, 0.5, "absent", ha="center", va="center", fontsize=8, color="grey")


def _with_room(limits: tuple[float, float]) -> tuple[float, float]:
    """Return the limits of an axis with room for a line of text above the curve."""
    return limits[0], limits[1] + 0.2 * (limits[1] - limits[0])


def frames_first(values: np.ndarray) -> np.ndarray:
    """Return frames as (T, C, H, W): a store has channels second, encoders take them first."""
    return values if values.shape[1] in {1, 3} else values.transpose(1, 0, 2, 3)


def _pixels(values: np.ndarray) -> np.ndarray:
    """Convert an image (C, H, W) to (H, W, C) with values from 0 to 1."""
    pixels = values.transpose(1, 2, 0).astype(np.float32)
    if values.dtype == np.uint8:
        return pixels / 255.0
    low, high = float(pixels.min()), float(pixels.max())
    return pixels if low >= 0 and high <= 1 else (pixels - low) / max(high - low, 1e-6)


def _print_escapes(names: Sequence[str], has_escapes: bool) -> None:
    """Print what escaped names stand for, as no font of this machine has their characters."""
    pairs = [f"{drawable(name)} is {name}" for name in names if drawable(name) != name]
    listed = f": {', '.join(pairs[:MAX_NAMED])}{', ...' if len(pairs) > MAX_NAMED else ''}"
    if pairs or has_escapes:
        print(
            f"No font here has all characters, so some are escaped{listed if pairs else ''}. To "
            "see them, install a font of their script, such as one of the Noto fonts."
        )


def escape_dollars(text: str) -> str:
    """Escape dollar signs, which would start a formula."""
    return text.replace("$", r"\$")


def save_sheet(figure: Figure, output: Path) -> Path:
    """Write a sheet to an image file and return it.

    Args:
        figure: The sheet.
        output: The file; its suffix sets the format.

    Raises:
        ConfigError: If the file cannot be written.
    """
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        make_drawable(figure)
        content = io.BytesIO()
        figure.savefig(content, format=output.suffix.lower().removeprefix(".") or None)
        write_bytes(output, content.getvalue())
    except OSError as error:
        raise ConfigError(f"{output} cannot be written: {error.strerror}") from error
    return output

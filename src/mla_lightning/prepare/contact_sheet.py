"""A page of samples to look at: is this what I think I train on?"""

from __future__ import annotations

import textwrap
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mla_lightning.data.prepared import TEXTS
from mla_lightning.data.store import OpenStore, open_store
from mla_lightning.errors import ConfigError
from mla_lightning.randomness import derive_seed

if TYPE_CHECKING:
    from matplotlib.axes import Axes

#: Classes on one page; more would not be readable.
MOST_CLASSES = 40


def contact_sheet(
    store: Path, output: Path, *, per_class: int = 4, seed: int = 0, split: str | None = None
) -> Path:
    """Draw samples of every class of a store: pictures, spectrograms, texts, with label and id.

    Args:
        store: The store.
        output: The PNG file.
        per_class: Samples of each class, drawn at random.
        seed: Draws them.
        split: Name of a split whose parts are written beside the ids; None for the default one.

    Returns:
        The file.

    Raises:
        ConfigError: If a number is out of range or the file cannot be written.
        DataError: If the store is none.
    """
    if per_class < 1:
        raise ConfigError(f"per_class must be at least 1, got {per_class}")
    if output.suffix.lower() != ".png":
        raise ConfigError(f"output={output}: the sheet is a .png file")
    opened = open_store(store)
    manifest = opened.manifest
    classes, modalities = list(manifest["class_names"]), dict(manifest["modalities"])
    shown = classes[:MOST_CLASSES]
    if len(shown) < len(classes):
        print(f"Showing the first {len(shown)} of {len(classes)} classes.")
    parts = np.asarray(opened.split(split or manifest["default_split"]))

    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    num_rows, num_columns = len(shown) * len(modalities), per_class
    figure = Figure(figsize=(2.6 * num_columns + 1, 1.9 * num_rows + 0.6), dpi=80)
    FigureCanvasAgg(figure)
    axes = figure.subplots(num_rows, num_columns, squeeze=False)
    label = np.asarray(opened.label)
    for number, name in enumerate(shown):
        rows = np.flatnonzero(label == number)
        chosen = np.random.default_rng(derive_seed(seed, number)).permutation(rows)[:per_class]
        for line, (modality, about) in enumerate(modalities.items()):
            for column in range(num_columns):
                axis = axes[number * len(modalities) + line][column]
                axis.set_xticks([])
                axis.set_yticks([])
                if column >= len(chosen):
                    axis.axis("off")
                    continue
                row = int(chosen[column])
                _draw(axis, opened, modality, str(about["kind"]), row)
                if line == 0:
                    part = ("train", "val", "test", "unused")[int(parts[row])]
                    axis.set_title(f"{_short(str(opened.ids[row]))} ({part})", fontsize=7)
                if column == 0:
                    axis.set_ylabel(f"{_short(name, 20)}\n{modality}", fontsize=8)
    figure.suptitle(f"{manifest['name']}: {len(label)} samples, {len(classes)} classes")
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        with warnings.catch_warnings():
            # Signs that the font lacks, such as Chinese ones, are drawn as boxes.
            warnings.filterwarnings("ignore", message="Glyph", category=UserWarning)
            figure.tight_layout()
            figure.savefig(output)
    except OSError as error:
        raise ConfigError(f"output={output} cannot be written: {error.strerror}") from error
    return output


def _draw(axis: Axes, store: OpenStore, modality: str, kind: str, row: int) -> None:
    present = store.present(modality)
    if present is not None and not bool(present[row]):
        axis.text(0.5, 0.5, "absent", ha="center", va="center", fontsize=8, color="grey")
        return
    values = np.load(store.folder / f"{modality}.npy", mmap_mode="r")[row]
    if kind == "tokens":
        axis.text(0.5, 0.5, _words(store, values, row), ha="center", va="center", fontsize=7)
    elif kind == "frames" and values.ndim == 4:
        axis.imshow(np.concatenate([_picture(frame) for frame in values], axis=1))
    elif values.ndim == 3 and values.shape[0] in {1, 3}:
        axis.imshow(_picture(values), cmap="gray" if values.shape[0] == 1 else None)
    elif values.ndim == 2:
        # Time to the right: log-mel arrays have time first, which is their longer side.
        image = values.T if values.shape[0] > values.shape[1] else values
        axis.imshow(image.astype(np.float32), aspect="auto", origin="lower", cmap="magma")
    else:
        axis.plot(values.reshape(-1).astype(np.float32), linewidth=0.7)


def _picture(values: np.ndarray) -> np.ndarray:
    """(C, H, W) to what matplotlib draws, values from 0 to 1."""
    picture = values.transpose(1, 2, 0).astype(np.float32)
    if values.dtype == np.uint8:
        picture /= 255.0
    else:
        low, high = float(picture.min()), float(picture.max())
        picture = (picture - low) / max(high - low, 1e-6)
    return picture


def _words(store: OpenStore, values: np.ndarray, row: int) -> str:
    if found := [name for name in TEXTS if name in store.attributes]:
        text = store.attribute(found[0])[row]
        # A dollar sign would begin a formula.
        return textwrap.fill(text[:200].replace("$", r"\$"), 32)
    ids: Any = values[values != 0]
    return textwrap.fill(f"{len(ids)} tokens: " + " ".join(map(str, ids[:24])), 32)


def _short(text: str, length: int = 28) -> str:
    return (text if len(text) <= length else f"…{text[-length + 1 :]}").replace("$", r"\$")

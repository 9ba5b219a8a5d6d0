"""Import of arrays into a store."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from mla_lightning.data.splits import SPLITS, NamedSplit
from mla_lightning.data.store import write_store
from mla_lightning.data.store_problems import UNLABELLED
from mla_lightning.data.temporary import check_free
from mla_lightning.errors import DataError, near
from mla_lightning.prepare.array_files import check_values, read_arrays
from mla_lightning.prepare.import_checks import (
    NONE,
    Labels,
    check_names,
    check_splits,
    drawn_split,
    sorted_class_names,
    with_validation_split,
    without_split,
)
from mla_lightning.prepare.store_config import write_config


def import_arrays(
    path: Path, target: Path, *, name: str | None = None, labels: Labels = "column"
) -> Path:
    """Make a store from arrays: ``label``, one per modality, and optional ones.

    The optional arrays are ``id``, ``split`` and ``class_names``.

    Args:
        path: An ``.npz`` file, or a folder of ``.npy`` files.
        target: Folder of the store; must not exist.
        name: Name of the data set; the target's by default.
        labels: ``none`` for samples whose class is to be predicted; then there is no array
            ``label`` and no ``split``.

    Returns:
        The target.

    Raises:
        DataError: If there is no ``label`` or modality, lengths differ, a split is unknown, or for
            the reasons of :func:`~mla_lightning.data.store.finish_store`.
    """
    check_free(target)
    arrays = read_arrays(path)
    check_names(list(arrays), str(path), known=("id", "label", "split", "class_names"))
    label = _label_array(arrays, str(path), labels)
    ids = arrays.pop("id", None)
    split = arrays.pop("split", None)
    class_names = arrays.pop("class_names", None)
    if not arrays:
        raise DataError(f"{path} has no array of a modality beside label, id and split")
    arrays = {m: check_values(m, values, str(path)) for m, values in arrays.items()}
    kinds = {m: _kind_of(m, values, str(path)) for m, values in arrays.items()}
    num = len(next(iter(arrays.values()))) if label is None else len(label)
    if not num:
        raise DataError(f"{path} has no rows: the arrays are empty")
    for array_name, values in (("id", ids), ("split", split), ("class_names", class_names)):
        if values is not None and values.ndim != 1:
            raise DataError(f"{path}: {array_name!r} has the shape {values.shape}, not (N,)")
    names, numbers = _numbered(label, class_names, str(path), num)
    width = len(str(num))
    all_ids = [f"{n:0{width}d}" for n in range(num)] if ids is None else ids.astype(str)
    arrays |= {m: v.astype(np.int64) for m, v in arrays.items() if v.dtype.kind == "i"}
    splits = _named_split(label, split, path)
    write_store(
        target,
        name=name or target.name,
        class_names=names,
        ids=list(all_ids),
        label=numbers,
        arrays=arrays,
        kinds=kinds,
        splits=splits or {NONE: without_split(num)},
        scale="standard",
        complete=lambda folder: write_config(folder, target) if names else None,
    )
    return target


def _label_array(arrays: dict[str, np.ndarray], where: str, labels: Labels) -> np.ndarray | None:
    """Take the labels out of the arrays, None where there are to be none."""
    if labels == "none":
        odd = [name for name in ("label", "split", "class_names") if name in arrays]
        if odd:
            raise DataError(f"{where} has {', '.join(odd)}; leave out labels=none to use it")
        return None
    if "label" not in arrays:
        raise DataError(
            f"{where} has no array 'label'.{near('label', arrays)} For samples whose class is to "
            "be predicted: labels=none"
        )
    return arrays.pop("label")


def _numbered(
    label: np.ndarray | None, class_names: np.ndarray | None, where: str, num: int
) -> tuple[tuple[str, ...], list[int]]:
    """Return the classes and the samples' numbers of them."""
    if label is None:
        return (), [UNLABELLED] * num
    if label.ndim != 1 or label.dtype.kind not in ("iu" if class_names is not None else "iuU"):
        raise DataError(
            f"{where}: 'label' is {label.dtype} of shape {label.shape}. It must be (N,) whole "
            f"numbers{'' if class_names is not None else ' or names'}, one per sample."
            + (" Convert bytes to texts: label.astype(str)" if label.dtype.kind == "S" else "")
        )
    if class_names is not None:
        num_names = len(class_names)
        if len(label) and not 0 <= label.min() <= label.max() < num_names:
            row = int(np.flatnonzero((label < 0) | (label >= num_names))[0])
            raise DataError(
                f"{where}: the label {label[row]} of row {row} has no name: 'class_names' has "
                f"{num_names} names, for the labels 0 to {num_names - 1}"
            )
        if len(set(class_names.tolist())) < num_names:
            raise DataError(f"{where}: 'class_names' has a name twice: {class_names.tolist()}")
        return tuple(map(str, class_names.tolist())), [int(value) for value in label.tolist()]
    labels = [str(value) for value in label.tolist()]
    names = sorted_class_names(labels, where, is_numeric=label.dtype.kind in "iu")
    return names, [names.index(text) for text in labels]


def _named_split(
    label: np.ndarray | None, split: np.ndarray | None, path: Path
) -> dict[str, NamedSplit]:
    if label is None:
        return {}
    texts = [str(value) for value in label.tolist()]
    if split is None:
        return {"own": drawn_split(texts)}
    codes = _codes(split, str(path))
    present = [name for code, name in enumerate(SPLITS) if (codes == code).any()]
    check_splits(present, str(path))
    return {"own": with_validation_split(codes, texts, f"the array split of {path.name}")}


def _kind_of(name: str, values: np.ndarray, where: str) -> str:
    """Return the kind of an array by its type and shape."""
    kind, shape = values.dtype.kind, values.shape[1:]
    if kind == "f" and len(shape) == 1 and shape[0] > 0:
        return "features"
    if 0 in shape:
        raise DataError(f"{where}: {name!r} has the shape {values.shape}: its rows are empty")
    if kind == "f" and len(shape) == 2:
        return "spectrogram"
    if kind == "i" and len(shape) == 1:
        if values.min(initial=0) < 0:
            raise DataError(f"{where}: {name!r} holds token ids below 0; 0 is padding")
        return "tokens"
    if values.dtype == np.uint8 and len(shape) == 3 and shape[0] in (1, 3):
        return "image"
    if values.dtype == np.uint8 and len(shape) == 4 and shape[1] == 3:
        return "frames"
    raise DataError(
        f"{where}: {name!r} is {values.dtype} of shape {values.shape}. Allowed are float (N, D) "
        "features, float (N, T, F) spectrograms, int (N, L) tokens, uint8 (N, 3, H, W) images and "
        "uint8 (N, T, 3, H, W) frames. Convert it with .astype, "
        ".reshape or .transpose."
    )


def _codes(split: np.ndarray, where: str) -> np.ndarray:
    if split.dtype.kind in "iu":
        unknown = np.flatnonzero(~np.isin(split, (-1, 0, 1, 2)))
        if len(unknown):
            row = unknown[0]
            raise DataError(
                f"{where}, row {row}: the split {split[row]} is unknown. Known: 0 train, 1 val, "
                "2 test, -1 unused."
            )
        return split.astype(np.int8)
    for row, value in enumerate(split.tolist()):
        if value not in SPLITS:
            raise DataError(
                f"{where}, row {row}: the split {value!r} is unknown.{near(str(value), SPLITS)} "
                f"Known: {', '.join(SPLITS)}."
            )
    return np.array([SPLITS.index(value) for value in split.tolist()], dtype=np.int8)

"""Reading of the arrays of a user, with an error that names the array and the remedy."""

from __future__ import annotations

import os
import zipfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from mla_lightning.errors import DataError
from mla_lightning.paths import check_regular_file

#: First bytes of files that are often given the name of an .npz file, and what these files are.
_OTHER_FILES = (
    (
        b"\x93NUMPY",
        "one array (.npy), not an archive. Put it into a folder of .npy files",
    ),
    (b"<", "a page of HTML or XML, such as of a download that failed. Get the file again"),
    (b"\x80", "a pickle. Load it where you trust it, and save its arrays with np.savez"),
    (b"\x89HDF", "an HDF5 file. Save its arrays with np.savez"),
    (b"version https://git-lfs", "a Git LFS pointer. Run `git lfs pull`"),
)


def read_arrays(path: Path) -> dict[str, np.ndarray]:
    """Read an ``.npz`` file, or a folder of ``.npy`` files.

    Args:
        path: The file or folder.

    Returns:
        Name -> array.

    Raises:
        DataError: If it is no such file, an array is damaged or holds Python objects, or the arrays
            do not fit into memory.
    """
    if path.is_dir():
        return {p.stem: _read_npy(p) for p in sorted(path.glob("*.npy"))}
    check_regular_file(path)
    if not zipfile.is_zipfile(path):
        with path.open("rb") as raw:
            start = raw.read(32).lstrip()
        kinds = (kind for prefix, kind in _OTHER_FILES if start.startswith(prefix))
        kind = "empty" if not start else next(kinds, "no archive of arrays, or was cut off")
        raise DataError(f"{path} cannot be read as arrays: it is {kind}.")
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
            _check_fits(path, sum(member.file_size for member in members))
            names = [member.filename.removesuffix(".npy") for member in members]
            opens = [partial(archive.open, member) for member in members]
            return {n: _read(path, n, open_) for n, open_ in zip(names, opens, strict=True)}
    except DataError:
        raise
    except Exception as error:  # damage raises errors of many classes
        raise DataError(f"{path} cannot be read as arrays: {error}. Save it again.") from error


def _read_npy(path: Path) -> np.ndarray:
    check_regular_file(path)
    _check_fits(path, path.stat().st_size)
    return _read(path, path.stem, partial(path.open, "rb"))


def _read(path: Path, name: str, open_: Callable[[], Any]) -> np.ndarray:
    try:
        with open_() as file:
            array: np.ndarray = np.lib.format.read_array(file, allow_pickle=False)
    except Exception as error:  # damage raises errors of many classes
        if isinstance(error, ValueError) and "Object arrays" in str(error):
            raise DataError(
                f"{path}: {name!r} holds Python objects, which cannot be read safely. Save plain "
                f"values: {name}.astype(str) for texts, np.stack({name}) for arrays of one shape"
            ) from error
        raise DataError(f"{path}: {name!r} is no array, or is damaged: {error}") from error
    return array


def _check_fits(path: Path, num_bytes: int) -> None:
    """Check that arrays fit into this machine's memory; a small archive can hold large zeros."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    if num_bytes > memory:
        raise DataError(
            f"{path} holds {num_bytes / 1e9:.1f} GB of arrays, and this machine has "
            f"{memory / 1e9:.1f} GB of memory. Import it on a larger machine, or in files of media"
        )


def check_values(name: str, values: np.ndarray, where: str) -> np.ndarray:
    """Return floats as float32, after a check that all are finite.

    Args:
        name: The array.
        values: (N, ...) of any type.
        where: The file, for messages.

    Raises:
        DataError: If a value is not finite or too large for float32; the message has its row.
    """
    if values.dtype.kind != "f" or not values.size or not values.ndim:
        return values
    with np.errstate(over="ignore"):
        converted = values.astype(np.float32)
    is_wrong = ~np.isfinite(converted).reshape(len(values), -1).all(axis=1)
    if not is_wrong.any():
        return converted
    row = int(is_wrong.argmax())
    in_row = values[row].reshape(-1)
    value = in_row[~np.isfinite(in_row.astype(np.float64)) | (np.abs(in_row) > 3.4e38)][0]
    place = f"{where}: {name!r}, row {row}: a value is"
    if np.isfinite(value):
        raise DataError(f"{place} too large for float32: {value}. Scale the values")
    raise DataError(
        f"{place} not finite ({value}; in {int(is_wrong.sum())} of {len(values)} rows). Replace "
        f"such values (np.nan_to_num), or leave the samples out. Arrays cannot say that a modality "
        "is absent: a CSV file can, by an empty cell"
    )

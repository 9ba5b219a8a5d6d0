"""The arrays of a store in preparation: preallocated files that are written row by row."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mla_lightning.data.temporary import disk_full_error

#: Number of bytes that are copied at a time.
_BLOCK = 1 << 24


@dataclass(frozen=True)
class RowFile:
    """A ``.npy`` file of N rows of one shape.

    Attributes:
        path: The file.
        handle: Its open descriptor, which worker processes share.
        offset: Position of the first row in bytes.
        shape: Shape of one row.
        dtype: Type of the values.
    """

    path: Path
    handle: int
    offset: int
    shape: tuple[int, ...]
    dtype: np.dtype

    def write(self, number: int, row: np.ndarray) -> None:
        """Write one row.

        Args:
            number: Its number.
            row: Its values, of the file's shape and type.

        Raises:
            OSError: If it cannot be written.
        """
        data = memoryview(row.tobytes())
        position = self.offset + number * len(data)
        while data:
            count = os.pwrite(self.handle, data, position)
            data, position = data[count:], position + count


def allocate(
    folder: Path, num_rows: int, layouts: Mapping[str, tuple[tuple[int, ...], str]]
) -> None:
    """Create the files with disk space for all rows, so that it cannot run out later.

    Args:
        folder: Folder of the files.
        num_rows: Number of rows N.
        layouts: Name -> shape and type of one row.

    Raises:
        RunError: If the disk has not enough space.
    """
    needed = sum(
        num_rows * int(np.prod(shape)) * np.dtype(dtype).itemsize
        for shape, dtype in layouts.values()
    )
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise disk_full_error(folder, needed)
    for name, (shape, dtype) in layouts.items():
        path = folder / f"{name}.npy"
        np.lib.format.open_memmap(path, "w+", dtype, (num_rows, *shape)).flush()
        with path.open("r+b") as file:
            try:
                os.posix_fallocate(file.fileno(), 0, os.fstat(file.fileno()).st_size)
            except OSError as error:
                if error.errno in {errno.ENOSPC, errno.EDQUOT}:
                    raise disk_full_error(folder, needed) from error
                # Other errors: the file system allocates space only when rows are written.


def open_rows(folder: Path, names: Sequence[str]) -> dict[str, RowFile]:
    """Open files that :func:`allocate` created.

    Args:
        folder: Folder of the files.
        names: Names of the files, without suffix.

    Returns:
        Name -> open file.
    """
    files = {}
    for name in names:
        path = folder / f"{name}.npy"
        array = np.load(path, mmap_mode="r")
        offset, shape, dtype = array.offset, array.shape[1:], array.dtype
        files[name] = RowFile(path, os.open(path, os.O_RDWR), offset, shape, dtype)
    return files


def copy_rows(source: RowFile, target: Path, keep: np.ndarray) -> None:
    """Copy rows into the file of the finished store.

    Args:
        source: All rows.
        target: The new file.
        keep: (N,) bool, the rows to copy.

    Raises:
        RunError: If the disk is full.
    """
    if keep.all():
        try:
            os.link(source.path, target)
        except OSError:  # a file system without links
            shutil.copyfile(source.path, target)
        return
    rows = np.load(source.path, mmap_mode="r")
    numbers = np.flatnonzero(keep)
    layout = {target.stem: (source.shape, source.dtype.str)}
    allocate(target.parent, len(numbers), layout)
    copied = np.load(target, mmap_mode="r+")
    step = max(1, _BLOCK // max(1, rows[:1].nbytes))
    for start in range(0, len(numbers), step):
        copied[start : start + step] = rows[numbers[start : start + step]]
    copied.flush()

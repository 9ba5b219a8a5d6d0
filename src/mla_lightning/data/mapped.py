"""Arrays that stay on disk: they are read row by row, and written block by block."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from mla_lightning.data.temporary import disk_full_error
from mla_lightning.errors import DataError

if TYPE_CHECKING:
    from torch import Tensor

#: Size of a block of rows, in bytes.
BLOCK_BYTES = 1 << 23


class MappedArray:
    """Rows of a ``.npy`` file that are read on demand.

    Memory does not grow with the file; a worker process receives the path, not the values.
    """

    def __init__(self, path: Path) -> None:
        """Open the file.

        Args:
            path: The file.

        Raises:
            DataError: If the file is missing or not an array.
        """
        self.path = path
        self._values = open_array(path)
        self.shape, self.dtype = self._values.shape, self._values.dtype

    def __len__(self) -> int:
        """Return the number of rows."""
        return len(self._values)

    def __getitem__(self, number: int) -> np.ndarray:
        """Read one row."""
        return np.array(self._values[number])

    def __getstate__(self) -> Path:
        """Pickle only the path."""
        return self.path

    def __setstate__(self, path: Path) -> None:
        """Open the file again."""
        self.__init__(path)  # type: ignore[misc]

    def index_select(self, dim: int, index: Tensor) -> Tensor:
        """Read rows.

        Args:
            dim: 0.
            index: (B,) int64, numbers of rows.

        Returns:
            (B, ...), a copy.
        """
        import torch

        assert dim == 0
        return torch.from_numpy(self._values[index.numpy()])


def open_array(path: Path) -> np.ndarray:
    """Map a ``.npy`` file into memory for reading.

    Args:
        path: The file.

    Returns:
        The array.

    Raises:
        DataError: If the file is missing or not an array.
    """
    try:
        return np.lib.format.open_memmap(path, mode="r")
    except OSError as error:
        raise DataError(f"{path} cannot be read as an array: {error.strerror or error}") from error
    except Exception as error:  # a damaged header raises errors of any class
        raise DataError(f"{path} cannot be read as an array: {error}") from error


@dataclass(frozen=True)
class RowBlocks:
    """Rows that are produced block by block, so that an array larger than memory can be written.

    Attributes:
        dtype: Type of the values.
        shape: (N, ...), of all rows together.
        blocks: Starts the production anew: consecutive blocks of rows, N in total.

    Example:
        >>> rows = RowBlocks(np.dtype("int64"), (4,), lambda: iter([np.arange(3), np.array([9])]))
        >>> write_rows(tmp / "a.npy", rows, np.array([3, 2, 1, 0]))
        >>> np.load(tmp / "a.npy").tolist()
        [9, 2, 1, 0]
    """

    dtype: np.dtype
    shape: tuple[int, ...]
    blocks: Callable[[], Iterator[np.ndarray]]

    def __len__(self) -> int:
        """Return the number of rows N."""
        return self.shape[0]


def row_ranges(shape: tuple[int, ...], itemsize: int) -> Iterator[slice]:
    """Divide the rows of an array into ranges of about :data:`BLOCK_BYTES`.

    Args:
        shape: (N, ...) of the array.
        itemsize: Bytes of a value.

    Yields:
        Consecutive ranges; one row each if a row is larger than a block.

    Example:
        >>> [rows.stop - rows.start for rows in row_ranges((5, BLOCK_BYTES // 2), 1)]
        [2, 2, 1]
    """
    num_bytes = max(1, int(np.prod(shape[1:], dtype=np.int64)) * itemsize)
    step = max(1, BLOCK_BYTES // num_bytes)
    for start in range(0, shape[0], step):
        yield slice(start, min(start + step, shape[0]))


def write_rows(path: Path, rows: RowBlocks, positions: np.ndarray) -> None:
    """Write rows to a new ``.npy`` file in another order; only one block is in memory.

    Args:
        path: The file.
        rows: The rows.
        positions: (N,) place of each row in the file, from 0 to N - 1.

    Raises:
        RunError: If the disk has not enough space.
    """
    row_bytes = int(np.prod(rows.shape[1:], dtype=np.int64)) * rows.dtype.itemsize
    needed = len(rows) * row_bytes
    if needed > shutil.disk_usage(path.parent).free:
        raise disk_full_error(path.parent, needed)
    with path.open("wb") as file:
        header = np.lib.format.header_data_from_array_1_0(np.empty(0, rows.dtype))
        np.lib.format.write_array_header_1_0(file, header | {"shape": rows.shape})
        file.flush()
        offset, handle = file.tell(), file.fileno()
        if needed:
            _allocate(handle, offset + needed, path.parent)
        first = 0
        for block in filter(len, rows.blocks()):
            place = positions[first : first + len(block)]
            first += len(block)
            block = np.ascontiguousarray(block, dtype=rows.dtype)
            # Rows that follow each other in the file are written at once.
            starts = np.flatnonzero(np.diff(place, prepend=-2) != 1)
            for start, stop in zip(starts, [*starts[1:], len(block)], strict=True):
                _write_at(handle, block[start:stop], offset + int(place[start]) * row_bytes)


def _allocate(handle: int, size: int, folder: Path) -> None:
    """Reserve space on the disk, where the file system can."""
    with contextlib.suppress(OSError):
        try:
            os.posix_fallocate(handle, 0, size)
        except OSError as error:
            if error.errno in {errno.ENOSPC, errno.EDQUOT}:
                raise disk_full_error(folder, size) from error
            raise


def _write_at(handle: int, values: np.ndarray, position: int) -> None:
    data = memoryview(values.reshape(-1).view(np.uint8).data)
    while data:
        count = os.pwrite(handle, data, position)
        data, position = data[count:], position + count

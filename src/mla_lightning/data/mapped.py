"""Arrays that stay on disk: they are read row by row, and written block by block."""

from __future__ import annotations

import contextlib
import errno
import mmap
import os
import resource
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
#: Files from this size on may be larger than the memory that is free for the cache of the disk.
LARGE_BYTES = 1 << 26
#: Rows of a batch that show whether the others have to be read from the disk.
_NUM_PROBED = 4
_PAGE = mmap.PAGESIZE
_OF_THREAD = getattr(resource, "RUSAGE_THREAD", resource.RUSAGE_SELF)


class MappedArray:
    """Rows of a ``.npy`` file that are read on demand.

    Memory does not grow with the file; a worker process receives the path, not the values. Rows of
    a batch that are not in the memory of the system yet are requested together, since a disk or a
    file server delivers many rows at once much faster than one after the other.

    Example:
        >>> import torch
        >>> np.save(tmp / "a.npy", np.arange(6.0).reshape(3, 2))
        >>> MappedArray(tmp / "a.npy").index_select(0, torch.tensor([2, 0]))
        tensor([[4., 5.],
                [0., 1.]], dtype=torch.float64)
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
        is_large = self._values.nbytes >= LARGE_BYTES and self._values.flags.c_contiguous
        self._reads_ahead = is_large and hasattr(mmap, "MADV_WILLNEED")
        self._is_on_disk = False  # whether rows of the last batch were read from the disk

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
        rows = index.numpy()
        if not self._reads_ahead:
            return torch.from_numpy(self._values[rows])
        # Without requests the processor waits for each row before it asks for the next; for rows
        # in memory they take longer than the copy, so that four rows stand for the batch.
        before = _num_reads()
        num_first = len(rows) if self._is_on_disk else _NUM_PROBED
        self._request(rows[:num_first])
        if _num_reads() > before:
            self._request(rows[num_first:])
        values = torch.from_numpy(self._values[rows])
        self._is_on_disk = _num_reads() > before
        return values

    def _request(self, rows: np.ndarray) -> None:
        """Let the system read rows from the disk, and return before they are read."""
        row_bytes = self._values.strides[0]
        first = int(self._values.offset) % mmap.ALLOCATIONGRANULARITY  # of row 0
        for start in (first + row_bytes * rows).tolist():
            page = start // _PAGE * _PAGE
            self._advise(page, start + row_bytes - page)

    def _advise(self, start: int, length: int) -> None:
        mapped = self._values.base
        assert isinstance(mapped, mmap.mmap)
        mapped.madvise(mmap.MADV_WILLNEED, start, length)


def _num_reads() -> int:
    """Return a number that grows when this thread lets the system read from a disk."""
    usage = resource.getrusage(_OF_THREAD)
    return usage.ru_inblock + usage.ru_majflt


def open_array(path: Path) -> np.memmap:
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

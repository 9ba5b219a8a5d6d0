"""Arrays that stay on disk and are read row by row."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from mla_lightning.errors import DataError


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

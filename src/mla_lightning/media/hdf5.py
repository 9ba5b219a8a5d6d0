"""Reader of HDF5 files that reads nothing but the file itself.

An HDF5 file can name other files: in external links, in the external storage of a dataset, and in
virtual datasets. The HDF5 library would read any file of the machine through them.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from mla_lightning.errors import DataError, near
from mla_lightning.paths import check_regular_file, name_problem

#: A larger array is refused: it would not fit into memory, although its file may be small.
MAX_BYTES = 1 << 32


class HDF5File:
    """An open HDF5 file; see :func:`open_hdf5`."""

    def __init__(self, path: Path, file: Any) -> None:
        """Set the open file."""
        self.path, self._file = path, file

    def __contains__(self, name: str) -> bool:
        """Return whether there is an entry of a name at the top."""
        return not name_problem(name) and self._file.id.links.exists(name.encode())

    @property
    def names(self) -> list[str]:
        """The names at the top of the file."""
        return sorted(self._file)

    def array(self, *names: str) -> np.ndarray:
        """Read an array.

        Args:
            *names: The names of its groups, and its own.

        Returns:
            The array of numbers.

        Raises:
            DataError: If there is no such array, it holds no numbers, it is too large, or it or a
                name on the way to it leads to another place of this or of another file.
        """
        import h5py

        node: Any = self._file
        for name in names:
            if problem := name_problem(name):
                raise DataError(f"{self.path}: the name {name!r} {problem}")
            # Not `name in node`, which follows links.
            if not isinstance(node, h5py.Group) or not node.id.links.exists(name.encode()):
                known = list(node) if isinstance(node, h5py.Group) else []
                raise DataError(
                    f"{self.path} has no {'/'.join(names)!r}.{near(name, map(str, known))}"
                )
            if not isinstance(link := node.get(name, getlink=True), h5py.HardLink):
                raise self._unsafe(names, _target(link))
            node = node[name]
        if not isinstance(node, h5py.Dataset):
            raise DataError(f"{self.path}: {'/'.join(names)!r} is no array")
        if node.external:
            raise self._unsafe(names, f"its values are in another file, {node.external[0][0]!r}")
        if node.is_virtual:
            sources = [source.file_name for source in node.virtual_sources()]
            raise self._unsafe(names, f"its values are in other arrays, of {sources[0]!r}")
        if node.dtype.kind not in "iufb":
            raise DataError(f"{self.path}: {'/'.join(names)!r} holds {node.dtype}, not numbers")
        if node.nbytes > MAX_BYTES:
            raise DataError(
                f"{self.path}: {'/'.join(names)!r} has the shape {node.shape}, which needs "
                f"{node.nbytes / 1e9:.1f} GB"
            )
        return np.asarray(node[()])

    def _unsafe(self, names: tuple[str, ...], reason: str) -> DataError:
        return DataError(
            f"{self.path}: {'/'.join(names)!r} is not read: {reason}. Only values in the file "
            "itself are read; h5repack or h5py copy the others into it"
        )


def _target(link: Any) -> str:
    import h5py

    if isinstance(link, h5py.ExternalLink):
        return f"it is a link to another file, {link.filename!r}"
    return f"it is a link to {getattr(link, 'path', 'another place')!r}"


@contextmanager
def open_hdf5(path: Path) -> Iterator[HDF5File]:
    """Open an HDF5 file for reading.

    Args:
        path: The file.

    Yields:
        The open file.

    Raises:
        DataError: If the file, or what the block reads of it, is missing or damaged.

    Example:
        >>> with open_hdf5(Path("nowhere.h5")) as file:
        ...     file.names
        Traceback (most recent call last):
        mla_lightning.errors.DataError: nowhere.h5 does not exist
    """
    import h5py

    check_regular_file(path)
    try:
        with h5py.File(path, "r", locking=False) as file:
            yield HDF5File(path, file)
    except DataError:
        raise
    except Exception as error:  # damage raises errors of many classes
        reason = " ".join(str(error).split())
        raise DataError(f"{path} cannot be read as HDF5: {reason}. Get the file again.") from error

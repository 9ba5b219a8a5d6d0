"""Reading of the arrays of a user, with an error that names the array and the remedy."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np

from mla_lightning.data.mapped import row_ranges
from mla_lightning.errors import DataError, reason_of
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


@dataclass(frozen=True)
class ArrayFile:
    """An array of a file, of which only type and shape are in memory.

    Attributes:
        path: The ``.npy`` or ``.npz`` file.
        name: Name of the array.
        member: Its file in the archive; None for a ``.npy`` file.
        dtype: Type of the values.
        shape: (N, ...).
        is_fortran: Whether the values are stored in columns.
        offset: Position of the first value, in bytes.
    """

    path: Path
    name: str
    member: str | None
    dtype: np.dtype
    shape: tuple[int, ...]
    is_fortran: bool
    offset: int

    def read(self) -> np.ndarray:
        """Read the whole array.

        Raises:
            DataError: If it is damaged, or does not fit into memory.
        """
        num_bytes = int(np.prod(self.shape, dtype=object)) * self.dtype.itemsize
        memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
        if num_bytes > memory:
            raise DataError(
                f"{self.path}: {self.name!r} holds {num_bytes / 1e9:.1f} GB, and this machine has "
                f"{memory / 1e9:.1f} GB of memory. It must be (N,), one value per sample"
            )
        with _damage_reported(self.path, self.name), _open(self.path, self.member) as file:
            array: np.ndarray = np.lib.format.read_array(file, allow_pickle=False)
            file.read(1)  # at the end, an archive compares its checksum
            return array

    def blocks(self) -> Iterator[np.ndarray]:
        """Read the rows from the first to the last; only one block of them is in memory.

        Yields:
            Blocks of rows that can be changed.

        Raises:
            DataError: If the array is damaged.
        """
        with _damage_reported(self.path, self.name), _open(self.path, self.member) as file:
            if self.is_fortran:
                yield from self._blocks_of_columns(file)
                return
            file.read(self.offset)
            for rows in row_ranges(self.shape, self.dtype.itemsize):
                block = np.empty((rows.stop - rows.start, *self.shape[1:]), self.dtype)
                _fill(file, block)
                yield block
            file.read(1)  # at the end, an archive compares its checksum

    def _blocks_of_columns(self, file: IO[bytes]) -> Iterator[np.ndarray]:
        """Read rows of which the file holds one column after the other."""
        with contextlib.ExitStack() as stack:
            source = file
            if self.member is not None:  # only a file itself can be mapped
                source = stack.enter_context(tempfile.TemporaryFile())
                shutil.copyfileobj(file, source)
                source.flush()
            for rows in row_ranges(self.shape, self.dtype.itemsize):
                # Mapped anew, as mapped pages that were read count as used.
                mapped = np.memmap(source, self.dtype, "r", self.offset, self.shape, order="F")
                yield np.array(mapped[rows], order="C")


def open_arrays(path: Path) -> dict[str, ArrayFile]:
    """Open an ``.npz`` file, or a folder of ``.npy`` files; only types and shapes are read.

    Args:
        path: The file or folder.

    Returns:
        Name -> array.

    Raises:
        DataError: If it is no such file, or an array is damaged or holds Python objects.

    Example:
        >>> np.savez(tmp / "a.npz", audio=np.arange(6.0).reshape(3, 2))
        >>> audio = open_arrays(tmp / "a.npz")["audio"]
        >>> audio.shape, [block.shape for block in audio.blocks()]
        ((3, 2), [(3, 2)])
    """
    if path.is_dir():
        paths = [file for file in sorted(path.iterdir()) if file.suffix.lower() == ".npy"]
        if not paths:
            raise DataError(
                f"{path} holds no .npy files, and no folders of classes with images, sounds or "
                "films: FOLDER/class/file or FOLDER/train|val|test/class/file. For other folders "
                "write a table of the paths of the files"
            )
        for file in paths:
            check_regular_file(file)
        return {file.stem: _read_header(file, file.stem, None) for file in paths}
    check_regular_file(path)
    if not zipfile.is_zipfile(path):
        with path.open("rb") as raw:
            start = raw.read(32).lstrip()
        kinds = (kind for prefix, kind in _OTHER_FILES if start.startswith(prefix))
        kind = "empty" if not start else next(kinds, "no archive of arrays, or was cut off")
        raise DataError(f"{path} cannot be read as arrays: it is {kind}.")
    try:
        with zipfile.ZipFile(path) as archive:
            members = [member.filename for member in archive.infolist()]
        arrays = {}
        for member in members:
            name = member.removesuffix(".npy")
            if name in arrays:
                raise DataError(f"{path} has two arrays {name!r}. Save it again.")
            arrays[name] = _read_header(path, name, member)
        return arrays
    except DataError:
        raise
    except Exception as error:  # damage raises errors of many classes
        raise DataError(f"{path} cannot be read as arrays: {error}. Save it again.") from error


def _read_header(path: Path, name: str, member: str | None) -> ArrayFile:
    readers: dict[tuple[int, int], Any] = {
        (1, 0): np.lib.format.read_array_header_1_0,
        (2, 0): np.lib.format.read_array_header_2_0,
    }
    with _damage_reported(path, name), _open(path, member) as file:
        version = np.lib.format.read_magic(file)
        if version not in readers:
            raise ValueError(f"it is of format {version}, known are 1.0 and 2.0")
        shape, is_fortran, dtype = readers[version](file)
        array = ArrayFile(path, name, member, dtype, shape, is_fortran, file.tell())
    if dtype.hasobject:
        raise DataError(
            f"{path}: {name!r} holds Python objects, which cannot be read safely. Save plain "
            f"values: {name}.astype(str) for texts, np.stack({name}) for arrays of one shape"
        )
    return array


def _fill(file: IO[bytes], block: np.ndarray) -> None:
    """Read the values of a block."""
    buffer = memoryview(block.reshape(-1).view(np.uint8).data)
    while buffer:
        data = file.read(min(len(buffer), 1 << 20))
        if not data:
            raise ValueError("it ends before its last row")
        buffer[: len(data)] = data
        buffer = buffer[len(data) :]


@contextlib.contextmanager
def _open(path: Path, member: str | None) -> Iterator[IO[bytes]]:
    if member is None:
        with path.open("rb") as file:
            yield file
    else:
        with zipfile.ZipFile(path) as archive, archive.open(member) as file:
            yield file


@contextlib.contextmanager
def _damage_reported(path: Path, name: str) -> Iterator[None]:
    try:
        yield
    except Exception as error:  # damage raises errors of many classes
        raise DataError(
            f"{path}: {name!r} is no array, or is damaged: {reason_of(error)}"
        ) from error

"""Files whose bytes are cells of a Parquet or Arrow file, read by their position when needed."""

from __future__ import annotations

import contextlib
import hashlib
import os
from bisect import bisect_right
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mla_lightning.errors import reason_of
from mla_lightning.media.base import BadMedia, FileInput, MediaInput

#: Number of bytes of a Parquet file that are decoded at a time, about.
_BATCH_BYTES = 1 << 25
#: Number of bytes that are read from the disk at a time.
_BUFFER_BYTES = 1 << 20


@dataclass(frozen=True)
class EmbeddedInput(FileInput):
    """A file whose bytes are a cell of a Parquet or Arrow file.

    Attributes:
        path: The Parquet (``.parquet``) or Arrow file, relative to the raw folder.
        column: The column, which holds bytes or structs with a field ``bytes``.
        row: The row, from 0.
        ending: Usual ending of files of its format, such as ``.png``.
        sha256: Hash of the bytes.

    Example:
        >>> EmbeddedInput(Path("train.parquet"), column="image", row=4).place
        'train.parquet, row 5'
    """

    column: str = ""
    row: int = 0
    ending: str = ""
    sha256: str = ""

    @property
    def place(self) -> str:
        """Where the content is, for messages: file and row."""
        return f"{self.path.as_posix()}, row {self.row + 1}"


def bytes_of(value: Any) -> Any:
    """Return the bytes of an Arrow scalar, without a copy; None if there are none.

    Args:
        value: A scalar of bytes, or of a struct with a field ``bytes``.

    Returns:
        Buffer.

    Example:
        >>> import pyarrow
        >>> bytes_of(pyarrow.scalar({"bytes": b"abc", "path": "a.png"})).to_pybytes()
        b'abc'
        >>> bytes_of(pyarrow.scalar(None, pyarrow.binary()))
    """
    if not value.is_valid:
        return None
    if hasattr(value, "as_buffer"):
        return value.as_buffer()
    field = value["bytes"]
    return field.as_buffer() if field.is_valid else None


def parquet_batches(file: Any, groups: list[int] | None = None, **options: Any) -> Iterator[Any]:
    """Read a Parquet file in batches of about 32 MB.

    Args:
        file: The ``ParquetFile``, which :func:`open_parquet` opened.
        groups: Row groups to read; None for all.
        options: Options of ``ParquetFile.iter_batches``.

    Yields:
        Record batches.
    """
    metadata = file.metadata
    every = range(metadata.num_row_groups) if groups is None else groups
    for group in every:
        entry = metadata.row_group(group)
        mean = entry.total_byte_size / max(1, entry.num_rows)
        size = int(min(max(_BATCH_BYTES / max(1.0, mean), 1), 1024))
        yield from file.iter_batches(size, row_groups=[group], use_threads=False, **options)


def open_parquet(path: Path) -> Any:
    """Open a Parquet file so that only what is decoded at a time is in memory."""
    import pyarrow.parquet

    return pyarrow.parquet.ParquetFile(path, buffer_size=_BUFFER_BYTES, pre_buffer=False)


def in_order(inputs: Iterable[FileInput]) -> list[FileInput]:
    """Sort embedded files by their rows, in which they are read fast; others stay as they are.

    Example:
        >>> rows = [EmbeddedInput(Path("a.parquet"), row=row) for row in (2, 1)]
        >>> [file.row for file in in_order(rows)]
        [1, 2]
    """
    return sorted(inputs, key=position_of)


def position_of(media_input: MediaInput) -> tuple[str, int]:
    """Return file and row of an embedded file; the same for all other inputs."""
    if isinstance(media_input, EmbeddedInput):
        return media_input.path.as_posix(), media_input.row
    return "", 0


class EmbeddedFiles:
    """Files that are cells of tables; each is written to a folder while it is read.

    Rows are read forwards, batch by batch, so that no table is in memory as a whole: reading in the
    order of the rows is fast, and going back starts at the row group again.

    Example:
        >>> import pyarrow.parquet
        >>> content = pyarrow.table({"note": [b"first", b"second"]})
        >>> pyarrow.parquet.write_table(content, tmp / "notes.parquet")
        >>> note = EmbeddedInput(Path("notes.parquet"), column="note", row=1, ending=".txt")
        >>> with EmbeddedFiles(tmp, tmp).opened(note) as file:
        ...     print(file.path.name.rpartition("-")[2], file.path.read_text())
        row2.txt second
    """

    def __init__(self, raw: Path, folder: Path) -> None:
        """Set the folders.

        Args:
            raw: The raw folder.
            folder: Existing folder for one file at a time.
        """
        self.raw, self.folder = raw, folder
        self._readers: dict[tuple[Path, str], _Reader] = {}

    @contextlib.contextmanager
    def opened(self, media_input: MediaInput) -> Iterator[MediaInput]:
        """Write an embedded file; any other input is yielded as it is.

        Args:
            media_input: The input.

        Yields:
            An input that extractors can read.

        Raises:
            BadMedia: If it cannot be read, or its bytes are not those that the table had.
            OSError: If it cannot be written.
        """
        if not isinstance(media_input, EmbeddedInput):
            yield media_input
            return
        content = self._read(media_input)
        is_known = bool(media_input.sha256)
        if is_known and hashlib.sha256(content).hexdigest() != media_input.sha256:
            raise BadMedia("changed since the import began")
        name = f"{os.getpid()}-row{media_input.row + 1}{media_input.ending}"
        path = self.folder.absolute() / name
        try:
            path.write_bytes(content)
            yield FileInput(path, media_input.start_s, media_input.end_s)
        finally:
            path.unlink(missing_ok=True)

    @contextlib.contextmanager
    def path_of(self, file_input: FileInput) -> Iterator[Path]:
        """Yield the path of a file; an embedded one is written first, see :meth:`opened`."""
        with self.opened(file_input) as file:
            assert isinstance(file, FileInput)
            yield self.raw / file.path

    def _read(self, media_input: EmbeddedInput) -> Any:
        import pyarrow

        path = self.raw / media_input.path
        key = (path, media_input.column)
        try:
            if key not in self._readers:
                self._readers[key] = _Reader(path, media_input.column)
            content = self._readers[key].read(media_input.row)
        except (pyarrow.ArrowException, OSError, LookupError) as error:
            self._readers.pop(key, None)
            raise BadMedia(f"{path.name} cannot be read: {reason_of(error, path)}") from error
        if content is None:
            raise BadMedia("changed since the import began: the cell is empty")
        return content


class _Reader:
    """Bytes of a column, with the batch that was read last."""

    def __init__(self, path: Path, column: str) -> None:
        self._path, self._column = path, column
        self._parquet = open_parquet(path) if path.suffix.lower() == ".parquet" else None
        self._first_rows = [0]  # of the row groups; an Arrow file is one group
        if self._parquet is not None:
            metadata = self._parquet.metadata
            for group in range(metadata.num_row_groups - 1):
                self._first_rows.append(self._first_rows[-1] + metadata.row_group(group).num_rows)
        self._group, self._start = -1, 0
        self._batches: Iterator[Any] = iter(())
        self._batch: Any = ()

    def read(self, row: int) -> Any:
        """Return the bytes of a row."""
        group = bisect_right(self._first_rows, row) - 1
        if group != self._group or row < self._start:
            self._batches, self._group = self._open(group), group
            self._batch, self._start = (), self._first_rows[group]
        while row >= self._start + len(self._batch):
            self._start += len(self._batch)
            self._batch = next(self._batches, None)
            if self._batch is None:
                raise LookupError(f"it has no row {row + 1}")
        return bytes_of(self._batch[row - self._start])

    def _open(self, group: int) -> Iterator[Any]:
        """Iterate over the arrays of a row group."""
        if self._parquet is not None:
            for batch in parquet_batches(self._parquet, [group], columns=[self._column]):
                yield batch.column(self._column)
            return
        import pyarrow.ipc

        with pyarrow.memory_map(str(self._path)) as source:
            for batch in pyarrow.ipc.open_stream(source):
                yield batch.column(self._column)

"""Output to a pipe whose reader, such as ``head``, ends before the command."""

from __future__ import annotations

import io
import os
import stat
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer


class _Pipe(io.RawIOBase):
    """The writing end of a pipe; after its reader has ended, what is written is dropped."""

    def __init__(self, number: int) -> None:
        self._number = number

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        return self._number

    def write(self, data: ReadableBuffer, /) -> int:
        try:
            return os.write(self._number, data)
        except BrokenPipeError:
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self._number)
            os.close(nowhere)
            return memoryview(data).nbytes


@contextmanager
def reader_may_end() -> Iterator[None]:
    """Let a command finish its work, such as files and jobs, if nobody reads its output any more.

    Without it, ``mla train -m ... | head -n 1`` would end with its second line, in the middle of
    the sweep.

    Example:
        >>> with reader_may_end():
        ...     print("as before")
        as before
    """
    output = sys.__stdout__
    if output is None or output is not sys.stdout or not _is_pipe(output):
        yield
        return
    output.flush()
    buffer = io.BufferedWriter(_Pipe(output.fileno()))
    sys.stdout = io.TextIOWrapper(buffer, output.encoding, output.errors)
    try:
        yield
    finally:
        sys.stdout.flush()
        sys.stdout = output


def _is_pipe(output: TextIO) -> bool:
    try:
        return stat.S_ISFIFO(os.fstat(output.fileno()).st_mode)
    except (OSError, ValueError):  # closed
        return False

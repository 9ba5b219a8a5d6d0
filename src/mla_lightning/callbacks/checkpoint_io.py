"""Checkpoint files: plain data, written atomically, verified by a checksum."""

from __future__ import annotations

import hashlib
import os
import pickle
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch.plugins.io import CheckpointIO

from mla_lightning.errors import RunError
from mla_lightning.run_folder import write_text
from mla_lightning.run_folder.contents import remove_entry
from mla_lightning.run_folder.writing import replacing

#: Numbers that change when a checkpoint or its checksum is written again.
FileState = tuple[tuple[int, ...], ...]


class CheckedCheckpointIO(CheckpointIO):
    """Writes a checkpoint atomically with a checksum beside it, and reads only valid ones.

    Lightning's writer copies from the system's temporary folder and leaves partial files on a full
    disk, and a flipped bit in a tensor would be loaded without an error. Here the bytes go to a
    temporary file in the same folder, are forced to disk, and the file is renamed. The checksum is
    written before that, so a checkpoint without its checksum is incomplete.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> with TemporaryDirectory() as folder:
        ...     path, io = Path(folder) / "model.ckpt", CheckedCheckpointIO()
        ...     io.save_checkpoint({"weight": torch.zeros(2)}, path)
        ...     print(io.load_checkpoint(path))
        ...     _ = path.write_bytes(path.read_bytes()[:-1])
        ...     is_valid(path)
        {'weight': tensor([0., 0.])}
        False
    """

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any | None = None
    ) -> None:
        """Write a checkpoint.

        Args:
            checkpoint: Plain containers, numbers, strings and tensors.
            path: The file.
            storage_options: Not used by Lightning for local files.

        Raises:
            RunError: If the disk is full or the folder cannot be written.
        """
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with replacing(path) as file, ThreadPoolExecutor(1) as thread:
                torch.save(checkpoint, file)
                file.flush()
                digest = thread.submit(_sha256_of, Path(file.name))  # while the disk writes
                os.fsync(file.fileno())
                # A file of this name stays valid until the new one takes its place, kill or not.
                digests = [digest.result(), *_digests_of(path)[:1]]
                write_text(checksum_of(path), "\n".join(digests) + "\n")
        except (OSError, RuntimeError) as error:
            # torch replaces the error of a write that failed by one about its own position
            cause = error if isinstance(error, OSError) else error.__context__
            if not isinstance(cause, OSError):
                raise
            raise RunError(
                f"Cannot write checkpoint {path}: {cause.strerror}. Earlier ones are intact; "
                "free some space and run the same command again to resume from the last one."
            ) from error

    def load_checkpoint(
        self, path: str | Path, map_location: Any | None = None, weights_only: bool | None = None
    ) -> dict[str, Any]:
        """Read a valid checkpoint.

        Args:
            path: The file.
            map_location: Where tensors go; the CPU by default.
            weights_only: Ignored: only plain data are ever loaded.

        Returns:
            The checkpoint.

        Raises:
            RunError: If the file is missing or broken, or has other content than plain data.
        """
        return read_checkpoint(Path(path), map_location)

    def remove_checkpoint(self, path: str | Path) -> None:
        """Remove a checkpoint and its checksum, never what a link in their place points to.

        Args:
            path: The file.
        """
        remove_entry(Path(path))
        remove_entry(checksum_of(Path(path)))


def checksum_of(path: Path) -> Path:
    """Return the file beside a checkpoint that contains its SHA-256."""
    return path.with_name(path.name + ".sha256")


def file_state(path: Path) -> FileState:
    """Return what tells whether a checkpoint or its checksum was written since, without a hash.

    A write of equal length in the same tick of the file system's clock, some milliseconds, is not
    seen; so a checkpoint is only ever loaded after its hash was computed.

    Args:
        path: The checkpoint.

    Returns:
        Number, size and times of both files; empty if one is missing.

    Example:
        >>> path = tmp / "model.ckpt"
        >>> CheckedCheckpointIO().save_checkpoint({}, path)
        >>> before = file_state(path)
        >>> file_state(path) == before
        True
        >>> _ = path.write_bytes(path.read_bytes()[:-1])
        >>> file_state(path) == before
        False
    """
    try:
        stats = [file.stat() for file in (path, checksum_of(path))]
    except OSError:
        return ()
    return tuple((s.st_ino, s.st_size, s.st_mtime_ns, s.st_ctime_ns) for s in stats)


def _sha256_of(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _digests_of(path: Path) -> list[str]:
    """Return the checksums that a checkpoint may have, the newest first."""
    try:
        return checksum_of(path).read_text(encoding="ascii").split()
    except (OSError, UnicodeDecodeError):
        return []


def is_valid(path: Path) -> bool:
    """Return whether a checkpoint exists and agrees with its checksum."""
    try:
        return _sha256_of(path) in _digests_of(path)
    except OSError:
        return False


def read_checkpoint(path: Path, map_location: Any | None = None) -> dict[str, Any]:
    """Read a checkpoint that agrees with its checksum; code in it is never executed.

    Args:
        path: The file.
        map_location: Where tensors go; the CPU by default.

    Returns:
        The checkpoint.

    Raises:
        RunError: If the file is missing or broken, or has other content than plain data.
    """
    if not path.is_file():
        raise RunError(f"There is no checkpoint {path}")
    if not is_valid(path):
        raise RunError(
            f"Checkpoint {path} does not agree with its checksum: it is cut off, damaged or not "
            "written by this program. Train its run again with overwrite=true, or copy it again "
            "from where it was written."
        )
    try:
        return torch.load(path, map_location=map_location or "cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, KeyError) as error:
        raise RunError(
            f"Checkpoint {path} cannot be loaded as plain data and was not executed. Save it again "
            f"with tensors and plain containers only. ({type(error).__name__})"
        ) from error

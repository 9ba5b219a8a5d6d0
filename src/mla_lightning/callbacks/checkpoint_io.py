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
        temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
        try:
            with temporary.open("wb") as file, ThreadPoolExecutor(1) as thread:
                torch.save(checkpoint, file)
                file.flush()
                digest = thread.submit(_sha256_of, temporary)  # while the disk writes
                os.fsync(file.fileno())
            checksum = path.with_name(f".{path.name}.sha256.tmp")
            checksum.write_text(digest.result() + "\n", encoding="ascii")
            checksum.replace(checksum_of(path))
            temporary.replace(path)
        except OSError as error:
            raise RunError(
                f"Cannot write checkpoint {path}: {error.strerror}. Earlier ones are intact; "
                "free some space and run the same command again to resume from the last one."
            ) from error
        finally:
            temporary.unlink(missing_ok=True)

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
        """Remove a checkpoint and its checksum.

        Args:
            path: The file.
        """
        Path(path).unlink(missing_ok=True)
        checksum_of(Path(path)).unlink(missing_ok=True)


def checksum_of(path: Path) -> Path:
    """Return the file beside a checkpoint that contains its SHA-256."""
    return path.with_name(path.name + ".sha256")


def _sha256_of(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def is_valid(path: Path) -> bool:
    """Return whether a checkpoint exists and agrees with its checksum."""
    try:
        expected = checksum_of(path).read_text(encoding="ascii").strip()
        return _sha256_of(path) == expected
    except (OSError, UnicodeDecodeError):
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
            "written by this program. Remove it and run again to resume from the one before."
        )
    try:
        return torch.load(path, map_location=map_location or "cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, KeyError) as error:
        raise RunError(
            f"Checkpoint {path} cannot be loaded as plain data and was not executed. Save it again "
            f"with tensors and plain containers only. ({type(error).__name__})"
        ) from error

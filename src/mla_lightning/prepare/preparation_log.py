"""Log of the finished items of a preparation, so that a killed one continues where it stopped."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


class FileRecord(NamedTuple):
    """State of a source file when it was read.

    Attributes:
        num_bytes: Its size.
        mtime_ns: Time of its last change, in nanoseconds.
        sha256: Hash of its content.
    """

    num_bytes: int
    mtime_ns: int
    sha256: str

    @classmethod
    def of(cls, path: Path) -> FileRecord:
        """Read the state of a file.

        Raises:
            OSError: If it cannot be read.
        """
        with path.open("rb") as file:
            status = os.fstat(file.fileno())
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        return cls(status.st_size, status.st_mtime_ns, digest)


class PreparationLog:
    """A file of JSON lines: a header, then one line per finished item.

    A line is written after the item's rows. If the process is killed, the operating system still
    writes both, so all lines are valid. After a crash of the machine only the lines before the last
    sync line are valid: it is written after rows and lines were forced to the disk, in this order.

    Attributes:
        finished: Numbers of the finished items.
        files: Source file -> its state when it was read.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.finished: set[int] = set()
        self.files: dict[str, FileRecord] = {}
        self._file = path.open("a", encoding="utf-8")

    @classmethod
    def create(cls, path: Path, identity: Mapping[str, Any]) -> PreparationLog:
        """Create an empty log.

        Args:
            path: The file; an existing one is replaced.
            identity: Identity of the store, JSON-able.

        Returns:
            The log.
        """
        temporary = path.with_name(path.name + ".new")
        with temporary.open("w", encoding="utf-8") as file:
            file.write(json.dumps({"identity": identity, "boot": _boot_id()}) + "\n")
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
        return cls(path)

    @classmethod
    def resume(cls, path: Path) -> PreparationLog:
        """Open the log of an interrupted preparation.

        Args:
            path: The file, which has a header.

        Returns:
            The log with all valid lines.
        """
        lines = path.read_bytes().split(b"\n")
        is_same_boot = json.loads(lines[0])["boot"] == _boot_id() != ""
        entries: list[dict[str, Any]] = []
        num_synced = 0
        for line in lines[1:-1]:  # the kill cut the text after the last end of line
            try:
                entries.append(json.loads(line))
            except ValueError:  # a line that was cut earlier, joined with the next one
                continue
            if "synced" in entries[-1]:
                num_synced = len(entries)
        if lines[-1]:
            with path.open("ab") as file:
                file.write(b"\n")
        log = cls(path)
        for entry in entries if is_same_boot else entries[:num_synced]:
            log._apply(entry)
        if not is_same_boot:
            log._rewrite(json.loads(lines[0])["identity"])
        return log

    @staticmethod
    def read_identity(path: Path) -> dict[str, Any] | None:
        """Read the identity of the store that a log belongs to; None without a log."""
        try:
            with path.open(encoding="utf-8") as file:
                return json.loads(file.readline())["identity"]
        except (FileNotFoundError, ValueError, KeyError):
            return None

    def add(self, number: int | None, files: Mapping[str, FileRecord]) -> None:
        """Record a finished item.

        Args:
            number: The item's number; None to record the files of an unfinished item.
            files: Files that were hashed for it.
        """
        entry: dict[str, Any] = {} if number is None else {"item": number}
        if files:
            entry["files"] = files
        self._apply(entry)
        self._write(entry)

    def sync(self) -> None:
        """Force the log to the disk; the caller has done so with the rows before."""
        self._write({"synced": len(self.finished)})
        os.fsync(self._file.fileno())

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _apply(self, entry: Mapping[str, Any]) -> None:
        if "item" in entry:
            self.finished.add(entry["item"])
        for name, record in entry.get("files", {}).items():
            self.files[name] = FileRecord(*record)

    def _write(self, entry: Mapping[str, Any]) -> None:
        self._file.write(json.dumps(entry) + "\n")
        self._file.flush()

    def _rewrite(self, identity: Mapping[str, Any]) -> None:
        """Rewrite the file with the valid lines and the present boot id."""
        finished, files = self.finished, self.files
        self._file.close()
        self._file = PreparationLog.create(self.path, identity)._file
        unwritten = dict(files)
        for number in sorted(finished):
            self.add(number, unwritten)
            unwritten = {}
        self.sync()


def _boot_id() -> str:
    """Return the id of the machine's current boot; empty where the system has none."""
    try:
        return _BOOT_ID.read_text(encoding="ascii").strip()
    except OSError:
        return ""

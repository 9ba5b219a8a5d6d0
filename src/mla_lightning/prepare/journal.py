"""What of a store is finished, so that a killed preparation goes on where it was."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


class FileRecord(NamedTuple):
    """A source file as it was when it was read.

    Attributes:
        num_bytes: Its size.
        mtime_ns: When it was changed last.
        sha256: Hash of its content.
    """

    num_bytes: int
    mtime_ns: int
    sha256: str


class Journal:
    """A file of JSON lines: a header, and one line per finished item.

    A line is written when the item's rows are written. A killed process leaves both to the system,
    so all lines count; after a crash of the machine only those count that a mark says were forced
    to the disk, rows first.

    Attributes:
        done: Numbers of the finished items.
        files: Source file -> what it was.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.done: set[int] = set()
        self.files: dict[str, FileRecord] = {}
        self._file = path.open("a", encoding="utf-8")

    @classmethod
    def begin(cls, path: Path, identity: Mapping[str, Any]) -> Journal:
        """Start anew.

        Args:
            path: The file; an old one is replaced.
            identity: What is prepared, JSON-able.

        Returns:
            An empty journal.
        """
        temporary = path.with_name(path.name + ".new")
        with temporary.open("w", encoding="utf-8") as file:
            file.write(json.dumps({"identity": identity, "boot": _boot()}) + "\n")
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
        return cls(path)

    @classmethod
    def resume(cls, path: Path) -> Journal:
        """Go on with a journal.

        Args:
            path: The file, which has a header.

        Returns:
            The journal, with all lines that count.
        """
        lines = path.read_bytes().split(b"\n")
        same_boot = json.loads(lines[0])["boot"] == _boot() != ""
        whole: list[dict[str, Any]] = []
        last_mark = 0
        for line in lines[1:-1]:  # what follows the last end of line was cut off by the kill
            try:
                whole.append(json.loads(line))
            except ValueError:  # a torn line, glued to the next one
                continue
            if "synced" in whole[-1]:
                last_mark = len(whole)
        if lines[-1]:
            with path.open("ab") as file:
                file.write(b"\n")
        journal = cls(path)
        for entry in whole if same_boot else whole[:last_mark]:
            journal._take(entry)
        if not same_boot:
            journal._restart(json.loads(lines[0])["identity"])
        return journal

    @staticmethod
    def identity_of(path: Path) -> dict[str, Any] | None:
        """Read what a journal is about; None where there is no journal."""
        try:
            with path.open(encoding="utf-8") as file:
                return json.loads(file.readline())["identity"]
        except (FileNotFoundError, ValueError, KeyError):
            return None

    def add(self, number: int | None, files: Mapping[str, FileRecord]) -> None:
        """Note a finished item.

        Args:
            number: The item's number; None to note the files of one that is not finished.
            files: Files that were hashed on the way.
        """
        entry: dict[str, Any] = {} if number is None else {"item": number}
        if files:
            entry["files"] = files
        self._take(entry)
        self._write(entry)

    def mark(self) -> None:
        """Force the journal to the disk; the rows must be there already."""
        self._write({"synced": len(self.done)})
        os.fsync(self._file.fileno())

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _take(self, entry: Mapping[str, Any]) -> None:
        if "item" in entry:
            self.done.add(entry["item"])
        for name, record in entry.get("files", {}).items():
            self.files[name] = FileRecord(*record)

    def _write(self, entry: Mapping[str, Any]) -> None:
        self._file.write(json.dumps(entry) + "\n")
        self._file.flush()

    def _restart(self, identity: Mapping[str, Any]) -> None:
        """Rewrite the journal with what counts, under the present boot."""
        done, files = self.done, self.files
        self._file.close()
        fresh = Journal.begin(self.path, identity)
        self._file = fresh._file
        names = dict(files)
        for number in sorted(done):
            self.add(number, names)
            names = {}
        self.mark()


def _boot() -> str:
    """Tell which start of the machine this is; empty where it cannot be told."""
    try:
        return _BOOT_ID.read_text(encoding="ascii").strip()
    except OSError:
        return ""

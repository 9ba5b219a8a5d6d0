"""Cache of finished runs beside their folders, so that later reports read only what is new."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

from mla_lightning.report.read.run import Run
from mla_lightning.run_folder import RESULT, State, write_text
from mla_lightning.run_folder.completion import changed_files
from mla_lightning.run_folder.integrity import SEALED
from mla_lightning.run_folder.reader import RunFiles

CACHE_FILE = ".read.json"
#: Version of the file's format; a file of another version is not used.
VERSION = 6
#: Fields of a run that depend on where its folder lies.
_NOT_CACHED = ("path", "where", "run")


class RunCache:
    """Finished runs by folder, valid while times and sizes of their files are unchanged.

    Attributes:
        path: The cache file.
        num_hits: Number of runs that were taken from the cache.
    """

    def __init__(self, folder: Path) -> None:
        """Open the cache of a folder; a missing, damaged or older file counts as empty.

        Args:
            folder: The folder that holds the runs.
        """
        self.path = folder / CACHE_FILE
        self.num_hits = 0
        self._stored: dict[str, dict[str, Any]] = {}
        self._entries: dict[str, dict[str, Any]] = {}
        self._codes: dict[str, Any] = {}
        self._changed: dict[str, str] = {}
        try:
            content = json.loads(self.path.read_text(encoding="utf-8"))
            if content["version"] == [VERSION, _run_fields()]:
                self._stored, self._codes = content["runs"], content["codes"]
        except (OSError, ValueError, KeyError, TypeError):
            pass

    def get(self, folder: Path) -> Run | None:
        """Return the cached run of a folder; None if there is none or its files changed."""
        entry = self._stored.get(self._key(folder))
        if entry is None or entry["stamp"] != stamp(folder):
            return None
        self.num_hits += 1
        self._entries[self._key(folder)] = entry
        values = dict(entry["run"])
        values["state"] = State(values["state"])
        values["stale"] = self._changed_files(values["code"])
        values["overrides"] = tuple((key, text) for key, text in values["overrides"])
        return Run(run=folder.name, where=str(folder), path=folder, **values)

    def put(self, run: Run | None) -> None:
        """Add a run that was read from its folder, if it is finished."""
        if run is None or run.path is None or not run.is_finished:
            return
        values = {key: value for key, value in vars(run).items() if key not in _NOT_CACHED}
        self._entries[self._key(run.path)] = {"stamp": stamp(run.path), "run": values}
        if run.code not in self._codes:
            self._codes[run.code] = RunFiles(run.path).provenance.get("code")

    def write(self) -> None:
        """Write the runs that were used, if they changed; errors of writing are ignored."""
        if self._entries == self._stored:
            return
        content: Mapping[str, Any] = {
            "version": [VERSION, _run_fields()],
            "runs": self._entries,
            "codes": self._codes,
        }
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            write_text(self.path, json.dumps(content))
        except OSError:
            return  # the next report reads all runs again

    def _changed_files(self, code: str) -> str:
        """Return the files of the code that differ now; they are not cached with the run."""
        if code not in self._changed:
            self._changed[code] = ", ".join(changed_files({"code": self._codes.get(code)}))
        return self._changed[code]

    def _key(self, folder: Path) -> str:
        """Return a run's path relative to the cache, which stays valid when both move."""
        return os.path.relpath(folder.resolve(), self.path.parent.resolve())


def stamp(folder: Path) -> list[int]:
    """Return inodes, times and sizes of the files that reports read of a run.

    Args:
        folder: The run folder.

    Returns:
        Inode, modification time in nanoseconds and size in bytes of each file, -1 for missing ones.
    """
    values = []
    for name in (RESULT, *SEALED):
        try:
            status = (folder / name).stat()
        except OSError:
            values += [-1, -1, -1]
            continue
        values += [status.st_ino, status.st_mtime_ns, status.st_size]
    return values


def _run_fields() -> list[str]:
    return [field.name for field in fields(Run)]

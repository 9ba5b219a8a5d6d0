"""What was read of finished runs, kept beside them: the next report reads what is new."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from mla_lightning.report.read.run import Run
from mla_lightning.run_folder import (
    DIAGNOSTICS,
    METRICS,
    PLANES,
    PROVENANCE,
    RESULT,
    State,
    write_text,
)
from mla_lightning.run_folder.reader import RunFiles
from mla_lightning.run_folder.standing import changed_files

KEPT = ".read.json"
#: Changes when what is kept of a run does; older files are not used then.
VERSION = 4
_NOT_KEPT = ("path", "where", "run")


class RunCache:
    """Finished runs by folder, valid while their files' times and sizes are the same."""

    def __init__(self, folder: Path) -> None:
        """Open what is kept in a folder; a broken or older file counts as none.

        Args:
            folder: The folder that holds the runs.
        """
        self.path = folder / KEPT
        self._entries: dict[str, dict[str, Any]] = {}
        self._seen: dict[str, dict[str, Any]] = {}
        self._codes: dict[str, Any] = {}
        self._changed: dict[str, str] = {}
        self.num_used = 0
        try:
            content = json.loads(self.path.read_text(encoding="utf-8"))
            if content["version"] == [VERSION, _layout()]:
                self._entries, self._codes = content["runs"], content["codes"]
        except (OSError, ValueError, KeyError, TypeError):
            pass

    def get(self, folder: Path) -> Run | None:
        """Return a run as it was read before; None if it is not known or its files changed."""
        entry = self._entries.get(self._name(folder))
        if entry is None or entry["stamp"] != stamp(folder):
            return None
        self.num_used += 1
        self._seen[self._name(folder)] = entry
        values = dict(entry["run"])
        values["state"] = State(values["state"])
        values["stale"] = self._stale(values["code"])
        values["overrides"] = tuple((key, text) for key, text in values["overrides"])
        return Run(run=folder.name, where=str(folder), path=folder, **values)

    def put(self, run: Run | None) -> None:
        """Keep a run that was read, if it is finished."""
        if run is None or run.path is None or not run.is_finished:
            return
        values = {key: value for key, value in asdict(run).items() if key not in _NOT_KEPT}
        self._seen[self._name(run.path)] = {"stamp": stamp(run.path), "run": values}
        if run.code not in self._codes:
            self._codes[run.code] = RunFiles(run.path).provenance.get("code")

    def write(self) -> None:
        """Write what was met, if that changed; a folder that cannot be written is left."""
        if self._seen == self._entries:
            return
        content: Mapping[str, Any] = {
            "version": [VERSION, _layout()],
            "runs": self._seen,
            "codes": self._codes,
        }
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            write_text(self.path, json.dumps(content))
        except OSError:
            return  # the next report reads everything again

    def _stale(self, code: str) -> str:
        """Return the files that changed since: more may have than when the run was read."""
        if code not in self._changed:
            self._changed[code] = ", ".join(changed_files({"code": self._codes.get(code)}))
        return self._changed[code]

    def _name(self, folder: Path) -> str:
        """Name a run by its way from here: the folder that holds all may move."""
        return os.path.relpath(folder.resolve(), self.path.parent.resolve())


def stamp(folder: Path) -> list[int]:
    """Tell times and sizes of what is read of a run.

    Args:
        folder: The run folder.

    Returns:
        Nanoseconds and bytes of each file, -1 for one that is not there.
    """
    found = []
    for name in (RESULT, PROVENANCE, METRICS, DIAGNOSTICS, PLANES):
        try:
            about = (folder / name).stat()
        except OSError:
            found += [-1, -1]
            continue
        found += [about.st_mtime_ns, about.st_size]
    return found


def _layout() -> list[str]:
    return [field.name for field in fields(Run)]

"""What was read of finished runs, kept beside them: the next report reads what is new."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from mla_lightning.report.results import Run, Score
from mla_lightning.run_folder import PROVENANCE, RESULT, write_text

KEPT = ".read.json"
#: Changes when what is kept of a run does; older files are not used then.
VERSION = 1
_NOT_KEPT = ("path", "where", "run")


class Kept:
    """Finished runs by folder, valid while their files' times and sizes are the same."""

    def __init__(self, folder: Path) -> None:
        """Open what is kept in a folder; a broken or older file counts as none.

        Args:
            folder: The folder that holds the runs.
        """
        self.path = folder / KEPT
        self._entries: dict[str, dict[str, Any]] = {}
        self._is_changed = False
        self.num_used = 0
        try:
            content = json.loads(self.path.read_text(encoding="utf-8"))
            if content["version"] == [VERSION, _layout()]:
                self._entries = content["runs"]
        except (OSError, ValueError, KeyError, TypeError):
            pass

    def get(self, folder: Path) -> Run | None:
        """Return a run as it was read before; None if it is not known or its files changed."""
        entry = self._entries.get(str(folder.resolve()))
        if entry is None or entry["stamp"] != _stamp(folder):
            return None
        self.num_used += 1
        values = dict(entry["run"])
        values["scores"] = {
            split: {name: Score(**score) for name, score in by_modality.items()}
            for split, by_modality in values["scores"].items()
        }
        values["overrides"] = tuple((key, text) for key, text in values["overrides"])
        return Run(run=folder.name, where=str(folder), path=folder, **values)

    def put(self, run: Run | None) -> None:
        """Keep a run if it is finished and not kept yet."""
        if run is None or run.path is None or not run.is_finished:
            return
        if self._entries.get(str(run.path.resolve()), {}).get("stamp") == _stamp(run.path):
            return
        values = {key: value for key, value in asdict(run).items() if key not in _NOT_KEPT}
        self._entries[str(run.path.resolve())] = {"stamp": _stamp(run.path), "run": values}
        self._is_changed = True

    def write(self) -> None:
        """Write what is kept, if there is anything new; a folder that cannot be written is left."""
        if not self._is_changed:
            return
        content: Mapping[str, Any] = {"version": [VERSION, _layout()], "runs": self._entries}
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            write_text(self.path, json.dumps(content))
        except OSError:
            return  # the next report reads everything again


def _layout() -> list[str]:
    return [field.name for kind in (Run, Score) for field in fields(kind)]


def _stamp(folder: Path) -> list[int] | None:
    found = []
    for name in (RESULT, PROVENANCE):
        try:
            about = (folder / name).stat()
        except OSError:
            return None
        found += [about.st_mtime_ns, about.st_size]
    return found

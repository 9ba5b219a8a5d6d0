"""Whether a job is finished, and by the code that is there now."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from mla_lightning import run_folder as files
from mla_lightning.identity.code import Code, changed_modules, file_of
from mla_lightning.run_lock import LOCK

#: Where earlier results of a run folder are kept.
EARLIER = "earlier"
#: What a run folder keeps when its result is set aside.
STAYING = (LOCK, files.LOG, EARLIER)
#: Stands for the files of a run that did not record which modules made it.
UNKNOWN = "unknown"


class Kind(StrEnum):
    """What a run folder holds of a job."""

    NOT_FINISHED = "not finished"
    FINISHED = "finished"
    STALE = "finished by other code"
    OTHER_JOB = "another job's"


@dataclass(frozen=True)
class Standing:
    """What a run folder holds of a job.

    Attributes:
        kind: Which of the cases it is.
        changed: Files that changed since, where the kind is ``STALE``.
    """

    kind: Kind
    changed: tuple[str, ...] = ()

    def is_done(self, stale: str) -> bool:
        """Return whether the job need not run.

        Args:
            stale: ``keep`` takes a result of other code as it is, ``retrain`` does not.
        """
        return self.kind is Kind.FINISHED or (self.kind is Kind.STALE and stale == "keep")


def standing_of(run_dir: Path, identity: str, code: Code) -> Standing:
    """Compare a run folder with a job.

    Args:
        run_dir: The run folder.
        identity: The job's identity.
        code: The code that the job reaches now.

    Returns:
        What the folder holds of the job.

    Raises:
        RunError: If its files are damaged.
    """
    result = files.read_json(run_dir / files.RESULT)
    if result is None:
        return Standing(Kind.NOT_FINISHED)
    if result.get("identity") != identity:
        return Standing(Kind.OTHER_JOB)
    if result.get("code") == code.hash:
        return Standing(Kind.FINISHED)
    changed = changed_files(files.read_json(run_dir / files.PROVENANCE) or {})
    return Standing(Kind.STALE, changed) if changed else Standing(Kind.FINISHED)


def changed_files(provenance: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the files of the code that made a run which are not as they were.

    Args:
        provenance: The run's ``provenance.json``.

    Returns:
        Such as ``("methods/mla.py",)``; ``("unknown",)`` for a run of a version that recorded no
        modules.
    """
    recorded = provenance.get("code")
    if not isinstance(recorded, Mapping) or not isinstance(recorded.get("modules"), Mapping):
        return (UNKNOWN,)
    return tuple(file_of(module) for module in changed_modules(recorded["modules"]))


def set_aside(run_dir: Path) -> Path | None:
    """Move what a run folder holds to ``earlier/``, so that the job can start anew beside it.

    The result moves last: if the process is killed in between, the folder still counts as finished
    by other code, and the next call moves the rest to the same place.

    Args:
        run_dir: The run folder, whose lock is held.

    Returns:
        Where it is now; None where there was nothing.
    """
    names = [path.name for path in sorted(run_dir.iterdir()) if path.name not in STAYING]
    if not names:
        return None
    place = _unfinished_place(run_dir / EARLIER)
    place.mkdir(parents=True, exist_ok=True)
    for name in sorted(names, key=lambda name: name == files.RESULT):
        target = place / name
        if target.is_dir() and not target.is_symlink():
            shutil.rmtree(target)
        (run_dir / name).replace(target)
    return place


def _unfinished_place(folder: Path) -> Path:
    """Return the folder that an interrupted move began, else the next one."""
    numbers = sorted(int(path.name) for path in folder.glob("*") if path.name.isdigit())
    if numbers and not (last := folder / str(numbers[-1])).joinpath(files.RESULT).exists():
        return last
    return folder / str(numbers[-1] + 1 if numbers else 1)

"""Completion of jobs: whether a run is finished, and whether its code changed since."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from mla_lightning import run_folder as files
from mla_lightning.errors import RunError
from mla_lightning.identity.code import Code, changed_modules, file_of
from mla_lightning.run_folder.contents import (
    EARLIER,
    MOVING,
    REPLACED,
    remove_run,
    written_entries,
)

#: Stands for the changed files of a run that did not record the modules of its code.
UNKNOWN = "unknown"


class CompletionKind(StrEnum):
    """The kinds of a job's completion.

    Example:
        >>> [kind.value for kind in CompletionKind]
        ['not finished', 'finished', 'finished by other code', "another job's"]
    """

    NOT_FINISHED = "not finished"
    FINISHED = "finished"
    STALE = "finished by other code"
    OTHER_JOB = "another job's"


@dataclass(frozen=True)
class Completion:
    """The completion of a job: whether its run folder holds its result, by the current code.

    Attributes:
        kind: Whether the job is finished, and by which code.
        changed_files: The files that changed since, if the kind is ``STALE``.

    Example:
        >>> stale = Completion(CompletionKind.STALE, ("methods/mla.py",))
        >>> stale.is_done("keep"), stale.is_done("retrain")
        (True, False)
    """

    kind: CompletionKind
    changed_files: tuple[str, ...] = ()

    def is_done(self, stale: str) -> bool:
        """Return whether the job need not run.

        Args:
            stale: ``keep`` accepts a result of other code, ``retrain`` does not.
        """
        if self.kind is CompletionKind.STALE:
            return stale == "keep"
        return self.kind is CompletionKind.FINISHED


def completion_of(run_dir: Path, identity: str, code: Code) -> Completion:
    """Return whether a run folder holds the result of a job, by the current code.

    Args:
        run_dir: The run folder.
        identity: The job's identity.
        code: The current code of the job.

    Raises:
        RunError: If the folder's files are damaged.

    Example:
        >>> files.write_json(tmp / "result.json", {"identity": "of seed 0", "code": "1a2b"})
        >>> completion_of(tmp, "of seed 1", Code({})).kind
        <CompletionKind.OTHER_JOB: "another job's">
        >>> completion_of(tmp, "of seed 0", Code({}))  # the run recorded no modules
        Completion(kind=<CompletionKind.STALE: ...>, changed_files=('unknown',))
    """
    result = files.read_json(run_dir / files.RESULT)
    if result is None:
        return Completion(CompletionKind.NOT_FINISHED)
    if result.get("identity") != identity:
        return Completion(CompletionKind.OTHER_JOB)
    if result.get("code") == code.hash:
        return Completion(CompletionKind.FINISHED)
    changed = changed_files(files.read_json(run_dir / files.PROVENANCE) or {})
    return Completion(CompletionKind.STALE if changed else CompletionKind.FINISHED, changed)


def planned_state(run_dir: Path, identity: str, code: Code) -> str:
    """Return a text with the state of a job before it is started.

    Args:
        run_dir: The run folder.
        identity: The job's identity.
        code: The current code of the job.

    Returns:
        The run's state; or that its result is of other code, or that the folder is another job's.

    Raises:
        RunError: If the status cannot be read.

    Example:
        >>> planned_state(tmp, "of seed 0", Code({}))
        'missing'
        >>> files.write_json(tmp / "result.json", {"identity": "of seed 1"})
        >>> planned_state(tmp, "of seed 0", Code({}))
        "another job's"
    """
    state = str(files.state_of(run_dir))
    try:
        kind = completion_of(run_dir, identity, code).kind
        if kind in (CompletionKind.STALE, CompletionKind.OTHER_JOB):
            return kind.value
        recorded = (files.read_json(run_dir / files.PROVENANCE) or {}).get("identity", identity)
    except RunError:  # damaged files, which the job itself will report
        return state
    return state if recorded == identity else CompletionKind.OTHER_JOB.value


def changed_files(provenance: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the files of a run's code that changed since the run.

    Args:
        provenance: The run's ``provenance.json``.

    Returns:
        Such as ``("methods/mla.py",)``; ``("unknown",)`` for a run of an earlier version, which
        recorded no modules.

    Example:
        >>> changed_files({"code": {"modules": {"mla_lightning.methods.mla": "another hash"}}})
        ('methods/mla.py',)
    """
    recorded = provenance.get("code")
    if not isinstance(recorded, Mapping) or not isinstance(recorded.get("modules"), Mapping):
        return (UNKNOWN,)
    return tuple(file_of(module) for module in changed_modules(recorded["modules"]))


def set_aside(run_dir: Path, *, until_replaced: bool = False) -> Path | None:
    """Move a run to the subfolder ``earlier/``, so that its job can be trained again.

    The result is moved first, so that the folder does not count as finished without its other
    files. If the process is killed meanwhile, :func:`complete_set_aside` moves the rest. What no
    run wrote stays in place.

    Args:
        run_dir: The run folder, whose lock is held.
        until_replaced: Whether :func:`remove_replaced` is to remove it once the run that replaces
            it is finished.

    Returns:
        The new place; None if there was nothing to move.

    Example:
        >>> files.write_json(tmp / "result.json", {})
        >>> set_aside(tmp).relative_to(tmp).as_posix()
        'earlier/1'
        >>> files.is_finished(tmp), files.is_finished(tmp / "earlier" / "1")
        (False, True)
    """
    if not written_entries(run_dir):
        return None
    folder = run_dir / EARLIER
    numbers = [int(path.name) for path in folder.glob("*") if path.name.isdecimal()]
    place = folder / str(max(numbers, default=0) + 1)
    place.mkdir(parents=True)
    if until_replaced:
        (place / REPLACED).touch()
    (place / MOVING).touch()
    _move(run_dir, place)
    return place


def complete_set_aside(run_dir: Path) -> None:
    """Complete a move to ``earlier/`` during which the process was killed.

    Args:
        run_dir: The run folder, whose lock is held.

    Example:
        >>> place = tmp / "earlier" / "1"
        >>> place.mkdir(parents=True)
        >>> files.write_json(place / "result.json", {})
        >>> (place / ".moving").touch()
        >>> files.write_json(tmp / "provenance.json", {})
        >>> complete_set_aside(tmp)
        >>> sorted(path.name for path in place.iterdir())
        ['provenance.json', 'result.json']
    """
    for marker in (run_dir / EARLIER).glob(f"*/{MOVING}"):
        _move(run_dir, marker.parent)


def remove_replaced(run_dir: Path) -> None:
    """Remove the earlier results that a finished run replaces (``overwrite=true``).

    Args:
        run_dir: The run folder, whose lock is held and whose run is finished.

    Example:
        >>> files.write_json(tmp / "status.json", {"state": "finished"})
        >>> _ = set_aside(tmp, until_replaced=True)
        >>> remove_replaced(tmp)
        >>> list(tmp.iterdir())
        []
    """
    for marker in (run_dir / EARLIER).glob(f"*/{REPLACED}"):
        remove_run(marker.parent)
    with suppress(OSError):  # other earlier results are in it, or it does not exist
        (run_dir / EARLIER).rmdir()


def _move(run_dir: Path, place: Path) -> None:
    names = written_entries(run_dir)
    order = {files.RESULT: 0, files.STATUS: 2}  # the status lists what else is the run's
    for name in sorted(names, key=lambda name: (order.get(name, 1), name)):
        target = place / name
        number = 1
        while target.exists() or target.is_symlink():  # written after the kill, such as a status
            number += 1
            target = place / f"{name}.{number}"
        (run_dir / name).replace(target)
    (place / MOVING).unlink()

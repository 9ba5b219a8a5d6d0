"""The entries of a run folder that a run wrote, and their removal.

All code that removes or moves what a run wrote goes through this module: it touches only files that
a run writes, only in a folder that is proven to be a run's, and never follows a symbolic link.
"""

from __future__ import annotations

import json
import os
import re
import shutil
from contextlib import suppress
from pathlib import Path
from typing import Any

from mla_lightning import run_folder as files
from mla_lightning.errors import ConfigError
from mla_lightning.run_folder.lock import GUARD, LOCK
from mla_lightning.run_folder.writing import open_file

#: The subfolder of a run folder that keeps its earlier results.
EARLIER = "earlier"
#: What stays in place when a run is moved to the subfolder of earlier results.
STAYING = (LOCK, GUARD, files.LOG, EARLIER)
#: Marks a folder of an earlier result whose move was not completed.
MOVING = ".moving"
#: Marks a folder of an earlier result that is removed once the run that replaces it is finished.
REPLACED = ".replaced"
#: Folders that loggers write in a run folder.
LOGGER_FOLDERS = ("wandb", "tensorboard", "mlflow")
#: Key of ``status.json``: other entries that appeared in the folder while the run wrote to it.
OTHER_ENTRIES = "other_entries"

RUN_FILES = (
    *(files.CONFIG, files.METRICS, files.RESULT, files.PROVENANCE, files.PREDICTIONS),
    *(files.DIAGNOSTICS, files.PLANES, files.STATUS, files.ERROR, files.LOG),
)
_CHECKPOINT = re.compile(r"(epoch=\d+-batch=\d+|best-.+)\.ckpt(\.sha256)?|\..*\.tmp")


def is_run(folder: Path) -> bool:
    """Return whether a folder is proven to be a run's, by a state or an identity in its files.

    Args:
        folder: The folder, which need not exist.

    Example:
        >>> files.write_text(tmp / "config.yaml", "seed: 0")  # other programs write such files
        >>> is_run(tmp)
        False
        >>> files.write_json(tmp / "status.json", {"state": "failed", "attempt": 1})
        >>> is_run(tmp)
        True
    """
    if any((folder / EARLIER).glob(f"*/{MOVING}")):
        return True
    status = _json_of(folder / files.STATUS)
    has_state = status.get("state") in {str(state) for state in files.State}
    return has_state or any(
        isinstance(_json_of(folder / name).get("identity"), str)
        for name in (files.RESULT, files.PROVENANCE)
    )


def other_entries(folder: Path) -> list[str]:
    """Return the names of the entries of a run folder that no run writes.

    Entries that appeared while a run wrote to the folder, such as files of a user's own logger,
    are the run's.

    Args:
        folder: The run folder, which need not exist.

    Example:
        >>> for name in ("metrics.csv", "thesis.tex"):
        ...     (tmp / name).touch()
        >>> other_entries(tmp)
        ['thesis.tex']
    """
    names = entries_of(folder)
    recorded = _json_of(folder / files.STATUS).get(OTHER_ENTRIES)
    return [name for name in names if not _is_of_a_run(name) and name not in _texts(recorded)]


def entries_of(folder: Path) -> list[str]:
    """Return the sorted names in a folder; none if it does not exist."""
    return sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []


def written_entries(folder: Path) -> list[str]:
    """Return the names of a run's own entries, without those that always stay in place."""
    others = other_entries(folder)
    return [name for name in entries_of(folder) if name not in (*others, *STAYING)]


def check_run_folder(run_dir: Path, *, overwrite: bool = False) -> None:
    """Check that a folder holds nothing but a run, since a run may be moved or removed as a whole.

    Args:
        run_dir: The folder of a job, which need not exist.
        overwrite: Whether the run in it is to be replaced.

    Raises:
        ConfigError: If it or a folder of the run in it is a symbolic link, if it is the current
            folder or above it, if it holds other files than a run's or other runs, or if files that
            no run writes are beside a run that is to be replaced.
    """
    for place in (run_dir, run_dir / files.CHECKPOINTS, run_dir / EARLIER):
        if place.is_symlink():
            raise ConfigError(
                f"{place} is a symbolic link, through which no run is written or removed. "
                f"Set run_dir to the folder itself, or paths.output_dir to the other disk."
            )
    place = run_dir.absolute()
    if place == Path.cwd() or place in Path.cwd().parents:
        raise ConfigError(f"run_dir={run_dir} is the current folder or above it. Choose another.")
    if run_dir.exists() and not run_dir.is_dir():
        raise ConfigError(f"run_dir={run_dir} is a file. Choose another.")
    names = [name for name in entries_of(run_dir) if name not in STAYING]
    names = [name for name in names if not _is_temporary(name)]
    for name in names:
        if (run_dir / name).is_dir() and (inner := next(files.find_runs(run_dir / name), None)):
            raise ConfigError(
                f"run_dir={run_dir} holds other runs, such as {inner}. Choose another."
            )
    if names and not is_run(run_dir):
        raise ConfigError(
            f"{run_dir} holds other files than a run's ({', '.join(names[:3])}). Choose another "
            "run_dir, or leave it out."
        )
    if overwrite and (others := other_entries(run_dir)):
        raise ConfigError(
            f"overwrite=true: {run_dir} also holds what no run wrote ({', '.join(others[:3])}). "
            "Move that elsewhere, or choose another run_dir. Nothing was removed."
        )


def remove_run(folder: Path) -> list[str]:
    """Remove what a run wrote, and the folder if nothing else is in it.

    Args:
        folder: A run folder, or an earlier result.

    Returns:
        The names of the entries that are left, because no run wrote them.

    Example:
        >>> run = tmp / "earlier" / "1"
        >>> (run / "checkpoints").mkdir(parents=True)
        >>> files.write_json(run / "status.json", {"state": "finished"})
        >>> (run / "checkpoints" / "my.ckpt").touch()
        >>> remove_run(run)
        ['checkpoints']
    """
    if folder.is_symlink() or not is_run(folder):
        return entries_of(folder)
    own = [n for n in entries_of(folder) if n not in other_entries(folder) and n != EARLIER]
    last = (REPLACED, files.STATUS)  # the reason to remove it, and the proof that it is a run
    for name in sorted(own, key=lambda name: name in last):
        remove_entry(folder / name)
    if not (left := entries_of(folder)):
        folder.rmdir()
    return left


def remove_entry(path: Path) -> None:
    """Remove one entry that a run wrote; of a folder of checkpoints only the checkpoints.

    Args:
        path: A file, a folder or a symbolic link, which itself is removed. It need not exist.
    """
    if path.is_symlink() or not path.is_dir():
        path.unlink(missing_ok=True)
    elif path.name != files.CHECKPOINTS:
        shutil.rmtree(path)  # which does not follow symbolic links
    else:
        for file in path.iterdir():
            if _CHECKPOINT.fullmatch(file.name) and (file.is_symlink() or file.is_file()):
                file.unlink()
        with suppress(OSError):  # files of others are in it
            path.rmdir()


def _is_of_a_run(name: str) -> bool:
    folders = (files.CHECKPOINTS, *LOGGER_FOLDERS, MOVING, REPLACED)
    name = re.sub(r"\.\d+$", "", name)  # a second file of one name in an earlier result
    return name in (*RUN_FILES, *STAYING, *folders) or _is_temporary(name)


def _is_temporary(name: str) -> bool:
    """Return whether a kill may have left a file; earlier versions wrote ``.lock.PID``."""
    return bool(re.fullmatch(r"\..*\.tmp|\.lock\.\d+", name))


def _json_of(path: Path) -> dict[str, Any]:
    """Return a JSON object; an empty one if the file is damaged, a link or does not exist."""
    try:
        with os.fdopen(open_file(path, os.O_RDONLY), encoding="utf-8") as file:
            content = json.load(file)
    except (OSError, ValueError, RecursionError):
        return {}
    return content if isinstance(content, dict) else {}


def _texts(value: Any) -> list[str]:
    return [text for text in value if isinstance(text, str)] if isinstance(value, list) else []

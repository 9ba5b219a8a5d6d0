"""Errors that are shown to users, each with the exit code of the command that raised it."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from pathlib import Path


class MLAError(Exception):
    """Base class of errors that are shown to the user as a message, without a traceback.

    Example:
        >>> [kind.exit_code for kind in (RunError, ConfigError, DataError, Interrupted, Preempted)]
        [1, 2, 3, 130, 143]
    """

    exit_code = 1


class RunError(MLAError):
    """Failure of a job while it runs: a non-finite loss, a broken checkpoint, a full disk.

    It is also raised for run folders that are damaged or not finished.

    Example:
        >>> mla.load("nowhere")
        Traceback (most recent call last):
        mla_lightning.errors.NoRunError: nowhere ...
    """


class NoRunError(RunError):
    """Folder given for a run that is none: a wrong command, which ends with exit code 2.

    Example:
        >>> NoRunError.exit_code
        2
    """

    exit_code = 2


class ConfigError(MLAError):
    """Wrong configuration, reported before any job starts.

    Example:
        >>> mla.train("method=mlaa")
        Traceback (most recent call last):
        mla_lightning.errors.ConfigError: Unknown method 'mlaa'. Did you mean 'mla'? ...
    """

    exit_code = 2


class DataError(MLAError):
    """Data that are missing or incomplete, or that contradict the configuration.

    Example:
        >>> mla.train("data=cremad", "optimizer.lr=0.1", "paths.data_dir=nowhere")
        Traceback (most recent call last):
        mla_lightning.errors.DataError: ...
    """

    exit_code = 3


class Interrupted(MLAError):
    """Stop by Ctrl-C, after a checkpoint was written; the run can be resumed.

    Example:
        >>> Interrupted.exit_code  # 128 + SIGINT, as shells report it
        130
    """

    exit_code = 130


class Preempted(MLAError):
    """Stop by the scheduler (SIGTERM), after a checkpoint was written; the run can be resumed.

    Example:
        >>> Preempted.exit_code  # 128 + SIGTERM, by which a scheduler knows to start the job again
        143
    """

    exit_code = 143


class Pruned(MLAError):
    """End of a trial of a search before its last epoch, because it is below earlier trials.

    Example:
        >>> Pruned.exit_code  # of the job; the search goes on
        4
    """

    exit_code = 4


def near(name: str, known: Iterable[str]) -> str:
    """Return a hint at the nearest known name, to append to an error message.

    Args:
        name: The unknown name that the user gave.
        known: The names that exist.

    Returns:
        `` Did you mean 'x'?`` with a leading space, or an empty string if no name is similar.

    Example:
        >>> modalities = ["audio", "visual", "text"]
        >>> f"'visuel' is no modality.{near('visuel', modalities)}"
        "'visuel' is no modality. Did you mean 'visual'?"
        >>> near("radar", modalities)
        ''
    """
    close = difflib.get_close_matches(name, sorted(known), n=1, cutoff=0.5)
    return f" Did you mean {close[0]!r}?" if close else ""


def reason_of(error: Exception, named: Path | None = None) -> str:
    """Return the reason in an error: for one of the system the file and no number.

    Args:
        error: The error.
        named: A file that the message names already, so that the reason need not.

    Returns:
        ``FILE: reason`` for an error of the system about a file, otherwise the reason alone.

    Example:
        >>> denied = PermissionError(13, "Permission denied", "runs")
        >>> reason_of(denied), reason_of(denied, Path("runs")), reason_of(ValueError("no number"))
        ('runs: Permission denied', 'Permission denied', 'no number')
        >>> reason_of(OSError(27, "File too large")), reason_of(OSError("timed out"))
        ('File too large', 'timed out')
    """
    if not isinstance(error, OSError):
        return str(error)
    reason = error.strerror or str(error) or type(error).__name__
    is_named = error.filename in (None, "") or str(error.filename) == str(named)
    return reason if is_named else f"{error.filename}: {reason}"


def check_number(key: str, value: float, least: float, most: float) -> None:
    """Check that a number is finite and within bounds.

    Args:
        key: Its name, for the message.
        value: The number.
        least: The smallest allowed number.
        most: The largest allowed number: a larger one is a slip that would fill memory or disk.

    Raises:
        ConfigError: If it is not.

    Example:
        >>> check_number("size", 224, 1, 8192)
        >>> check_number("size", 10**9, 1, 8192)
        Traceback (most recent call last):
        mla_lightning.errors.ConfigError: size must be at most 8192, got 1000000000
    """
    if not value >= least:  # also nan
        raise ConfigError(f"{key} must be at least {least}, got {value}")
    if value > most:
        raise ConfigError(f"{key} must be at most {most}, got {value}")


def check_choice(key: str, value: object, known: Iterable[str]) -> None:
    """Check that a value is one of those that are known.

    Args:
        key: Its name, for the message.
        value: The value.
        known: The known values.

    Raises:
        ConfigError: If it is not; the message has the one that is most alike.

    Example:
        >>> check_choice("method.order", "mixed", ("blocks", "mixed"))
        >>> check_choice("method.order", "block", ("blocks", "mixed"))
        Traceback (most recent call last):
        mla_lightning.errors.ConfigError: method.order='block' is unknown. Did you mean 'blocks'?
        Known: blocks, mixed
    """
    known = list(known)
    if value not in known:
        hint = f"{near(str(value), known)} Known: {', '.join(known)}"
        raise ConfigError(f"{key}={value!r} is unknown.{hint}")

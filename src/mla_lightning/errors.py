"""The errors that users meet, each with the exit code of the command that raised it."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class MLAError(Exception):
    """Base of every error that is shown to the user as a message, not as a traceback."""

    exit_code = 1


class RunError(MLAError):
    """A job failed while it ran: a non-finite loss, a broken checkpoint, a full disk."""


class ConfigError(MLAError):
    """The configuration is wrong; found before any job starts."""

    exit_code = 2


class DataError(MLAError):
    """The data are missing, incomplete or contradict what the configuration says of them."""

    exit_code = 3


class Interrupted(MLAError):
    """The user pressed Ctrl-C; a checkpoint was written and the run can go on."""

    exit_code = 130


class Preempted(MLAError):
    """The scheduler asked the process to end; a checkpoint was written and the run can go on."""

    exit_code = 143


def near(name: str, known: Iterable[str]) -> str:
    """Suggest the nearest known name.

    Args:
        name: What the user wrote.
        known: The names that exist.

    Returns:
        `` Did you mean 'x'?`` with a leading space, or an empty string when nothing is close.
    """
    close = difflib.get_close_matches(name, sorted(known), n=1, cutoff=0.5)
    return f" Did you mean {close[0]!r}?" if close else ""

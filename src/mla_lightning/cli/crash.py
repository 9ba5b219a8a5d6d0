"""A short message for an unforeseen error of the command line."""

from __future__ import annotations

import os
import shlex
import sys
import tempfile
import traceback
from collections.abc import Sequence

from mla_lightning import __version__
from mla_lightning.errors import reason_of


def describe_crash(error: BaseException, words: Sequence[str]) -> str:
    """Write the traceback of an unforeseen error to a file, and return what to do.

    Args:
        error: The error.
        words: The words after ``mla``.

    Returns:
        A message with the kind of error, the file and what to report.

    Example:
        >>> print(describe_crash(KeyError("val"), ["report", "runs"]))
        This is a bug in mla_lightning ...: KeyError: 'val'
          command    mla report runs
          traceback  ...mla-error-...txt
        Please report it with both, ...
    """
    from mla_lightning.config.secrets import mask_secrets

    command = f"mla {shlex.join(words)}"
    text = mask_secrets("".join(traceback.format_exception(error)))
    try:
        handle, path = tempfile.mkstemp(prefix="mla-error-", suffix=".txt")
        with os.fdopen(handle, "w", encoding="utf-8", errors="backslashreplace") as file:
            file.write(f"{mask_secrets(command)}\nPython {sys.version}\n\n{text}")
    except OSError as problem:  # such as a full disk: then the traceback itself is the report
        path = f"could not be written ({reason_of(problem)}):\n{text}"
    reason = " ".join(str(error).split())[:300]
    return (
        f"This is a bug in mla_lightning {__version__}: {type(error).__name__}: {reason}\n"
        f"  command    {command}\n"
        f"  traceback  {path}\n"
        "Please report it with both, after a look for what is private in them. Nothing that was "
        "finished is lost; the same command continues."
    )

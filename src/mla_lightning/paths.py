"""Names that become parts of paths, files that users give, and paths in printed commands."""

from __future__ import annotations

import re
import shlex
import stat
from pathlib import Path

from mla_lightning.errors import DataError

#: File systems allow 255 bytes; suffixes and names of temporary files take some of them.
MAX_NAME_BYTES = 200
#: Texts that Hydra's grammar reads as they are, and as no number, boolean or null.
_PLAIN = re.compile(r"(?=[A-Za-z]|.*/)[A-Za-z0-9_/.-]+")
_NO_TEXTS = ("inf", "nan", "null", "true", "false")
#: Words that `mla data` takes for options.
OPTION = re.compile(r"[A-Za-z_][A-Za-z0-9_.]*=")


def name_problem(name: object) -> str:
    """Return why a name cannot be the name of a file or folder.

    Args:
        name: The name of a data set, modality, split or run.

    Returns:
        The end of an error message, empty if the name can be used.

    Example:
        >>> name_problem("my data"), name_problem("../x")
        ('', "must have no '/', since it names files")
    """
    if not isinstance(name, str) or not name:
        return "must be a text that is not empty"
    if "/" in name:
        return "must have no '/', since it names files"
    if name in (".", ".."):
        return "is no name but a folder"
    if not name.isprintable():
        return "must have no control characters, since it names files"
    try:
        num_bytes = len(name.encode())
    except UnicodeEncodeError:  # half of a surrogate pair, which no file name can hold
        return "must be valid Unicode, since it names files"
    if num_bytes > MAX_NAME_BYTES:
        return f"must have at most {MAX_NAME_BYTES} bytes, since it names files"
    return ""


def check_regular_file(path: Path, option: str = "") -> None:
    """Check that a path is a regular file, before a read that would not end: a device or a pipe.

    Args:
        path: The file that a user gave.
        option: The option that named it, for the message; empty if there was none.

    Raises:
        DataError: If it does not exist, cannot be reached, or is no regular file.

    Example:
        >>> check_regular_file(Path("/dev/zero"), "missing.manifest")
        Traceback (most recent call last):
        mla_lightning.errors.DataError: missing.manifest=/dev/zero is a device, not a file
    """
    where = f"{option}={path}" if option else str(path)
    try:
        mode = path.stat().st_mode
    except FileNotFoundError as error:
        raise DataError(f"{where} does not exist") from error
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise DataError(f"{where!r} cannot be read: {reason}") from error
    if not stat.S_ISREG(mode):
        kind = "a folder" if stat.S_ISDIR(mode) else "a device"
        kind = "a pipe" if stat.S_ISFIFO(mode) else "a socket" if stat.S_ISSOCK(mode) else kind
        raise DataError(f"{where} is {kind}, not a file")


def quote_value(text: str) -> str:
    """Quote a text so that Hydra's grammar reads it as this text.

    Args:
        text: Any text.

    Returns:
        The text itself where it is plain, else in single quotes.

    Example:
        >>> print(quote_value("data/my"), quote_value("my data"), quote_value("3"))
        data/my 'my data' '3'
    """
    if _PLAIN.fullmatch(text) and text.lower() not in _NO_TEXTS:
        return text
    # Backslashes are literal, except in front of a quote.
    escaped = re.sub(r"(\\*)('|\Z)", lambda m: m[1] * 2 + ("\\'" if m[2] else ""), text)
    return f"'{escaped}'"


def without_interpolation(text: str) -> str:
    r"""Escape ``${``, so that a config holds the text itself instead of the value of a key.

    Example:
        >>> print(without_interpolation("a${b}"))
        a\${b}
    """
    return re.sub(r"(\\*)\$\{", lambda m: m[1] * 2 + r"\${", text)


def unquote_value(text: str) -> str:
    """Return the text that a quoted value of ``mla train`` stands for; other texts as they are.

    Example:
        >>> unquote_value("'my data'"), unquote_value("my data")
        ('my data', 'my data')
        >>> unquote_value(quote_value("it's"))
        "it's"
    """
    quote = text[:1]
    if len(text) < 2 or quote not in ("'", '"') or text[-1] != quote:
        return text
    plain = re.sub(rf"(\\+)({quote}|\Z)", lambda m: "\\" * (len(m[1]) // 2) + m[2], text[1:-1])
    return re.sub(r"(\\+)\$\{", lambda m: "\\" * (len(m[1]) // 2) + "${", plain)


def path_override(key: str, path: Path | str) -> str:
    """Return the word of ``mla train`` that sets a key to a path.

    Args:
        key: A key such as ``data.path``.
        path: The path.

    Returns:
        ``key=path``, the path quoted for Hydra's grammar where it needs to be.

    Example:
        >>> path_override("data.path", Path("data/my")), path_override("data.path", "a,b")
        ('data.path=data/my', "data.path='a,b'")
    """
    return f"{key}={quote_value(without_interpolation(str(path)))}"


def command(*words: str | Path) -> str:
    """Return a command line that can be pasted into a shell.

    Args:
        *words: Its words; a path that looks like an option is written with ``./``.

    Returns:
        The words, quoted for the shell.

    Example:
        >>> print(command("mla", "data", "show", Path("a=b/my data")))
        mla data show './a=b/my data'
    """
    return shlex.join(_plain_path(word) if isinstance(word, Path) else word for word in words)


def _plain_path(path: Path) -> str:
    text = str(path)
    return f"./{text}" if text.startswith("-") or OPTION.match(text) else text

"""Strict readers of the text files of a run folder: size, nesting, duplicate keys, numbers."""

from __future__ import annotations

import json
import math
import re
import stat
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from mla_lightning.errors import RunError

#: Largest size of a text file of a run, in bytes.
MAX_BYTES = 64 * 2**20
#: Largest number of values of a file, with those that an alias repeats.
MAX_VALUES = 1_000_000
#: Largest depth of containers within containers in YAML.
MAX_NESTING = 100
#: Largest magnitude of a number that can have been measured.
MAX_NUMBER = 1e30
REMEDY = "Restore the file from a copy, or train the run again with overwrite=true."
_INDENTED = re.compile(r"^[ \t?:-]{100}", re.MULTILINE)


def read_limited(path: Path) -> str:
    """Read a text file of a run, which may be damaged.

    Args:
        path: The file.

    Raises:
        FileNotFoundError: If it does not exist.
        RunError: If it is no regular file, larger than :data:`MAX_BYTES`, or no UTF-8.

    Example:
        >>> _ = (tmp / "log.txt").write_text("epoch 1")
        >>> read_limited(tmp / "log.txt")
        'epoch 1'
    """
    status = path.stat()
    if not stat.S_ISREG(status.st_mode):
        raise RunError(f"{path} is no regular file. {REMEDY}")
    if status.st_size > MAX_BYTES:
        raise RunError(
            f"{path} has {status.st_size / 2**20:.0f} MiB, more than any run writes "
            f"({MAX_BYTES // 2**20} MiB). {REMEDY}"
        )
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise RunError(f"{path} is no text in UTF-8 ({error}). {REMEDY}") from error


def parse_json(text: str, name: str) -> Any:
    """Parse JSON, and refuse what no run writes.

    Args:
        text: The content of the file.
        name: Its name, for messages.

    Raises:
        RunError: If it is no JSON, nested too deeply, has a key twice, or holds a number that is
            not finite or larger than :data:`MAX_NUMBER`; the message names the key.

    Example:
        >>> parse_json('{"ece": 0.1}', "result.json")
        {'ece': 0.1}
        >>> parse_json('{"test": {"ece": NaN}}', "result.json")
        Traceback (most recent call last):
        mla_lightning.errors.RunError: result.json: test.ece is nan, not a finite number. ...
    """
    outside: list[float] = []

    def number(digits: str, kind: Callable[[str], float] = float) -> float:
        value = kind(digits)
        if not -MAX_NUMBER <= value <= MAX_NUMBER:  # also if it is not a number
            outside.append(value)
        return value

    try:
        content = json.loads(
            text,
            object_pairs_hook=_without_duplicates,
            parse_float=number,
            parse_int=partial(number, kind=int),
            parse_constant=number,
        )
    except RecursionError:
        raise RunError(f"{name} is nested too deeply. {REMEDY}") from None
    except ValueError as error:
        raise RunError(f"{name} is not valid JSON ({error}); remove this file") from error
    if outside:
        check_numbers(content, name)
    return content


def check_numbers(content: Any, name: str) -> None:
    """Check that all numbers of a content are finite and have a magnitude that can be measured.

    Args:
        content: Plain containers.
        name: The file's name, for messages.

    Raises:
        RunError: If one is not; the message names its key.

    Example:
        >>> check_numbers({"val": {"multi": [0.5, 1e308]}}, "result.json")
        Traceback (most recent call last):
        mla_lightning.errors.RunError: result.json: val.multi.1 is 1e+308, larger than 1e+30. ...
    """
    for key, value in _numbers(content, ""):
        if isinstance(value, float) and not math.isfinite(value):
            raise RunError(f"{name}: {key} is {value}, not a finite number. {REMEDY}")
        if abs(value) > MAX_NUMBER:
            shown = value if isinstance(value, float) else f"{str(value)[:12]}..."
            raise RunError(f"{name}: {key} is {shown}, larger than {MAX_NUMBER:g}. {REMEDY}")


def is_measurable(value: float) -> bool:
    """Return whether a number is finite, with a magnitude that a reader of the run accepts.

    Args:
        value: The number.

    Example:
        >>> [is_measurable(value) for value in (-1e30, 2e30, float("nan"))]
        [True, False, False]
    """
    return abs(value) <= MAX_NUMBER  # False for NaN


def check_yaml_nesting(text: str, name: str, loader: Any) -> None:
    """Check that YAML is nested at most :data:`MAX_NESTING` deep, which libyaml crashes on.

    Args:
        text: The content of the file.
        name: Its name, for messages.
        loader: The loader of the package yaml that is to read it.

    Raises:
        RunError: If it is nested more deeply.

    Example:
        >>> import yaml
        >>> check_yaml_nesting("[" * 1000 + "]" * 1000, "config.yaml", yaml.SafeLoader)
        Traceback (most recent call last):
        mla_lightning.errors.RunError: config.yaml is nested too deeply. ...
    """
    import yaml

    brackets = text.count("[") + text.count("{")
    if brackets < MAX_NESTING and _INDENTED.search(text) is None:
        return  # it cannot be: each level takes a bracket, or a character before the first word
    depth = 0
    for event in yaml.parse(text, Loader=loader):  # without recursion, unlike loading
        depth += isinstance(event, yaml.CollectionStartEvent)
        depth -= isinstance(event, yaml.CollectionEndEvent)
        if depth > MAX_NESTING:
            raise RunError(f"{name} is nested too deeply. {REMEDY}")


def check_size(content: Any, name: str) -> None:
    """Check that a content, with all that aliases repeat, has at most :data:`MAX_VALUES` values.

    Args:
        content: Plain containers, which may hold one another several times, as YAML allows.
        name: The file's name, for messages.

    Raises:
        RunError: If it has more values, or holds itself.

    Example:
        >>> items = ["ha"] * 10
        >>> for _ in range(9):
        ...     items = [items] * 10  # ten thousand million words in 100 references
        >>> check_size(items, "config.yaml")
        Traceback (most recent call last):
        mla_lightning.errors.RunError: config.yaml holds more than 1000000 values. ...
    """
    sizes: dict[int, int] = {}

    def size(node: Any) -> int:
        if not isinstance(node, dict | list):
            return 1
        if id(node) not in sizes:
            sizes[id(node)] = MAX_VALUES + 1  # until it is known: a node that holds itself
            items = node.values() if isinstance(node, dict) else node
            sizes[id(node)] = 1 + sum(map(size, items))
        return sizes[id(node)]

    try:
        num = size(content)
    except RecursionError:
        raise RunError(f"{name} is nested too deeply. {REMEDY}") from None
    if num > MAX_VALUES:
        raise RunError(f"{name} holds more than {MAX_VALUES} values. {REMEDY}")


def _without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    content = dict(pairs)
    if len(content) < len(pairs):
        keys = [key for key, _ in pairs]
        duplicate = next(key for key in keys if keys.count(key) > 1)
        raise ValueError(f"the key {duplicate!r} is there twice")
    return content


def _numbers(content: Any, prefix: str) -> Iterator[tuple[str, float]]:
    if isinstance(content, float):  # most are
        yield prefix, content
    elif isinstance(content, Mapping | list):
        items = content.items() if isinstance(content, Mapping) else enumerate(content)
        for key, value in items:
            yield from _numbers(value, f"{prefix}.{key}" if prefix else str(key))
    elif isinstance(content, int) and not isinstance(content, bool):
        yield prefix, content

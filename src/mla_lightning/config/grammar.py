"""Reading of single overrides in Hydra's grammar, with messages of our own and limits."""

from __future__ import annotations

import itertools
import re
import shlex
from typing import Any

#: Largest number of jobs of one command, and of values of one axis.
MAX_JOBS = 10_000
#: Longest override in characters.
MAX_LENGTH = 100_000
_KEY = re.compile(r"[+~]{0,2}[A-Za-z_$][\w$./\-]*(@[\w$.:\-]*)?", re.ASCII)
_BRACKETS = {")": "(", "]": "[", "}": "{"}


def unreadable_message(text: str, reason: str = "") -> str:
    """Return the error message for an override that Hydra's grammar does not accept.

    Args:
        text: The override, with ``=``.
        reason: The error of Hydra's parser.

    Returns:
        The message, which says what is wrong with the key or the value, and how to quote it.

    Example:
        >>> print(unreadable_message("séed=1"))
        'séed=1' cannot be read: 'séed' is no key. Keys have letters a-z, digits and the ...
        >>> print(unreadable_message("name=[a"))
        'name=[a' cannot be read: [ is not closed. If the value is a text, quote it twice:
        'name="[a"'
    """
    key, _, value = text.partition("=")
    if not _KEY.fullmatch(key):
        return (
            f"{text!r} cannot be read: {key!r} is no key. Keys have letters a-z, digits and the "
            "characters _ . / @ -. See `mla train --cfg` for all keys."
        )
    interpolation = (
        "an interpolation may be ${KEY} or ${oc.env:VARIABLE}, without quotes within it"
        if "${" in value
        else ""
    )
    problem = (
        _unbalanced(value) or interpolation or _failed_function(reason) or _special_character(value)
    )
    if interpolation:  # quoted, it would still be one
        return f"{text!r} cannot be read: {problem}"
    quoted = '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'
    return (
        f"{text!r} cannot be read: {problem}. If the value is a text, quote it twice: "
        f"{shlex.quote(f'{key}={quoted}')}"
    )


def interpolation_problem(value: Any) -> str:
    """Return which text of a value holds an interpolation that cannot be read; empty if none.

    Args:
        value: A value of plain containers.

    Example:
        >>> interpolation_problem(["${seed}", {"name": "run ${seed"}])
        "the interpolation in 'run ${seed' cannot be read. Write ${KEY}"
        >>> interpolation_problem("run ${seed}")
        ''
    """
    from omegaconf.errors import GrammarParseError
    from omegaconf.grammar_parser import parse

    if isinstance(value, list | dict):
        inner = value.values() if isinstance(value, dict) else value
        return next(filter(None, map(interpolation_problem, inner)), "")
    if isinstance(value, str) and "${" in value:
        try:
            parse(value)
        except GrammarParseError:
            return f"the interpolation in {value!r} cannot be read. Write ${{KEY}}"
    return ""


def _unbalanced(value: str) -> str:
    """Return which bracket or quote of a value has no partner; empty if all have one."""
    opened: list[str] = []
    quote = ""
    for character in re.sub(r"\\.", "", value):
        if quote:
            quote = "" if character == quote else quote
        elif character in "\"'":
            quote = character
        elif character in _BRACKETS.values():
            opened.append(character)
        elif character in _BRACKETS and (not opened or opened.pop() != _BRACKETS[character]):
            return f"{character} closes nothing"
    if quote:
        return f"the quote {quote} is not closed"
    return f"{opened[-1]} is not closed" if opened else ""


def _failed_function(reason: str) -> str:
    """Return what a function of the grammar, such as ``range``, did not accept; else empty."""
    match = re.search(r"while evaluating '(.*)': (.*)", reason)
    return f"{match.group(1)} is not valid, {match.group(2)}" if match else ""


def _special_character(value: str) -> str:
    """Return which character of a value has a meaning, or none, in the grammar."""
    plain = re.sub(r"[\w/\-\\+.$%*@?|:, ]", "", value, flags=re.ASCII)
    if not plain:
        return "its value is not a number, text, list or mapping"
    return f"the character {plain[0]!r} cannot be in a value without quotes"


def sweep_values(parsed: Any, text: str, problems: list[str], hint: str = "") -> tuple[str, ...]:
    """Return the values of an override that is an axis of a sweep.

    Args:
        parsed: The override as Hydra parsed it.
        text: The override, for messages.
        problems: A message is appended here if there are no values, or too many.
        hint: Text after the message that there are none.

    Returns:
        The values as text, none if there is a problem.
    """
    value = parsed.value()
    bounds = [getattr(value, name, None) for name in ("start", "stop", "step")]
    start, stop, step = (float(bound) if bound is not None else None for bound in bounds)
    if start is not None and stop is not None and step is not None:  # range(...)
        if step == 0:
            problems.append(f"{text}: the step must not be 0")
            return ()
        if (stop - start) / step > MAX_JOBS:  # before a sorted or shuffled one is built in memory
            problems.append(_too_many(text))
            return ()
    if type(value).__name__ == "IntervalSweep":
        problems.append(
            f"{text}: an interval has no single values. Write them, such as 0.1,0.2; mla tune "
            "searches intervals on validation, with ranges from conf/search/ (mla list searches)"
        )
        return ()
    values = tuple(itertools.islice(parsed.sweep_string_iterator(), MAX_JOBS + 1))
    if len(values) > MAX_JOBS:
        problems.append(_too_many(text))
        return ()
    if not values:
        problems.append(f"{text} has no values, so there is no job to run.{hint}")
    return values


def _too_many(text: str) -> str:
    return f"{text} has more than {MAX_JOBS} values, the most that one command runs"

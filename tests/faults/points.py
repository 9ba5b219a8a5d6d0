"""Points of a command, at which it can be killed: calls, and changes of files below a folder.

Files are watched by an audit hook of Python, so nothing of the package is changed for it.
"""

from __future__ import annotations

import functools
import json
import os
import re
import sys
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from random import Random
from typing import Any

import torch

from mla_lightning.module import MultimodalModule

#: Group of points -> calls whose beginning and end are points of it.
CALLS = {
    "training": ((MultimodalModule, "training_step"), (MultimodalModule, "on_train_epoch_end")),
    "validation": (
        (MultimodalModule, "validation_step"),
        (MultimodalModule, "on_validation_epoch_end"),
    ),
    "evaluation": ((MultimodalModule, "predict_step"),),
    "writing": ((os, "fsync"), (torch, "save")),
}
_EVENTS = {"open": 1, "os.rename": 2, "os.remove": 1, "os.link": 2, "os.mkdir": 1, "os.rmdir": 1}
_RESULTS = ("predictions", "result.json", "diagnostics", "planes", "provenance")
_WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT

#: A point: group, name, and how many times it is passed until then, from 1.
Point = tuple[str, str, int]


class Points:
    """The points that this process passes, counted from 1."""

    def __init__(
        self, root: Path, at: Point | None = None, act: Callable[[], None] | None = None
    ) -> None:
        """Watch the calls, and files below a folder.

        Args:
            root: The folder.
            at: The point to act at.
            act: What to do there; by default this process kills itself.
        """
        self.root, self.at, self.act = str(root.resolve()), at, act or kill_this_process
        self.counts: Counter[tuple[str, str]] = Counter()
        self.pid = os.getpid()
        for group, calls in CALLS.items():
            for owner, name in calls:
                self._wrap(group, owner, name)
        sys.addaudithook(self._audit)

    def write(self, path: Path) -> None:
        """Write how often each point was passed."""
        rows = [[*key, number] for key, number in sorted(self.counts.items())]
        path.write_text(json.dumps(rows))

    def _pass(self, group: str, name: str) -> None:
        if os.getpid() != self.pid:  # a worker of a loader
            return
        self.counts[group, name] += 1
        if self.at is not None and (group, name, self.counts[group, name]) == self.at:
            self.at = None
            self.act()

    def _wrap(self, group: str, owner: Any, name: str) -> None:
        original = getattr(owner, name)

        @functools.wraps(original)
        def wrapped(*args: Any, **kwargs: Any) -> Any:
            self._pass(group, f"before {name}")
            result = original(*args, **kwargs)
            self._pass(group, f"after {name}")
            return result

        setattr(owner, name, wrapped)

    def _audit(self, event: str, args: tuple[Any, ...]) -> None:
        number = _EVENTS.get(event)
        if number is None or (event == "open" and not (args[2] or 0) & _WRITES):
            return
        path = args[number - 1]
        if isinstance(path, str | os.PathLike):
            text = os.path.abspath(path)
            if text.startswith(self.root + os.sep):
                name = os.path.relpath(text, self.root)
                self._pass(_group_of(name), f"{event} {_plain(name)}")


def kill_this_process() -> None:
    """End this process by SIGKILL."""
    os.kill(os.getpid(), 9)


def _group_of(name: str) -> str:
    if "checkpoints" in name or "stages" in name:
        return "checkpoint files"
    return "result files" if any(word in name for word in _RESULTS) else "other files"


def _plain(name: str) -> str:
    """Return a file's name without numbers of processes, epochs and temporary folders."""
    name = re.sub(r"\.stage-[^/]+", ".stage", name)
    return re.sub(r"\d+", "#", "/".join(name.split("/")[-2:]))


def draw_point(path: Path, rng: Random, groups: Mapping[str, Any] | tuple[str, ...] = ()) -> Point:
    """Draw a point of those that an uninterrupted command passed, each group equally often."""
    by_group: dict[str, list[tuple[str, int]]] = {}
    for group, name, number in json.loads(path.read_text()):
        if not groups or group in groups:
            by_group.setdefault(group, []).append((name, number))
    group = rng.choice(sorted(by_group))
    names, numbers = zip(*by_group[group], strict=True)
    (place,) = rng.choices(range(len(names)), weights=numbers)
    return group, names[place], rng.randint(1, numbers[place])

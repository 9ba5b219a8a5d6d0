"""Composition of group choices with Hydra."""

from __future__ import annotations

import contextlib
import copy
import itertools
import os
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mla_lightning.config.interpolation import Resolver
from mla_lightning.config.search import options, unknown_option_message
from mla_lightning.config.values import flatten
from mla_lightning.paths import quote_value

#: Name in ``choices`` -> Hydra's key of the groups that describe a run. The groups logger, launcher
#: and paths are not among them, since they change no number.
CHOICES = {
    "data": "data",
    "method": "method",
    "fusion": "fusion@method.fusion",
    "encoder": "encoder",
    "recipe": "recipe",
    "optimizer": "optimizer",
    "scheduler": "scheduler",
    "ablation": "ablation",
    "missing": "missing",
    "trainer": "trainer",
    "debug": "debug",
}

_hydra_lock = threading.RLock()
#: Folders, state of their files and what was read -> its content; the oldest are forgotten.
_read_before: dict[tuple[Any, ...], Any] = {}
_MAX_READ = 2048
#: Entries of folders of configs beyond which nothing is remembered: to look at all takes longer.
MAX_ENTRIES = 5000
_unlike_all = itertools.count(1)


class Composer:
    """Composes group choices, each combination once; values are set in copies afterwards.

    Example:
        >>> from mla_lightning.config.search import search_path
        >>> with open_composer(search_path(None)) as composer:
        ...     config = composer.compose(("data=synthetic", "method=concat"))
        >>> config["choices"]["fusion"]
        'concat'
    """

    def __init__(self, folders: tuple[Path, ...]) -> None:
        """Prepare to compose; see :func:`open_composer`.

        Args:
            folders: Where configs are looked up, the package's own folder first.
        """
        self.folders = folders
        self._files = state_of_files(folders)
        self._resolver = Resolver()
        self._composed: dict[tuple[str, ...], dict[str, Any] | str] = {}
        self._resolved: dict[tuple[str, ...], dict[str, Any]] = {}
        self._options: dict[str, dict[str, Path]] = {}
        self._ablations: dict[str, dict[str, Any]] = {}
        self._metrics: dict[str, Any] | None = None

    def options(self, group: str) -> dict[str, Path]:
        """Return the options of a group and their files; the folders are listed once."""
        if group not in self._options:
            self._options[group] = options(self.folders, group)
        return self._options[group]

    def compose(self, choices: tuple[str, ...]) -> dict[str, Any] | str:
        """Compose group choices.

        Args:
            choices: Overrides that choose options of groups.

        Returns:
            The config as plain containers, with unresolved interpolations and with ``choices``
            filled in; or an error message if the choices cannot be composed. Composers of one
            process share it as long as no file in the folders changes.
        """
        if choices not in self._composed:
            self._composed[choices] = self._read_once(choices, lambda: self._compose(choices))
        return self._composed[choices]

    def compose_resolved(self, choices: tuple[str, ...]) -> dict[str, Any]:
        """Compose group choices and resolve interpolations; empty if they cannot be composed."""
        if choices not in self._resolved:
            config = self.compose(choices)
            self._resolved[choices] = {} if isinstance(config, str) else self.resolve(config, [])
        return self._resolved[choices]

    def resolve(self, config: dict[str, Any], problems: list[str]) -> dict[str, Any]:
        """Resolve the interpolations of a config.

        Args:
            config: A config from :meth:`compose`, or a copy in which values are set.
            problems: Messages are appended here.

        Returns:
            The resolved config. Configs share the sections that are the same; do not change them.
        """
        return self._resolver.resolve(config, problems)

    def ablation_values(self, config: dict[str, Any]) -> dict[str, Any]:
        """Return the values that a config's ablation sets.

        Args:
            config: A config from :meth:`compose`.

        Returns:
            Dotted key -> value, empty without an ablation.
        """
        import yaml

        name = config["choices"].get("ablation", "")
        if name not in self._ablations:
            path = self.options("ablation").get(name)
            content = yaml.safe_load(path.read_text(encoding="utf-8")) if path else None
            values = {key: value for key, value in flatten(content or {}) if key != "defaults"}
            self._ablations[name] = values
        return self._ablations[name]

    def metric_nodes(self) -> dict[str, Any]:
        """Return the nodes of all metrics: name -> content of its YAML in ``metric/``.

        All configs share them.
        """
        if self._metrics is None:
            self._metrics = self._read_once(("metric",), self._read_metrics)
        return self._metrics

    def _read_metrics(self) -> dict[str, Any]:
        import yaml

        return {
            name: yaml.safe_load(path.read_text(encoding="utf-8")) or {}
            for name, path in self.options("metric").items()
        }

    def _read_once(self, what: tuple[str, ...], read: Callable[[], Any]) -> Any:
        """Return a copy of what is read from the folders, once per state of their files."""
        key = self.folders, self._files, what
        if key not in _read_before:
            _read_before[key] = read()
            while len(_read_before) > _MAX_READ:
                _read_before.pop(next(iter(_read_before)))
        return copy.deepcopy(_read_before[key])

    def _compose(self, choices: tuple[str, ...]) -> dict[str, Any] | str:
        import yaml
        from hydra import compose
        from hydra.errors import HydraException
        from omegaconf import OmegaConf
        from omegaconf.errors import OmegaConfBaseException

        search_path = ",".join(quote_value(f"file://{folder}") for folder in self.folders[1:])
        try:
            composed = compose(
                "config",
                overrides=[*choices, f"hydra.searchpath=[{search_path}]"],
                return_hydra_config=True,
            )
        except (
            *(HydraException, OmegaConfBaseException, yaml.YAMLError, ValueError, TypeError),
            *(AttributeError, RecursionError, AssertionError),
        ) as error:
            return self._message(error, choices)
        chosen = composed.hydra.runtime.choices
        without_hydra = [str(key) for key in composed if key != "hydra"]
        container = OmegaConf.to_container(OmegaConf.masked_copy(composed, without_hydra))
        config: dict[str, Any] = container  # type: ignore[assignment]
        config["choices"] = {
            name: str(chosen[key]) for name, key in CHOICES.items() if chosen.get(key) is not None
        }
        return config

    def _message(self, error: Exception, choices: tuple[str, ...]) -> str:
        """Return the message for choices that cannot be composed, with the files of the user."""
        text = " ".join(str(error).split()).partition(" Config search path:")[0]
        if isinstance(error, RecursionError):
            text = "the defaults lists name each other in a circle. Remove one of these defaults"
        elif missing := re.search(r"Could not find '([\w/]+)/([^/']+)'", text):
            group, name = missing.groups()
            text = unknown_option_message(group, name, self.options(group))
        chosen = [
            choice.partition("@")[0].partition("=")[0] + "/" + choice.partition("=")[2]
            for choice in choices
        ]
        files = [
            str(path)
            for folder in self.folders[1:]
            for name in chosen
            if (path := folder / f"{name}.yaml").is_file()
        ]
        text = text or f"it cannot be composed ({type(error).__name__})"
        return f"{' and '.join(files)}: {text}" if files else text


def state_of_files(folders: tuple[Path, ...]) -> int:
    """Return a number that changes when a file of the folders is written, added or removed.

    Args:
        folders: Folders of configs; links in them are followed. If they have more than
            :data:`MAX_ENTRIES` entries, the number is another one in each call.

    Example:
        >>> (tmp / "method").mkdir()
        >>> before = state_of_files((tmp,))
        >>> _ = (tmp / "method" / "own.yaml").write_text("defaults: [mla]")
        >>> state_of_files((tmp,)) == before
        False
    """
    states: list[tuple[Any, ...]] = []
    waiting = [str(folder) for folder in folders]
    seen: set[tuple[int, ...]] = set()  # links may lead in a circle
    while waiting:
        with contextlib.suppress(OSError), os.scandir(waiting.pop()) as entries:  # Hydra says it
            for entry in entries:
                if len(states) >= MAX_ENTRIES:
                    return -next(_unlike_all)
                state = _state(entry)
                states.append((entry.path, *state))
                if entry.is_dir() and state not in seen:
                    seen.add(state)
                    waiting.append(entry.path)
    return hash(tuple(sorted(states)))


def _state(entry: os.DirEntry[str]) -> tuple[int, ...]:
    """Return what changes when a file is written; of a folder what changes when it is replaced."""
    try:
        state = entry.stat()
    except OSError:  # a link to nothing
        return ()
    if entry.is_dir():
        return state.st_dev, state.st_ino
    return state.st_ino, state.st_size, state.st_mtime_ns, state.st_ctime_ns


@contextmanager
def open_composer(folders: tuple[Path, ...]) -> Iterator[Composer]:
    """Initialise Hydra for the time of the context, and return a composer.

    Threads wait for each other, since Hydra's state belongs to the whole process.

    Args:
        folders: Where configs are looked up, the package's own folder first.

    Yields:
        The composer.

    Example:
        >>> from mla_lightning.config.search import search_path
        >>> with open_composer(search_path(None)) as composer:
        ...     composer.compose(("method=no_such_method",))
        "Unknown method 'no_such_method'. Known: ae, agm, ..."
    """
    from hydra import initialize_config_dir

    with _hydra_lock, initialize_config_dir(str(folders[0]), version_base="1.3", job_name="mla"):
        yield Composer(folders)

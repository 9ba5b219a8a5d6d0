"""From a command line to checked configs, all of them and all their faults, before any job."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from mla_lightning.config.check import faults_of
from mla_lightning.config.compose import Composer, composer
from mla_lightning.config.interpolation import resolved
from mla_lightning.config.naming import is_distinguishing, slug_of, title_of
from mla_lightning.config.overrides import OPTIONAL, Override, Reader, value_of
from mla_lightning.config.search import options, search_path
from mla_lightning.config.settings import NODES
from mla_lightning.config.targets import allow_target, forbidden
from mla_lightning.config.values import with_values
from mla_lightning.errors import ConfigError
from mla_lightning.identity import NOT_IDENTITY
from mla_lightning.run_folder.schema import UNRESOLVED, spell

#: An unknown choice of these leaves that part of the config open; any other leaves all of it open.
_OWN_PART_ONLY = ("method", "encoder", "missing", "logger", "launcher", "trainer", "paths")


@dataclass(frozen=True)
class Planned:
    """A job before its data are known.

    Attributes:
        config: The resolved config as plain containers.
        overrides: What follows ``mla train`` to run this job alone.
        distinguishing_overrides: Key -> value of the overrides in which jobs of the same data and
            method can differ.
        slug: What of these its folder's name tells.
    """

    config: dict[str, Any]
    overrides: tuple[str, ...]
    distinguishing_overrides: dict[str, Any] = field(default_factory=dict)
    slug: str = ""

    @property
    def title(self) -> str:
        """Name the job for people."""
        return title_of(self.config, self.slug)


def plan(
    overrides: Sequence[str],
    multirun: bool = False,
    *,
    config_dir: Path | None = None,
    allowed: Sequence[str] = (),
    binds: bool = False,
) -> list[Planned]:
    """Compose and check the jobs of a command line.

    Args:
        overrides: Hydra overrides, such as ``method=mla`` and, for several jobs, ``seed=0,1,2``.
        multirun: Run the product of all axes; an experiment's grid gives axes that the overrides
            do not name.
        config_dir: A user's own folder of groups, None for none.
        allowed: Packages of the user that configs may name classes of.
        binds: Check every class's parameters, too. Imports the classes, and torch with them.

    Returns:
        The jobs, in the order of the axes, the last one fastest.

    Raises:
        ConfigError: With all faults, one a line.
    """
    flags = [] if config_dir is None else ["--config-dir", str(config_dir)]
    for prefix in allowed:
        allow_target(prefix)
        flags += ["--allow-target", prefix]
    folders = search_path(config_dir)
    faults = Faults()
    with composer(folders) as composed:
        reader = Reader(folders)
        given = reader.read(overrides, faults.general)
        if multirun:
            combinations, grid_keys = _combinations(given, composed, reader, faults)
        else:
            combinations, grid_keys = [[_single(override, faults) for override in given]], set()
        planned = []
        for combination in combinations:
            job = _plan_one(combination, grid_keys, composed, faults, binds)
            if job is not None:
                planned.append(replace(job, overrides=(*flags, *job.overrides)))
    if not faults:
        _refuse_twins(planned, faults)
    faults.raise_all()
    return planned


class Faults:
    """Collects faults: those of the command line, and those of single jobs."""

    def __init__(self) -> None:
        """Start without any."""
        self.general: list[str] = []
        self._jobs: dict[str, list[str]] = {}
        self._num_jobs = 0

    def __bool__(self) -> bool:
        """Whether there is any."""
        return bool(self.general or self._jobs)

    def add(self, job: str, faults: Iterable[str]) -> None:
        """Take note of a job's faults.

        Args:
            job: Its overrides, shown where only some jobs have a fault.
            faults: What is wrong with it.
        """
        self._num_jobs += 1
        for fault in dict.fromkeys(faults):
            self._jobs.setdefault(fault, []).append(job)

    def raise_all(self) -> None:
        """Raise what was collected.

        Raises:
            ConfigError: With every fault, once each; nothing is raised if there is none.
        """
        lines = list(dict.fromkeys(self.general))
        for fault, jobs in self._jobs.items():
            is_of_all = len(jobs) == self._num_jobs
            number = f"{len(jobs)} jobs, first" if len(jobs) > 1 else "one job"
            where = "" if is_of_all else f" (in {number}: {jobs[0]})"
            if fault not in lines:
                lines.append(fault + where)
        if len(lines) == 1:
            raise ConfigError(lines[0])
        if lines:
            listed = "\n".join(f"  - {line}" for line in lines)
            raise ConfigError(f"{len(lines)} faults:\n{listed}")


def _single(override: Override, faults: Faults) -> Override:
    """Refuse an axis where one job was asked for."""
    if len(override.values) < 2:
        return override
    text = f"{override.prefix}{override.key}={','.join(override.values)}"
    faults.general.append(f"{text} names several values: add -m for one job each, mla train -m ...")
    return replace(override, values=override.values[:1])


def _combinations(
    given: list[Override], composed: Composer, reader: Reader, faults: Faults
) -> tuple[list[list[Override]], set[str]]:
    """Multiply the axes; each experiment brings its own grid.

    Returns:
        The overrides of each job, and the keys that come from grids.
    """
    combinations: list[list[Override]] = []
    grid_keys: set[str] = set()
    own = {override.key: override for override in given if override.key != "experiment"}
    experiments = [override for override in given if override.key == "experiment"]
    for experiment in itertools.product(*map(_values_of, experiments)):
        fixed = [o for o in own.values() if o.is_group and len(o.values) == 1]
        config = composed.compose(_choices([*experiment, *fixed], composed)[0])
        grid = {} if isinstance(config, str) else config.get("grid") or {}
        axes = {axis.key: axis for axis in reader.from_grid(grid, faults.general)}
        grid_keys |= axes.keys()
        ordered = [override for key, override in own.items() if key not in axes]
        ordered += [own.get(key, axis) for key, axis in axes.items()]
        products = itertools.product(*map(_values_of, ordered))
        combinations += [[*experiment, *product] for product in products]
    return combinations, grid_keys


def _values_of(override: Override) -> list[Override]:
    return [replace(override, values=(value,)) for value in override.values]


def _choices(overrides: list[Override], composed: Composer) -> tuple[tuple[str, ...], set[str]]:
    """Split off the choices that exist, and name the top-level keys that the others leave open."""
    texts: list[str] = []
    open_keys: set[str] = set()
    for override in overrides:
        name = value_of(override.values[0])
        if str(name) in options(composed.folders, override.name):
            texts += override.texts()
        elif name is not None or override.name not in OPTIONAL:
            open_keys |= {override.name} if override.name in _OWN_PART_ONLY else set(NODES)
    return tuple(texts), open_keys


def _plan_one(
    overrides: list[Override],
    grid_keys: set[str],
    composed: Composer,
    found: Faults,
    binds: bool,
) -> Planned | None:
    texts = tuple(text for override in overrides for text in override.texts())
    choices, open_keys = _choices([o for o in overrides if o.is_group], composed)
    base = composed.compose(choices)
    if isinstance(base, str):
        found.add(" ".join(texts), [base])
        return None
    faults: list[str] = []
    values = [override for override in overrides if not override.is_group]
    config = resolved(with_values(base, values, open_keys, faults), faults)
    if "method" not in open_keys:
        faults += _undone(composed.ablation_of(base), config)
    config["metrics"] = composed.metrics()
    known = {key: value for key, value in config.items() if key not in open_keys}
    faults += faults_of(known)
    if binds and not forbidden(known):
        from mla_lightning.config.bind import unbound

        faults += unbound(known)
    found.add(" ".join(texts), faults)
    if faults or open_keys:
        return None
    config.pop("tuned_lr", None)  # used up: another method's rate must not change the identity
    told = {
        override.name: value_of(override.values[0])
        for override in overrides
        if is_distinguishing(override.key)
    }
    before = composed.resolved(choices)
    changed = {
        key: value
        for key, value in told.items()
        if key in grid_keys or _at(before, key) != _at(config, key) or key in config["choices"]
    }
    return Planned(config, texts, told, slug_of(changed))


def _undone(sets: Mapping[str, Any], config: Mapping[str, Any]) -> list[str]:
    """A run must not be labelled with an ablation that something else took back."""
    return [
        f"{key}={spell(_at(config, key))} takes back what ablation={config['choices']['ablation']} "
        "sets; leave one of them out"
        for key, value in sets.items()
        if _at(config, key) not in (value, UNRESOLVED)
    ]


def _at(config: Mapping[str, Any], key: str) -> Any:
    node: Any = config
    for part in key.split("."):
        node = node.get(part) if isinstance(node, Mapping) else None
    return node


def _refuse_twins(jobs: Sequence[Planned], faults: Faults) -> None:
    """A sweep must not use a seed twice for one cell, nor one folder for two jobs."""
    seen: dict[str, Planned] = {}
    for job in jobs:
        kept = {key: value for key, value in job.config.items() if key not in NOT_IDENTITY}
        text = json.dumps(kept, sort_keys=True)
        if text in seen and seen[text].config["name"] == job.config["name"]:
            faults.general.append(
                f"Two jobs of this sweep are the same: {' '.join(seen[text].overrides)} and "
                f"{' '.join(job.overrides)}"
            )
        seen[text] = job
    if len(jobs) > 1 and any(job.config["run_dir"] is not None for job in jobs):
        faults.general.append("run_dir is one folder for many jobs; use name or paths.output_dir")

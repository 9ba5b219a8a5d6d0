"""Composition and checks of all jobs of a command line, before any of them starts."""

from __future__ import annotations

import hashlib
import itertools
import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

from mla_lightning.config.check import SectionFacts, facts_of_section, find_problems
from mla_lightning.config.compose import Composer, open_composer
from mla_lightning.config.extra_callbacks import find_callback_problems
from mla_lightning.config.grammar import MAX_JOBS
from mla_lightning.config.naming import is_distinguishing, slug_of, title_of
from mla_lightning.config.overrides import (
    GROUPS_OF_SEVERAL,
    OPTIONAL_GROUPS,
    Override,
    OverrideReader,
    parse_value,
)
from mla_lightning.config.problems import Problems
from mla_lightning.config.schedule import (
    find_schedule_problems,
    find_selection_problem,
    untuned_rate_note,
    with_schedule_of_snapshots,
)
from mla_lightning.config.search import name_file, search_path
from mla_lightning.config.sections import once_per_section
from mla_lightning.config.settings import NODES
from mla_lightning.config.targets import allow_target
from mla_lightning.config.values import set_values, tuned_values
from mla_lightning.identity import NOT_IDENTITY
from mla_lightning.run_folder.schema import UNRESOLVED, format_value

#: After an unknown choice of one of these groups the rest of the config can still be checked. The
#: choice of any other group may set values anywhere.
_INDEPENDENT_GROUPS = ("method", "encoder", "missing", "logger", "launcher", "trainer", "paths")


class EpochsOfData(NamedTuple):
    """What ``trainer.max_epochs=auto`` stands for.

    Attributes:
        number: Number of epochs.
        note: A sentence with the reason, empty for none.

    Example:
        >>> EpochsOfData(40, "40 epochs of 50 batches").number
        40
    """

    number: int
    note: str


@dataclass(frozen=True)
class PlannedJob:
    """A job whose config is checked, before its data are looked at.

    Attributes:
        config: The resolved config as plain containers.
        overrides: The words after ``mla train`` that run this job alone.
        distinguishing_overrides: Key -> value of the overrides in which jobs of the same data and
            method can differ.
        slug: Those of them that change the config, formatted for the name of the run folder.
        notes: What the user should know before the job starts.

    Example:
        >>> (job,) = plan(["data=synthetic", "optimizer.lr=0.5"])
        >>> job.overrides, job.distinguishing_overrides, job.slug
        (('data=synthetic', 'optimizer.lr=0.5'), {'optimizer.lr': 0.5}, 'lr=0.5')
    """

    config: dict[str, Any]
    overrides: tuple[str, ...]
    distinguishing_overrides: dict[str, Any] = field(default_factory=dict)
    slug: str = ""
    notes: tuple[str, ...] = ()

    @property
    def title(self) -> str:
        """The job's title, such as ``train: openmoji mla seed=0``."""
        return title_of(self.config, self.slug)


def plan(
    overrides: Sequence[str],
    multirun: bool = False,
    *,
    config_dir: Path | None = None,
    allowed: Sequence[str] = (),
    checks_signatures: bool = False,
    epochs_of: Callable[[Mapping[str, Any]], EpochsOfData] | None = None,
) -> list[PlannedJob]:
    """Compose and check the jobs of a command line.

    Args:
        overrides: Hydra overrides, such as ``method=mla`` and, for several jobs, ``seed=0,1,2``.
        multirun: Run the product of all axes. The grid of an experiment adds axes for keys that
            the overrides do not set.
        config_dir: A user's own folder of groups, None for none.
        allowed: Packages of the user whose classes configs may name.
        checks_signatures: Check the arguments of every class, too. This imports the classes, and
            torch with them.
        epochs_of: Resolved config -> what ``trainer.max_epochs=auto`` stands for, used with
            ``checks_signatures``; None for one epoch.

    Returns:
        The jobs, in the order of the axes; the last axis varies fastest. Their configs share the
        sections in which they do not differ, so do not change them in place.

    Raises:
        ConfigError: If any config is wrong, with all problems, one per line.

    Example:
        >>> jobs = plan(["data=synthetic", "method=mla,sum", "seed=0,1"], multirun=True)
        >>> [(job.config["choices"]["method"], job.config["seed"]) for job in jobs]
        [('mla', 0), ('mla', 1), ('sum', 0), ('sum', 1)]
    """
    flags = [] if config_dir is None else ["--config-dir", str(config_dir)]
    for prefix in allowed:
        allow_target(prefix)
        flags += ["--allow-target", prefix]
    folders = search_path(config_dir)
    problems = Problems()
    with open_composer(folders) as composer:
        reader = OverrideReader(folders)
        parsed = reader.read(overrides, problems.general)
        if multirun:
            combinations, grid_keys = _combinations(parsed, composer, reader, problems)
        else:
            combinations, grid_keys = [[_first_value(o, problems) for o in parsed]], set()
        jobs = []
        checks = _Checks.remembering(checks_signatures)
        for combination in combinations:
            job = _plan_job(combination, grid_keys, composer, problems, checks, epochs_of)
            if job is not None:
                jobs.append(replace(job, overrides=(*flags, *job.overrides)))
    if not problems:
        _check_jobs_differ(jobs, problems)
        if checks_signatures and any(override.key == "select_by" for override in parsed):
            _check_selection(jobs, problems)
    problems.raise_all()
    return jobs


def _first_value(override: Override, problems: Problems) -> Override:
    """Report an override with several values where a single job is run."""
    if len(override.values) < 2:
        return override
    text = f"{override.prefix}{override.key}={','.join(override.values)}"
    problems.general.append(
        f"{text} has several values. Add -m to run one job for each: mla train -m ... "
        "(in Python: mla.sweep)"
    )
    return replace(override, values=override.values[:1])


def _combinations(
    overrides: list[Override], composer: Composer, reader: OverrideReader, problems: Problems
) -> tuple[list[list[Override]], set[str]]:
    """Multiply the axes; each experiment adds its own grid.

    Returns:
        The overrides of each job, and the keys that come from grids.
    """
    combinations: list[list[Override]] = []
    grid_keys: set[str] = set()
    by_key = {override.key: override for override in overrides if override.key != "experiment"}
    experiments = [override for override in overrides if override.key == "experiment"]
    for experiment in itertools.product(*map(Override.split, experiments)):
        fixed = [o for o in by_key.values() if o.is_group and len(o.values) == 1]
        config = composer.compose(_known_choices([*experiment, *fixed], composer)[0])
        grid = {} if isinstance(config, str) else config.get("grid") or {}
        axes = {axis.key: axis for axis in reader.read_grid(grid, problems.general)}
        grid_keys |= axes.keys()
        ordered = [override for key, override in by_key.items() if key not in axes]
        ordered += [by_key.get(key, axis) for key, axis in axes.items()]
        num_jobs = math.prod(len(override.values) for override in ordered)
        if num_jobs > MAX_JOBS:
            problems.general.append(
                f"This sweep has {num_jobs} jobs, and one command runs {MAX_JOBS} at most: "
                f"{', '.join(f'{o.name} has {len(o.values)}' for o in ordered if o.values[1:])}"
            )
            continue
        products = itertools.product(*map(Override.split, ordered))
        combinations += [[*experiment, *product] for product in products]
    return combinations, grid_keys


def _known_choices(
    overrides: list[Override], composer: Composer
) -> tuple[tuple[str, ...], set[str]]:
    """Return the choices that exist, and the top-level keys that depend on the unknown ones."""
    texts: list[str] = []
    unknown_keys: set[str] = set()
    for override in overrides:
        group, chosen = override.name, override.options()
        if all(str(option) in composer.options(group) for option in chosen):
            texts += override.texts()
        elif chosen != [None] or group not in OPTIONAL_GROUPS:
            unknown_keys |= {group} if group in _INDEPENDENT_GROUPS else set(NODES)
    return tuple(texts), unknown_keys


class _Checks(NamedTuple):
    """The checks of sections, each done once for all jobs that share a section."""

    facts_of: Callable[[str, Any], SectionFacts]
    #: None to leave the arguments of classes unchecked.
    signature_problems_of: Callable[[str, Any], list[str]] | None

    @classmethod
    def remembering(cls, checks_signatures: bool) -> _Checks:
        facts_of = once_per_section(facts_of_section)
        if not checks_signatures:
            return cls(facts_of, None)
        from mla_lightning.config.bind import signature_problems_of_section

        return cls(facts_of, once_per_section(signature_problems_of_section))

    def has_allowed_targets(self, config: Mapping[str, Any]) -> bool:
        return not any(self.facts_of(key, node).forbidden_targets for key, node in config.items())


def _plan_job(
    overrides: list[Override],
    grid_keys: set[str],
    composer: Composer,
    problems: Problems,
    checks: _Checks,
    epochs_of: Callable[[Mapping[str, Any]], EpochsOfData] | None,
) -> PlannedJob | None:
    texts = tuple(text for override in overrides for text in override.texts())
    choices, unknown_keys = _known_choices([o for o in overrides if o.is_group], composer)
    base = composer.compose(choices)
    if isinstance(base, str):
        problems.add(" ".join(texts), [base])
        return None
    messages: list[str] = []
    values = [override for override in overrides if not override.is_group]
    tuned, message = tuned_values(base, {override.key for override in values})
    messages += message
    unresolved = set_values(base, [*tuned, *values], unknown_keys, messages)
    config = composer.resolve(unresolved, messages)
    if "method" not in unknown_keys:
        messages += _undone_ablation(composer.ablation_values(base), config)
    config["metrics"] = composer.metric_nodes()
    checkable = {key: value for key, value in config.items() if key not in unknown_keys}
    messages += find_problems(checkable, checks.facts_of)
    note = ""
    problems_of = checks.signature_problems_of
    if problems_of and _value_at(config, "trainer.max_epochs") == "auto":
        number = 1
        if epochs_of is not None and not (messages or unknown_keys):
            number, note = epochs_of(config)
        trainer = {**unresolved["trainer"], "max_epochs": number}
        unresolved = {**unresolved, "trainer": trainer}
        config = {**composer.resolve(unresolved, []), "metrics": config["metrics"]}
        checkable = {key: config[key] for key in checkable}
    config = with_schedule_of_snapshots(config)
    if problems_of and checks.has_allowed_targets(checkable):
        from mla_lightning.config.bind import find_signature_problems

        messages += find_signature_problems(checkable, problems_of)
        if not messages and not unknown_keys:
            messages += find_callback_problems(config)
            is_set = any(override.key.partition(".")[0] == "scheduler" for override in values)
            messages += find_schedule_problems(config, is_set)
    set_keys = tuple(override.key for override in values)
    messages = [
        message
        if message.startswith(set_keys)
        else name_file(message, composer.folders, base["choices"])
        for message in messages
    ]
    problems.add(" ".join(texts), messages)
    if messages or unknown_keys:
        return None
    for key in ("tuned_lr", "tuned"):  # used already; other methods must not change the identity
        config.pop(key, None)
    distinguishing = {
        override.name: parse_value(override.values[0])
        for override in overrides
        if is_distinguishing(override.key)
    }
    without_values = composer.compose_resolved(choices)
    changing = {
        key: value
        for key, value in distinguishing.items()
        if key in grid_keys
        or (key in (*config["choices"], *GROUPS_OF_SEVERAL) and value is not None)
        or _value_at(without_values, key) != _value_at(config, key)
    }
    notes = tuple(filter(None, (note, untuned_rate_note(config, set_keys))))
    return PlannedJob(config, texts, distinguishing, slug_of(changing, config["trainer"]), notes)


def _undone_ablation(ablation: Mapping[str, Any], config: Mapping[str, Any]) -> list[str]:
    """Report values of an ablation that an override replaces: its name would mislabel the run."""
    name = config["choices"].get("ablation")
    return [
        f"{key}={format_value(_value_at(config, key))} replaces the value that "
        f"ablation={name} sets; leave one of them out"
        for key, value in ablation.items()
        if _value_at(config, key) not in (value, UNRESOLVED)
    ]


def _value_at(config: Mapping[str, Any], key: str) -> Any:
    node: Any = config
    for name in key.split("."):
        node = node.get(name) if isinstance(node, Mapping) else None
    return node


def _check_selection(jobs: Sequence[PlannedJob], problems: Problems) -> None:
    """Report ``select_by`` if it changes nothing about any job; a reference may ignore it."""
    reasons = [find_selection_problem(job.config) for job in jobs]
    if jobs and all(reasons):
        problems.general.append(
            f"select_by={jobs[0].config['select_by']} has no effect: "
            f"{', and '.join(dict.fromkeys(reasons))}. Leave it out."
        )


def _check_jobs_differ(jobs: Sequence[PlannedJob], problems: Problems) -> None:
    """Report jobs that compute the same, and one folder for several jobs."""
    earlier_jobs: dict[bytes, PlannedJob] = {}
    for job in jobs:
        identity = {key: value for key, value in job.config.items() if key not in NOT_IDENTITY}
        text = hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).digest()
        earlier = earlier_jobs.get(text)
        if earlier is not None and earlier.config["name"] == job.config["name"]:
            problems.general.append(
                f"Two jobs of this sweep are the same: {' '.join(earlier.overrides)} and "
                f"{' '.join(job.overrides)}"
            )
        earlier_jobs[text] = job
    if len(jobs) > 1 and any(job.config["run_dir"] is not None for job in jobs):
        problems.general.append(
            "run_dir is one folder for many jobs; use name or paths.output_dir instead"
        )

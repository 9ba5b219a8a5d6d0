"""Jobs: configs with an identity, the code that they reach, and a run folder."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mla_lightning.config.naming import run_dir_of
from mla_lightning.config.plan import Faults, plan
from mla_lightning.config.targets import TARGET, instantiate, locate, targets_of
from mla_lightning.errors import ConfigError, near
from mla_lightning.identity import identity_of
from mla_lightning.identity.code import Code, code_of
from mla_lightning.run_folder.config import RunConfig

if TYPE_CHECKING:
    from mla_lightning.data.base import MultimodalDataModule

#: Nodes whose classes compute what a run writes down.
COMPUTING = (*("data", "encoder", "missing", "method", "optimizer", "scheduler", "metrics"),)


@dataclass(frozen=True)
class Job:
    """One training run.

    Attributes:
        config: The resolved config.
        overrides: What follows ``mla train`` to run this job alone.
        run_dir: Its folder, a function of config and data.
        title: Its name for people.
        identity: Hash of config and data; two jobs with one identity are one job.
        data_fingerprint: Hash of the data's content.
        code: The code that it reaches.
        distinguishing_overrides: Key -> value of the overrides in which jobs of the same data and
            method can differ.
    """

    config: RunConfig
    overrides: tuple[str, ...]
    run_dir: Path
    title: str
    identity: str
    data_fingerprint: str
    code: Code
    distinguishing_overrides: dict[str, Any] = field(default_factory=dict)

    @property
    def run_id(self) -> str:
        """Return an id for trackers, other than that of an earlier run by other code."""
        return f"{self.identity[:8]}{self.code.hash[:8]}"

    @property
    def stage_id(self) -> str:
        """Return an id of what the job is but for what it hides: runs may share such a stage."""
        whole = {**self.config.tree, "missing": None}
        return f"{identity_of(whole, self.data_fingerprint)[:12]}-{self.code.hash[:8]}"


def compose_jobs(
    overrides: Sequence[str],
    multirun: bool = False,
    *,
    config_dir: Path | None = None,
    allowed: Sequence[str] = (),
) -> list[Job]:
    """Compose, check and identify the jobs of a command line, before any of them starts.

    Args:
        overrides: Hydra overrides.
        multirun: Run the product of all axes.
        config_dir: A user's own folder of groups, None for none.
        allowed: Packages of the user that configs may name classes of.

    Returns:
        The jobs, in the order of the axes.

    Raises:
        ConfigError: With all faults, one a line.
        DataError: If data are missing.
    """
    known: dict[str, _DataOfConfig] = {}
    faults = Faults()
    jobs = []
    for planned in plan(overrides, multirun, config_dir=config_dir, allowed=allowed, binds=True):
        tree = planned.config
        text = json.dumps(
            [tree[key] for key in ("data", "seed", "modalities", "encoder", "method")]
        )
        if text not in known:
            known[text] = _look_at_data(tree)
        data = known[text]
        faults.add(" ".join(planned.overrides), data.faults)
        if data.faults:
            continue
        tree = {**tree, "encoder": data.encoders}  # what is used, not that it was to be chosen
        identity = identity_of(tree, data.fingerprint)
        jobs.append(
            Job(
                config=RunConfig.from_tree(tree),
                overrides=planned.overrides,
                run_dir=run_dir_of(tree, planned.slug, identity),
                title=planned.title,
                identity=identity,
                data_fingerprint=data.fingerprint,
                code=code_of(reached_targets(tree)),
                distinguishing_overrides=planned.distinguishing_overrides,
            )
        )
    faults.raise_all()
    return jobs


def reached_targets(tree: Mapping[str, Any]) -> frozenset[str]:
    """Return what a config names that computes what a run writes down."""
    nodes = {key: tree[key] for key in COMPUTING if tree.get(key)}
    return frozenset(str(node[TARGET]) for _, node in targets_of(nodes))


def data_of_config(tree: Mapping[str, Any]) -> MultimodalDataModule:
    """Build the data module of a config; nothing is read yet.

    Args:
        tree: The resolved config as plain containers.

    Returns:
        The data module, before ``prepare_data`` and ``setup``.
    """
    supplied = {"seed": tree["seed"], "modalities": tree["modalities"]}
    if tree["missing"]:
        supplied["missing"] = instantiate(tree["missing"])
    data: MultimodalDataModule = instantiate(tree["data"], **supplied)
    return data


def encoder_nodes_of_config(
    tree: Mapping[str, Any], data: MultimodalDataModule
) -> dict[str, dict[str, Any]]:
    """Return the encoders' nodes of a config, those that the data choose where it names none.

    Args:
        tree: The resolved config as plain containers.
        data: Its data module.

    Returns:
        Modality in use -> node.

    Raises:
        ConfigError: If an encoder is missing, or one is given for a modality that no data has.
    """
    nodes = tree["encoder"] or data.default_encoders()
    faults = [
        f"encoder has no entry for {name!r} of {data.name}.{near(name, nodes)} "
        f"It has: {', '.join(nodes)}. See `mla list encoders`."
        for name in data.modalities
        if name not in nodes
    ]
    faults += [
        f"encoder.{name}: {data.name} has no such modality.{near(name, data.all_modalities)} "
        f"It has: {', '.join(data.all_modalities)}."
        for name in nodes
        if name not in data.all_modalities
    ]
    if faults:
        raise ConfigError("\n".join(faults))
    return {name: dict(nodes[name]) for name in data.modalities}


@dataclass(frozen=True)
class _DataOfConfig:
    """What a config's data say before they are read.

    Attributes:
        fingerprint: Hash of the data's content.
        encoders: Modality -> node of its encoder.
        faults: What of the config does not fit to the data.
    """

    fingerprint: str = ""
    encoders: Mapping[str, Any] = field(default_factory=dict)
    faults: tuple[str, ...] = ()


def _look_at_data(tree: Mapping[str, Any]) -> _DataOfConfig:
    try:
        data = data_of_config(tree)
    except ConfigError as error:
        return _DataOfConfig(faults=(str(error),))
    faults: list[str] = []
    encoders: dict[str, Any] = {}
    try:
        encoders = encoder_nodes_of_config(tree, data)
    except ConfigError as error:
        faults += str(error).splitlines()
    try:
        method = locate(tree["method"][TARGET])
        if hasattr(method, "check_modalities"):
            method.check_modalities(data.modalities)
    except ConfigError as error:
        faults.append(str(error))
    if faults:
        return _DataOfConfig(faults=tuple(faults))
    return _DataOfConfig(data.fingerprint, encoders)

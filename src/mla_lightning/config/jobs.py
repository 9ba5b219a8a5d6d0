"""Jobs: checked configs with their identity, code and run folder."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mla_lightning.config.annotations import Unreadable
from mla_lightning.config.listing import label_of
from mla_lightning.config.naming import run_dir_of
from mla_lightning.config.plan import EpochsOfData, plan
from mla_lightning.config.problems import Problems
from mla_lightning.config.search import name_file, search_path
from mla_lightning.config.signatures import SourceClass, read_class
from mla_lightning.config.targets import TARGET, instantiate, targets_of
from mla_lightning.config.task import (
    find_method_problems,
    find_task_problems,
    rules_of_method,
    settings_of_task,
)
from mla_lightning.errors import ConfigError, MLAError, near
from mla_lightning.identity import identity_of
from mla_lightning.identity.code import Code, code_of, forget_code
from mla_lightning.run_folder.config import RunConfig
from mla_lightning.run_folder.tasks import CLASSIFICATION

if TYPE_CHECKING:
    from mla_lightning.data.base import MultimodalDataModule
    from mla_lightning.data.descriptions.base import DataDescription

#: Nodes whose classes compute what a run writes.
COMPUTING_NODES = (
    *("data", "task", "encoder", "missing", "method", "optimizer", "scheduler", "metrics"),
    "callbacks",
)
#: What the check of a config against its data reads.
_KEYS_CHECKED_WITH_DATA = (
    *("data", "seed", "modalities", "missing", "encoder", "method", "task", "select_by", "loss"),
    "scheduler",
)


#: The setting of methods whose first epochs train unimodal teachers, and what trains them.
TEACHER_EPOCHS = "teacher_epochs"
TEACHERS = "mla_lightning.methods.mechanisms.teachers.WithTeachers"


@dataclass(frozen=True)
class Job:
    """A training run that is planned.

    Attributes:
        config: The resolved config.
        overrides: The words after ``mla train`` that run this job alone.
        run_dir: Its run folder, a function of config and data.
        title: Its title, such as ``train: openmoji mla seed=0``.
        identity: Hash of config and data; jobs with the same identity are the same job.
        data_fingerprint: Hash of the content of the data.
        code: The code that it uses.
        method_label: Its method as tables and figures show it, such as ``OGM-GE``.
        distinguishing_overrides: Key -> value of the overrides in which jobs of the same data and
            method can differ.
        task: The task of its data.
        notes: What the user should know before it starts.
        floor: The lowest score on validation with which it goes on, for each number of finished
            epochs; see :mod:`mla_lightning.tune.pruning`. It does not change what the job computes
            if it goes on, so it is no part of the identity.

    Example:
        >>> (job,) = compose_jobs(["data=synthetic", "method=ogm_ge", "name=mine"])
        >>> job.title, job.method_label
        ('mine: synthetic ogm_ge seed=0', 'OGM-GE')
        >>> job.run_dir.as_posix()
        'runs/mine/synthetic-ogm_ge-seed0-...'
    """

    config: RunConfig
    overrides: tuple[str, ...]
    run_dir: Path
    title: str
    identity: str
    data_fingerprint: str
    code: Code
    method_label: str = ""
    distinguishing_overrides: dict[str, Any] = field(default_factory=dict)
    task: str = CLASSIFICATION
    notes: tuple[str, ...] = ()
    floor: tuple[float, ...] = ()

    @property
    def run_id(self) -> str:
        """The id for trackers such as W&B, which differs if the code differs."""
        return f"{self.identity[:8]}{self.code.hash[:8]}"

    @property
    def stage_id(self) -> str:
        """The id of a first stage: runs that share it can share the stage.

        It is of all but the missing modalities; of teachers, which see what the run sees, of all
        but what the method is and does after their training.
        """
        tree, code = {**self.config.tree, "missing": None}, self.code
        kind = tree["choices"]["method"]
        if TEACHER_EPOCHS in tree["method"]:
            kind, tree = "teachers", _tree_of_teachers(self.config.tree)
            code = code_of(reached_targets(tree))
        identity = identity_of(tree, self.data_fingerprint)
        return f"{kind}-seed{self.config.seed}-{identity[:12]}-{code.hash[:8]}"


def _tree_of_teachers(tree: Mapping[str, Any]) -> dict[str, Any]:
    """Return what determines the training of unimodal teachers within a run."""
    num_epochs = tree["method"][TEACHER_EPOCHS] or tree["trainer"]["max_epochs"] // 2
    method = {TARGET: TEACHERS, TEACHER_EPOCHS: num_epochs}
    choices = {k: v for k, v in tree["choices"].items() if k not in ("method", "fusion")}
    return {**tree, "method": method, "choices": choices}


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
        allowed: Packages of the user whose classes configs may name.

    Returns:
        The jobs, in the order of the axes. Their configs share the sections in which they do not
        differ, so do not change them in place.

    Raises:
        ConfigError: If any config is wrong, with all problems, one per line.
        DataError: If data are missing.

    Example:
        >>> jobs = compose_jobs(["data=synthetic", "seed=0,1"], multirun=True)
        >>> [job.title for job in jobs]
        ['train: synthetic mla seed=0', 'train: synthetic mla seed=1']
    """
    forget_code()  # files may have been edited since an earlier call in this process
    folders = search_path(config_dir)
    checks: dict[bytes, _DataCheck] = {}
    epochs: dict[str, EpochsOfData] = {}
    labels: dict[str, str] = {}
    shared: dict[str, Any] = {}  # the same for many jobs, which hold one copy
    problems = Problems()
    jobs = []

    def epochs_of(tree: Mapping[str, Any]) -> EpochsOfData:
        text = json.dumps([tree["data"], tree["trainer"].get("snapshots")])
        if text not in epochs:
            epochs[text] = _epochs_of_data(tree)
        return epochs[text]

    for planned in plan(
        overrides,
        multirun,
        config_dir=config_dir,
        allowed=allowed,
        checks_signatures=True,
        epochs_of=epochs_of,
    ):
        tree = planned.config
        text = json.dumps([tree[key] for key in _KEYS_CHECKED_WITH_DATA])
        key = hashlib.sha256(text.encode()).digest()  # the texts of all jobs are many MB
        if key not in checks:
            data = _check_data(tree, folders)
            encoders = shared.setdefault(repr(data.encoders), data.encoders)
            checks[key] = replace(data, encoders=encoders)
        data = checks[key]
        problems.add(" ".join(planned.overrides), data.problems)
        if data.problems:
            continue
        text = json.dumps([data.task, tree["task"], tree["select_by"]])
        if text not in shared:
            shared[text] = settings_of_task(tree, data.task, folders)
        # the encoders in use, also if the data choose
        tree = {**tree, "encoder": data.encoders, **shared[text]}
        identity = identity_of(tree, data.fingerprint)
        method = tree["choices"]["method"]
        if method not in labels:
            labels[method] = label_of("method", method, config_dir)
        jobs.append(
            Job(
                config=RunConfig.from_tree(tree),
                overrides=planned.overrides,
                run_dir=run_dir_of(tree, planned.slug, identity),
                title=planned.title,
                identity=identity,
                data_fingerprint=data.fingerprint,
                code=code_of(reached_targets(tree)),
                method_label=labels[method],
                distinguishing_overrides=planned.distinguishing_overrides,
                task=data.task,
                notes=planned.notes,
            )
        )
    problems.raise_all()
    return jobs


def reached_targets(tree: Mapping[str, Any]) -> frozenset[str]:
    """Return the targets of a config that compute what a run writes.

    Example:
        >>> nodes = {"optimizer": {"_target_": "torch.optim.SGD"}, "logger": {"_target_": "my.Log"}}
        >>> reached_targets(nodes)
        frozenset({'torch.optim.SGD'})
    """
    nodes = {key: tree[key] for key in COMPUTING_NODES if tree.get(key)}
    return frozenset(str(node[TARGET]) for _, node in targets_of(nodes))


def data_of_config(tree: Mapping[str, Any]) -> MultimodalDataModule:
    """Instantiate the data module of a config, without reading data.

    Args:
        tree: The resolved config as plain containers.

    Returns:
        The data module, before ``prepare_data`` and ``setup``.

    Example:
        >>> data = data_of_config(plan(["data=synthetic", "modalities=[visual]"])[0].config)
        >>> data.name, data.modalities
        ('synthetic', ('visual',))
    """
    supplied = {"seed": tree["seed"], "modalities": tree["modalities"]}
    if tree["missing"]:
        supplied["missing"] = instantiate(tree["missing"])
    data: MultimodalDataModule = instantiate(tree["data"], **supplied)
    return data


def describe_data(tree: Mapping[str, Any]) -> DataDescription:
    """Instantiate the description of the data of a config; nothing is read, and torch not imported.

    Args:
        tree: The resolved config as plain containers.

    Returns:
        The description; a data set of a user, which has no separate one, is its own.

    Example:
        >>> data = describe_data(plan(["data=synthetic", "modalities=[visual]"])[0].config)
        >>> type(data).__name__, data.modalities, data.num_classes
        ('SyntheticDescription', ('visual',), 4)
    """
    target = tree["data"][TARGET]
    return data_of_config({**tree, "data": {**tree["data"], TARGET: _description_of(target)}})


def _description_of(target: str) -> str:
    """Return the class of this package that describes a data set: the first base, of its name."""
    try:
        cls = read_class(target)
        first = next((base for base in cls.mro[1:] if isinstance(base, SourceClass)), None)
    except Unreadable:
        return target
    is_description = first is not None and first.__name__ == f"{cls.__name__}Description"
    return first.target if first is not None and is_description else target


def encoder_nodes_of_config(
    tree: Mapping[str, Any], data: DataDescription
) -> dict[str, dict[str, Any]]:
    """Return the nodes of a config's encoders, or the data's defaults if it has none.

    Args:
        tree: The resolved config as plain containers.
        data: Its data module.

    Returns:
        Modality in use -> node.

    Raises:
        ConfigError: If the encoder of a modality is missing, or the data have no such modality.

    Example:
        >>> tree = plan(["data=synthetic", "modalities=[visual]"])[0].config
        >>> encoder_nodes_of_config(tree, data_of_config(tree))["visual"]["_target_"]
        'mla_lightning.encoders.mlp.MLP'
    """
    nodes = tree["encoder"] or data.default_encoders()
    problems = [
        f"encoder has no entry for {name!r} of {data.name}.{near(name, nodes)} "
        f"It has: {', '.join(nodes)}. See `mla list encoders`."
        for name in data.modalities
        if name not in nodes
    ]
    problems += [
        f"encoder.{name}: {data.name} has no such modality.{near(name, data.all_modalities)} "
        f"It has: {', '.join(data.all_modalities)}."
        for name in nodes
        if name not in data.all_modalities
    ]
    if problems:
        raise ConfigError("\n".join(problems))
    return {name: dict(nodes[name]) for name in data.modalities}


def _epochs_of_data(tree: Mapping[str, Any]) -> EpochsOfData:
    """Return the number of epochs that fits the data of a config, the least if they cannot open.

    With snapshots it is a multiple of their number, and twice that at least.
    """
    parts = tree["trainer"].get("snapshots") or 1
    least = 2 * parts if parts > 1 else 1
    try:
        data = describe_data(tree)
    except Exception:  # of any class, also of the user's code; the check of the data reports it
        return EpochsOfData(least, "")
    number, note = max(least, -(-data.default_epochs // parts) * parts), ""
    if data.num_train is not None:
        batches = -(-data.num_train // data.batch_size)
        note = (
            f"trainer.max_epochs=auto is {number} epochs here: {number * batches:,} steps, "
            f"{batches:,} in each epoch of {data.num_train:,} training samples."
        )
    return EpochsOfData(number, note)


@dataclass(frozen=True)
class _DataCheck:
    """The result of comparing a config with its data.

    Attributes:
        fingerprint: Hash of the content of the data.
        encoders: Modality -> node of its encoder.
        problems: Messages on what of the config does not fit the data.
        task: The task of the data.
    """

    fingerprint: str = ""
    encoders: Mapping[str, Any] = field(default_factory=dict)
    problems: tuple[str, ...] = ()
    task: str = CLASSIFICATION


def _check_data(tree: Mapping[str, Any], folders: tuple[Path, ...]) -> _DataCheck:
    try:
        data = describe_data(tree)
    except ConfigError as error:
        return _DataCheck(problems=(str(error),))
    except (MLAError, OSError):
        raise
    except Exception as error:  # raised by a class of the user, or by the code that it calls
        problem = f"data: {tree['data'][TARGET]} raised {type(error).__name__}: {error}"
        return _DataCheck(problems=(name_file(problem, folders, tree["choices"]),))
    problems: list[str] = []
    encoders: dict[str, Any] = {}
    try:
        encoders = encoder_nodes_of_config(tree, data)
    except ConfigError as error:
        problems += str(error).splitlines()
    rules, is_weighted = rules_of_method(tree["method"][TARGET]), tree["loss"]["class_weights"]
    problems += find_method_problems(rules, data, is_weighted=bool(is_weighted))
    problems += find_task_problems(tree, data.task, data.name)
    if problems:
        return _DataCheck(problems=tuple(problems))
    return _DataCheck(data.fingerprint, encoders, task=data.task)

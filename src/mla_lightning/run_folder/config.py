"""The typed config of a run: its settings, and the nodes that name classes."""

from __future__ import annotations

import dataclasses
import functools
import typing
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, field
from typing import Annotated, Any, Literal

from mla_lightning.errors import ConfigError
from mla_lightning.run_folder.schema import Above, AtLeast, AtMost, Below, Count

#: Marks nodes, which are checked against the signatures of the classes that they name.
_NODE = "node"
#: A node that names a class (``_target_``) and its arguments, or a mapping of names to such nodes.
Node = Annotated[dict[str, Any], _NODE]


@dataclass(frozen=True)
class PathsConfig:
    """Folders of runs and of data; see ``conf/paths/default.yaml``.

    Example:
        >>> PathsConfig(output_dir="runs", data_dir="data").output_dir
        'runs'
    """

    output_dir: str
    data_dir: str


@dataclass(frozen=True)
class TrainerConfig:
    """How one job computes; see ``conf/trainer/default.yaml``.

    Example:
        >>> from mla_lightning.config import plan
        >>> tree = plan(["data=synthetic", "trainer.max_epochs=3"])[0].config
        >>> RunConfig.from_tree(tree).trainer.max_epochs
        3
    """

    max_epochs: Count | Literal["auto"]  # a number in every config of a run
    threads: Annotated[int, AtLeast(1), AtMost(1024)]
    precision: Literal["32-true", "bf16-mixed", "16-mixed", "64-true"]
    accelerator: Literal["auto", "cpu", "gpu", "cuda", "mps"]
    clip_norm: Annotated[float, Above(0)] | None
    accumulate: Count
    compile: bool
    deterministic: bool
    progress_bar: bool
    log_every_n_batches: Count
    devices: Count = 1
    num_nodes: Count = 1
    sync_batchnorm: bool = True
    ema: Annotated[float, Above(0), Below(1)] | None = None
    snapshots: Annotated[int, AtLeast(2), AtMost(100)] | None = None

    @property
    def num_ranks(self) -> int:
        """Number of processes that train the job together, one per device."""
        return self.devices * self.num_nodes

    @property
    def num_epochs(self) -> int:
        """Number of epochs, which every job has in place of ``auto``."""
        assert self.max_epochs != "auto", "jobs have a number"
        return self.max_epochs


@dataclass(frozen=True)
class CheckpointConfig:
    """How often checkpoints are written, and how many are kept.

    Example:
        >>> CheckpointConfig(every_n_batches=None, keep=2).keep
        2
    """

    every_n_batches: Count | None
    keep: Count


@dataclass(frozen=True)
class LossConfig:
    """How samples count in the loss.

    Example:
        >>> LossConfig().class_weights is None
        True
    """

    class_weights: Literal["balanced"] | None = None


@dataclass(frozen=True)
class RunConfig:
    """A resolved config; ``conf/config.yaml`` describes each key.

    Nodes that name classes stay mappings, since the signatures of the classes define their keys.

    Example:
        >>> sorted(RunConfig.nodes())[:3]
        ['callbacks', 'data', 'encoder']
        >>> RunConfig.settings()["trainer.compile"]
        <class 'bool'>
    """

    name: str
    seed: Annotated[int, AtLeast(0)]
    protocol: Literal["validation", "paper"]
    select_by: (
        Literal["accuracy", "macro_f1", "balanced_accuracy"]
        | Literal["mae", "correlation", "micro_f1", "mean_ap"]
        | None
    ) = field(default="accuracy", kw_only=True)
    evaluate_test: bool
    evaluate_probe: bool
    diagnostics: Literal["off", "cost", "epoch", "full", "umap"]
    modalities: list[str] | None
    overwrite: bool
    force_resume: bool
    stale: Literal["retrain", "keep"]
    run_dir: str | None
    paths: PathsConfig
    trainer: TrainerConfig
    checkpoint: CheckpointConfig
    loss: LossConfig = field(default=LossConfig(), kw_only=True)
    data: Node
    task: Node | None = field(default=None, kw_only=True)
    encoder: Node | None
    missing: Node | None
    method: Node
    optimizer: Node
    scheduler: Node | None
    callbacks: Node | None = field(default=None, kw_only=True)
    logger: Node | None
    launcher: Node
    metrics: Node
    grid: Node
    choices: dict[str, str] = field(metadata={"is_filled_in": True})
    #: The same config as plain containers, as ``config.yaml`` holds it.
    tree: dict[str, Any] = field(repr=False, compare=False, metadata={"is_filled_in": True})

    @classmethod
    def from_tree(cls, tree: Mapping[str, Any]) -> RunConfig:
        """Build the config from plain containers.

        Args:
            tree: A config that :func:`mla_lightning.config.plan` resolved, or that of a run's
                ``config.yaml``.

        Raises:
            ConfigError: If a key is missing; the message names it.
        """
        values = _read_values(cls, tree, "")
        return cls(**values, tree=dict(tree))

    @classmethod
    def settings(cls) -> dict[str, Any]:
        """Return the type of every setting outside the nodes, by its dotted key."""
        return _setting_types(cls, "")

    @classmethod
    def nodes(cls) -> tuple[str, ...]:
        """Return the top-level keys that hold nodes, which the classes that they name check."""
        hints = typing.get_type_hints(cls, include_extras=True)
        return tuple(name for name, hint in hints.items() if _is_node(hint))


def _is_node(hint: Any) -> bool:
    metadata = getattr(hint, "__metadata__", ())
    return _NODE in metadata or any(map(_is_node, typing.get_args(hint)))


def _setting_types(cls: type, prefix: str) -> dict[str, Any]:
    hints = typing.get_type_hints(cls, include_extras=True)
    settings: dict[str, Any] = {}
    for item in dataclasses.fields(cls):
        key, hint = f"{prefix}{item.name}", hints[item.name]
        if item.metadata or _is_node(hint):
            continue
        if dataclasses.is_dataclass(hint):
            settings |= _setting_types(typing.cast(type, hint), f"{key}.")
        else:
            settings[key] = hint
    return settings


@functools.cache
def _hints_of(cls: type) -> dict[str, Any]:
    return typing.get_type_hints(cls)


def _read_values(cls: type, tree: Mapping[str, Any], prefix: str) -> dict[str, Any]:
    hints = _hints_of(cls)
    values: dict[str, Any] = {}
    for item in dataclasses.fields(cls):
        if item.name == "tree":
            continue
        if isinstance(tree, Mapping) and item.name not in tree and item.default is not MISSING:
            continue  # a setting that versions before it did not have
        if not isinstance(tree, Mapping) or item.name not in tree:
            raise ConfigError(f"The config has no key '{prefix}{item.name}'")
        value, hint = tree[item.name], hints[item.name]
        if dataclasses.is_dataclass(hint):
            kind = typing.cast(type, hint)
            value = kind(**_read_values(kind, value, f"{prefix}{item.name}."))
        values[item.name] = value
    return values

"""The config of a run: the settings that no class takes, typed, and the nodes that name classes."""

from __future__ import annotations

import dataclasses
import typing
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from mla_lightning.errors import ConfigError
from mla_lightning.run_folder.schema import Above, AtLeast, Count

#: Marks what is checked against the signatures of classes, not here.
_NODE = "node"
#: A node that names a class (``_target_``) and its arguments, or a mapping of names to such nodes.
Node = Annotated[dict[str, Any], _NODE]


@dataclass(frozen=True)
class PathsConfig:
    """Where things lie; see ``conf/paths/default.yaml``."""

    output_dir: str
    data_dir: str


@dataclass(frozen=True)
class TrainerConfig:
    """How one job computes; see ``conf/trainer/default.yaml``."""

    max_epochs: Count
    threads: Count
    precision: Literal["32-true", "bf16-mixed", "16-mixed", "64-true"]
    accelerator: Literal["auto", "cpu", "gpu", "cuda", "mps"]
    clip_norm: Annotated[float, Above(0)] | None
    accumulate: Count
    compile: bool
    deterministic: bool
    progress_bar: bool
    log_every_n_batches: Count


@dataclass(frozen=True)
class CheckpointConfig:
    """When checkpoints are written, and how many are kept."""

    every_n_batches: Count | None
    keep: Count


@dataclass(frozen=True)
class RunConfig:
    """A resolved config; see ``conf/config.yaml`` for what each key does.

    Nodes that name classes stay mappings: the classes' own signatures say what is in them.

    Example:
        >>> sorted(RunConfig.nodes())[:3]
        ['data', 'encoder', 'grid']
        >>> RunConfig.settings()["trainer.compile"]
        <class 'bool'>
    """

    name: str
    seed: Annotated[int, AtLeast(0)]
    protocol: Literal["validation", "paper"]
    evaluate_test: bool
    evaluate_probe: bool
    diagnostics: Literal["off", "epoch", "full"]
    modalities: list[str] | None
    overwrite: bool
    force_resume: bool
    stale: Literal["retrain", "keep"]
    run_dir: str | None
    paths: PathsConfig
    trainer: TrainerConfig
    checkpoint: CheckpointConfig
    data: Node
    encoder: Node | None
    missing: Node | None
    method: Node
    optimizer: Node
    scheduler: Node | None
    logger: Node | None
    launcher: Node
    metrics: Node
    grid: Node
    choices: dict[str, str] = field(metadata={"is_filled_in": True})
    #: The same as plain containers, as written to ``config.yaml``.
    tree: dict[str, Any] = field(repr=False, compare=False, metadata={"is_filled_in": True})

    @classmethod
    def from_tree(cls, tree: Mapping[str, Any]) -> RunConfig:
        """Return the config that plain containers hold.

        Args:
            tree: What :func:`mla_lightning.config.plan` resolved, or a run's ``config.yaml``.

        Raises:
            ConfigError: If a key is missing, naming it.
        """
        values = _values(cls, tree, "")
        return cls(**values, tree=dict(tree))

    @classmethod
    def settings(cls) -> dict[str, Any]:
        """Return the type of every setting outside the nodes, by its dotted key."""
        return _settings(cls, "")

    @classmethod
    def nodes(cls) -> tuple[str, ...]:
        """Return the top-level keys whose content the classes that they name check."""
        hints = typing.get_type_hints(cls, include_extras=True)
        return tuple(name for name, hint in hints.items() if _is_node(hint))


def _is_node(hint: Any) -> bool:
    metadata = getattr(hint, "__metadata__", ())
    return _NODE in metadata or any(map(_is_node, typing.get_args(hint)))


def _settings(cls: type, prefix: str) -> dict[str, Any]:
    hints = typing.get_type_hints(cls, include_extras=True)
    settings: dict[str, Any] = {}
    for item in dataclasses.fields(cls):
        key, hint = f"{prefix}{item.name}", hints[item.name]
        if item.metadata or _is_node(hint):
            continue
        if dataclasses.is_dataclass(hint):
            settings |= _settings(typing.cast(type, hint), f"{key}.")
        else:
            settings[key] = hint
    return settings


def _values(cls: type, tree: Mapping[str, Any], prefix: str) -> dict[str, Any]:
    hints = typing.get_type_hints(cls)
    values: dict[str, Any] = {}
    for item in dataclasses.fields(cls):
        if item.name == "tree":
            continue
        if not isinstance(tree, Mapping) or item.name not in tree:
            raise ConfigError(f"The config has no {prefix}{item.name}")
        value, hint = tree[item.name], hints[item.name]
        if dataclasses.is_dataclass(hint):
            kind = typing.cast(type, hint)
            value = kind(**_values(kind, value, f"{prefix}{item.name}."))
        values[item.name] = value
    return values

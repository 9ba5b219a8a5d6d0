"""Bind every node that names a class to that class's signature, before anything is built."""

from __future__ import annotations

import functools
import inspect
import json
import typing
from collections.abc import Mapping
from typing import Any, NamedTuple

from mla_lightning.config.targets import PARTIAL, TARGET, locate, targets_of
from mla_lightning.errors import ConfigError, near
from mla_lightning.run_folder.schema import describe, fits, spell

#: What training gives to the class of a node; nobody may set it in a config.
SUPPLIED: dict[str, tuple[str, ...]] = {
    "data": ("seed", "modalities", "missing"),
    "method": (
        *("encoders", "num_classes", "optimizer", "scheduler", "num_train", "batch_size", "seed"),
        *("clip_norm", "accumulate", "log_every_n_batches", "inputs", "is_complete"),
        *("hides_modalities", "resamples_masks", "train_batches", "epoch_metrics", "logs_epochs"),
    ),
    "method.fusion": ("feature_dims", "num_classes"),
    "optimizer": ("params",),
    "scheduler": ("optimizer",),
    "launcher": ("job_function",),
}
#: Keys of a node that training takes out before it builds the class.
TAKEN_OUT = {"method": ("fusion",)}
#: Nodes that training finishes building: they must say ``_partial_: true``, all others must not.
FINISHED_BY_TRAINING = ("method.fusion", "optimizer", "scheduler")


def unbound(config: Mapping[str, Any]) -> list[str]:
    """Find what the classes of a config do not take. Imports these classes.

    Args:
        config: The resolved config, its targets allowed.

    Returns:
        One fault per key: unknown, missing, of the wrong type, or given by training.
    """
    faults: list[str] = []
    for key, node in targets_of({k: v for k, v in config.items() if k != "grid"}):
        faults += _unbound_node(key, json.dumps(node, sort_keys=True))
    return faults


class Taken(NamedTuple):
    """What a class takes by one name: the type annotation, and whether it has to be given."""

    hint: Any
    is_required: bool


@functools.lru_cache(maxsize=1024)
def _unbound_node(key: str, text: str) -> tuple[str, ...]:
    node = json.loads(text)
    try:
        takes, takes_any = parameters_of(node[TARGET])
    except ConfigError as error:
        return (f"{key}.{TARGET}: {error}",)
    supplied, taken_out = SUPPLIED.get(key, ()), TAKEN_OUT.get(key, ())
    given = {k: v for k, v in node.items() if k not in (TARGET, PARTIAL, *taken_out)}
    name = node[TARGET].rpartition(".")[2]
    settable = [own for own in takes if own not in (*supplied, *taken_out)]
    faults = _partial_faults(key, node.get(PARTIAL, False))
    for own, value in given.items():
        if own in supplied:
            faults.append(f"{key}.{own} is no setting: training gives it")
        elif own not in takes and (own.startswith("_") or not takes_any):
            listed = f"It takes: {', '.join(settable)}." if settable else "It takes no setting."
            faults.append(f"{key}.{own}: {name} takes no {own!r}.{near(own, settable)} {listed}")
        elif value == "???":
            faults.append(f"{key}.{own} has no value: give one with {key}.{own}=...")
        elif own in takes and not fits(value, takes[own].hint):
            faults.append(f"{key}.{own} must be {describe(takes[own].hint)}, got {spell(value)}")
    if key in FINISHED_BY_TRAINING or not node.get(PARTIAL, False):
        faults += [
            f"{key}.{own} is missing: {name} needs it"
            for own in settable
            if takes[own].is_required and own not in given
        ]
    faults += [f"{key}.{own} is missing" for own in taken_out if own not in node]
    return tuple(faults)


def _partial_faults(key: str, is_partial: Any) -> list[str]:
    if key in FINISHED_BY_TRAINING and is_partial is not True:
        return [f"{key} needs {PARTIAL}: true, since training finishes building it"]
    if key not in FINISHED_BY_TRAINING and key in SUPPLIED and is_partial is not False:
        return [f"{key}.{PARTIAL} must not be set: the object is needed, not a part of it"]
    return []


@functools.cache
def parameters_of(target: str) -> tuple[dict[str, Taken], bool]:
    """Read what a class or function takes, its bases included where it passes keywords on.

    Args:
        target: The dotted name, allowed.

    Returns:
        What it takes by name, and whether it takes any other name, too.

    Raises:
        ConfigError: If the target cannot be imported.
    """
    found = locate(target)
    makers = [found]
    if inspect.isclass(found):
        makers = [vars(cls)["__init__"] for cls in found.__mro__[:-1] if "__init__" in vars(cls)]
    takes: dict[str, Taken] = {}
    for maker in makers:
        hints = _hints(maker)
        parameters = inspect.signature(maker).parameters.values()
        for parameter in parameters:
            if parameter.name != "self" and parameter.kind not in _MANY:
                is_required = parameter.default is inspect.Parameter.empty
                hint = hints.get(parameter.name, Any)
                takes.setdefault(parameter.name, Taken(hint, is_required))
        keywords = [p.name for p in parameters if p.kind is inspect.Parameter.VAR_KEYWORD]
        if not keywords:
            return takes, False
        named = _named_keywords(hints.get(keywords[0]))
        if named is not None:  # **parts: Unpack[Composition] says by itself what it takes
            for name in named:
                takes.setdefault(name, Taken(Any, False))
            return takes, False
    return takes, bool(makers)


_MANY = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)


def _named_keywords(hint: Any) -> frozenset[str] | None:
    """Return the names that a ``**keywords: Unpack[TypedDict]`` takes, None for any others."""
    (kind,) = typing.get_args(hint) if typing.get_origin(hint) is typing.Unpack else (None,)
    return frozenset(kind.__annotations__) if kind is not None else None


def _hints(maker: Any) -> dict[str, Any]:
    """Read annotations; names that only a type checker imports leave the check to the class."""
    try:
        return typing.get_type_hints(maker, include_extras=True)
    except (NameError, TypeError, AttributeError):
        return {}

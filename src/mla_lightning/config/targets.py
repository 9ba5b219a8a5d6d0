"""Which classes a config may name, and the only place that builds them."""

from __future__ import annotations

import functools
import importlib
import inspect
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from mla_lightning.errors import ConfigError, near

TARGET = "_target_"
PARTIAL = "_partial_"
#: What configs may name. A config is data from anywhere: naming a callable is running code, and
#: importing a module is, too. The list is extended by the command line, never by a config.
_ALLOWED: list[str] = [
    "mla_lightning",
    "torch.optim",
    "torch.nn",
    "torchmetrics",
    "lightning.pytorch.callbacks",
    "lightning.pytorch.loggers",
]
_BY_USER: list[str] = []
#: Of this package, whose functions compute numbers and touch nothing else.
_FUNCTIONS = ["mla_lightning.metrics"]


def allow_target(prefix: str) -> None:
    """Let configs name the classes and functions of one more package, for this process.

    Modules of that package are found in the current folder, too.

    Args:
        prefix: A package or module, such as ``my_methods``.

    Raises:
        ConfigError: If it is no dotted name.
    """
    if not _is_dotted(prefix):
        raise ConfigError(f"--allow-target {prefix!r} is no name of a package, such as my_methods")
    if prefix not in _BY_USER:
        _BY_USER.append(prefix)
    if (here := str(Path.cwd())) not in sys.path:
        sys.path.append(here)


def is_allowed(target: str) -> bool:
    """Whether a config may name this target."""
    return _is_dotted(target) and _is_below(target, [*_ALLOWED, *_BY_USER])


def targets_of(node: Any, key: str = "") -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Find every node that names a target, at any depth, in mappings and lists.

    Args:
        node: A config or a part of it, as plain containers.
        key: Where the part is.

    Yields:
        The node's dotted key and the node, outer ones first.
    """
    if isinstance(node, Mapping):
        if TARGET in node:
            yield key, node
        for name, value in node.items():
            yield from targets_of(value, f"{key}.{name}" if key else str(name))
    elif isinstance(node, list | tuple):
        for position, value in enumerate(node):
            yield from targets_of(value, f"{key}.{position}" if key else str(position))


def forbidden(node: Any, key: str = "") -> list[str]:
    """Find the targets that a config must not name, without importing anything.

    Args:
        node: A config or a part of it, as plain containers.
        key: Where the part is.

    Returns:
        One fault per target.
    """
    return [
        f"{at}.{TARGET}={found[TARGET]!r} is not allowed, and nothing was imported. Configs may "
        f"name {', '.join([*_ALLOWED, *_BY_USER])}; add --allow-target PACKAGE for your own."
        for at, found in targets_of(node, key)
        if not (isinstance(found[TARGET], str) and is_allowed(found[TARGET]))
    ]


def locate(target: str, functions_of: Sequence[str] = ()) -> Any:
    """Import a class that a config names.

    Args:
        target: ``module.Class``; of metrics and under a prefix that the user allowed, a function
            too.

        functions_of: Further modules or packages whose functions may be named.

    Returns:
        The class or function.

    Raises:
        ConfigError: If it is not allowed, cannot be imported, or is something else. A module's
            imports (``mla_lightning.cli.main.os.system``) and methods of classes are no targets.
    """
    if not is_allowed(target):
        raise ConfigError(forbidden({TARGET: target}, "config")[0])
    module_name, _, name = target.rpartition(".")
    try:
        module = importlib.import_module(module_name)
    except ImportError as error:
        raise ConfigError(f"{target} cannot be imported: {error}") from error
    if not hasattr(module, name):
        classes = [key for key, value in vars(module).items() if inspect.isclass(value)]
        raise ConfigError(f"{module_name} has no {name!r}.{near(name, classes)}")
    found = getattr(module, name)
    takes_functions = _is_below(target, [*_BY_USER, *_FUNCTIONS, *functions_of])
    is_right_kind = inspect.isclass(found) or (takes_functions and inspect.isfunction(found))
    if not is_right_kind or not _is_below(found.__module__, [*_ALLOWED, *_BY_USER]):
        raise ConfigError(f"{target} is not allowed: it is no class of the package that it names")
    return found


def instantiate(node: Mapping[str, Any], **supplied: Any) -> Any:
    """Build what a config node names, and everything nested in it.

    Args:
        node: A mapping with ``_target_``, as plain containers; ``_partial_: true`` builds a
            :class:`functools.partial` instead.
        **supplied: Arguments that no config can give, such as ``parts``.

    Returns:
        The object.

    Raises:
        ConfigError: If any target in the node is not allowed (nothing is imported then), or an
            argument is given twice.
    """
    if faults := forbidden(node):
        raise ConfigError("\n".join(faults))
    if TARGET not in node:
        raise ConfigError(f"No {TARGET} in {dict(node)}: nothing to build")
    return _build(node, supplied)


def _build(node: Any, supplied: Mapping[str, Any]) -> Any:
    if isinstance(node, Mapping):
        values = {k: _build(v, {}) for k, v in node.items() if k not in (TARGET, PARTIAL)}
        if TARGET not in node:
            return values
        target = locate(node[TARGET])
        if twice := sorted(values.keys() & supplied.keys()):
            raise ConfigError(
                f"{node[TARGET]}: {', '.join(twice)} is no setting, training gives it"
            )
        arguments = {**values, **supplied}
        return functools.partial(target, **arguments) if node.get(PARTIAL) else target(**arguments)
    if isinstance(node, list | tuple):
        return [_build(value, {}) for value in node]
    return node


def _is_dotted(name: str) -> bool:
    return all(part.isidentifier() for part in name.split("."))


def _is_below(name: str, prefixes: list[str]) -> bool:
    return any(name == prefix or name.startswith(f"{prefix}.") for prefix in prefixes)

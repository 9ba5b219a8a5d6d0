"""The classes that a config may name, and the only place that instantiates them."""

from __future__ import annotations

import functools
import importlib
import inspect
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mla_lightning.errors import ConfigError, near

TARGET = "_target_"
PARTIAL = "_partial_"
#: Packages whose classes configs may name. A config may come from anywhere, and both naming a
#: callable and importing a module run code. The command line extends the list, never a config.
_ALLOWED: list[str] = [
    "mla_lightning",
    "torch.optim",
    "torch.nn",
    "torchmetrics",
    "lightning.pytorch.callbacks",
    "lightning.pytorch.loggers",
]
_BY_USER: list[str] = []
#: Packages whose functions configs may name, too: they compute numbers and have no other effect.
_FUNCTIONS = ["mla_lightning.functional", "mla_lightning.metrics"]


def allow_target(prefix: str) -> None:
    """Let configs of this process name the classes and functions of one more package.

    The package may also lie in the current folder.

    Args:
        prefix: A package or module, such as ``my_methods``.

    Raises:
        ConfigError: If it is not a dotted name.

    Example:
        >>> allow_target("my methods")
        Traceback (most recent call last):
        mla_lightning.errors.ConfigError: --allow-target 'my methods' is not the name of a ...
    """
    if not _is_dotted(prefix):
        raise ConfigError(
            f"--allow-target {prefix!r} is not the name of a package, such as my_methods"
        )
    if prefix not in _BY_USER:
        _BY_USER.append(prefix)
    if (folder := str(Path.cwd())) not in sys.path:
        sys.path.append(folder)


@contextmanager
def targets_allowed(prefixes: Iterable[str] = ()) -> Iterator[None]:
    """Let configs name the classes of further packages, until the context ends.

    Packages that are allowed within the context are forbidden afterwards, too.

    Args:
        prefixes: Packages or modules; see :func:`allow_target`.

    Example:
        >>> with targets_allowed(["my_methods"]):
        ...     is_allowed("my_methods.Flooding")
        True
        >>> is_allowed("my_methods.Flooding")
        False
    """
    before = list(_BY_USER)
    try:
        for prefix in prefixes:
            allow_target(prefix)
        yield
    finally:
        _BY_USER[:] = before


def is_allowed(target: str) -> bool:
    """Return whether a config may name a target.

    Example:
        >>> is_allowed("torch.optim.SGD"), is_allowed("os.system")
        (True, False)
    """
    return _is_dotted(target) and _is_below(target, [*_ALLOWED, *_BY_USER])


def targets_of(node: Any, key: str = "") -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Find every node that names a target, at any depth, in mappings and lists.

    Args:
        node: A config or a node of it, as plain containers.
        key: The dotted key of the node.

    Yields:
        Dotted key and node, outer nodes first.

    Example:
        >>> list(targets_of({"encoders": [{"_target_": "torch.nn.ReLU"}]}))
        [('encoders.0', {'_target_': 'torch.nn.ReLU'})]
    """
    if isinstance(node, Mapping):
        if TARGET in node:
            yield key, node
        for name, value in node.items():
            yield from targets_of(value, f"{key}.{name}" if key else str(name))
    elif isinstance(node, list | tuple):
        for position, value in enumerate(node):
            yield from targets_of(value, f"{key}.{position}" if key else str(position))


def find_forbidden_targets(node: Any, key: str = "") -> list[str]:
    """Find the targets that a config must not name, without importing anything.

    Args:
        node: A config or a node of it, as plain containers.
        key: The dotted key of the node.

    Returns:
        One message per target.

    Example:
        >>> find_forbidden_targets({"data": {"_target_": "os.system"}})
        ["data._target_='os.system' is not allowed, and nothing was imported. ..."]
    """
    return [
        f"{path}.{TARGET}={named[TARGET]!r} is not allowed, and nothing was imported. Configs may "
        f"name {', '.join([*_ALLOWED, *_BY_USER])}; add --allow-target PACKAGE for your own."
        for path, named in targets_of(node, key)
        if not (isinstance(named[TARGET], str) and is_allowed(named[TARGET]))
    ]


def locate(target: str, functions_of: Sequence[str] = ()) -> Any:
    """Import a class that a config names.

    Args:
        target: ``module.Class``; for metrics, ``functional`` and packages that the user allowed,
            also ``module.function``.
        functions_of: Further modules or packages whose functions may be named.

    Returns:
        The class or function.

    Raises:
        ConfigError: If the target is not allowed, cannot be imported, or is anything else, such as
            a name that the module imports (``mla_lightning.cli.main.os.system``) or a method.

    Example:
        >>> locate("torch.nn.Linear").__name__
        'Linear'
        >>> locate("mla_lightning.methods.mla.MLAA")
        Traceback (most recent call last):
        mla_lightning.errors.ConfigError: ... has no 'MLAA'. Did you mean 'MLA'?
    """
    if not is_allowed(target):
        raise ConfigError(find_forbidden_targets({TARGET: target}, "config")[0])
    module_name, _, name = target.rpartition(".")
    try:
        module = importlib.import_module(module_name)
    except ImportError as error:
        raise ConfigError(f"{target} cannot be imported: {error}") from error
    except (Exception, SystemExit) as error:  # raised by the code of the module
        kind = type(error).__name__
        raise ConfigError(f"{target} cannot be imported: {kind}: {error}") from error
    if not hasattr(module, name):
        classes = [key for key, value in vars(module).items() if inspect.isclass(value)]
        raise ConfigError(f"{module_name} has no {name!r}.{near(name, classes)}")
    value = getattr(module, name)
    may_be = may_be_function(target, functions_of)
    has_right_type = inspect.isclass(value) or (may_be and inspect.isfunction(value))
    if not has_right_type or not _is_below(value.__module__, [*_ALLOWED, *_BY_USER]):
        raise ConfigError(
            f"{target} is not allowed: it is not a class of the package that it names"
        )
    return value


def may_be_function(target: str, functions_of: Sequence[str] = ()) -> bool:
    """Return whether a target may be a function; any target may be a class.

    Args:
        target: The dotted name.
        functions_of: Further modules or packages whose functions may be named.

    Example:
        >>> may_be_function("mla_lightning.metrics.ece"), may_be_function("torch.nn.init.ones_")
        (True, False)
    """
    return _is_below(target, [*_BY_USER, *_FUNCTIONS, *functions_of])


def instantiate(node: Mapping[str, Any], **supplied: Any) -> Any:
    """Instantiate the class that a config node names, and all nodes nested in it.

    Args:
        node: A mapping with ``_target_``, as plain containers; with ``_partial_: true`` the result
            is a :class:`functools.partial`.
        **supplied: Arguments that a config cannot hold, such as ``encoders``.

    Returns:
        The object.

    Raises:
        ConfigError: If any target in the node is not allowed (nothing is imported then), or the
            node holds an argument that is also supplied.

    Example:
        >>> node = {"_target_": "torch.nn.Linear", "in_features": 2, "out_features": 3}
        >>> instantiate(node)
        Linear(in_features=2, out_features=3, bias=True)
        >>> instantiate({**node, "_partial_": True})(bias=False)
        Linear(in_features=2, out_features=3, bias=False)
    """
    if problems := find_forbidden_targets(node):
        raise ConfigError("\n".join(problems))
    if TARGET not in node:
        raise ConfigError(f"{dict(node)} has no {TARGET}, so there is nothing to instantiate")
    return _build(node, supplied)


def _build(node: Any, supplied: Mapping[str, Any]) -> Any:
    if isinstance(node, Mapping):
        values = {k: _build(v, {}) for k, v in node.items() if k not in (TARGET, PARTIAL)}
        if TARGET not in node:
            return values
        target = locate(node[TARGET])
        if twice := sorted(values.keys() & supplied.keys()):
            raise ConfigError(
                f"{node[TARGET]}: {', '.join(twice)} is not a setting: training supplies it"
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

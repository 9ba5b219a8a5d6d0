"""Public names of packages, imported when they are first used."""

from __future__ import annotations

import importlib
import sys
from typing import Any

from mla_lightning.identity.sources import find_source


def import_public_name(package: str, name: str) -> Any:
    """Import a name that a package lists in a block of imports that is not run.

    The block begins with ``if TYPE_CHECKING or False:``. Type checkers read it, and so does the
    record of a run's code, which follows a name to the module that defines it.

    Args:
        package: The package.
        name: The name.

    Returns:
        Its value, which the package holds from then on.

    Raises:
        AttributeError: If the package does not list it.

    Example:
        >>> import_public_name("mla_lightning.functional", "fuse_logits").__name__
        'fuse_logits'
    """
    source = find_source(package)
    dotted = source.names.get(name) if source is not None else None
    if dotted is None or name.startswith("_"):
        if not name.startswith("_") and find_source(f"{package}.{name}") is not None:
            return importlib.import_module(f"{package}.{name}")
        raise AttributeError(f"module {package!r} has no attribute {name!r}")
    module = importlib.import_module(dotted.rpartition(".")[0])
    value = getattr(module, name)
    setattr(sys.modules[package], name, value)
    return value

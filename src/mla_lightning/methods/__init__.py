"""Training rules, one per file: what happens to a batch.

``mla_lightning.methods.MLA`` is the class ``MLA`` of the file ``mla.py``; a file is imported when
its class is first used.

Example:
    >>> from mla_lightning import methods
    >>> methods.OGMGE.__module__
    'mla_lightning.methods.ogm_ge'
"""

from __future__ import annotations

import importlib
import pkgutil
from typing import Any


def _files() -> dict[str, str]:
    """Return the file name of each method by its class name in lower case."""
    return {m.name.replace("_", ""): m.name for m in pkgutil.iter_modules(__path__) if not m.ispkg}


def __getattr__(name: str) -> Any:
    """Import a method's class when it is first used."""
    file = None if name.startswith("_") else _files().get(name.lower())
    found = file and getattr(importlib.import_module(f"{__name__}.{file}"), name, None)
    if not found:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return found


def __dir__() -> list[str]:
    """List the classes of the methods."""
    modules = {key: importlib.import_module(f"{__name__}.{f}") for key, f in _files().items()}
    return sorted(n for key, m in modules.items() for n in vars(m) if n.lower() == key)

"""The code of a job, and whether it changed since a run."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path

from mla_lightning.identity.sources import Source, find_definition, find_source

PACKAGE = "mla_lightning"
#: The module that runs every job.
TRAIN = f"{PACKAGE}.run.train"
#: Modules that cannot change a number: their effect is in the config, or they only read and write.
NOT_TRACED = (
    *("config", "errors", "identity", "launchers", "loggers", "run.record", "run_folder"),
    "run_lock",
)
#: Libraries whose versions are recorded instead of their code.
LIBRARIES = ("lightning", "torch", "torchmetrics")


@dataclass(frozen=True)
class Code:
    """The modules that a job imports, each with a hash.

    Attributes:
        modules: Dotted name of a module -> hash of its normalised source.

    Example:
        >>> Code({"my.rule": "1a"}).hash == Code({"my.rule": "1b"}).hash
        False
    """

    modules: Mapping[str, str]

    @cached_property
    def hash(self) -> str:
        """One hash of all modules, SHA-256 as hex."""
        text = json.dumps(dict(self.modules), sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()


@cache
def code_of(targets: frozenset[str]) -> Code:
    """Collect the code of a job: the modules of its classes, and all modules that these import.

    Imports are followed within this package and within the user's own code. A name that a package
    only re-exports is followed to the module that defines it: a job depends on the functions that
    it uses and not on all of ``mla_lightning.functional``.

    Args:
        targets: Dotted names in the config, such as ``mla_lightning.methods.mla.MLA``.

    Returns:
        The code.

    Example:
        >>> code = code_of(frozenset({"mla_lightning.methods.mla.MLA"}))
        >>> "mla_lightning.functional.projection" in code.modules
        True
        >>> "mla_lightning.methods.tate" in code.modules
        False
    """
    traced = [target for target in targets if target.partition(".")[0] not in LIBRARIES]
    folders = {folder for target in traced if (folder := _user_folder_of(target)) is not None}
    waiting = [item for name in (TRAIN, *traced) if (item := find_definition(name)) is not None]
    hashes: dict[str, str] = {}
    while waiting:
        item = waiting.pop()
        if item.module not in hashes and _is_traced(item, folders):
            hashes[item.module] = item.hash
            waiting += _imported(item)
    return Code(dict(sorted(hashes.items())))


def changed_modules(recorded: Mapping[str, str]) -> tuple[str, ...]:
    """Compare the code of a run with the current code.

    The recorded modules suffice: a module that the run would import now but did not then is
    imported by a module that changed.

    Args:
        recorded: Module -> hash, as the run recorded it.

    Returns:
        The modules that differ or no longer exist. Modules of a package that is not installed,
        such as a user's own from another machine, are ignored.

    Example:
        >>> changed_modules({"mla_lightning.errors": "another hash", "not_installed.rule": "1a"})
        ('mla_lightning.errors',)
    """
    return tuple(
        module
        for module, value in recorded.items()
        if find_source(module.partition(".")[0]) is not None and _hash_of(module) != value
    )


def file_of(module: str) -> str:
    """Return the path of a module's file, relative to this package or to the user's folder.

    Example:
        >>> file_of("mla_lightning.methods.mla"), file_of("my_methods.mine")
        ('methods/mla.py', 'my_methods/mine.py')
    """
    return module.removeprefix(f"{PACKAGE}.").replace(".", "/") + ".py"


def _hash_of(module: str) -> str:
    source = find_source(module)
    return "" if source is None else source.hash


def _imported(item: Source) -> Iterable[Source]:
    for name in item.names.values():
        if (definition := find_definition(name)) is not None:
            yield definition
    parent = item.module
    while not parent.startswith(f"{PACKAGE}.") and (parent := parent.rpartition(".")[0]):
        source = find_source(parent)  # packages around a user's module run when it is imported
        if source is not None and source.has_code:
            yield source


def _user_folder_of(target: str) -> Path | None:
    """Return the folder whose sources are the user's own; None for a target of this package."""
    source = find_definition(target)
    if source is None or target.partition(".")[0] == PACKAGE:
        return None
    depth = source.module.count(".") + source.is_package
    folder = source.path.parents[depth]  # the one on the import path
    root = source.module.partition(".")[0]
    return folder / root if _is_installed(folder) and depth else folder


def _is_traced(item: Source, folders: set[Path]) -> bool:
    root, _, rest = item.module.partition(".")
    if root == PACKAGE:
        return not any(rest == name or rest.startswith(f"{name}.") for name in NOT_TRACED)
    around = [folder for folder in folders if item.path.is_relative_to(folder)]
    return any(_is_installed(folder) == _is_installed(item.path) for folder in around)


def _is_installed(path: Path) -> bool:
    return any(part in ("site-packages", "dist-packages") for part in path.parts)

"""The code of a job, and whether it changed since a run."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache, cached_property

from mla_lightning.identity.sources import (
    Source,
    find_definition,
    find_source,
    forget_sources,
    import_places,
    is_installed,
    resolve,
)

PACKAGE = "mla_lightning"
#: The module that runs every job.
TRAIN = f"{PACKAGE}.run.train"
#: Modules that cannot change a number: their effect is in the config, or they only read and write.
NOT_TRACED = (
    "config",
    "errors",
    "identity",
    "launchers",
    "loggers",
    "paths",
    "run.record",
    "run_folder",
)
#: Begins what is recorded of a target that its package imports from another module.
ALIAS = "-> "
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
    roots = frozenset(target.partition(".")[0] for target in traced)
    waiting = [item for name in (TRAIN, *traced) if (item := find_definition(name)) is not None]
    hashes: dict[str, str] = {}
    while waiting:
        item = waiting.pop()
        if item.module not in hashes and _is_traced(item.module, roots):
            hashes[item.module] = item.hash
            waiting += [used for name in _imports(item) if (used := _definition(name, roots))]
    for module in list(hashes):  # the packages around a user's module run when it is imported
        for package in _packages_around(module):
            hashes.setdefault(package.module, package.effects_hash)
    for target in traced:
        name, _ = resolve(target)
        if name != target and not target.startswith(f"{PACKAGE}."):
            hashes[target] = f"{ALIAS}{name}"
    return Code(dict(sorted(hashes.items())))


def forget_code() -> None:
    """Read all sources again when the code of a job is next collected."""
    forget_sources()
    code_of.cache_clear()


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
        if import_places(module.partition(".")[0]) and not _is_current(module, value)
    )


def file_of(module: str) -> str:
    """Return the path of a module's file, relative to this package or to the user's folder.

    Example:
        >>> file_of("mla_lightning.methods.mla"), file_of("my_methods.mine")
        ('methods/mla.py', 'my_methods/mine.py')
    """
    return module.removeprefix(f"{PACKAGE}.").replace(".", "/") + ".py"


def _is_current(module: str, value: str) -> bool:
    """Return whether the current code may have recorded a value of a module, or of a target."""
    source = find_source(module)
    if source is None:
        return value == f"{ALIAS}{resolve(module)[0]}"
    return value == source.hash or value == source.effects_hash


def _imports(item: Source) -> list[str]:
    """Return the dotted names whose definitions a module uses."""
    names = set(item.imports)
    for package in _packages_around(item.module):  # `from . import patch` runs patch
        names |= {name for name in package.imports if package.has_code or find_source(name)}
    return sorted(names)


def _definition(name: str, roots: frozenset[str]) -> Source | None:
    return find_definition(name) if _is_traced(name, roots) else None


def _packages_around(module: str) -> Iterable[Source]:
    """Return the packages that a user's module is in; those of this package have no effects."""
    names = module.split(".")
    if names[0] != PACKAGE:
        for depth in range(1, len(names)):
            if (source := find_source(".".join(names[:depth]))) is not None:
                yield source


def _is_traced(name: str, roots: frozenset[str]) -> bool:
    """Return whether a name counts: of this package, or the user's own, wherever it is.

    Installed packages count only if the config names one of their classes.
    """
    root, _, rest = name.partition(".")
    if root == PACKAGE:
        return not any(rest == part or rest.startswith(f"{part}.") for part in NOT_TRACED)
    return root not in LIBRARIES and (root in roots or not is_installed(root))

"""The code that a job reaches, and whether it changed since a run was made."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path

from mla_lightning.identity.sources import Source, find_definition, find_source

PACKAGE = "mla_lightning"
#: Every job is run by this module.
TRAIN = f"{PACKAGE}.run.train"
#: What cannot change a number: its decisions are in the config, or it only writes and reads.
NOT_NUMBERS = (
    *("config", "errors", "identity", "launchers", "loggers", "run.record", "run_folder"),
    "run_lock",
)
#: Packages that configs may name classes of, whose versions are recorded instead.
LIBRARIES = ("lightning", "torch", "torchmetrics")


@dataclass(frozen=True)
class Code:
    """The code that a job reaches.

    Attributes:
        modules: Dotted name of a module -> hash of its normalised source.
    """

    modules: Mapping[str, str]

    @cached_property
    def hash(self) -> str:
        """One hash of all modules, SHA-256 as hex."""
        text = json.dumps(dict(self.modules), sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()


@cache
def code_of(targets: frozenset[str]) -> Code:
    """Find the code that a job reaches: the modules of its classes, and all that these import.

    Imports are followed within this package and within the user's own code. A name that a package
    hands on is followed to the module that defines it, so that a job depends on the functions that
    it uses and not on all of ``mla_lightning.functional``.

    Args:
        targets: What the config names, such as ``mla_lightning.methods.mla.MLA``.

    Returns:
        The code.

    Example:
        >>> code = code_of(frozenset({"mla_lightning.methods.mla.MLA"}))
        >>> "mla_lightning.functional.projection" in code.modules
        True
        >>> "mla_lightning.methods.tate" in code.modules
        False
    """
    own = [target for target in targets if target.partition(".")[0] not in LIBRARIES]
    folders = {folder for target in own if (folder := _folder_of(target)) is not None}
    waiting = [item for name in (TRAIN, *own) if (item := find_definition(name)) is not None]
    reached: dict[str, str] = {}
    while waiting:
        item = waiting.pop()
        if item.module not in reached and _is_traced(item, folders):
            reached[item.module] = item.hash
            waiting += _imported(item)
    return Code(dict(sorted(reached.items())))


def changed_modules(recorded: Mapping[str, str]) -> tuple[str, ...]:
    """Compare the code that made a run with the code that is there now.

    Whatever a run would reach anew is imported by a module that changed, so the recorded modules
    say it all.

    Args:
        recorded: Module -> hash, as the run recorded it.

    Returns:
        The modules that differ or are gone. Modules of a package that cannot be found here, such
        as a user's own that was left behind, are passed over.
    """
    return tuple(
        module
        for module, value in recorded.items()
        if find_source(module.partition(".")[0]) is not None and _hash_of(module) != value
    )


def file_of(module: str) -> str:
    """Return the file of a module as people know it.

    Example:
        >>> file_of("mla_lightning.methods.mla"), file_of("my_methods.mine")
        ('methods/mla.py', 'my_methods/mine.py')
    """
    return module.removeprefix(f"{PACKAGE}.").replace(".", "/") + ".py"


def _hash_of(module: str) -> str:
    found = find_source(module)
    return "" if found is None else found.hash


def _imported(item: Source) -> Iterable[Source]:
    for name in item.names.values():
        if (found := find_definition(name)) is not None:
            yield found
    parent = item.module
    while not parent.startswith(f"{PACKAGE}.") and (parent := parent.rpartition(".")[0]):
        found = find_source(parent)  # packages around a user's module run when it is imported
        if found is not None and found.has_code:
            yield found


def _folder_of(target: str) -> Path | None:
    """Return the folder in which sources are the user's own; None for this package."""
    found = find_definition(target)
    if found is None or target.partition(".")[0] == PACKAGE:
        return None
    depth = found.module.count(".") + found.is_package
    folder = found.path.parents[depth]  # the one that is on the search path
    root = found.module.partition(".")[0]
    return folder / root if _is_installed(folder) and depth else folder


def _is_traced(item: Source, folders: set[Path]) -> bool:
    root, _, rest = item.module.partition(".")
    if root == PACKAGE:
        return not any(rest == name or rest.startswith(f"{name}.") for name in NOT_NUMBERS)
    inside = [folder for folder in folders if item.path.is_relative_to(folder)]
    return any(_is_installed(folder) == _is_installed(item.path) for folder in inside)


def _is_installed(path: Path) -> bool:
    return any(part in ("site-packages", "dist-packages") for part in path.parts)

"""List of the data sets that can be prepared, read without importing their modules."""

from __future__ import annotations

import ast
import contextlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class CatalogueEntry:
    """A data set that can be prepared, as its module describes it.

    Attributes:
        name: Its name in commands.
        module: The module.
        class_name: Its class; empty for modules with a function ``build``.
        summary: First line of its docstring.
        how_to_get: Where its files come from.
    """

    name: str
    module: str
    class_name: str
    summary: str
    how_to_get: str


def read_catalogue() -> dict[str, CatalogueEntry]:
    """List the data sets of the package, without importing their modules.

    A module of ``data/sources/`` defines a data set either by a class with a ``name`` and
    ``how_to_get``, or, if the package ships the data and only rebuilds them, by a function
    ``build``.

    Returns:
        Name -> entry, sorted.
    """
    import mla_lightning.data.sources

    entries = {}
    for folder in mla_lightning.data.sources.__path__:
        for path in sorted(Path(folder).glob("*.py")):
            tree = ast.parse(path.read_text(encoding="utf-8"))
            module = f"mla_lightning.data.sources.{path.stem}"
            for node in tree.body:
                if isinstance(node, ast.FunctionDef) and node.name == "build":
                    how = f"In the package; `mla data prepare {path.stem}` rebuilds it."
                    summary = _first_line(ast.get_docstring(tree))
                    entries[path.stem] = CatalogueEntry(path.stem, module, "", summary, how)
                if not isinstance(node, ast.ClassDef):
                    continue
                values = _literals(node)
                name, how_to_get = values.get("name"), values.get("how_to_get")
                if isinstance(name, str) and name and how_to_get is not None:
                    summary = _first_line(ast.get_docstring(node) or ast.get_docstring(tree))
                    how = " ".join(str(how_to_get).split())
                    entries[name] = CatalogueEntry(name, module, node.name, summary, how)
    return dict(sorted(entries.items()))


def _first_line(text: str | None) -> str:
    return (text or "").strip().partition("\n")[0]


def _literals(node: ast.ClassDef) -> dict[str, Any]:
    """Return the class attributes whose values are literals."""
    values = {}
    for statement in node.body:
        targets: Sequence[ast.expr] = []
        if isinstance(statement, ast.Assign):
            targets = statement.targets
        elif isinstance(statement, ast.AnnAssign):
            targets = [statement.target]
        value: ast.expr | None = getattr(statement, "value", None)
        for target in targets:
            if isinstance(target, ast.Name) and value is not None:
                with contextlib.suppress(ValueError):
                    values[target.id] = ast.literal_eval(value)
    return values

"""Which data sets can be prepared, without importing any of them."""

from __future__ import annotations

import ast
import contextlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Known:
    """A data set that can be prepared, as its module tells without being imported.

    Attributes:
        name: Its name in commands.
        module: The module.
        class_name: Its class; empty for modules with a function ``build``.
        summary: What it is, in a line.
        how_to_get: Where its files come from.
    """

    name: str
    module: str
    class_name: str
    summary: str
    how_to_get: str


def known_sets() -> dict[str, Known]:
    """Find the data sets of the package, without importing their modules.

    Returns:
        Name -> data set, sorted.
    """
    import mla_lightning.data

    found = {}
    for place in mla_lightning.data.__path__:
        for path in sorted(Path(place).glob("*.py")):
            tree = ast.parse(path.read_text(encoding="utf-8"))
            module = f"mla_lightning.data.{path.stem}"
            if path.stem.endswith("_build"):
                name = path.stem.removesuffix("_build")
                data_set = ast.parse(path.with_name(f"{name}.py").read_text(encoding="utf-8"))
                summary = _first_line(ast.get_docstring(data_set))
                how = f"In the package; `mla data prepare {name}` rebuilds it from its originals."
                found[name] = Known(name, module, "", summary, how)
            for node in tree.body:
                if not isinstance(node, ast.ClassDef):
                    continue
                if not any(_name_of(base).endswith("Source") for base in node.bases):
                    continue
                values = _literals(node)
                own_name = values.get("name")
                if isinstance(own_name, str):
                    summary = _first_line(ast.get_docstring(node) or ast.get_docstring(tree))
                    how = " ".join(str(values.get("how_to_get", "")).split())
                    found[own_name] = Known(own_name, module, node.name, summary, how)
    return dict(sorted(found.items()))


def _name_of(node: ast.expr) -> str:
    return node.id if isinstance(node, ast.Name) else getattr(node, "attr", "")


def _first_line(text: str | None) -> str:
    return (text or "").strip().partition("\n")[0]


def _literals(node: ast.ClassDef) -> dict[str, Any]:
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

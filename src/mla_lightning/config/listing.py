"""What can be chosen, told from YAML and source text: nothing heavy is imported."""

from __future__ import annotations

import ast
import functools
import importlib.util
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mla_lightning.config.search import options, search_path
from mla_lightning.config.targets import TARGET


@dataclass(frozen=True)
class Entry:
    """One option of a group.

    Attributes:
        name: How it is chosen, such as ``ogm_ge``.
        summary: The first sentence of its YAML's opening comment.
        path: Its YAML.
        target: The class that it names, empty if it names none.
        docstring: That class's first docstring line.
        reference: Venue, year and address, empty if the class names no publication.
        num_jobs: How many jobs its grid has, 1 without one.
    """

    name: str
    summary: str
    path: Path
    target: str = ""
    docstring: str = ""
    reference: str = ""
    num_jobs: int = 1


def entries(group: str, config_dir: Path | None = None) -> list[Entry]:
    """List a group's options.

    Args:
        group: Such as ``method``.
        config_dir: A user's own folder of groups, None for none.

    Returns:
        The options by name.
    """
    import yaml

    found = []
    known = options(search_path(config_dir), group)
    for name, path in known.items():
        text = path.read_text(encoding="utf-8")
        target = _target_of(group, yaml.safe_load(text) or {}, known)
        grid = (yaml.safe_load(text) or {}).get("grid") or {}
        found.append(
            Entry(
                name=name,
                summary=_summary(text),
                path=path,
                target=target,
                docstring=docstring_of(target),
                reference=reference_of(target),
                num_jobs=math.prod(len(values) for values in grid.values()),
            )
        )
    return found


def docstring_of(target: str) -> str:
    """Read a class's first docstring line, without formulas, from its source; or empty."""
    found = class_of(target)
    line = (ast.get_docstring(found[0]) or "").partition("\n")[0] if found else ""
    return re.sub(r":? :math:`[^`]*`", "", line)


def reference_of(target: str) -> str:
    """Read where a class was published, from its source text or a base's."""
    found = class_of(target)
    if found is None:
        return ""
    node, imports, module = found
    for statement in node.body:
        match statement:
            case ast.Assign(targets=[ast.Name(id="reference")], value=ast.Call() as call):
                given = dict(zip(("title", "venue", "year", "url"), call.args, strict=False))
                given |= {word.arg: word.value for word in call.keywords if word.arg}
                parts = {key: ast.literal_eval(value) for key, value in given.items()}
                return f"{parts['venue']} {parts['year']}, {parts['url']}"
    for base in node.bases:
        if isinstance(base, ast.Name):
            home = imports.get(base.id, f"{module}.{base.id}")
            if reference := reference_of(home):
                return reference
    return ""


@functools.cache
def class_of(target: str) -> tuple[ast.ClassDef, dict[str, str], str] | None:
    """Find a class in its source text, with what its module imports by name."""
    module, _, name = target.rpartition(".")
    path = _source_of(module)
    if path is None:
        return None
    tree = ast.parse(path.read_text(encoding="utf-8"))
    imports = {
        alias.asname or alias.name: f"{statement.module}.{alias.name}"
        for statement in tree.body
        if isinstance(statement, ast.ImportFrom)
        for alias in statement.names
    }
    for statement in tree.body:
        if isinstance(statement, ast.ClassDef) and statement.name == name:
            return statement, imports, module
    return None


def _source_of(module: str) -> Path | None:
    """Find a module's file without importing its package."""
    root, *inner = module.split(".")
    if not root:
        return None
    spec = importlib.util.find_spec(root)
    if spec is None or spec.origin is None:
        return None
    path = Path(spec.origin)
    if inner:
        path = path.parent.joinpath(*inner)
        path = (
            path.with_suffix(".py") if path.with_suffix(".py").is_file() else path / "__init__.py"
        )
    return path if path.suffix == ".py" and path.is_file() else None


def _target_of(group: str, content: Mapping[str, Any], known: Mapping[str, Path]) -> str:
    """Find the class that a YAML names itself, below its group's key, or through its parent."""
    import yaml

    for node in (content, content.get(group)):
        if isinstance(node, Mapping) and TARGET in node:
            return str(node[TARGET])
    for default in content.get("defaults") or []:
        if isinstance(default, str) and default in known:
            parent = yaml.safe_load(known[default].read_text(encoding="utf-8"))
            return _target_of(group, parent or {}, known)
    return ""


def summary_of(path: Path) -> str:
    """Return the first sentence of a YAML's opening comment."""
    return _summary(path.read_text(encoding="utf-8"))


def _summary(text: str) -> str:
    """Take the first sentence of the opening comment, without commands and ``# @package``."""
    lines = []
    for line in text.splitlines():
        if not line.startswith("#"):
            break
        if not line.startswith(("# @package", "#   ")):
            lines.append(line.lstrip("# ").rstrip())
    joined = re.sub(r":\s+mla .*", ".", " ".join(lines))
    return re.split(r"(?<=[.?!])\s", joined, maxsplit=1)[0]

"""Python sources as data: the file of a module, its imports, and a hash of its syntax."""

from __future__ import annotations

import ast
import hashlib
import importlib.util
import pkgutil
from collections.abc import Iterator
from functools import cache, cached_property
from pathlib import Path
from typing import Any


class Source:
    """The source of one module, parsed when it is first used.

    Attributes:
        module: Its dotted name.
        path: Its file.

    Example:
        >>> source = find_source("mla_lightning.errors")
        >>> source.names["difflib"], "ConfigError" in source.defined
        ('difflib', True)
    """

    def __init__(self, module: str, path: Path) -> None:
        """Prepare to read a source; see :func:`find_source`.

        Args:
            module: Its dotted name.
            path: Its file.
        """
        self.module, self.path = module, path

    @property
    def is_package(self) -> bool:
        """Whether the module is a package's ``__init__``."""
        return self.path.name == "__init__.py"

    @cached_property
    def tree(self) -> ast.Module:
        """The syntax tree; empty if it cannot be parsed."""
        try:
            return ast.parse(self.path.read_bytes())
        except (OSError, SyntaxError, ValueError):
            return ast.Module(body=[], type_ignores=[])

    @cached_property
    def hash(self) -> str:
        """The first 16 hex digits of SHA-256 of the normalised syntax, see :func:`normalise`."""
        return hashlib.sha256(repr(normalise(self.tree)).encode()).hexdigest()[:16]

    @cached_property
    def names(self) -> dict[str, str]:
        """The imports outside of ``TYPE_CHECKING``: local name -> dotted name."""
        return dict(self._imports(self.tree.body))

    @cached_property
    def defined(self) -> set[str]:
        """The names of the functions, classes and values defined at the module's top level."""
        names = set()
        for node in self.tree.body:
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                names.add(node.name)
            elif isinstance(node, ast.Assign):
                names |= {target.id for target in node.targets if isinstance(target, ast.Name)}
        return names

    @cached_property
    def has_code(self) -> bool:
        """Whether the module has statements besides imports; most packages only re-export names."""
        for node in without_docstring(self.tree.body):
            match node:
                case ast.Import() | ast.ImportFrom() | ast.Pass():
                    continue
                case ast.Assign(targets=[ast.Name(id=name)]) if name.startswith("__"):
                    continue
            return True
        return False

    def _imports(self, body: list[Any]) -> Iterator[tuple[str, str]]:
        for node in body:
            if isinstance(node, ast.Import):
                for alias in node.names:
                    yield alias.asname or alias.name, alias.name
            elif isinstance(node, ast.ImportFrom):
                base = self._absolute(node)
                for alias in node.names:
                    name = base if alias.name == "*" else f"{base}.{alias.name}"
                    yield alias.asname or (alias.name if alias.name != "*" else name), name
            elif not (isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test)):
                for field in ("body", "orelse", "finalbody", "handlers", "cases"):
                    yield from self._imports(getattr(node, field, []))

    def _absolute(self, node: ast.ImportFrom) -> str:
        if not node.level:
            return node.module or ""
        parts = self.module.split(".")
        base = parts[: len(parts) - node.level + self.is_package]
        return ".".join([*base, *([node.module] if node.module else [])])


@cache
def find_source(module: str) -> Source | None:
    """Find a module's source without importing its package.

    Args:
        module: Its dotted name.

    Returns:
        The source; None if the module does not exist or is no Python source.

    Example:
        >>> find_source("mla_lightning.errors").path.name
        'errors.py'
        >>> find_source("mla_lightning.no_such_module") is None
        True
    """
    root, *inner = module.split(".")
    try:
        spec = importlib.util.find_spec(root) if root else None
    except (ImportError, ValueError):
        spec = None
    if spec is None:
        return None
    places = [Path(spec.origin)] if spec.origin and not inner else []
    for folder in spec.submodule_search_locations or () if inner else ():
        path = Path(folder, *inner)
        places += [path.with_name(f"{path.name}.py"), path / "__init__.py"]
    for path in places:
        if path.suffix == ".py" and path.is_file():
            return Source(module, path)
    return None


def find_definition(name: str) -> Source | None:
    """Find the module that defines a dotted name.

    Args:
        name: A module, or a function, class or value of one. A name that a package only re-exports
            is followed to the module that defines it, also if the package's ``__getattr__`` finds
            the module when the name is first used.

    Returns:
        The module's source; None if there is none, or for a package that only re-exports names.

    Example:
        >>> find_definition("mla_lightning.functional.project_gradient").module
        'mla_lightning.functional.projection'
        >>> find_definition("mla_lightning.methods.QMF").module
        'mla_lightning.methods.qmf'
    """
    module = find_source(name)
    if module is not None:
        return module if module.has_code or not module.is_package else None
    parent_name, _, leaf = name.rpartition(".")
    parent = find_source(parent_name) if parent_name else None
    if parent is None:
        return None
    if leaf in parent.names and leaf not in parent.defined:
        return find_definition(parent.names[leaf])
    if "__getattr__" in parent.defined and leaf not in parent.defined:
        return next((item for item in find_modules(parent_name) if leaf in item.defined), parent)
    return parent


def find_modules(package: str) -> Iterator[Source]:
    """Find the modules in a package's folder, without importing them.

    Args:
        package: Its dotted name.

    Yields:
        Their sources, sorted by name; the source of a package in it is its ``__init__``.

    Example:
        >>> [item.module for item in find_modules("mla_lightning.identity")]
        ['mla_lightning.identity.code', 'mla_lightning.identity.sources']
    """
    parent = find_source(package)
    for info in pkgutil.iter_modules([str(parent.path.parent)] if parent is not None else []):
        item = find_source(f"{package}.{info.name}")
        if item is not None:
            yield item


def normalise(node: ast.AST) -> Any:
    r"""Convert the syntax of a source to nested tuples that do not depend on its formatting.

    Docstrings, comments, positions, and the order of imports at the top level are left out; so are
    empty fields, which differ between versions of Python.

    Args:
        node: A module, or any node of one.

    Example:
        >>> documented = "def f(x):  # twice\n    '''Double.'''\n    return 2*x"
        >>> normalise(ast.parse(documented)) == normalise(ast.parse("def f(x): return 2 * x"))
        True
        >>> len({normalise(ast.parse(source)) for source in ("x = -y", "x = +y")})
        2
    """
    values: list[Any] = [type(node).__name__]
    for name, value in ast.iter_fields(node):
        if name in ("ctx", "kind", "type_comment", "type_ignores") or value is None or value == []:
            continue
        if name == "body" and isinstance(value, list):
            value = without_docstring(value)
            if isinstance(node, ast.Module):
                value = _imports_sorted(value)
        if isinstance(value, list):
            items = tuple(normalise(v) if isinstance(v, ast.AST) else repr(v) for v in value)
            values.append((name, items))
        else:
            values.append((name, normalise(value) if isinstance(value, ast.AST) else repr(value)))
    return tuple(values)


def without_docstring(body: list[Any]) -> list[Any]:
    """Return the statements after a docstring; a body that has no other statement becomes ``pass``.

    Example:
        >>> body = ast.parse("'Half.'; x = 0.5").body
        >>> [ast.unparse(statement) for statement in without_docstring(body)]
        ['x = 0.5']
    """
    match body:
        case [ast.Expr(value=ast.Constant(value=str())), *rest]:
            return rest or [ast.Pass()]
    return body


def _imports_sorted(body: list[Any]) -> list[Any]:
    single: list[ast.AST] = []
    rest = []
    for item in body:
        if isinstance(item, ast.Import):
            single += [ast.Import(names=[alias]) for alias in item.names]
        elif isinstance(item, ast.ImportFrom):
            single += [
                ast.ImportFrom(module=item.module, names=[alias], level=item.level)
                for alias in item.names
            ]
        else:
            rest.append(item)
    return [*sorted(single, key=ast.dump), *rest]

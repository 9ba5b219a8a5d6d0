"""Python sources as data: the file of a module, its imports, and a hash of its syntax."""

from __future__ import annotations

import ast
import hashlib
import importlib.util
import pkgutil
import sys
from collections.abc import Iterator
from functools import cache, cached_property, lru_cache
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
        """Return whether the module is a package's ``__init__``."""
        return self.path.name == "__init__.py"

    @cached_property
    def _syntax(self) -> _Syntax:
        try:
            text = self.path.read_bytes()
        except OSError:
            text = b""
        return _parse(text, self.module, self.is_package)

    @property
    def tree(self) -> ast.Module:
        """The syntax tree; empty if it cannot be parsed."""
        return self._syntax.tree

    @cached_property
    def hash(self) -> str:
        """The first 16 hex digits of SHA-256 of the normalised syntax and of the imported names.

        For each imported name, the module that defines it counts, too: a package that re-exports
        another function under the same name changes what the importing module does.
        """
        names = sorted(name for name in self.imports if not is_installed(name.partition(".")[0]))
        return _digest(f"({self._syntax.normalised}, {[resolve(name) for name in names]!r})")

    @cached_property
    def effects_hash(self) -> str:
        """The same without imported names, for a package that a module within it imports first."""
        return _digest(self._syntax.effects)

    @property
    def imports(self) -> frozenset[str]:
        """The dotted names of all imports outside of ``TYPE_CHECKING``."""
        return self._syntax.imports

    @property
    def names(self) -> dict[str, str]:
        """The imports outside of ``TYPE_CHECKING``: local name -> dotted name."""
        return self._syntax.names

    @property
    def defined(self) -> set[str]:
        """The names of the functions, classes and values defined at the module's top level."""
        return self._syntax.defined

    @property
    def has_code(self) -> bool:
        """Return whether it has statements besides imports; most packages only re-export names."""
        return self._syntax.has_code


class _Syntax:
    """Everything that follows from the text of a module alone, each computed when first used."""

    def __init__(self, text: bytes, module: str, is_package: bool) -> None:
        self.module, self.is_package = module, is_package
        try:
            self.tree = ast.parse(text)
        except (SyntaxError, ValueError):
            self.tree = ast.Module(body=[], type_ignores=[])

    @cached_property
    def normalised(self) -> str:
        return repr(normalise(self.tree))

    @cached_property
    def effects(self) -> str:
        body = [node for node in self.tree.body if not isinstance(node, ast.ImportFrom)]
        return repr(normalise(ast.Module(body=body, type_ignores=[])))

    @cached_property
    def imports(self) -> frozenset[str]:
        return frozenset(name for _, name in self._imports(self.tree.body))

    @cached_property
    def names(self) -> dict[str, str]:
        return dict(self._imports(self.tree.body))

    @cached_property
    def defined(self) -> set[str]:
        names = set()
        for node in self.tree.body:
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                names.add(node.name)
            elif isinstance(node, ast.Assign):
                names |= {target.id for target in node.targets if isinstance(target, ast.Name)}
        return names

    @cached_property
    def has_code(self) -> bool:
        for node in without_texts(self.tree.body):
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
            elif isinstance(node, ast.If) and is_type_checking(node.test):
                yield from self._imports(node.orelse)
            else:
                for field in ("body", "orelse", "finalbody", "handlers", "cases"):
                    yield from self._imports(getattr(node, field, []))

    def _absolute(self, node: ast.ImportFrom) -> str:
        if not node.level:
            return node.module or ""
        parts = self.module.split(".")
        base = parts[: len(parts) - node.level + self.is_package]
        return ".".join([*base, *([node.module] if node.module else [])])


@lru_cache(maxsize=1024)
def _parse(text: bytes, module: str, is_package: bool) -> _Syntax:
    """Parse a module once per text: files are read again for each command, and seldom differ."""
    return _Syntax(text, module, is_package)


def is_type_checking(test: ast.expr) -> bool:
    """Return whether a condition holds for type checkers alone."""
    return (isinstance(test, ast.Name) and test.id == "TYPE_CHECKING") or (
        isinstance(test, ast.Attribute) and test.attr == "TYPE_CHECKING"
    )


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]


@cache
def import_places(root: str) -> tuple[Path, ...]:
    """Return where a top-level module or package can be: its file, or the folders of a package.

    Args:
        root: Its name. It is also looked for in the current folder, from which a user's own code
            is usually run.

    Returns:
        A ``.py`` file, or folders (several for a namespace package); nothing if it is not found.

    Example:
        >>> [place.name for place in import_places("mla_lightning")]
        ['mla_lightning']
        >>> import_places("no_such_package")
        ()
    """
    try:
        spec = importlib.util.find_spec(root) if root else None
    except (ImportError, ValueError):
        spec = None
    if spec is None:
        here = (Path(f"{root}.py").absolute(), Path(root).absolute())
        return tuple(place for place in here if root and place.exists())
    if spec.submodule_search_locations is not None:
        return tuple(map(Path, spec.submodule_search_locations))
    return (Path(spec.origin),) if spec.origin and spec.origin.endswith(".py") else ()


@cache
def is_installed(root: str) -> bool:
    """Return whether a top-level package is of the standard library or installed.

    This package counts as not installed, and so does a user's own code, wherever it is.

    Example:
        >>> is_installed("json"), is_installed("torch"), is_installed("mla_lightning")
        (True, True, False)
    """
    if root == __name__.partition(".")[0]:
        return False
    places = import_places(root)
    return root in sys.stdlib_module_names or any(
        part in ("site-packages", "dist-packages") for place in places for part in place.parts
    )


def forget_sources() -> None:
    """Read all sources again when they are next used, since files may have been edited."""
    find_source.cache_clear()
    import_places.cache_clear()
    is_installed.cache_clear()


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
    for place in import_places(root):
        if place.suffix == ".py":
            files = [] if inner else [place]
        else:
            path = place.joinpath(*inner)
            files = [path / "__init__.py"]
            files += [path.with_name(f"{path.name}.py")] if inner else []
        for file in files:
            if file.is_file():
                return Source(module, file)
    return None


def find_definition(name: str) -> Source | None:
    """Find the module that defines a dotted name.

    Args:
        name: A module, or a function, class or value of one. A name that a package only re-exports
            is followed to the module that defines it, also if the package's ``__getattr__`` finds
            the module when the name is first used.

    Returns:
        The module's source; None if there is none.

    Example:
        >>> find_definition("mla_lightning.functional.project_gradient").module
        'mla_lightning.functional.projection'
        >>> find_definition("mla_lightning.methods.QMF").module
        'mla_lightning.methods.qmf'
    """
    module = find_source(name)
    if module is not None:
        return module
    parent_name, _, leaf = name.rpartition(".")
    parent = find_source(parent_name) if parent_name else None
    if parent is None:
        return None
    if leaf in parent.names and leaf not in parent.defined:
        return find_definition(parent.names[leaf])
    if "__getattr__" in parent.defined and leaf not in parent.defined:
        return next((item for item in find_modules(parent_name) if leaf in item.defined), parent)
    return parent


def resolve(name: str) -> tuple[str, str]:
    """Return the dotted name that a name stands for, and the module that defines it.

    Example:
        >>> resolve("mla_lightning.api.train")
        ('mla_lightning.api.start.train', 'mla_lightning.api.start')
    """
    while find_source(name) is None:
        parent_name, _, leaf = name.rpartition(".")
        parent = find_source(parent_name) if parent_name else None
        if parent is None or leaf not in parent.names or leaf in parent.defined:
            break
        name = parent.names[leaf]
    definition = find_definition(name)
    return name, "" if definition is None else definition.module


def find_modules(package: str) -> Iterator[Source]:
    """Find the modules in a package's folder, without importing them.

    Args:
        package: Its dotted name.

    Yields:
        Their sources, sorted by name; the source of a package in it is its ``__init__``.

    Example:
        >>> [item.module for item in find_modules("mla_lightning.tune")][:2]
        ['mla_lightning.tune.outcome', 'mla_lightning.tune.pruning']
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
            value = without_texts(value)
            if isinstance(node, ast.Module):
                value = _imports_sorted(value)
        if isinstance(value, list):
            items = tuple(normalise(v) if isinstance(v, ast.AST) else repr(v) for v in value)
            values.append((name, items))
        else:
            values.append((name, normalise(value) if isinstance(value, ast.AST) else repr(value)))
    return tuple(values)


def without_texts(body: list[Any]) -> list[Any]:
    """Return statements without docstrings, those of attributes included; ``pass`` if none is left.

    Example:
        >>> body = ast.parse("'Half.'; x = 0.5; 'Of one.'").body
        >>> [ast.unparse(statement) for statement in without_texts(body)]
        ['x = 0.5']
    """
    rest = []
    for node in body:
        match node:
            case ast.Expr(value=ast.Constant(value=str())):
                continue
        rest.append(node)
    return rest if rest or not body else [ast.Pass()]


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

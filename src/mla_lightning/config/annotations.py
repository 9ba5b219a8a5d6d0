"""Values of annotations and of constants in a source text, without importing what they name."""

from __future__ import annotations

import ast
import builtins
import importlib
import sys
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

from mla_lightning.identity.sources import Source, find_source, is_type_checking

PACKAGE = "mla_lightning"
#: Packages of this one that need the standard library alone; they are imported.
_LIGHT = ("errors", "identity", "paths", "randomness", "run_folder")
#: Expressions whose value follows without running code of a module.
_READ = (
    *(ast.Name, ast.Attribute, ast.Subscript, ast.Constant, ast.Tuple, ast.List, ast.Dict),
    *(ast.BinOp, ast.BitOr, ast.UnaryOp, ast.USub, ast.Load),
)


class Unreadable(Exception):
    """The source text does not say for certain what is asked.

    Example:
        >>> evaluate(ast.parse("dict(a=1)", mode="eval").body, find_source("mla_lightning.errors"))
        Traceback (most recent call last):
        mla_lightning.config.annotations.Unreadable: dict(a=1)
    """


def evaluate(node: ast.expr, source: Source) -> Any:
    """Return the value of an expression at the top level of a module.

    Args:
        node: The expression, such as an annotation.
        source: The module.

    Returns:
        The value. A class that is not imported is an empty class of the same name there: no value
        of a config is an instance of either.

    Raises:
        NameError: If a name has no value at run time, such as an import for type checkers alone.
        Unreadable: If the value follows from running code, or cannot be found.

    Example:
        >>> node = ast.parse("int | Tensor | None", mode="eval").body
        >>> [kind.__name__ for kind in evaluate(node, find_source("torch.optim.sgd")).__args__]
        ['int', 'Tensor', 'NoneType']
    """
    if isinstance(node, ast.Constant) and isinstance(node.value, str):  # a quoted annotation
        node = ast.parse(node.value, mode="eval").body
    parts = list(ast.walk(node))
    if not all(isinstance(part, (*_READ, ast.Call)) for part in parts):
        raise Unreadable(ast.unparse(node))
    names = {part.id for part in parts if isinstance(part, ast.Name)}
    values = {name: _value_of_name(name, source) for name in names}
    for part in parts:
        if isinstance(part, ast.Call) and not _is_bound(part, values):
            raise Unreadable(ast.unparse(node))
    try:
        expression = ast.fix_missing_locations(ast.Expression(node))
        code = compile(expression, source.module, "eval")
        return eval(code, {"__builtins__": {}}, values)
    except (NameError, Unreadable):
        raise
    except Exception as error:
        raise Unreadable(f"{ast.unparse(node)}: {error}") from error


def _is_bound(call: ast.Call, values: Mapping[str, Any]) -> bool:
    """Return whether a call builds a bound of a number, as in ``Annotated[int, AtLeast(0)]``."""
    name = call.func.id if isinstance(call.func, ast.Name) else ""
    return getattr(values.get(name), "__module__", "") == f"{PACKAGE}.run_folder.schema"


def evaluate_constant(node: ast.expr, source: Source) -> Any:
    """Return the value of an expression of numbers, texts and containers.

    Args:
        node: The expression.
        source: The module.

    Returns:
        The value.

    Raises:
        Unreadable: If it has another value, or one that follows from running code.

    Example:
        >>> node = ast.parse("(REGRESSION, -1)", mode="eval").body
        >>> evaluate_constant(node, find_source("mla_lightning.tasks.regression"))
        ('regression', -1)
    """
    try:
        value = evaluate(ast.Tuple(elts=[node], ctx=ast.Load()), source)[0]
    except NameError as error:
        raise Unreadable(str(error)) from error
    if not _is_plain(value):
        raise Unreadable(ast.unparse(node))
    return value


def find_statement(name: str, body: Sequence[ast.stmt]) -> ast.stmt | None:
    r"""Return the statement of a module or class that binds a name, None if there is none.

    Args:
        name: The name.
        body: The statements.

    Raises:
        Unreadable: If several do, or it depends on running code.

    Example:
        >>> body = ast.parse("if TYPE_CHECKING: import torch\nsize: int = 2").body
        >>> find_statement("torch", body) is None, ast.unparse(find_statement("size", body))
        (True, 'size: int = 2')
    """
    statements = [node for node in body if name in _names_bound_by(node)]
    if len(statements) > 1 or any(isinstance(node, _BLOCKS) for node in statements):
        raise Unreadable(f"{name} has several definitions")
    return statements[0] if statements else None


_BLOCKS = (ast.If, ast.Try, ast.With, ast.For, ast.While, ast.Match)


def _names_bound_by(node: ast.stmt) -> set[str]:
    if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
        return {node.name}
    if isinstance(node, ast.If) and is_type_checking(node.test):
        return {name for inner in node.orelse for name in _names_bound_by(inner)}
    names = set()
    for part in ast.walk(node):
        if isinstance(part, ast.Name) and isinstance(part.ctx, ast.Store | ast.Del):
            names.add(part.id)
        elif isinstance(part, ast.Import | ast.ImportFrom):
            names |= {(a.asname or a.name.partition(".")[0]) for a in part.names}
        elif isinstance(part, ast.ClassDef | ast.FunctionDef):
            names.add(part.name)
    return names


def _value_of_name(name: str, source: Source) -> Any:
    match find_statement(name, source.tree.body):
        case None:
            if hasattr(builtins, name):
                return getattr(builtins, name)
            raise NameError(f"name {name!r} is not defined")
        case ast.Import() | ast.ImportFrom():
            return _value_of(source.names.get(name, name), source)
        case ast.ClassDef() as node:
            return _class_of(node, source)
        case ast.Assign(targets=[ast.Name()], value=value):
            return evaluate(value, source)
        case ast.AnnAssign(value=ast.expr() as value):
            return evaluate(value, source)
    raise Unreadable(f"{source.module}.{name}")


def _value_of(dotted: str, importing: Source) -> Any:
    """Return the value of a dotted name that a module imports."""
    root, _, rest = dotted.partition(".")
    is_light = root == PACKAGE and rest.partition(".")[0] in _LIGHT
    if is_light or root in sys.stdlib_module_names:
        return _imported(dotted)
    parent_name, _, name = dotted.rpartition(".")
    if root == importing.module.partition(".")[0] and parent_name not in ("", root):
        parent = find_source(parent_name)
        if parent is not None and find_source(dotted) is None:
            return _value_of_name(name, parent)
    return _stand_in(dotted)


def _class_of(node: ast.ClassDef, source: Source) -> Any:
    """Return what stands for a class of a module that is not imported."""
    bases = {base.id if isinstance(base, ast.Name) else ast.unparse(base) for base in node.bases}
    if "TypedDict" in bases:
        names = {n for item in node.body if isinstance(item, ast.AnnAssign) for n in [item.target]}
        fields = {name.id: Any for name in names if isinstance(name, ast.Name)}
        return type(node.name, (dict,), {"__annotations__": fields})
    if bases & _CONTAINERS or any("[" in base for base in bases):
        raise Unreadable(f"{source.module}.{node.name}")
    return _stand_in(f"{source.module}.{node.name}")


#: Bases of classes whose values a config can hold.
_CONTAINERS = {"NamedTuple", "dict", "list", "tuple", "str", "int", "float", "Mapping", "Sequence"}


def _imported(dotted: str) -> Any:
    names = dotted.split(".")
    for number in range(len(names), 0, -1):
        try:
            value: Any = importlib.import_module(".".join(names[:number]))
        except ImportError:
            continue
        for name in names[number:]:
            value = getattr(value, name)
        return value
    raise Unreadable(dotted)


class _StandIn(type):
    """The class of the stand-ins of classes and modules that are not imported."""

    dotted: str

    def __getattr__(cls, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        return _stand_in(f"{cls.dotted}.{name}")


@cache
def _stand_in(dotted: str) -> Any:
    return _StandIn(dotted.rpartition(".")[2], (), {"dotted": dotted})


def _is_plain(value: Any) -> bool:
    if isinstance(value, Mapping):
        return all(map(_is_plain, (*value, *value.values())))
    if isinstance(value, list | tuple):
        return all(map(_is_plain, value))
    return value is None or isinstance(value, bool | int | float | str)

"""Signatures and attributes of classes, read from the source text without importing it.

Classes of this package and the optimisers of torch are read, so that jobs are composed and checked
without torch. Where the text does not say for certain what is asked, the class is imported.
"""

from __future__ import annotations

import ast
import functools
import importlib
import sys
from collections.abc import Iterator
from typing import Any, NamedTuple

from mla_lightning.config.annotations import (
    PACKAGE,
    Unreadable,
    evaluate,
    evaluate_constant,
    find_statement,
)
from mla_lightning.config.targets import is_allowed, locate, may_be_function
from mla_lightning.identity.sources import Source, find_source, resolve

#: Modules whose classes are read; all others are imported.
_READ = (PACKAGE, "torch.optim")
#: Classes whose constructor follows from more than their own text.
_GENERATING_BASES = {"NamedTuple", "TypedDict", "Protocol", "Enum", "IntEnum", "StrEnum"}


class Argument(NamedTuple):
    """One parameter of a function.

    Attributes:
        name: Its name.
        is_variadic: Whether it is ``*name`` or ``**name``.
        is_keywords: Whether it is ``**name``.
        is_required: Whether it has no default.

    Example:
        >>> next(constructors_of("torch.optim.SGD")).arguments[1]
        Argument(name='params', is_variadic=False, is_keywords=False, is_required=True)
    """

    name: str
    is_variadic: bool
    is_keywords: bool
    is_required: bool


class Constructor(NamedTuple):
    """The parameters of a function or of a constructor.

    Attributes:
        arguments: The parameters in order, ``self`` included.
        hints: Name -> type annotation; empty if one of them has no value at run time.

    Example:
        >>> next(constructors_of("mla_lightning.encoders.mlp.MLP")).hints["out_features"]
        <class 'int'>
    """

    arguments: list[Argument]
    hints: dict[str, Any]


class SourceClass:
    """A class of this package or of torch, read from its source text.

    Attributes:
        target: Its dotted name.

    Example:
        >>> qmf = read_class("mla_lightning.methods.qmf.QMF")
        >>> qmf.__name__, qmf.attribute("follows_task"), qmf.attribute("takes_steps")
        ('QMF', True, True)
    """

    def __init__(self, target: str, node: ast.ClassDef, source: Source) -> None:
        """Keep a definition; see :func:`read_class`."""
        self.target, self.node, self.source = target, node, source
        self.__name__ = node.name

    @functools.cached_property
    def mro(self) -> list[Any]:
        """The class and its bases in the order of look-up; those that are imported are classes.

        Bases of other packages that are not imported are their dotted names.
        """
        bases = [self._base(node) for node in self.node.bases]
        return [self, *_merged([*(_mro_of(base) for base in bases), bases])]

    def attribute(self, name: str) -> Any:
        """Return a class attribute that is a constant.

        Args:
            name: The attribute.

        Returns:
            Its value.

        Raises:
            Unreadable: If it is no constant, or may be defined by a base that is not read.
        """
        for cls in self.mro:
            if not isinstance(cls, SourceClass):
                break
            match cls.statement(name):
                case ast.Assign(value=value) | ast.AnnAssign(value=ast.expr() as value):
                    return evaluate_constant(value, cls.source)
                case None | ast.AnnAssign():
                    continue
            break
        raise Unreadable(f"{self.target}.{name}")

    def owner_of(self, name: str) -> str:
        """Return the dotted name of the class that defines a method.

        Args:
            name: The method.

        Raises:
            Unreadable: If it may be defined by a base that is not read.
        """
        for cls in self.mro:
            if not isinstance(cls, SourceClass):
                break
            if cls.statement(name) is not None:
                return cls.target
        raise Unreadable(f"{self.target}.{name}")

    def statement(self, name: str) -> ast.stmt | None:
        """Return the statement of the class itself that binds a name, None if there is none."""
        return find_statement(name, self.node.body)

    def _base(self, node: ast.expr) -> Any:
        if isinstance(node, ast.Subscript):  # Generic[T], Sampler[int]
            node = node.value
        name = ast.unparse(node)
        first, _, rest = name.partition(".")
        if first in _GENERATING_BASES:
            raise Unreadable(self.target)
        dotted = self.source.names.get(first, f"{self.source.module}.{first}")
        dotted = f"{dotted}.{rest}" if rest else dotted
        root = dotted.partition(".")[0]
        if root in sys.stdlib_module_names:
            module, _, name = dotted.rpartition(".")
            return getattr(importlib.import_module(module), name)
        return read_class(dotted) if _is_read(dotted) else dotted


@functools.cache
def read_class(target: str) -> SourceClass:
    """Read a class from its source text.

    Args:
        target: Its dotted name.

    Raises:
        Unreadable: If there is no such class, it may be another one, or its package is not read.

    Example:
        >>> order = read_class("mla_lightning.fusion.sum.Sum").mro
        >>> [getattr(cls, "__name__", cls) for cls in order]
        ['Sum', 'Fusion', 'torch.nn.Module', 'ABC']
    """
    node, source = _definition_of(target)
    if not isinstance(node, ast.ClassDef) or node.keywords:
        raise Unreadable(f"{target} is no plain class")
    defined = f"{source.module}.{node.name}"  # one object for a class, whatever it is called
    return SourceClass(target, node, source) if target == defined else read_class(defined)


def constructors_of(target: str) -> Iterator[Constructor]:
    """Read a function, or the constructors of a class and of its bases.

    Args:
        target: The dotted name of a class or function that configs may name.

    Yields:
        The function, or the constructors in the order of look-up.

    Raises:
        Unreadable: If the class must be imported to know.

    Example:
        >>> from itertools import islice
        >>> orders = constructors_of("mla_lightning.data.prepared.Prepared")
        >>> [len(constructor.arguments) for constructor in islice(orders, 2)]
        [7, 8]
    """
    node, source = _definition_of(target)
    if isinstance(node, ast.FunctionDef):
        if not may_be_function(target) or node.decorator_list:
            raise Unreadable(target)
        yield _constructor(node, source)
        return
    cls = read_class(target)
    if cls.node.decorator_list:
        yield _generated(cls)
        return
    for base in cls.mro:
        if isinstance(base, str) or (isinstance(base, SourceClass) and base.node.decorator_list):
            raise Unreadable(target)
        if not isinstance(base, SourceClass):
            if "__init__" in vars(base):
                raise Unreadable(target)
            continue
        match base.statement("__init__"):
            case None:
                continue
            case ast.FunctionDef(decorator_list=[]) as function:
                yield _constructor(function, base.source)
            case _:
                raise Unreadable(target)


def attribute_of(target: str, name: str, default: Any) -> Any:
    """Return an attribute of a class, which is imported only if its source text is not enough.

    Args:
        target: The dotted name of the class, which is allowed.
        name: The attribute.
        default: Its value if there is none.

    Raises:
        ConfigError: If the class must be imported and cannot be.

    Example:
        >>> attribute_of("mla_lightning.methods.cca.CCA", "takes_steps", True)
        False
    """
    try:
        return read_class(target).attribute(name)
    except Unreadable:
        return getattr(locate(target), name, default)


def _definition_of(target: str) -> tuple[ast.stmt, Source]:
    if not _is_read(target):
        raise Unreadable(f"{target} is not read")
    dotted, module = resolve(target)
    source = find_source(module)
    name = dotted.rpartition(".")[2]
    if source is None or not is_allowed(module):
        raise Unreadable(target)
    statement = find_statement(name, source.tree.body)
    if statement is None:
        raise Unreadable(f"{module} has no {name}")
    return statement, source


def _is_read(target: str) -> bool:
    return any(target.startswith(f"{package}.") for package in _READ)


def _constructor(function: ast.FunctionDef, source: Source) -> Constructor:
    names = function.args
    positional = [*names.posonlyargs, *names.args]
    num_required = len(positional) - len(names.defaults)
    arguments = [Argument(a.arg, False, False, i < num_required) for i, a in enumerate(positional)]
    if names.vararg:
        arguments.append(Argument(names.vararg.arg, True, False, False))
    for a, default in zip(names.kwonlyargs, names.kw_defaults, strict=True):
        arguments.append(Argument(a.arg, False, False, default is None))
    if names.kwarg:
        arguments.append(Argument(names.kwarg.arg, True, True, False))
    annotated = [*positional, *names.kwonlyargs, *filter(None, (names.vararg, names.kwarg))]
    annotations = {a.arg: a.annotation for a in annotated if a.annotation is not None}
    if function.returns is not None:
        annotations["return"] = function.returns
    return Constructor(arguments, _hints(annotations, source))


def _hints(annotations: dict[str, ast.expr], source: Source) -> dict[str, Any]:
    """Return the values of annotations; none at all if one has no value, as ``typing`` does."""
    try:
        return {name: evaluate(node, source) for name, node in annotations.items()}
    except NameError:
        return {}


def _generated(cls: SourceClass) -> Constructor:
    """Return the constructor that ``dataclass`` generates for a class without bases."""
    decorators = [d.func if isinstance(d, ast.Call) else d for d in cls.node.decorator_list]
    names = [cls.source.names.get(ast.unparse(d)) for d in decorators]
    if names != ["dataclasses.dataclass"] or len(cls.mro) > 1 or cls.statement("__init__"):
        raise Unreadable(cls.target)
    arguments, annotations = [Argument("self", False, False, True)], {}
    for item in cls.node.body:
        match item:
            case ast.AnnAssign(target=ast.Name(id=name), annotation=annotation, value=value):
                if isinstance(value, ast.Call) or "ClassVar" in ast.unparse(annotation):
                    raise Unreadable(cls.target)
                arguments.append(Argument(name, False, False, value is None))
                annotations[name] = annotation
    return Constructor(arguments, _hints(annotations, cls.source))


def _mro_of(base: Any) -> list[Any]:
    if isinstance(base, SourceClass):
        return list(base.mro)
    return [base] if isinstance(base, str) else list(base.__mro__[:-1])


def _merged(lists: list[list[Any]]) -> list[Any]:
    """Merge the orders of look-up of the bases of a class (C3 linearisation)."""
    order = []
    while lists := [items for items in lists if items]:
        head = next((i[0] for i in lists if not any(i[0] in other[1:] for other in lists)), None)
        if head is None:
            raise Unreadable("contradictory bases")
        order.append(head)
        lists = [items[1:] if items[0] == head else items for items in lists]
    return order

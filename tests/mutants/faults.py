"""Faults that can be put into a function: wrong signs, axes, indices, reductions and others."""

from __future__ import annotations

import ast
import copy
import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

Function = ast.FunctionDef | ast.AsyncFunctionDef
#: A kind of fault and the node that replaces another one.
Replacement = tuple[str, ast.AST]

OPPOSITES: dict[type[ast.AST], type[ast.AST]] = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.Div,
    ast.Div: ast.Mult,
}
COMPARISONS: dict[type[ast.AST], type[ast.AST]] = {
    ast.Lt: ast.LtE,
    ast.LtE: ast.Lt,
    ast.Gt: ast.GtE,
    ast.GtE: ast.Gt,
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
    ast.Is: ast.IsNot,
    ast.IsNot: ast.Is,
    ast.In: ast.NotIn,
    ast.NotIn: ast.In,
}
REDUCTIONS = {
    "mean": "sum",
    "sum": "mean",
    "amax": "amin",
    "amin": "amax",
    "max": "min",
    "min": "max",
    "argmax": "argmin",
    "std": "var",
    "var": "std",
    "all": "any",
    "any": "all",
    "nanmean": "nansum",
    "ceil": "floor",
    "prod": "sum",
    "cumsum": "cumprod",
}
#: Calls without which an array or tensor keeps its shape.
REMOVABLE = {
    *("detach", "abs", "clamp", "clamp_", "clamp_min", "sqrt", "exp", "exp_", "log", "square"),
    *("relu", "softmax", "log_softmax", "tanh", "sigmoid", "nan_to_num", "masked_fill", "flip"),
    *("pow", "float", "neg", "cumsum", "clone"),
}
REMOVABLE_FUNCTIONS = {
    *("normalize", "relu", "softmax", "dropout", "abs"),
    *("torch.where", "torch.sigmoid", "torch.tanh", "torch.exp", "torch.sqrt"),
    *("np.where", "np.exp", "np.abs", "np.sqrt", "np.nan_to_num"),
}
AXES = {-2: -1, -1: 0, 0: 1, 1: 0, 2: 1}
#: Methods whose first positional argument is an axis.
AXIS_FIRST = {"sum", "mean", "softmax", "log_softmax", "argmax", "amax", "std", "any", "all"}
#: Parents of constants that are axes or indices, which have their own kinds.
NOT_NUMBERS = ast.Subscript | ast.Slice | ast.UnaryOp
#: Functions that show an object or check its settings, and compute nothing.
NOT_MUTATED = {
    *("__repr__", "__str__", "extra_repr", "check", "_check", "check_recon_target"),
    "changed_names",
}


@dataclass(frozen=True)
class Fault:
    """One fault.

    Attributes:
        path: The file, relative to the root.
        function: Qualified name of the outermost function.
        line: Line of the fault.
        kind: Kind of fault.
        before: The source that is replaced.
        after: What replaces it.
        put: Puts the fault into the module's tree; returns a function that takes it out again.
    """

    path: str
    function: str
    line: int
    kind: str
    before: str
    after: str
    put: Callable[[], Callable[[], None]] = field(compare=False, repr=False)
    tree: ast.Module = field(compare=False, repr=False)

    @property
    def key(self) -> str:
        """Hash of the fault without its line, so that an edit elsewhere changes no draw."""
        text = "\0".join((self.path, self.function, self.kind, self.before, self.after))
        return hashlib.sha256(text.encode()).hexdigest()


def list_faults(path: Path, root: Path) -> list[Fault]:
    """List the faults that can be put into a file, in the order of their hashes.

    Docstrings, messages, ``raise`` and the checks that lead to it, annotations, defaults,
    decorators and ``__repr__`` are left as they are.

    Args:
        path: The file.
        root: The folder that paths are relative to.

    Returns:
        The faults, each once per place.
    """
    tree = ast.parse(path.read_text(encoding="utf-8"))
    faults = []
    for name, function, settings in _functions(tree):
        for parent, attribute, place, node in _places(function):
            for kind, new in _replacements(node, parent, function, settings):
                before, after = ast.unparse(node), ast.unparse(new)
                if before != after:
                    put = _putter(parent, attribute, place, node, new)
                    relative = path.relative_to(root).as_posix()
                    line = getattr(node, "lineno", function.lineno)
                    faults.append(Fault(relative, name, line, kind, before, after, put, tree))
    return sorted(faults, key=lambda fault: (fault.key, fault.line))


def draw(faults: dict[str, list[Fault]]) -> Iterator[Fault]:
    """Yield faults of all files in turn, each time of the kind that was drawn least.

    Args:
        faults: File -> its faults in the order of their hashes.

    Yields:
        Each fault once.
    """
    left = {path: list(of_file) for path, of_file in faults.items() if of_file}
    drawn: dict[str, int] = {}
    in_function: dict[tuple[str, str], int] = {}
    while left:
        for path in list(left):
            fault = min(
                left[path],
                key=lambda f: (in_function.get((f.path, f.function), 0), drawn.get(f.kind, 0)),
            )
            left[path].remove(fault)
            drawn[fault.kind] = drawn.get(fault.kind, 0) + 1
            place = (fault.path, fault.function)
            in_function[place] = in_function.get(place, 0) + 1
            yield fault
            if not left[path]:
                del left[path]


def _functions(tree: ast.Module) -> Iterator[tuple[str, Function, dict[str, ast.expr]]]:
    """Yield qualified name, outermost function and the class's settings with their defaults."""
    for node in tree.body:
        if isinstance(node, Function) and node.name not in NOT_MUTATED:
            yield node.name, node, {}
        elif isinstance(node, ast.ClassDef):
            methods = [child for child in node.body if isinstance(child, Function)]
            settings = {}
            for method in methods:
                if method.name == "__init__":
                    settings = _defaults(method)
            for method in methods:
                if method.name not in NOT_MUTATED:
                    yield f"{node.name}.{method.name}", method, settings


def _defaults(function: Function) -> dict[str, ast.expr]:
    """Return parameter -> its default, for numbers, booleans and strings."""
    arguments = function.args
    positional = arguments.posonlyargs + arguments.args
    pairs = [
        *zip(reversed(positional), reversed(arguments.defaults), strict=False),
        *zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True),
    ]
    return {
        argument.arg: default
        for argument, default in pairs
        if isinstance(default, ast.Constant) and default.value is not None
    }


def _places(node: ast.AST) -> Iterator[tuple[ast.AST, str, int | None, ast.AST]]:
    """Yield parent, field, position in the field and node of everything that can be replaced."""
    for name, value in ast.iter_fields(node):
        if name in ("decorator_list", "args", "returns", "annotation", "type_comment") and (
            isinstance(node, Function | ast.AnnAssign | ast.arg)
        ):
            continue
        for place, child in enumerate(value if isinstance(value, list) else [value]):
            if not isinstance(child, ast.AST) or _is_left_alone(child):
                continue
            yield node, name, place if isinstance(value, list) else None, child
            yield from _places(child)


def _is_left_alone(node: ast.AST) -> bool:
    if isinstance(node, ast.If) and all(isinstance(s, ast.Raise) for s in node.body):
        return True
    if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
        return True  # a docstring
    if isinstance(node, ast.Expr) and isinstance(node.value, ast.Call):
        words = node.value.args
        if words and all(isinstance(w, ast.JoinedStr) or _is_text(w) for w in words):
            return True  # adds a message to a list
    return isinstance(node, ast.Raise | ast.Assert | ast.JoinedStr | ast.Import | ast.ImportFrom)


def _is_text(node: ast.AST) -> bool:
    return isinstance(node, ast.Constant) and isinstance(node.value, str)


def _putter(
    parent: ast.AST, attribute: str, place: int | None, node: ast.AST, new: ast.AST
) -> Callable[[], Callable[[], None]]:
    new = ast.fix_missing_locations(ast.copy_location(copy.deepcopy(new), node))

    def assign(value: ast.AST) -> None:
        if place is None:
            setattr(parent, attribute, value)
        else:
            getattr(parent, attribute)[place] = value

    def put() -> Callable[[], None]:
        assign(new)
        return lambda: assign(node)

    return put


def _changed(node: ast.AST, **fields: object) -> ast.AST:
    new = copy.copy(node)
    for name, value in fields.items():
        setattr(new, name, value)
    return new


def _replacements(
    node: ast.AST, parent: ast.AST, function: Function, settings: dict[str, ast.expr]
) -> Iterator[Replacement]:
    match node:
        case ast.BinOp(left=left, op=op, right=right):
            if type(op) in OPPOSITES:
                yield "sign", _changed(node, op=OPPOSITES[type(op)]())
                yield "dropped term", left
                if not isinstance(op, ast.Div):
                    yield "dropped term", right
            elif isinstance(op, ast.MatMult):
                yield "swapped", _changed(node, left=right, right=left)
            elif isinstance(op, ast.Pow):
                yield "dropped term", left
            elif isinstance(op, ast.BitAnd | ast.BitOr):
                other = ast.BitOr() if isinstance(op, ast.BitAnd) else ast.BitAnd()
                yield "condition", _changed(node, op=other)
        case ast.AugAssign(op=op):
            if type(op) in OPPOSITES:
                yield "sign", _changed(node, op=OPPOSITES[type(op)]())
            yield "dropped statement", ast.Pass()
        case ast.UnaryOp(op=ast.USub() | ast.Not() | ast.Invert(), operand=operand):
            if not isinstance(operand, ast.Constant):
                kind = "sign" if isinstance(node.op, ast.USub) else "condition"
                yield kind, operand
        case ast.Compare(ops=[op], left=left, comparators=[right]):
            yield "condition", _changed(node, ops=[COMPARISONS[type(op)]()])
        case ast.BoolOp(op=op):
            yield "condition", _changed(node, op=ast.Or() if isinstance(op, ast.And) else ast.And())
        case ast.IfExp(body=body, orelse=orelse):
            yield "condition", _changed(node, body=orelse, orelse=body)
        case ast.If(test=test):
            yield "condition", _changed(node, test=ast.UnaryOp(ast.Not(), test))
        case ast.Expr(value=ast.Call()) if "super()" not in ast.unparse(node):
            yield "dropped statement", ast.Pass()
        case ast.Subscript(slice=index):
            yield from (("index", _changed(node, slice=new)) for new in _indices(index))
        case ast.Attribute(attr="T" | "mT", value=value):
            yield "swapped", value
        case ast.Call():
            yield from _calls(node)
        case ast.Constant(value=value) if not isinstance(parent, NOT_NUMBERS):
            if isinstance(value, bool):
                if getattr(parent, "arg", "") != "strict":  # of zip: a check
                    yield "constant", ast.Constant(not value)
            elif (
                isinstance(value, int | float)
                and not _is_axis(node, parent)
                and (value == 0 or abs(value) > 1e-4)
            ):
                yield "constant", ast.Constant(value * 2 if value else 1)
        case ast.Name(id=name, ctx=ast.Load()):
            defaults = _defaults(function)
            if name in defaults:
                yield "ignored setting", copy.copy(defaults[name])
            yield from (
                ("swapped", ast.Name(other, ast.Load())) for other in _alike(name, function)
            )
        case ast.Attribute(value=ast.Name(id="self"), attr=name, ctx=ast.Load()):
            if name in settings and function.name != "__init__":
                yield "ignored setting", copy.copy(settings[name])


def _calls(node: ast.Call) -> Iterator[Replacement]:
    name = node.func.attr if isinstance(node.func, ast.Attribute) else ""
    if name in REDUCTIONS:
        func = _changed(node.func, attr=REDUCTIONS[name])
        yield "reduction", _changed(node, func=func)
    function = ast.unparse(node.func)
    if function in REMOVABLE_FUNCTIONS and node.args:
        yield "dropped call", node.args[1 if name == "where" else 0]
    elif name in REMOVABLE and isinstance(node.func, ast.Attribute):
        yield "dropped call", node.func.value
    for number, keyword in enumerate(node.keywords):
        if keyword.arg in ("dim", "axis") and (axis := _axis(keyword.value)) in AXES:
            keywords = list(node.keywords)
            keywords[number] = ast.keyword(keyword.arg, ast.Constant(AXES[axis]))
            yield "axis", _changed(node, keywords=keywords)
        if keyword.arg == "reduction" and isinstance(keyword.value, ast.Constant):
            value = {"mean": "sum", "sum": "mean"}.get(str(keyword.value.value))
            if value:
                keywords = list(node.keywords)
                keywords[number] = ast.keyword("reduction", ast.Constant(value))
                yield "reduction", _changed(node, keywords=keywords)
    if name in AXIS_FIRST and node.args and (axis := _axis(node.args[0])) in AXES:
        yield "axis", _changed(node, args=[ast.Constant(AXES[axis]), *node.args[1:]])
    plain = [not isinstance(a, ast.Starred | ast.Constant) for a in node.args[:2]]
    if plain == [True, True] and function not in ("zip", "isinstance", "getattr"):
        args = [node.args[1], node.args[0], *node.args[2:]]
        yield "swapped", _changed(node, args=args)


def _axis(node: ast.AST) -> int | None:
    match node:
        case ast.Constant(value=int() as value):
            return None if isinstance(value, bool) else value
        case ast.UnaryOp(op=ast.USub(), operand=ast.Constant(value=int() as value)):
            return -value
    return None


def _is_axis(node: ast.AST, parent: ast.AST) -> bool:
    if isinstance(parent, ast.keyword):
        return parent.arg in ("dim", "axis")
    name = (
        parent.func.attr
        if isinstance(parent, ast.Call) and (isinstance(parent.func, ast.Attribute))
        else ""
    )
    return name in {*AXIS_FIRST, "unsqueeze", "squeeze", "flatten", "transpose", "size", "unbind"}


def _indices(index: ast.AST) -> Iterator[ast.AST]:
    match index:
        case ast.Constant(value=int() as value) if not isinstance(value, bool):
            yield ast.Constant(value + 1)
        case ast.Slice(lower=lower, upper=upper):
            if lower is not None:
                yield _changed(index, lower=None)
            if upper is not None:
                yield _changed(index, upper=None)
        case ast.Tuple(elts=elements) if len(elements) == 2:
            yield _changed(index, elts=elements[::-1])
        case ast.UnaryOp(op=ast.Invert(), operand=operand):
            yield operand


def _alike(name: str, function: Function) -> list[str]:
    """Return the other parameters of a function whose annotation equals that of a parameter."""
    arguments = [*function.args.posonlyargs, *function.args.args, *function.args.kwonlyargs]
    annotations = {a.arg: ast.unparse(a.annotation) for a in arguments if a.annotation is not None}
    own = annotations.get(name)
    if own is None:
        return []
    return [other for other, text in annotations.items() if text == own and other != name][:1]

"""Checks of the nodes of a config against the signatures of the classes that they name."""

from __future__ import annotations

import functools
import inspect
import json
import typing
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from mla_lightning.config.annotations import Unreadable
from mla_lightning.config.limits import find_limit_problems
from mla_lightning.config.signatures import Argument, Constructor, constructors_of
from mla_lightning.config.targets import PARTIAL, TARGET, locate, targets_of
from mla_lightning.errors import ConfigError, near
from mla_lightning.run_folder.schema import describe_type, fits_type, format_value

#: Node -> arguments that training supplies to its class; a config must not set them.
SUPPLIED: dict[str, tuple[str, ...]] = {
    "data": ("seed", "modalities", "missing"),
    "method": (
        *("encoders", "num_classes", "optimizer", "scheduler", "num_train", "batch_size", "seed"),
        *("clip_norm", "accumulate", "log_every_n_batches", "inputs", "is_complete"),
        *("hides_modalities", "resamples_masks", "train_batches", "epoch_metrics", "logs_epochs"),
        *("select_by", "task", "num_ranks", "sync_batchnorm", "held_out_batches"),
    ),
    "method.fusion": ("feature_dims", "num_classes"),
    "task": ("class_weights", "mean", "std"),
    "optimizer": ("params",),
    "scheduler": ("optimizer",),
    "launcher": ("job_function",),
}
#: Node -> keys that training removes before it instantiates the class.
REMOVED = {"method": ("fusion",)}
#: Nodes of which a group has complete ones, so that no setting of another class is left.
_CHOSEN_AS_A_WHOLE = ("optimizer", "scheduler")
#: Nodes that training completes: only these may, and must, have ``_partial_: true``.
COMPLETED_BY_TRAINING = ("method.fusion", "optimizer", "scheduler")


def find_signature_problems(
    config: Mapping[str, Any],
    problems_of: Callable[[str, Any], list[str]] | None = None,
) -> list[str]:
    """Find keys that do not fit the signatures of the classes of a config.

    Args:
        config: The resolved config, whose targets are allowed.
        problems_of: :func:`signature_problems_of_section`, which is the default, or a function
            that remembers its results.

    Returns:
        One message per key that is unknown, missing, of the wrong type, or supplied by training.

    Example:
        >>> optimizer = {"_target_": "torch.optim.SGD", "_partial_": True, "nestrov": True}
        >>> find_signature_problems({"optimizer": optimizer})
        ["optimizer.nestrov: SGD has no parameter 'nestrov'. Did you mean 'nesterov'? ..."]
    """
    problems_of = problems_of or signature_problems_of_section
    return [
        m for key, section in config.items() if key != "grid" for m in problems_of(key, section)
    ]


def signature_problems_of_section(key: str, section: Any) -> list[str]:
    """Find keys that do not fit the signatures of the classes of one section.

    Args:
        key: A top-level key of a config.
        section: Its value.

    Example:
        >>> signature_problems_of_section("loss", {"class_weights": None})  # names no class
        []
    """
    problems: list[str] = []
    for path, node in targets_of({key: section}):
        try:
            parameters_of(node[TARGET])
        except ConfigError as error:  # not cached: the user may mend the module meanwhile
            problems.append(f"{path}.{TARGET}: {error}")
        else:
            problems += _node_problems(path, json.dumps(node, sort_keys=True))
    return problems


class Parameter(NamedTuple):
    """A parameter of a class: its type annotation, and whether it has no default.

    Example:
        >>> parameters_of("torch.nn.ReLU")[0]["inplace"]
        Parameter(hint=<class 'bool'>, is_required=False)
    """

    hint: Any
    is_required: bool


@functools.lru_cache(maxsize=1024)
def _node_problems(key: str, node_json: str) -> tuple[str, ...]:
    node = json.loads(node_json)
    parameters, takes_any = parameters_of(node[TARGET])
    supplied, removed = SUPPLIED.get(key, ()), REMOVED.get(key, ())
    arguments = {k: v for k, v in node.items() if k not in (TARGET, PARTIAL, *removed)}
    cls = node[TARGET].rpartition(".")[2]
    settable = [name for name in parameters if name not in (*supplied, *removed)]
    problems = _partial_problems(key, node.get(PARTIAL, False))
    wrong = {}
    for name, value in arguments.items():
        path, parameter = f"{key}.{name}", parameters.get(name)
        if name in supplied:
            wrong[name] = f"{path} is not a setting: training supplies it"
        elif parameter is None and (name.startswith("_") or not takes_any):
            listed = f"Its parameters: {', '.join(settable) or 'none'}."
            hint = near(name, settable)
            if not hint and key in _CHOSEN_AS_A_WHOLE:
                hint = f" Remove it with ~{path}, or choose an option with {key}=... as a whole."
            wrong[name] = f"{path}: {cls} has no parameter {name!r}.{hint} {listed}"
        elif value == "???":
            wrong[name] = f"{path} has no value: set one with {path}=..."
        elif parameter is not None and not fits_type(value, parameter.hint):
            expected = describe_type(parameter.hint)
            wrong[name] = f"{path} must be {expected}, got {format_value(value)}"
    problems += wrong.values()
    problems += find_limit_problems(key, node, wrong)
    if key in COMPLETED_BY_TRAINING or not node.get(PARTIAL, False):
        problems += [
            f"{key}.{name} is missing: {cls} needs it"
            for name in settable
            if parameters[name].is_required and name not in arguments
        ]
    problems += [f"{key}.{name} is missing" for name in removed if name not in node]
    return tuple(problems)


def _partial_problems(key: str, is_partial: Any) -> list[str]:
    if key in COMPLETED_BY_TRAINING and is_partial is not True:
        return [f"{key} needs {PARTIAL}: true, since training supplies further arguments"]
    if key not in COMPLETED_BY_TRAINING and key in SUPPLIED and is_partial is not False:
        return [f"{key}.{PARTIAL} must not be set: training needs the complete object"]
    return []


@functools.cache
def parameters_of(target: str) -> tuple[dict[str, Parameter], bool]:
    """Read the parameters of a class or function, including those of bases that get its keywords.

    Args:
        target: The dotted name, which is allowed.

    Returns:
        Name -> parameter, and whether keywords of any other name are accepted, too.

    Raises:
        ConfigError: If the target cannot be imported.

    Example:
        >>> parameters, takes_any = parameters_of("torch.nn.Flatten")
        >>> parameters["start_dim"], takes_any
        (Parameter(hint=<class 'int'>, is_required=False), False)
    """
    try:
        return _combined(constructors_of(target))
    except Unreadable:
        return _combined(imported_constructors(target))


def imported_constructors(target: str) -> Iterator[Constructor]:
    """Import a class or function and return its constructors; see :func:`constructors_of`.

    Args:
        target: The dotted name, which is allowed.

    Yields:
        The function, or the constructors in the order of look-up.

    Raises:
        ConfigError: If the target cannot be imported.

    Example:
        >>> constructors = imported_constructors("mla_lightning.encoders.vector.Vector")
        >>> [argument.name for argument in next(constructors).arguments]
        ['self', 'in_features']
    """
    located = locate(target)
    functions = [located]
    if inspect.isclass(located):
        classes = located.__mro__[:-1]
        functions = [vars(cls)["__init__"] for cls in classes if "__init__" in vars(cls)]
    for function in functions:
        arguments = [
            Argument(p.name, p.kind in _VARIADIC, p.kind is p.VAR_KEYWORD, p.default is p.empty)
            for p in inspect.signature(function).parameters.values()
        ]
        yield Constructor(arguments, _type_hints(function))


def _combined(constructors: Iterable[Constructor]) -> tuple[dict[str, Parameter], bool]:
    parameters: dict[str, Parameter] = {}
    takes_any = False
    for constructor in constructors:
        hints, takes_any = constructor.hints, True
        for argument in constructor.arguments:
            if argument.name != "self" and not argument.is_variadic:
                parameter = Parameter(hints.get(argument.name, Any), argument.is_required)
                parameters.setdefault(argument.name, parameter)
        keywords = [a.name for a in constructor.arguments if a.is_keywords]
        if not keywords:
            return parameters, False
        names = _unpacked_names(hints.get(keywords[0]))
        if names is not None:  # **parts: Unpack[Composition] names all keywords
            for name in names:
                parameters.setdefault(name, Parameter(Any, False))
            return parameters, False
    return parameters, takes_any


_VARIADIC = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)


def _unpacked_names(hint: Any) -> list[str] | None:
    """Return the names that ``**keywords: Unpack[TypedDict]`` accepts, None for another hint."""
    (kind,) = typing.get_args(hint) if typing.get_origin(hint) is typing.Unpack else (None,)
    return sorted(kind.__annotations__) if kind is not None else None


def _type_hints(function: Any) -> dict[str, Any]:
    """Return a function's annotations, none if they use names that only type checkers import."""
    try:
        return typing.get_type_hints(function, include_extras=True)
    except (NameError, TypeError, AttributeError):
        return {}

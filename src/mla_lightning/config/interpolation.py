"""Resolution of interpolations, which may read little, since configs end up in files and logs."""

from __future__ import annotations

import copy
import re
from collections.abc import Iterator, Mapping
from typing import Any

from mla_lightning.run_folder.schema import UNRESOLVED

#: Environment variables that a config may read.
ENVIRONMENT = ("MLA_DATA_DIR", "MLA_OUTPUT_DIR", "TMPDIR", "SLURM_TMPDIR", "SCRATCH")


def resolve_interpolations(config: Mapping[str, Any], problems: list[str]) -> dict[str, Any]:
    """Resolve all interpolations of a config.

    Args:
        config: The config with its values set.
        problems: A message for each interpolation that fails or is not allowed is appended here.

    Returns:
        Plain containers, with ``UNRESOLVED`` in place of what could not be resolved.

    Example:
        >>> resolve_interpolations({"name": "runs/${seed}", "seed": 3}, [])
        {'name': 'runs/3', 'seed': 3}
        >>> problems = []
        >>> resolve_interpolations({"name": "${oc.env:HOME}"}, problems)
        {'name': '<unresolved>'}
        >>> problems
        ['name: ${oc.env:HOME} is not allowed: ...']
    """
    return copy.deepcopy(Resolver().resolve(config, problems))


class Resolver:
    """Resolves the interpolations of many configs, each section once for all that it reads.

    A section is the value of a top-level key. Resolved configs share the sections in which they do
    not differ, so nobody may change them in place.

    Example:
        >>> resolver = Resolver()
        >>> section = {"lr": "${tuned}"}
        >>> first, second = (
        ...     resolver.resolve({"optimizer": section, "tuned": 0.1, "seed": seed}, [])
        ...     for seed in (0, 1)
        ... )
        >>> first["optimizer"], first["optimizer"] is second["optimizer"]
        ({'lr': 0.1}, True)
    """

    def __init__(self) -> None:
        """Start without any resolved section."""
        self._read: dict[str, frozenset[str] | None] = {}
        self._resolved: dict[Any, tuple[Any, tuple[str, ...]]] = {}

    def resolve(self, config: Mapping[str, Any], problems: list[str]) -> dict[str, Any]:
        """Resolve all interpolations of a config; see :func:`resolve_interpolations`.

        Args:
            config: The config with its values set.
            problems: Messages are appended here.

        Returns:
            The resolved config, whose sections are shared.
        """
        texts = {key: repr(section) for key, section in config.items()}
        resolved = {}
        for key, section in config.items():
            keys = sorted(self._keys_read_by(key, texts), key=str)
            state = (key, *((name, texts[name]) for name in keys))
            if state not in self._resolved:
                messages: list[str] = []
                part = {name: config[name] for name in keys}
                self._resolved[state] = _resolve_section(key, section, part, messages), (*messages,)
            resolved[key], section_problems = self._resolved[state]
            problems += section_problems
        return resolved

    def _keys_read_by(self, key: str, texts: Mapping[str, str]) -> set[str]:
        """Return a key and all top-level keys whose values its interpolations can read."""
        if "${" not in texts[key]:
            return {key}
        keys, waiting = {"choices"} & texts.keys(), [key]
        while waiting:
            name = waiting.pop()
            keys.add(name)
            text = texts[name]
            if text not in self._read:
                self._read[text] = _names_read_by(text)
            names = self._read[text]
            if names is None:
                return set(texts)
            waiting += (names & texts.keys()) - keys
        return keys


def _names_read_by(text: str) -> frozenset[str] | None:
    """Return the first names of a text's interpolations; None if they cannot be found easily."""
    names = _FIRST_NAME.findall(text)
    return frozenset(names) if len(names) == text.count("${") else None


#: The first name of ``${data.path}``, and that of a resolver: ``oc`` of ``${oc.env:HOME}``.
_FIRST_NAME = re.compile(r"\$\{([A-Za-z_]\w*)(?=[.\[:}])")


def _resolve_section(key: str, section: Any, config: Mapping[str, Any], problems: list[str]) -> Any:
    """Return a copy of a section with its interpolations resolved.

    Args:
        key: The top-level key of the section.
        section: The section.
        config: All sections that it reads, itself among them.
        problems: Messages are appended here.
    """
    plain = {key: copy.deepcopy(section)}
    found = list(find_interpolations({key: section}))
    if not found:
        return plain[key]
    from omegaconf import OmegaConf

    tree = OmegaConf.create(dict(config))
    for path, text in found:
        dotted = ".".join(map(str, path))
        forbidden = _forbidden_uses(text)
        problems += [f"{dotted}: {problem}" for problem in forbidden]
        parent: Any = plain
        for name in path[:-1]:
            parent = parent[name]
        is_allowed = not forbidden
        parent[path[-1]] = (
            _resolve(tree, path, text, config, problems) if is_allowed else UNRESOLVED
        )
    return plain[key]


def find_interpolations(
    node: Any, path: tuple[Any, ...] = ()
) -> Iterator[tuple[tuple[Any, ...], str]]:
    """Find the texts of a config that hold an interpolation.

    Args:
        node: A config or a node of it, as plain containers.
        path: The keys and positions that lead to the node.

    Yields:
        The path of each text, and the text.

    Example:
        >>> list(find_interpolations({"seed": 3, "names": ["run ${seed}"]}))
        [(('names', 0), 'run ${seed}')]
    """
    if isinstance(node, Mapping):
        for key, value in node.items():
            yield from find_interpolations(value, (*path, key))
    elif isinstance(node, list):
        for position, value in enumerate(node):
            yield from find_interpolations(value, (*path, position))
    elif isinstance(node, str) and "${" in node:
        yield path, node


def _resolve(
    tree: Any, path: tuple[Any, ...], text: str, config: Mapping[str, Any], problems: list[str]
) -> Any:
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    try:
        for name in path:
            tree = tree[name]
        return OmegaConf.to_container(tree, resolve=True) if OmegaConf.is_config(tree) else tree
    except OmegaConfBaseException as error:
        key = ".".join(map(str, path))
        if "tuned_lr" in text:
            choices = config["choices"]
            problems.append(
                f"{key}: no learning rate was tuned for method {choices['method']!r} on data "
                f"{choices['data']!r}. Choose one, such as {key}=0.05."
            )
        else:
            problems.append(f"{key}={text} cannot be resolved: {str(error).splitlines()[0]}")
        return UNRESOLVED


def _forbidden_uses(text: str) -> list[str]:
    """Return messages on resolvers and environment variables that a text must not use."""
    from omegaconf.errors import GrammarParseError
    from omegaconf.grammar.gen.OmegaConfGrammarParser import OmegaConfGrammarParser
    from omegaconf.grammar_parser import parse

    try:
        trees = [parse(text)]
    except GrammarParseError as error:
        return [str(error).splitlines()[0]]
    problems = []
    while trees:
        tree = trees.pop()
        trees += getattr(tree, "children", None) or []
        if not isinstance(tree, OmegaConfGrammarParser.InterpolationResolverContext):
            continue
        resolver = tree.resolverName().getText()
        arguments = tree.sequence().getText() if tree.sequence() else ""
        variable = arguments.partition(",")[0].strip()
        if resolver != "oc.env":
            problems.append(f"${{{resolver}:...}} is not allowed in a config; oc.env is")
        elif variable not in ENVIRONMENT:
            problems.append(
                f"${{oc.env:{variable}}} is not allowed: a config is written to files and logs. "
                f"Allowed variables: {', '.join(ENVIRONMENT)}."
            )
    return problems

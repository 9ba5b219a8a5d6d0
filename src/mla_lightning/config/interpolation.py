"""Resolve interpolations; what they may read is limited, since configs end in files and logs."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from typing import Any

from mla_lightning.run_folder.schema import UNRESOLVED

#: Environment variables that a config may read.
ENVIRONMENT = ("MLA_DATA_DIR", "MLA_OUTPUT_DIR", "TMPDIR", "SLURM_TMPDIR", "SCRATCH")


def resolved(config: Mapping[str, Any], faults: list[str]) -> dict[str, Any]:
    """Resolve all interpolations.

    Args:
        config: The config with its values set.
        faults: What cannot or must not be resolved is added here.

    Returns:
        Plain containers; what is not resolved is ``UNRESOLVED``.
    """
    plain = copy.deepcopy(dict(config))
    found = list(interpolations(config))
    if not found:
        return plain
    from omegaconf import OmegaConf

    tree = OmegaConf.create(dict(config))
    for path, text in found:
        key = ".".join(map(str, path))
        forbidden = _forbidden_in(text)
        faults += [f"{key}: {fault}" for fault in forbidden]
        parent: Any = plain
        for part in path[:-1]:
            parent = parent[part]
        parent[path[-1]] = UNRESOLVED if forbidden else _value(tree, path, text, config, faults)
    return plain


def interpolations(node: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[tuple[Any, ...], str]]:
    """Find the texts of a config that hold an interpolation.

    Args:
        node: A config or a part of it, as plain containers.
        path: Where the part is.

    Yields:
        Path and text.
    """
    if isinstance(node, Mapping):
        for key, value in node.items():
            yield from interpolations(value, (*path, key))
    elif isinstance(node, list):
        for position, value in enumerate(node):
            yield from interpolations(value, (*path, position))
    elif isinstance(node, str) and "${" in node:
        yield path, node


def _value(
    tree: Any, path: tuple[Any, ...], text: str, config: Mapping[str, Any], faults: list[str]
) -> Any:
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    try:
        for part in path:
            tree = tree[part]
        return OmegaConf.to_container(tree, resolve=True) if OmegaConf.is_config(tree) else tree
    except OmegaConfBaseException as error:
        key = ".".join(map(str, path))
        if "tuned_lr" in text:
            chosen = config["choices"]
            faults.append(
                f"{key}: no learning rate was tuned for method {chosen['method']!r} on data "
                f"{chosen['data']!r}. Choose one, such as {key}=0.05."
            )
        else:
            faults.append(f"{key}={text} cannot be resolved: {str(error).splitlines()[0]}")
        return UNRESOLVED


def _forbidden_in(text: str) -> list[str]:
    """Find what an interpolation must not do: read any environment variable, decode texts."""
    from omegaconf.errors import GrammarParseError
    from omegaconf.grammar.gen.OmegaConfGrammarParser import OmegaConfGrammarParser
    from omegaconf.grammar_parser import parse

    try:
        trees = [parse(text)]
    except GrammarParseError as error:
        return [str(error).splitlines()[0]]
    faults = []
    while trees:
        tree = trees.pop()
        trees += getattr(tree, "children", None) or []
        if not isinstance(tree, OmegaConfGrammarParser.InterpolationResolverContext):
            continue
        resolver = tree.resolverName().getText()
        arguments = tree.sequence().getText() if tree.sequence() else ""
        variable = arguments.partition(",")[0].strip()
        if resolver != "oc.env":
            faults.append(f"${{{resolver}:...}} is not allowed in a config; oc.env is")
        elif variable not in ENVIRONMENT:
            faults.append(
                f"${{oc.env:{variable}}} is not allowed: a config is written to files and logs. "
                f"Allowed variables: {', '.join(ENVIRONMENT)}."
            )
    return faults

"""Checks of a user's YAML files, before Hydra reads them: encoding, syntax, size, loops."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

from mla_lightning.config.grammar import interpolation_problem
from mla_lightning.errors import ConfigError

#: Largest size of a file in bytes, depth of its values, and number of them with aliases expanded.
MAX_BYTES = 1_000_000
MAX_DEPTH = 30
MAX_VALUES = 20_000
_STANDARD_TAG = "tag:yaml.org,2002:"
_KEY_TYPES = ("str", "int", "merge")


def check_folder(folder: Path) -> None:
    """Check all config files of a folder.

    Args:
        folder: A user's own folder of groups.

    Raises:
        ConfigError: If a file cannot be used; the message names the file, and the line if it has
            one.

    Example:
        >>> (tmp / "method").mkdir()
        >>> _ = (tmp / "method" / "mine.yaml").write_text("level: [0.1")
        >>> check_folder(tmp)
        Traceback (most recent call last):
        mla_lightning.errors.ConfigError: ...mine.yaml, line 1: expected ',' or ']', but ...
    """
    for path in sorted(folder.rglob("*")):
        if path.suffix in (".yml", ".YAML", ".YML"):
            raise ConfigError(
                f"{path}: configs end with .yaml. Rename it to {path.with_suffix('.yaml').name}"
            )
        if path.suffix == ".yaml" and path.is_file():
            check_file(path)


def check_file(path: Path) -> None:
    """Check one config file; see :func:`check_folder`.

    Args:
        path: The file.

    Raises:
        ConfigError: If it cannot be used.

    Example:
        >>> path = tmp / "mine.yaml"
        >>> _ = path.write_bytes("name: Größe".encode("latin-1"))
        >>> check_file(path)
        Traceback (most recent call last):
        mla_lightning.errors.ConfigError: ...mine.yaml: line 1 is not encoded in UTF-8. Save it ...
    """
    import yaml

    text = _read_text(path)
    try:
        root = yaml.compose(text, Loader=yaml.SafeLoader)
        depth, num_values = (0, 0) if root is None else _measure(root, {}, ())
    except yaml.MarkedYAMLError as error:
        line = f", line {error.problem_mark.line + 1}" if error.problem_mark else ""
        context = f" ({error.context})" if error.context else ""
        raise ConfigError(f"{path}{line}: {error.problem}{context}") from error
    except yaml.YAMLError as error:
        raise ConfigError(f"{path}: {' '.join(str(error).split())}") from error
    except RecursionError as error:
        raise ConfigError(_too_deep(path)) from error
    if depth > MAX_DEPTH:
        raise ConfigError(_too_deep(path))
    if num_values > MAX_VALUES:
        raise ConfigError(
            f"{path} has {num_values} values with its aliases (*name) expanded; a config has at "
            f"most {MAX_VALUES}. Leave out the aliases."
        )
    if root is not None and not isinstance(root, yaml.MappingNode):
        raise ConfigError(f"{path} holds no config, that is, no mapping of keys to values")


def _read_text(path: Path) -> str:
    content = path.read_bytes()
    if len(content) > MAX_BYTES:
        raise ConfigError(f"{path} has {len(content)} bytes; a config has at most {MAX_BYTES}")
    if content.startswith((b"\xff\xfe", b"\xfe\xff", b"\xef\xbb\xbf")):
        raise ConfigError(
            f"{path} begins with a byte order mark. Save it as UTF-8 without one, or Hydra takes "
            "its first line for a key"
        )
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise ConfigError(
            f"{path}: line {line} is not encoded in UTF-8. Save it as UTF-8 in your editor, or "
            f"run: iconv -f latin1 -t utf-8 {path.name} > new.yaml"
        ) from error


def _measure(
    node: Any, known: dict[int, tuple[int, int]], above: tuple[int, ...]
) -> tuple[int, int]:
    """Return depth and number of values of a YAML node, where an alias counts in full."""
    import yaml

    if id(node) in above:
        raise yaml.MarkedYAMLError(
            problem="an alias (*name) is part of its own value", problem_mark=node.start_mark
        )
    if id(node) not in known:
        children = []
        if problem := _scalar_problem(node):
            raise yaml.MarkedYAMLError(problem=problem, problem_mark=node.start_mark)
        if isinstance(node, yaml.SequenceNode):
            children = node.value
        elif isinstance(node, yaml.MappingNode):
            children = [item for pair in node.value for item in pair]
            if any(key.tag.rpartition(":")[2] not in _KEY_TYPES for key, _ in node.value):
                raise yaml.MarkedYAMLError(
                    problem="a key is no text: write it in quotes", problem_mark=node.start_mark
                )
            names = [key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode)]
            repeated = next((n for n, count in Counter(names).items() if count > 1), None)
            if repeated is not None:
                raise yaml.MarkedYAMLError(
                    problem=f"key {repeated!r} is given twice", problem_mark=node.start_mark
                )
        sizes = [_measure(child, known, (*above, id(node))) for child in children]
        depth = 1 + max((depth for depth, _ in sizes), default=0)
        known[id(node)] = depth, 1 + sum(number for _, number in sizes)
    return known[id(node)]


def _scalar_problem(node: Any) -> str:
    """Return what is wrong with a value of its own; empty for one that can be read."""
    if not node.tag.startswith(_STANDARD_TAG):
        return f"the tag {node.tag} cannot be used in a config. Write a plain value"
    if node.tag.startswith(f"{_STANDARD_TAG}python"):
        name = node.tag.removeprefix(_STANDARD_TAG)
        return f"the tag !!{name} cannot be used in a config: it would run code"
    return interpolation_problem(node.value) if isinstance(node.value, str) else ""


def _too_deep(path: Path) -> str:
    return f"{path}: values are nested more than {MAX_DEPTH} levels deep"

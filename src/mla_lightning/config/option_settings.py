"""The settings of an option of a group, with values and comments, read from its YAML alone."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

#: Group -> where its settings are in the config, if that is not the group's own name. Empty: the
#: file is read by name, and its values are no settings of a run.
_PLACES = {
    "fusion": "method.fusion",
    "held_out": "data",
    **dict.fromkeys(("metric", "panel", "report", "search"), ""),
}
_GLOBAL = "# @package _global_"
#: Keys that say what a file is made of.
_PARTS = ("defaults", "_partial_")


@dataclass(frozen=True)
class Setting:
    """One setting of an option.

    Attributes:
        key: Its dotted key on the command line, such as ``method.alpha``, or a group.
        value: Its value as text, as the command line takes it.
        comment: The comment above it or beside it; empty without one.
        is_grid: Whether the value is a list for ``-m``.

    Example:
        >>> Setting("seed", "0", "Seed of all random numbers.").word
        'seed=0'
    """

    key: str
    value: str
    comment: str = ""
    is_grid: bool = False

    @property
    def word(self) -> str:
        """The word of a command line that sets it."""
        return f"{self.key}={self.value}"


def settings_of(group: str, path: Path, known: Mapping[str, Path]) -> list[Setting]:
    """Return the settings of an option, those of the options that it is made of included.

    Args:
        group: The group, such as ``method``.
        path: The option's YAML.
        known: The options of the group, option -> YAML.

    Returns:
        The settings in the order of the file. Choices of other groups come first; the values of a
        grid are separated by commas, as with ``-m``. The class and ``defaults`` are left out.

    Example:
        >>> from mla_lightning.config.search import options, search_path
        >>> known = options(search_path(None), "method")
        >>> [setting.word for setting in settings_of("method", known["mla"], known)][:3]
        ['fusion@method.fusion=shared_head', 'method.hgm=true', 'method.df=true']
    """
    import yaml

    text = path.read_text(encoding="utf-8")
    root = yaml.compose(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    if not isinstance(root, yaml.MappingNode):
        return []
    lines = text.splitlines()
    is_global = _GLOBAL in lines
    place = "" if is_global else _PLACES.get(group, group)
    found: dict[tuple[str, bool], Setting] = {}
    for default in _defaults(root):
        for choice in _choices(default, group, place, known):
            found[choice.key, choice.is_grid] = choice
    header = next((n for n, line in enumerate(lines) if not line.startswith("#")), len(lines))
    for setting in _walk(root, place, lines, header):
        if setting.key != f"{place or group}._target_":
            found[setting.key, setting.is_grid] = setting
    return list(found.values())


def is_of_runs(group: str) -> bool:
    """Return whether the values of a group's files are settings of a run.

    Example:
        >>> is_of_runs("optimizer"), is_of_runs("panel")
        (True, False)
    """
    return _PLACES.get(group) != ""


def split_header(text: str) -> tuple[str, list[str]]:
    r"""Return the comment at the top of a YAML without its commands, and these.

    Args:
        text: The text of the file. Commands are indented in the comment, or follow a colon at its
            end; ``# @package`` is left out.

    Example:
        >>> split_header("# Mine: my own method.\n#   mla train method=mine\nlevel: 0.1\n")
        ('Mine: my own method.', ['mla train method=mine'])
    """
    prose, commands = [], []
    for line in text.splitlines():
        if not line.startswith("#"):
            break
        if line.startswith("#   "):
            commands.append(line[4:].rstrip())
        elif not line.startswith("# @package"):
            prose.append(line.lstrip("# ").rstrip())
    comment = " ".join(prose)
    if match := re.search(r":\s+(mla .*)", comment):
        return f"{comment[: match.start()]}.", [*commands, match[1]]
    return comment, commands


def _defaults(root: Any) -> Iterator[Any]:
    """Yield the items of ``defaults`` as plain values."""
    import yaml

    for key, value in root.value:
        if key.value == "defaults":
            yield from yaml.SafeLoader("").construct_object(value, deep=True) or []


def _choices(default: Any, group: str, place: str, known: Mapping[str, Path]) -> Iterator[Setting]:
    """Yield what one item of ``defaults`` chooses: a word of another group, or all settings."""
    if isinstance(default, str):
        if default in known:
            yield from settings_of(group, known[default], known)
        return
    for key, option in default.items():
        name = key.removeprefix("override ").strip()
        other, _, package = name.lstrip("/").partition("@")
        if package.startswith("_global_."):
            other = f"{other}@{package.removeprefix('_global_.')}"
        elif package:
            other = f"{other}@{place}.{package}".replace("@.", "@")
        yield Setting(other, "null" if option is None else str(option))


def _walk(
    node: Any, prefix: str, lines: list[str], header: int, *, is_grid: bool = False
) -> Iterator[Setting]:
    """Yield the settings below a node of a YAML; of a grid, lists of values."""
    import yaml

    for key_node, value in node.value:
        name = key_node.value
        if name in _PARTS or (name == "_target_" and not prefix):
            continue
        key = f"{prefix}.{name}" if prefix else name
        if isinstance(value, yaml.MappingNode) and value.value:
            in_grid = key == "grid"
            yield from _walk(value, "" if in_grid else key, lines, header, is_grid=in_grid)
            continue
        comment = _comment_at(key_node.start_mark.line, lines, header)
        text = _text_of(value)
        yield Setting(key, text[1:-1] if is_grid else text, comment, is_grid)


def _text_of(node: Any) -> str:
    import yaml

    if isinstance(node, yaml.SequenceNode):
        return f"[{','.join(map(_text_of, node.value))}]"
    if isinstance(node, yaml.MappingNode):
        return f"{{{','.join(f'{k.value}:{_text_of(v)}' for k, v in node.value)}}}"
    return str(node.value)


def _comment_at(number: int, lines: list[str], header: int) -> str:
    """Return the comment above a line, without the header of the file, else the one beside it."""
    above: list[str] = []
    for place in range(number - 1, header - 1, -1):
        line = lines[place].strip()
        if not line.startswith("#"):
            break
        above.insert(0, line.lstrip("# "))
    beside = lines[number].partition(" # ")[2].strip()
    return " ".join(above) or beside

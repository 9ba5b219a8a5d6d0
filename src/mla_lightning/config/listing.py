"""The options of groups with descriptions, read from YAML and source text without imports."""

from __future__ import annotations

import ast
import functools
import math
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from mla_lightning.config.option_settings import split_header
from mla_lightning.config.search import options, search_path
from mla_lightning.config.targets import TARGET
from mla_lightning.identity.sources import find_source
from mla_lightning.run_folder.tasks import CLASSIFICATION, TASKS


@dataclass(frozen=True)
class Entry:
    """One option of a group.

    Attributes:
        name: Its name, such as ``ogm_ge``.
        label: Its name in tables and figures, such as ``OGM-GE``; see :func:`label_of`.
        summary: The first sentence of the comment at the top of its YAML, without the label.
        path: Its YAML.
        target: The class that it names, empty if it names none.
        docstring: The first line of that class's docstring.
        reference: Venue, year and address, empty if the class names no publication.
        num_jobs: The number of jobs of its grid, 1 without a grid.
        not_for: Of a method: task that it is not for -> the reason.

    Example:
        >>> entry = next(entry for entry in list_entries("method") if entry.name == "ogm_ge")
        >>> entry.target, entry.reference
        ('mla_lightning.methods.ogm_ge.OGMGE', 'CVPR 2022, https://arxiv.org/abs/2203.15332')
    """

    name: str
    label: str
    summary: str
    path: Path
    target: str = ""
    docstring: str = ""
    reference: str = ""
    num_jobs: int = 1
    not_for: Mapping[str, str] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Return the fields as JSON values, with the names above as keys.

        Example:
            >>> entry = Entry("flat", "Flat", "A flat rate.", Path("conf/scheduler/flat.yaml"))
            >>> entry.to_json()["path"], entry.to_json()["num_jobs"]
            ('conf/scheduler/flat.yaml', 1)
        """
        return {**asdict(self), "path": str(self.path)}


def list_entries(group: str, config_dir: Path | None = None) -> list[Entry]:
    """Return the options of a group with their descriptions.

    Args:
        group: A group, such as ``method``.
        config_dir: A user's own folder of groups, None for none.

    Returns:
        The options, sorted by name.

    Example:
        >>> [(entry.name, entry.num_jobs) for entry in list_entries("experiment")][-2:]
        [('tuning/store', 432), ('tuning/tuxstamps', 420)]
    """
    known = options(search_path(config_dir), group)
    return [describe(group, name, known) for name in known]


def describe(group: str, name: str, known: Mapping[str, Path]) -> Entry:
    """Return one option of a group with its description.

    Args:
        group: The group.
        name: The option.
        known: The options of the group; see :func:`mla_lightning.config.search.options`.

    Example:
        >>> describe("scheduler", "cosine", options(search_path(None), "scheduler")).label
        'Cosine'
    """
    import yaml

    text = known[name].read_text(encoding="utf-8")
    content = yaml.safe_load(text) or {}
    target = _target_of(group, content, known)
    grid = content.get("grid") or {}
    return Entry(
        name=name,
        label=_label(name, text),
        summary=_summary(name, text),
        path=known[name],
        target=target,
        docstring=docstring_of(target),
        reference=reference_of(target),
        num_jobs=math.prod(len(values) for values in grid.values()),
        not_for=refused_tasks_of(target) if group == "method" else {},
    )


def docstring_of(target: str) -> str:
    """Return the first line of a class's docstring, without formulas; empty if there is none.

    Example:
        >>> docstring_of("mla_lightning.run_folder.lock.RunLock")
        'Exclusive use of a run folder by one process.'
    """
    definition = class_of(target)
    line = (ast.get_docstring(definition[0]) or "").partition("\n")[0] if definition else ""
    return re.sub(r":? :math:`[^`]*`", "", line)


def reference_of(target: str) -> str:
    """Return the publication of a class or of one of its bases, read from the source text.

    Example:
        >>> reference_of("mla_lightning.methods.mla_released.MLAReleased")
        'CVPR 2024, https://arxiv.org/abs/2311.10707'
    """
    definition = class_of(target)
    if definition is None:
        return ""
    node, imports, module = definition
    for statement in node.body:
        match statement:
            case ast.Assign(targets=[ast.Name(id="reference")], value=ast.Call() as call):
                arguments = dict(zip(("title", "venue", "year", "url"), call.args, strict=False))
                arguments |= {word.arg: word.value for word in call.keywords if word.arg}
                fields = {key: ast.literal_eval(value) for key, value in arguments.items()}
                return f"{fields['venue']} {fields['year']}, {fields['url']}"
    for base in node.bases:
        if isinstance(base, ast.Name):
            base_target = imports.get(base.id, f"{module}.{base.id}")
            if reference := reference_of(base_target):
                return reference
    return ""


def refused_tasks_of(target: str) -> dict[str, str]:
    """Return the tasks that a method is not for, with the reasons, read from the source text.

    Example:
        >>> refused_tasks_of("mla_lightning.methods.qmf.QMF")
        {'regression': 'one number has no energy. Use method=late_fusion or method=mla'}
        >>> refused_tasks_of("mla_lightning.methods.mla_released.MLAReleased")
        {}
    """
    follows, reasons = (_attribute_of(target, name) for name in ("follows_task", "not_for"))
    unknown = "" if follows else "its losses are those of classes"
    by_task = {task: (reasons or {}).get(task, unknown) for task in TASKS if task != CLASSIFICATION}
    return {task: reason for task, reason in by_task.items() if reason}


def _attribute_of(target: str, name: str) -> Any:
    """Return a class attribute that is a literal, of a class or of one of its bases."""
    definition = class_of(target)
    if definition is None:
        return None
    node, imports, module = definition
    for statement in node.body:
        match statement:
            case ast.Assign(targets=[ast.Name(id=found)], value=value) if found == name:
                return ast.literal_eval(value)
            case ast.AnnAssign(target=ast.Name(id=found), value=ast.expr() as value):
                if found == name:
                    return ast.literal_eval(value)
    for base in node.bases:
        if isinstance(base, ast.Name):
            value = _attribute_of(imports.get(base.id, f"{module}.{base.id}"), name)
            if value is not None:
                return value
    return None


@functools.cache
def class_of(target: str) -> tuple[ast.ClassDef, dict[str, str], str] | None:
    """Find a class in the source text of its module.

    Args:
        target: The dotted name of the class.

    Returns:
        The syntax of the class, the module's imports (local name -> dotted name), and the name of
        the module; None if there is no such class.

    Example:
        >>> node, imports, module = class_of("mla_lightning.run_folder.lock.RunLock")
        >>> node.name, imports["RunError"], module
        ('RunLock', 'mla_lightning.errors.RunError', 'mla_lightning.run_folder.lock')
    """
    module, _, name = target.rpartition(".")
    source = find_source(module)
    if source is None:
        return None
    for statement in source.tree.body:
        if isinstance(statement, ast.ClassDef) and statement.name == name:
            return statement, source.names, module
    return None


def _target_of(group: str, content: Mapping[str, Any], known: Mapping[str, Path]) -> str:
    """Return the class that a YAML names: at the top, below its group's key, or by default."""
    import yaml

    for node in (content, content.get(group)):
        if isinstance(node, Mapping) and TARGET in node:
            return str(node[TARGET])
    for default in content.get("defaults") or []:
        if isinstance(default, str) and default in known:
            parent = yaml.safe_load(known[default].read_text(encoding="utf-8"))
            return _target_of(group, parent or {}, known)
    return ""


def label_of(group: str, name: str, config_dir: Path | None = None) -> str:
    """Return the name of an option in tables and figures, spelled as its paper spells it.

    The label is the text before the first colon of the comment at the top of the option's YAML,
    such as ``# OGM-GE: Joint training that ...``. It must begin with the option's name, up to case,
    blanks and punctuation, so that another colon in a summary makes no label.

    Args:
        group: A group, such as ``method``.
        name: The option.
        config_dir: A user's own folder of groups, None for none.

    Returns:
        The label; the name itself without one.

    Example:
        >>> label_of("method", "ogm_ge")
        'OGM-GE'
        >>> label_of("method", "no_such_method")
        'no_such_method'
    """
    path = options(search_path(config_dir), group).get(name)
    return name if path is None else _label(name, path.read_text(encoding="utf-8"))


def _label(name: str, text: str) -> str:
    label, colon, _ = split_header(text)[0].partition(": ")
    letters = ["".join(c for c in word.casefold() if c.isalnum()) for word in (label, name)]
    return label if colon and letters[0].startswith(letters[1]) else name


def summary_of(path: Path) -> str:
    r"""Return the first sentence of the comment at the top of a YAML, without the label.

    Example:
        >>> path = tmp / "mine.yaml"
        >>> _ = path.write_text("# Mine: My own method. It is fast.\n_target_: my_lab.Mine\n")
        >>> summary_of(path)
        'My own method.'
    """
    return _summary(path.stem, path.read_text(encoding="utf-8"))


def _summary(name: str, text: str) -> str:
    comment = split_header(text)[0].removeprefix(f"{_label(name, text)}: ")
    return re.split(r"(?<=[.?!])\s", comment, maxsplit=1)[0]

"""The page METHODS.md, written from the YAMLs and the source text of all methods."""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mla_lightning.config.listing import Entry, class_of, list_entries

#: The order of the page, methods of the paper's Table 1 first; all others follow by name.
ORDER = (
    "mla",
    "sum",
    "concat",
    "late_fusion",
    "film",
    "bigated",
    "ogm_ge",
    "ogm",
    "qmf",
    "unimodal",
    "joint_unimodal",
    "mla_paper",
    "mla_released",
    "mla_balancemm",
)

HEAD = """\
# Methods

Made by `make docs` from the classes and their configs; edit those, not this page.

A method is a training rule (`src/mla_lightning/methods/`) with a fusion
(`src/mla_lightning/fusion/`); its YAML is in `conf/method/`. Every method reports the fused logits
(`multi`) and each modality's own logits, the latter by the fusion's named rule.

| method | option | what it is | class | fusion | single modality | published |
|---|---|---|---|---|---|---|
"""


def methods_page(config_dir: Path | None = None) -> str:
    r"""Format the page.

    Args:
        config_dir: A user's own folder of groups, None for none.

    Returns:
        Markdown.

    Example:
        >>> print(methods_page().partition("\n")[0])
        # Methods
    """
    methods = {entry.name: entry for entry in list_entries("method", config_dir)}
    fusions = {entry.name: entry for entry in list_entries("fusion", config_dir)}
    names = [n for n in ORDER if n in methods] + sorted(methods.keys() - set(ORDER))
    rows, sections = [], []
    for name in names:
        entry, fusion = methods[name], fusions.get(_fusion_of(methods, name))
        cls = entry.target.rpartition(".")[2]
        rule = _rule_of(fusion) if fusion else ""
        published = _link(entry.reference)
        rows.append(
            f"| [{entry.label}](#{_anchor(entry.label)}) | `{name}` | {entry.summary} | `{cls}` | "
            f"`{fusion.name if fusion else ''}` | `{rule}` | {published} |"
        )
        sections.append(_section(entry, fusion))
    blocks = [HEAD + "\n".join(rows), *sections, "## Fusions"]
    blocks += [f"### {e.name} fusion\n\n{_docstring(e.target)}" for e in fusions.values()]
    return "\n\n".join(blocks) + "\n"


def _anchor(title: str) -> str:
    """Return the anchor of a heading on GitHub."""
    return re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-")


def _section(entry: Entry, fusion: Entry | None) -> str:
    path = entry.target.rpartition(".")[0].replace(".", "/")
    lines = [
        f"## {entry.label}",
        f"`mla train method={entry.name}` - `src/{path}.py`, `conf/method/{entry.name}.yaml`"
        + (f", fusion `{fusion.name}`" if fusion else ""),
        _docstring(entry.target),
    ]
    settings = _settings(entry.path)
    if settings:
        table = ["| setting | default | meaning |", "|---|---|---|"]
        table += [f"| `method.{k}` | `{v}` | {meaning} |" for k, v, meaning in settings]
        lines.append("\n".join(table))
    return "\n\n".join(lines)


def _settings(path: Path) -> list[tuple[str, str, str]]:
    """Return keys, defaults and the comments above them of a YAML."""
    settings, comment = [], []
    for line in path.read_text(encoding="utf-8").splitlines():
        if line.startswith("#"):
            comment.append(line.lstrip("# "))
        elif match := re.match(r"([a-z_]+): *(\S.*)?$", line):
            key, value = match.groups()
            if key not in ("defaults", "fusion") and value is not None:
                settings.append((key, value, " ".join(comment)))
            comment = []
        else:
            comment = []
    return [(k, v, c.replace("|", "\\|")) for k, v, c in settings if not k.startswith("_")]


def _fusion_of(methods: Mapping[str, Entry], name: str) -> str:
    """Return the fusion that a method's YAML, or a YAML among its defaults, chooses."""
    import yaml

    content: Any = yaml.safe_load(methods[name].path.read_text(encoding="utf-8")) or {}
    for default in content.get("defaults") or []:
        if isinstance(default, Mapping):
            for key, value in default.items():
                if "fusion@" in key:
                    return str(value)
    for default in content.get("defaults") or []:
        if isinstance(default, str) and default in methods:
            return _fusion_of(methods, default)
    return ""


def _rule_of(fusion: Entry) -> str:
    """Return the name of a fusion's rule for single modalities, as its class or a base sets it."""
    target = fusion.target
    while target:
        definition = class_of(target)
        if definition is None:
            return ""
        node, imports, module = definition
        for statement in node.body:
            match statement:
                case ast.Assign(targets=[ast.Name(id="unimodal_rule")], value=ast.Constant(value)):
                    return str(value)
                case ast.FunctionDef(name="__init__", args=arguments):
                    with_defaults = zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True)
                    for argument, default in with_defaults:
                        if argument.arg == "unimodal_rule" and isinstance(default, ast.Constant):
                            return str(default.value)
        bases = [base.id for base in node.bases if isinstance(base, ast.Name)]
        target = imports.get(bases[0], f"{module}.{bases[0]}") if bases else ""
    return ""


def _docstring(target: str) -> str:
    definition = class_of(target)
    text = inspect.cleandoc(ast.get_docstring(definition[0]) or "") if definition else ""
    text = text.partition("\n\nExample:")[0]
    text = re.sub(r":math:`([^`]*)`", r"$\1$", text)
    return re.sub(r"``([^`]*)``", r"`\1`", text)


def _link(reference: str) -> str:
    venue, _, url = reference.rpartition(", ")
    return f"[{venue}]({url})" if venue else ""

"""The verb ``mla list``: the groups of options, the options of one, and all about one option."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from mla_lightning.errors import ConfigError, near

if TYPE_CHECKING:
    from mla_lightning.config.listing import Entry

LIST = """\
examples:
  mla list                                           the groups
  mla list methods                                   the options of one, a line each
  mla list methods mla                               all about one: settings, class, publication
  mla list experiments
  mla list methods --config-dir my_conf              include your own
  mla list methods --json                            for scripts

--json prints a list of objects. Of options, with the keys name, label, summary, path, target (the
class), docstring, reference, num_jobs and not_for (task -> reason). Of groups, with the keys kind,
group, purpose and num_options. In a terminal, lines are cut to its width; NO_COLOR=1 has no colour.
"""
#: Style of names in a terminal, and of what explains them.
_NAME, _MINOR = "bold cyan", "dim"
#: Largest width of a column of settings.
_MAX_WIDTH = 44


def list_options(options: argparse.Namespace) -> int:
    """Print the groups, the options of a group, or one option.

    Args:
        options: ``overrides``, the words ``[KIND [NAME]]``; ``config_dir``; ``json``.

    Returns:
        The exit code 0.

    Raises:
        ConfigError: If there is no such group or option.

    Example:
        >>> words = ["ablations"]
        >>> list_options(argparse.Namespace(overrides=words, config_dir=None, json=False))
        no_df         MLA without dynamic fusion: the mean of the logits at test time.
        no_hgm        ...
        0
    """
    from mla_lightning.config.listing import describe
    from mla_lightning.config.search import options as options_of
    from mla_lightning.config.search import search_path, unknown_option_message

    if not options.overrides:
        _list_groups(options.config_dir, as_json=options.json)
        return 0
    kind, *names = options.overrides
    if len(names) > 1:
        raise ConfigError(f"mla list takes KIND and NAME, but also got {' '.join(names[1:])!r}")
    group = _group_of(kind, options.config_dir)
    known = options_of(search_path(options.config_dir), group)
    if names and names[0] not in known:
        raise ConfigError(unknown_option_message(group, names[0], known))
    entries = [describe(group, name, known) for name in names or known]
    if options.json:
        print(json.dumps([entry.to_json() for entry in entries], indent=2, ensure_ascii=False))
    elif names:
        _show(group, entries[0], known)
    else:
        _list_entries(entries)
    return 0


def _group_of(kind: str, config_dir: Path | None) -> str:
    """Return the group that a word names, in the singular or the plural."""
    from mla_lightning.config.search import PLURALS, search_path
    from mla_lightning.config.search import options as options_of

    groups = {name: group for group, plural in PLURALS.items() for name in (group, plural)}
    if kind in groups:
        return groups[kind]
    folders = search_path(config_dir)
    holders = [plural for group, plural in PLURALS.items() if kind in options_of(folders, group)]
    commands = [f"mla list {plural} {kind}" for plural in holders]
    hint = f" It is an option: {' or '.join(commands)}." if commands else near(kind, groups)
    raise ConfigError(
        f"mla list: unknown kind {kind!r}.{hint} Known: {', '.join(PLURALS.values())}."
    )


def _list_groups(config_dir: Path | None, *, as_json: bool) -> None:
    from mla_lightning.config.search import PLURALS, PURPOSES, search_path
    from mla_lightning.config.search import options as options_of

    folders = search_path(config_dir)
    groups = [
        {
            "kind": plural,
            "group": group,
            "purpose": PURPOSES[group],
            "num_options": len(options_of(folders, group)),
        }
        for group, plural in PLURALS.items()
    ]
    if as_json:
        print(json.dumps(groups, indent=2))
        return
    width = max(len(plural) for plural in PLURALS.values()) + 2
    _print_lines(
        [
            (f"{item['kind']:<{width}}", f"{item['num_options']:>3}  ", str(item["purpose"]))
            for item in groups
        ]
    )
    print("\nmla list KIND shows the options of one, mla list KIND NAME all about one option.")


def _list_entries(entries: Sequence[Entry]) -> None:
    """Print one line per option: name, number of jobs where there are grids, label, summary."""
    width = max((len(entry.name) for entry in entries), default=0) + 2
    digits = max((len(str(entry.num_jobs)) for entry in entries), default=0)
    have_jobs = any(entry.num_jobs > 1 for entry in entries)
    lines = []
    for entry in entries:
        unit = "job " if entry.num_jobs == 1 else "jobs"
        jobs = f"{entry.num_jobs:>{digits}} {unit}  " if have_jobs else ""
        label = "" if entry.label == entry.name else f"{entry.label}: "
        lines.append((f"{entry.name:<{width}}", jobs, f"{label}{entry.summary}"))
    _print_lines(lines)


def _show(group: str, entry: Entry, known: Mapping[str, Path]) -> None:
    """Print all about one option."""
    from mla_lightning.config.option_settings import is_of_runs, settings_of, split_header

    prose, commands = split_header(entry.path.read_text(encoding="utf-8"))
    facts = {
        "class": entry.target,
        "": entry.docstring,
        "publication": entry.reference,
        **{f"not for {task}": reason for task, reason in entry.not_for.items()},
        "jobs": str(entry.num_jobs) if entry.num_jobs > 1 else "",
        "file": str(entry.path),
    }
    facts = {name: text for name, text in facts.items() if text}
    width = max(map(len, facts)) + 2
    _print_pairs([(entry.name, "")])
    _print_pairs([("", prose)])
    print()
    _print_pairs([(f"{name:<{width}}", text) for name, text in facts.items()])
    if commands:
        _print_pairs([("  ", command) for command in commands], title="examples")
    if settings := settings_of(group, entry.path, known):
        width = min(max(len(setting.word) for setting in settings), _MAX_WIDTH) + 2
        texts = [setting.comment or "with -m" * setting.is_grid for setting in settings]
        pairs = [(f"  {s.word:<{width}}", text) for s, text in zip(settings, texts, strict=True)]
        _print_pairs(pairs, title="settings" if is_of_runs(group) else "values in the file")


def _print_lines(lines: Sequence[tuple[str, str, str]]) -> None:
    """Print lines of a name, a number and a text; in a terminal in colour, cut to its width."""
    if not sys.stdout.isatty():
        for line in lines:
            print("".join(line).rstrip())
        return
    from rich.console import Console
    from rich.text import Text

    console = Console(highlight=False)
    for name, number, text in lines:
        styled = Text.assemble((name, _NAME), (number, _MINOR), text)
        console.print(styled, no_wrap=True, overflow="ellipsis")


def _print_pairs(pairs: Sequence[tuple[str, str]], title: str = "") -> None:
    """Print pairs of a name and a text; in a terminal the text is wrapped beside the name."""
    if title:
        print(f"\n{title}")
    if not sys.stdout.isatty():
        for name, text in pairs:
            print(f"{name}{text}".rstrip())
        return
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    grid = Table.grid()
    grid.add_column(style=_NAME, no_wrap=True)
    grid.add_column()
    for name, text in pairs:
        grid.add_row(Text(name), Text(text))
    Console(highlight=False).print(grid)

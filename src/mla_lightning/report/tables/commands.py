"""The shell commands that repeat a set of runs, with runs that differ in one setting joined."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from mla_lightning.errors import RunError
from mla_lightning.report.read.run import Run
from mla_lightning.run_folder.reader import RunFiles

TRAIN = ("mla", "train")
EXPERIMENT = "experiment"


@dataclass(frozen=True)
class _Command:
    """A training command, or a sweep over all combinations of its values.

    Attributes:
        words: Words that are no settings, such as ``--config-dir DIR``.
        values: Pairs of key and values, in the order of the command.
        path: Folder of one of the runs.
    """

    words: tuple[str, ...]
    values: tuple[tuple[str, tuple[str, ...]], ...]
    path: Path | None

    @property
    def is_sweep(self) -> bool:
        return any(len(values) > 1 for _, values in self.values)

    @property
    def text(self) -> str:
        pairs = [f"{key}={','.join(sorted(values, key=_order))}" for key, values in self.values]
        return shlex.join([*TRAIN, *(["-m"] if self.is_sweep else []), *self.words, *pairs])

    def without(self, key: str) -> tuple[object, ...]:
        """Return all but the values of one key: commands that agree in it can be joined."""
        return self.words, tuple((k, values if k != key else ()) for k, values in self.values)


def commands(runs: Sequence[Run]) -> list[str]:
    """Return the commands that repeat runs.

    Commands that differ in one key are joined to a sweep, ``mla train -m seed=0,1``; each sweep
    holds exactly the given runs. The grid of an experiment would add the keys that a sweep leaves
    open, so such commands are not joined.

    Args:
        runs: The runs, in any state.

    Returns:
        Lines for a shell. Runs without a recorded command are counted in a comment.

    Example:
        >>> from mla_lightning.run_folder import State
        >>> retry = "mla train method=mla seed="
        >>> commands([
        ...     Run(run="", where="", state=State.FINISHED, retry=f"{retry}{seed}")
        ...     for seed in (0, 1)
        ... ])
        ['mla train -m method=mla seed=0,1']
    """
    parsed, others = [], []
    num_unknown = 0
    for run in runs:
        command = _parse(run)
        if command is not None:
            parsed.append(command)
        elif run.retry:
            others.append(run.retry)
        else:
            num_unknown += 1
    lines = [text for command in _join_all(parsed) for text in _texts(command, parsed)]
    if num_unknown:
        lines.append(f"# The commands of {num_unknown} runs are not recorded in their table.")
    return list(dict.fromkeys([*lines, *others]))


def _parse(run: Run) -> _Command | None:
    try:
        words = shlex.split(run.retry)
    except ValueError:
        return None
    if tuple(words[:2]) != TRAIN:
        return None
    pairs = [word.partition("=") for word in words[2:] if "=" in word and word[0] != "-"]
    rest = tuple(word for word in words[2:] if "=" not in word or word[0] == "-")
    values = tuple((key, (value,)) for key, _, value in pairs)
    if len({key for key, _ in values}) < len(values) or "-m" in rest:
        return None
    return _Command(rest, values, run.path)


def _join_all(singles: Sequence[_Command]) -> list[_Command]:
    joined = list(dict.fromkeys(singles))
    for key in dict.fromkeys(key for command in singles for key, _ in command.values):
        groups: dict[tuple[object, ...], list[_Command]] = {}
        for command in joined:
            others = command.without(key if key != EXPERIMENT else "")
            groups.setdefault(others, []).append(command)
        joined = [_join(key, group) for group in groups.values()]
    return joined


def _join(key: str, group: Sequence[_Command]) -> _Command:
    first = group[0]
    all_values = (value for command in group for value in dict(command.values).get(key, ()))
    values = tuple(dict.fromkeys(all_values))
    pairs = tuple((k, values if k == key else old) for k, old in first.values)
    return _Command(first.words, pairs, first.path)


def _texts(command: _Command, singles: Sequence[_Command]) -> Iterator[str]:
    """Yield a joined command, or the single ones if an experiment's grid would enlarge it."""
    values = dict(command.values)
    if not command.is_sweep or EXPERIMENT not in values or _grid(command.path) <= values.keys():
        yield command.text
        return
    for single in singles:
        single_values = dict(single.values)
        has_keys = single.words == command.words and single_values.keys() == values.keys()
        if has_keys and all(set(single_values[key]) <= set(values[key]) for key in values):
            yield single.text


def _grid(folder: Path | None) -> set[str]:
    """Return the keys of the grid of the experiment that a run belongs to."""
    if folder is None:
        return set()
    try:
        return set(RunFiles(folder).tree.get("grid") or ())
    except RunError:
        return set()


def _order(text: str) -> tuple[float, str]:
    try:
        return float(text), text
    except ValueError:
        return float("inf"), text

"""The commands that make runs again: as few lines as tell them exactly."""

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
class _Line:
    """Commands that differ in the values of some keys only, all combinations of them.

    Attributes:
        words: What is no setting, such as ``--config-dir DIR``.
        values: Key -> its values, in the order of the command.
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
        """All but one key's values: lines that agree in it become one."""
        return self.words, tuple((k, values if k != key else ()) for k, values in self.values)


def commands(runs: Sequence[Run]) -> list[str]:
    """Tell how to make runs again.

    Commands that differ in one key are told as one, ``mla train -m seed=0,1``; what results are
    products of values that hold just these runs. An experiment's grid would add to a sweep what
    the command leaves open, so such commands stay single.

    Args:
        runs: The runs, in any state.

    Returns:
        Lines for a shell. Runs whose command nobody kept are counted in a comment.
    """
    lines, others = [], []
    unknown = 0
    for run in runs:
        line = _line(run)
        if line is not None:
            lines.append(line)
        elif run.retry:
            others.append(run.retry)
        else:
            unknown += 1
    found = [text for line in _merged(lines) for text in _texts(line, lines)]
    if unknown:
        found.append(f"# {unknown} runs come from a table that does not tell their commands.")
    return list(dict.fromkeys([*found, *others]))


def _line(run: Run) -> _Line | None:
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
    return _Line(rest, values, run.path)


def _merged(lines: Sequence[_Line]) -> list[_Line]:
    kept = list(dict.fromkeys(lines))
    for key in dict.fromkeys(key for line in lines for key, _ in line.values):
        alike: dict[tuple[object, ...], list[_Line]] = {}
        for line in kept:
            alike.setdefault(line.without(key if key != EXPERIMENT else ""), []).append(line)
        kept = [_joined(key, group) for group in alike.values()]
    return kept


def _joined(key: str, group: Sequence[_Line]) -> _Line:
    first = group[0]
    values = tuple(dict.fromkeys(v for line in group for v in dict(line.values).get(key, ())))
    pairs = tuple((k, values if k == key else of) for k, of in first.values)
    return _Line(first.words, pairs, first.path)


def _texts(line: _Line, lines: Sequence[_Line]) -> Iterator[str]:
    own = dict(line.values)
    if not line.is_sweep or EXPERIMENT not in own or _grid(line.path) <= own.keys():
        yield line.text
        return
    for one in lines:
        single = dict(one.values)
        is_of = one.words == line.words and single.keys() == own.keys()
        if is_of and all(set(single[key]) <= set(own[key]) for key in own):
            yield one.text


def _grid(folder: Path | None) -> set[str]:
    """Return the axes of the experiment that a run came from."""
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

"""What was run: data, splits, methods, seeds, and which settings were varied."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

from mla_lightning.report.document.table import BLANK, Cell, Row, Section, Table
from mla_lightning.report.read.block import Block
from mla_lightning.report.read.run import Run
from mla_lightning.run_folder.reader import RunFiles

#: What runs tell of their origin: column -> field of a run.
ORIGINS = {"code": "code", "data": "data", "commit": "git_commit", "versions": "versions"}
#: Most values of a setting that are told.
MOST_VALUES = 12


def what_was_run(found: Sequence[tuple[str, Block]]) -> Table:
    """Describe experiments; what all have in common is told once, below.

    Args:
        found: Name of the experiment, and a block of its runs.

    Returns:
        The table.
    """
    origins = [
        {column: _distinct(block.runs, field) for column, field in ORIGINS.items()}
        for _, block in found
    ]
    differing = [column for column in ORIGINS if len({of[column] for of in origins}) > 1]
    shared = [f"{column} {origins[0][column]}" for column in ORIGINS if column not in differing]
    notes = [f"All runs: {'; '.join(text for text in shared if text.split()[1:])}."]
    rows = []
    for (name, block), origin in zip(found, origins, strict=True):
        states = Counter(run.state for run in block.runs)
        texts = (
            block.data_split or BLANK,
            ", ".join(dict.fromkeys(variant.method_label for variant in block.variants)),
            spans(block.seeds),
            ", ".join(f"{count} {state}" for state, count in states.most_common()),
            *(origin[column] or BLANK for column in differing),
        )
        rows.append(Row(f"{name}: {block.title}", tuple(map(Cell, texts))))
        notes += [f"{name}, {block.title}: {text}" for text in _about(block)]
    return Table(
        slug="what",
        title="What was run",
        corner="experiment and data",
        columns=("split", "methods", "seeds", "runs", *differing),
        sections=(Section("", tuple(rows)),),
        notes=tuple(note for note in notes if note != "All runs: ."),
    )


def spans(seeds: Sequence[int]) -> str:
    """Write seeds in short.

    Args:
        seeds: The seeds.

    Returns:
        ``0-9`` or ``0, 2, 5``.
    """
    ordered = sorted(seeds)
    if len(ordered) > 2 and ordered == list(range(ordered[0], ordered[-1] + 1)):
        return f"{ordered[0]}-{ordered[-1]}"
    return ", ".join(map(str, ordered))


def _about(block: Block) -> Iterator[str]:
    varied: dict[str, dict[str, None]] = {}
    for run in block.runs:
        for key, value in run.overrides:
            if (key, value) not in block.common:
                varied.setdefault(key, {})[value] = None
    if varied:
        told = "; ".join(f"{key}: {_listed(list(values))}" for key, values in varied.items())
        yield f"varied: {told}."
    if block.common:
        yield f"all with {', '.join(f'{key}={value}' for key, value in sorted(block.common))}."
    yield from _about_data(block.runs)


def _listed(values: Sequence[str]) -> str:
    more = len(values) - MOST_VALUES
    return ", ".join(values[:MOST_VALUES]) + (f" and {more} more" if more > 0 else "")


def _about_data(runs: Sequence[Run]) -> Iterator[str]:
    """Tell what the first run that says so knows of its split."""
    for run in runs:
        if run.path is None or not run.is_finished:
            continue
        about = RunFiles(run.path).provenance.get("data") or {}
        if about.get("description"):
            yield str(about["description"])
        for group, shared in (about.get("overlap") or {}).items():
            yield f"train and test share {shared} values of {group}."
        return


def _distinct(runs: Sequence[Run], field: str) -> str:
    return " / ".join(dict.fromkeys(str(value) for run in runs if (value := getattr(run, field))))

"""Table of what was run: data, splits, methods, seeds, states and varied settings."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

from mla_lightning.report.document.table import BLANK, Cell, Row, Section, Table
from mla_lightning.report.read.block import Block
from mla_lightning.report.read.run import Run
from mla_lightning.run_folder.reader import RunFiles

#: Column -> field of a run that states its provenance.
PROVENANCE = {"code": "code", "data": "data", "commit": "git_commit", "versions": "versions"}
#: Largest number of values of a setting that are listed.
MAX_VALUES = 12


def what_was_run(named_blocks: Sequence[tuple[str, Block]]) -> Table:
    """Make the table of what was run; provenance that all blocks share is in a note.

    Args:
        named_blocks: Name of the experiment, and a block of its runs.

    Returns:
        The table.
    """
    provenance = [
        {column: _distinct(block.runs, field) for column, field in PROVENANCE.items()}
        for _, block in named_blocks
    ]
    differing = [column for column in PROVENANCE if len({p[column] for p in provenance}) > 1]
    shared = [
        f"{column} {provenance[0][column]}" for column in PROVENANCE if column not in differing
    ]
    notes = [f"All runs: {'; '.join(text for text in shared if text.split()[1:])}."]
    rows = []
    for (name, block), values in zip(named_blocks, provenance, strict=True):
        states = Counter(run.state for run in block.runs)
        texts = (
            block.data_split or BLANK,
            ", ".join(dict.fromkeys(variant.method_label for variant in block.variants)),
            format_seeds(block.seeds),
            ", ".join(f"{count} {state}" for state, count in states.most_common()),
            *(values[column] or BLANK for column in differing),
        )
        rows.append(Row(f"{name}: {block.title}", tuple(map(Cell, texts))))
        notes += [f"{name}, {block.title}: {text}" for text in _block_notes(block)]
    return Table(
        slug="what",
        title="What was run",
        corner="experiment and data",
        columns=("split", "methods", "seeds", "runs", *differing),
        sections=(Section("", tuple(rows)),),
        notes=tuple(note for note in notes if note != "All runs: ."),
    )


def format_seeds(seeds: Sequence[int]) -> str:
    """Format seeds as a range or a list.

    Args:
        seeds: The seeds, in any order.

    Example:
        >>> format_seeds([2, 0, 1]), format_seeds([0, 2, 5])
        ('0-2', '0, 2, 5')
    """
    ordered = sorted(seeds)
    if len(ordered) > 2 and ordered == list(range(ordered[0], ordered[-1] + 1)):
        return f"{ordered[0]}-{ordered[-1]}"
    return ", ".join(map(str, ordered))


def _block_notes(block: Block) -> Iterator[str]:
    varied: dict[str, dict[str, None]] = {}
    for run in block.runs:
        for key, value in run.overrides:
            if (key, value) not in block.common:
                varied.setdefault(key, {})[value] = None
    if varied:
        texts = [f"{key}: {_list_values(list(values))}" for key, values in varied.items()]
        yield f"varied: {'; '.join(texts)}."
    if block.common:
        yield f"all with {', '.join(f'{key}={value}' for key, value in sorted(block.common))}."
    yield from _data_notes(block.runs)


def _list_values(values: Sequence[str]) -> str:
    num_more = len(values) - MAX_VALUES
    return ", ".join(values[:MAX_VALUES]) + (f" and {num_more} more" if num_more > 0 else "")


def _data_notes(runs: Sequence[Run]) -> Iterator[str]:
    """Yield what the first finished run with a folder recorded of its data and split."""
    for run in runs:
        if run.path is None or not run.is_finished:
            continue
        data = RunFiles(run.path).provenance.get("data") or {}
        if data.get("description"):
            yield str(data["description"])
        for group, num_shared in (data.get("overlap") or {}).items():
            yield f"train and test share {num_shared} values of {group}."
        return


def _distinct(runs: Sequence[Run], field: str) -> str:
    return " / ".join(dict.fromkeys(str(value) for run in runs if (value := getattr(run, field))))

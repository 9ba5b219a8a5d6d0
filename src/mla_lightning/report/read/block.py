"""Runs sorted into the cells of a table: data set, variant, seed. One cell, one run."""

from __future__ import annotations

import copy
import statistics
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

from mla_lightning.errors import RunError
from mla_lightning.report.read.run import MULTI, Run
from mla_lightning.report.read.variant import REFERENCE, Variant
from mla_lightning.run_folder import RESULT, State

#: States of a seed without a number, the one to tell first.
STATES = (
    State.FAILED,
    State.UNREADABLE,
    State.KILLED,
    State.PREEMPTED,
    State.INTERRUPTED,
    State.RUNNING,
    "not evaluated",
    "absent",
    "missing",
)
#: Most columns of a figure: more cannot be told apart.
MOST_DRAWN = 16


@dataclass(frozen=True)
class Summary:
    """One cell of a table over seeds.

    Attributes:
        values: Seed -> number, of the seeds that have one.
        expected: The seeds that the table has.
        states: How many of the other seeds are in which state.
    """

    values: Mapping[int, float]
    expected: tuple[int, ...]
    states: Mapping[str, int] = field(default_factory=dict)

    @property
    def num(self) -> int:
        """Number of seeds with a number."""
        return len(self.values)

    @property
    def is_complete(self) -> bool:
        """Whether every seed of the table has a number."""
        return self.num > 0 and self.num == len(self.expected)

    @property
    def mean(self) -> float:
        """Mean over the seeds that have a number."""
        return statistics.fmean(self.values.values())

    @property
    def sd(self) -> float | None:
        """Sample standard deviation over seeds; None below two."""
        return statistics.stdev(self.values.values()) if self.num > 1 else None


class Block:
    """The runs of one data set, split and selection protocol: what may stand in one comparison."""

    def __init__(self, runs: Sequence[Run]) -> None:
        """Sort runs into cells.

        Args:
            runs: Runs of one data set, split and protocol; not empty.

        Raises:
            RunError: If a cell was run twice with different identities by the same code.
        """
        self.dataset = runs[0].dataset
        self.data_split = runs[0].data_split
        self.protocol = runs[0].protocol
        #: What tells it from the other blocks of its data set, for titles and file names.
        self.distinction: tuple[str, ...] = ()
        #: Overrides that all runs share: they name no column.
        self.common = frozenset.intersection(*(frozenset(run.overrides) for run in runs))
        self.cells: dict[Variant, dict[int, Run]] = {}
        #: Finished runs of earlier code whose cell was run again since.
        self.superseded: list[Run] = []
        twice: list[tuple[Run, Run]] = []
        shown = {run.method: run.method_label for run in runs if run.method_label}
        for run in runs:
            own = tuple(pair for pair in run.overrides if pair not in self.common)
            variant = Variant(run.method, run.ablation, own, shown.get(run.method, ""))
            seeds = self.cells.setdefault(variant, {})
            assert run.seed is not None
            other = seeds.setdefault(run.seed, run)
            if other is run:
                continue
            if run.is_finished and other.is_finished and run.identity != other.identity:
                if run.code == other.code or run.path is None or other.path is None:
                    twice.append((other, run))
                    continue
                older, seeds[run.seed] = sorted((other, run), key=_finished_at)
                self.superseded.append(older)
                continue
            seeds[run.seed] = min(other, run, key=_claim)
        if twice:
            raise RunError(_ran_twice(twice))

    @cached_property
    def runs(self) -> list[Run]:
        """The runs that hold the cells, in the order of the columns, then of the seeds."""
        return [self.cells[v][seed] for v in self.variants for seed in sorted(self.cells[v])]

    @cached_property
    def variants(self) -> list[Variant]:
        """The columns."""
        return sorted(self.cells, key=lambda variant: variant.order)

    @cached_property
    def seeds(self) -> tuple[int, ...]:
        """The seeds that any column has: every column is expected to have them."""
        return tuple(sorted({seed for by_seed in self.cells.values() for seed in by_seed}))

    @cached_property
    def modalities(self) -> tuple[str, ...]:
        """The single modalities, in the data's order."""
        return tuple(dict.fromkeys(name for run in self.runs for name in run.modalities))

    @property
    def is_selected_on_test(self) -> bool:
        """Whether the epoch was chosen on the test set, as much released code does."""
        return self.protocol == "paper"

    @property
    def name(self) -> str:
        """The data set, and what tells the block from others of the same data set."""
        return " ".join((self.dataset, *self.distinction))

    @property
    def title(self) -> str:
        """The name, with a flag that no table goes without."""
        return f"{self.name} (epoch selected on TEST)" if self.is_selected_on_test else self.name

    @property
    def slug(self) -> str:
        """The title as a part of a file's name."""
        return slug_of(self.dataset, *self.distinction)

    def values(
        self,
        variant: Variant,
        modality: str = MULTI,
        *,
        split: str = "test",
        measure: str = "accuracy_percent",
    ) -> dict[int, float]:
        """Collect one cell's numbers.

        Args:
            variant: The column.
            modality: A modality or ``multi``.
            split: ``val`` or ``test``.
            measure: A field of :class:`Score`, or one of :class:`Run` (then the modality is of no
                concern).

        Returns:
            Seed -> number, for the seeds that have one.
        """
        found = {}
        for seed, run in self.cells.get(variant, {}).items():
            score = run.scores.get(split, {}).get(modality, {})
            value = score.get(measure, getattr(run, measure, None))
            if run.is_finished and value is not None:
                found[seed] = float(value)
        return dict(sorted(found.items()))

    def summary(
        self,
        variant: Variant,
        modality: str = MULTI,
        *,
        split: str = "test",
        measure: str = "accuracy_percent",
    ) -> Summary:
        """Summarise one cell; arguments as :meth:`values` takes them.

        Returns:
            Its numbers, and in which state the other seeds are.
        """
        values = self.values(variant, modality, split=split, measure=measure)
        runs = self.cells.get(variant, {})
        states = Counter(
            _state(runs.get(seed), split, modality) for seed in self.seeds if seed not in values
        )
        return Summary(values, self.seeds, states)

    def find(
        self, method: str, ablation: str = "none", *, beside: Variant | None = None
    ) -> Variant | None:
        """Find the column of a method as it is by default, or as it stands beside another one.

        Args:
            method: Its name.
            ablation: The ablation's name.
            beside: A column that it is compared with.

        Returns:
            The column with the overrides of the other one, or without any, or the only one there
            is, or None. The last may differ in more than the method: tell its whole label.
        """
        for overrides in (beside.overrides if beside else (), ()):
            for variant in self.cells:
                if variant == Variant(method, ablation, overrides):
                    return variant
        others = [v for v in self.variants if (v.method, v.ablation) == (method, ablation)]
        return others[0] if len(others) == 1 else None


def best_of(block: Block, most: int = MOST_DRAWN) -> tuple[Block, str]:
    """Choose the columns of a figure where there are too many.

    Args:
        block: The block.
        most: Most columns beside the reference.

    Returns:
        The block with the columns that are best on validation, and the reference; and a sentence
        that says so, empty where all are there.
    """
    others = [variant for variant in block.variants if variant.method != REFERENCE]
    if len(others) <= most:
        return block, ""
    found = {variant: block.summary(variant, split="val") for variant in others}
    kept = set(sorted(others, key=lambda v: -found[v].mean if found[v].num else 0.0)[:most])
    chosen = copy.copy(block)
    chosen.seeds = block.seeds  # as many are expected of each column as before
    for name in ("runs", "variants", "modalities"):
        chosen.__dict__.pop(name, None)
    chosen.cells = {
        v: by_seed for v, by_seed in block.cells.items() if v in kept or v.method == REFERENCE
    }
    told = (
        f"Of {len(others)} columns the {most} with the best validation accuracy (multi) are drawn."
    )
    return chosen, told


def blocks(runs: Iterable[Run]) -> list[Block]:
    """Sort runs into blocks.

    Args:
        runs: Any runs; those whose folder does not even tell what ran are left out.

    Returns:
        One block per data set, split and protocol, in the order of their names.

    Raises:
        RunError: If a cell was run twice with different identities by the same code, naming both
            folders.
    """
    grouped: dict[tuple[str, str, str], list[Run]] = {}
    for run in runs:
        if is_known(run):
            grouped.setdefault((run.dataset, run.data_split, run.protocol), []).append(run)
    # validation before paper: what is selected on the test set comes last
    order = sorted(grouped, key=lambda key: (key[0], key[1], key[2] == "paper", key[2]))
    found = [Block(grouped[key]) for key in order]
    for block in found:
        same = [other for other in found if other.dataset == block.dataset]
        splits = {other.data_split for other in same}
        protocols = {other.protocol for other in same}
        block.distinction = (
            *((f"split {block.data_split or 'unknown'}",) if len(splits) > 1 else ()),
            *((f"protocol {block.protocol}",) if len(protocols) > 1 else ()),
        )
    return found


def slug_of(*parts: str) -> str:
    """Write texts as a part of a file's name, such as ``mvsa-split_random``.

    Args:
        parts: The texts; of their characters only letters, digits, ``_`` and ``.`` stay.
    """
    safe = ["".join(c if c.isalnum() or c in "_." else "_" for c in part) for part in parts]
    return "-".join(safe).lstrip(".") or "_"


def without_number(found: Iterable[Block], runs: Iterable[Run]) -> list[Run]:
    """List the runs that leave a hole in a table.

    Args:
        found: The table's blocks.
        runs: All runs, to find those that do not even tell where they belong.

    Returns:
        Unfinished runs that hold a cell, and unknown ones.
    """
    holding = [run for block in found for run in block.runs if not run.is_finished]
    return holding + [run for run in runs if not is_known(run)]


def is_known(run: Run) -> bool:
    """Whether a run tells which cell it belongs to.

    Args:
        run: The run.
    """
    return bool(run.dataset and run.method) and run.seed is not None


def _state(run: Run | None, split: str, modality: str) -> str:
    if run is None:
        return "missing"
    if not run.is_finished:
        return run.state
    if split not in run.scores:
        return "not evaluated"
    return "absent" if modality not in run.scores[split] else "missing"


def _claim(run: Run) -> int:
    """Rank two runs of one cell: the finished one has it, else the one that may still finish."""
    order = (
        State.FINISHED,
        State.RUNNING,
        State.PREEMPTED,
        State.INTERRUPTED,
        State.KILLED,
        State.FAILED,
        State.UNREADABLE,
    )
    return order.index(run.state) if run.state in order else len(order)


def _finished_at(run: Run) -> float:
    assert run.path is not None
    return (run.path / RESULT).stat().st_mtime


def _ran_twice(pairs: Sequence[tuple[Run, Run]]) -> str:
    first, second = pairs[0]
    lines = [
        f"{first.dataset} {first.method} seed {first.seed} was run twice, by different jobs:",
        f"  {first.where} (identity {first.identity}, code {first.code or 'unknown'})",
        f"  {second.where} (identity {second.identity}, code {second.code or 'unknown'})",
    ]
    if len(pairs) > 1:
        lines.append(f"and so were {len(pairs) - 1} more cells.")
    if first.data != second.data:
        lines.append("The data changed between the two.")
    lines.append(
        "A table holds one run per cell: name only the folders that you mean (mla report KIND "
        "RUN RUN ...), or move the others away."
    )
    return "\n".join(lines)

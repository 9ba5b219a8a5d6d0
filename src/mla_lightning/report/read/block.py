"""Runs of one data set, split and selection protocol, grouped by method variant and seed."""

from __future__ import annotations

import copy
import math
import statistics
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

from mla_lightning.errors import RunError
from mla_lightning.report.read.metrics import MetricDisplay, primary_metric
from mla_lightning.report.read.repeats import conflict_message, finished_at, precedence
from mla_lightning.report.read.run import MULTI, Run
from mla_lightning.report.read.variant import LABELS_OF_TASK, REFERENCES, Variant
from mla_lightning.run_folder import State
from mla_lightning.run_folder.tasks import CLASSIFICATION

#: Why a seed has no value, in the order in which tables list the reasons.
STATES = (
    State.FAILED,
    State.UNREADABLE,
    State.KILLED,
    State.PREEMPTED,
    State.INTERRUPTED,
    State.PRUNED,
    State.RUNNING,
    State.QUEUED,
    "not evaluated",
    "absent",
    "missing",
)
#: Largest number of variants in one figure: more lines cannot be distinguished.
MAX_DRAWN = 16


@dataclass(frozen=True)
class Summary:
    """A measure of one variant over seeds.

    Attributes:
        values: Seed -> value, of the seeds that have one.
        expected: The seeds of the table.
        states: Reason from :data:`STATES` -> number of seeds without a value for that reason.

    Example:
        >>> summary = Summary({0: 60.0, 1: 62.0}, expected=(0, 1, 2), states={"failed": 1})
        >>> summary.mean, round(summary.sd, 2), summary.is_complete
        (61.0, 1.41, False)
    """

    values: Mapping[int, float]
    expected: tuple[int, ...]
    states: Mapping[str, int] = field(default_factory=dict)

    @property
    def num(self) -> int:
        """Number of seeds with a value."""
        return len(self.values)

    @property
    def is_complete(self) -> bool:
        """Return whether every expected seed has a value."""
        return self.num > 0 and self.num == len(self.expected)

    @property
    def mean(self) -> float:
        """Mean over the seeds with a value."""
        return statistics.fmean(self.values.values())

    @property
    def sd(self) -> float | None:
        """Sample standard deviation over seeds; None for fewer than two seeds."""
        return statistics.stdev(self.values.values()) if self.num > 1 else None


class Block:
    """The runs of one data set, split and protocol: only these are compared with each other.

    Attributes:
        dataset: Name of the data set.
        task: Its task, empty for classification.
        data_split: Name of the split into train, val and test.
        protocol: ``validation``, or ``paper`` where the epoch was selected on the test split.
        qualifiers: Task, split and protocol as far as other blocks of the data set differ in them;
            part of titles and file names.
        common: Overrides that all runs share; they are part of no variant.
        runs_by_variant: Variant -> seed -> run.
        superseded: Finished runs of earlier code that a newer run of the same seed replaces.
    """

    def __init__(self, runs: Sequence[Run]) -> None:
        """Group runs by variant and seed.

        Args:
            runs: Runs of one data set, task, split and protocol; not empty.

        Raises:
            RunError: If two runs of one variant and seed have different identities but the same
                code.
        """
        self.dataset = runs[0].dataset
        self.task = runs[0].task
        self.data_split = runs[0].data_split
        self.protocol = runs[0].protocol
        self.qualifiers: tuple[str, ...] = ()
        self.common = frozenset.intersection(*(frozenset(run.overrides) for run in runs))
        self.runs_by_variant: dict[Variant, dict[int, Run]] = {}
        self.superseded: list[Run] = []
        conflicts: list[tuple[Run, Run]] = []
        labels = {**LABELS_OF_TASK.get(self.task, {})}
        labels |= {run.method: run.method_label for run in runs if run.method_label}
        for run in runs:
            overrides = tuple(pair for pair in run.overrides if pair not in self.common)
            variant = Variant(run.method, run.ablation, overrides, labels.get(run.method, ""))
            by_seed = self.runs_by_variant.setdefault(variant, {})
            assert run.seed is not None
            other = by_seed.setdefault(run.seed, run)
            if other is run:
                continue
            if run.is_finished and other.is_finished and run.identity != other.identity:
                if run.code == other.code or run.path is None or other.path is None:
                    conflicts.append((other, run))
                    continue
                older, by_seed[run.seed] = sorted((other, run), key=finished_at)
                self.superseded.append(older)
                continue
            by_seed[run.seed] = min(other, run, key=precedence)
        if conflicts:
            raise RunError(conflict_message(conflicts))

    @cached_property
    def runs(self) -> list[Run]:
        """One run per variant and seed, sorted by variant, then by seed."""
        by_variant = self.runs_by_variant
        return [by_variant[v][seed] for v in self.variants for seed in sorted(by_variant[v])]

    @cached_property
    def variants(self) -> list[Variant]:
        """The variants in the order of table columns."""
        return sorted(self.runs_by_variant, key=lambda variant: variant.sort_key)

    @cached_property
    def seeds(self) -> tuple[int, ...]:
        """The seeds of any variant; every variant is expected to have all of them."""
        return tuple(sorted({seed for runs in self.runs_by_variant.values() for seed in runs}))

    @cached_property
    def modalities(self) -> tuple[str, ...]:
        """The single modalities, in the data set's order."""
        return tuple(dict.fromkeys(name for run in self.runs for name in run.modalities))

    @cached_property
    def metric(self) -> MetricDisplay:
        """The metric by which runs are compared, with decimals that suit its values."""
        metric = primary_metric(self.task)
        values = [
            value
            for split in ("test", "val")
            for variant in self.variants
            for value in self.values(variant, split=split, measure=metric.column).values()
        ]
        return metric.at_scale(min(values, default=0.0))

    @property
    def is_selected_on_test(self) -> bool:
        """Return whether the epoch was selected on the test split, as in much released code."""
        return self.protocol == "paper"

    @property
    def name(self) -> str:
        """The data set, with the qualifiers."""
        return " ".join((self.dataset, *self.qualifiers))

    @property
    def title(self) -> str:
        """The name, marked where the epoch was selected on the test split."""
        return f"{self.name} (epoch selected on TEST)" if self.is_selected_on_test else self.name

    @property
    def slug(self) -> str:
        """The name in a form for file names."""
        return slug_of(self.dataset, *self.qualifiers)

    def values(
        self,
        variant: Variant,
        modality: str = MULTI,
        *,
        split: str = "test",
        measure: str | None = None,
    ) -> dict[int, float]:
        """Return a measure of one variant by seed.

        Args:
            variant: The variant.
            modality: A modality or ``multi``.
            split: ``val`` or ``test``.
            measure: A key of :data:`~mla_lightning.report.read.run.Score`, or a field of
                :class:`~mla_lightning.report.read.run.Run`, which does not depend on modality and
                split; None for the metric by which runs are compared.

        Returns:
            Seed -> value, for the finished runs that have one.
        """
        measure = measure or primary_metric(self.task).column
        values = {}
        for seed, run in self.runs_by_variant.get(variant, {}).items():
            score = run.scores.get(split, {}).get(modality, {})
            value = score.get(measure, getattr(run, measure, None))
            if run.is_finished and value is not None:
                values[seed] = float(value)
        return dict(sorted(values.items()))

    def summary(
        self,
        variant: Variant,
        modality: str = MULTI,
        *,
        split: str = "test",
        measure: str | None = None,
    ) -> Summary:
        """Summarise a measure of one variant over seeds; arguments as for :meth:`values`.

        Returns:
            The values, and why the other seeds have none.
        """
        values = self.values(variant, modality, split=split, measure=measure)
        runs = self.runs_by_variant.get(variant, {})
        states = Counter(
            _state(runs.get(seed), split, modality) for seed in self.seeds if seed not in values
        )
        return Summary(values, self.seeds, states)

    def find(
        self, method: str, ablation: str = "none", *, compared_with: Variant | None = None
    ) -> Variant | None:
        """Find the variant of a method that has default settings or matches another variant.

        Args:
            method: The method's name.
            ablation: The ablation's name.
            compared_with: A variant whose overrides the result should have.

        Returns:
            The variant with the same overrides as ``compared_with``, else the one without
            overrides, else the method's only variant, else None. The only variant may differ from
            ``compared_with`` in more than the method, so show its whole label.
        """
        for overrides in (compared_with.overrides if compared_with else (), ()):
            for variant in self.runs_by_variant:
                if variant == Variant(method, ablation, overrides):
                    return variant
        others = [v for v in self.variants if (v.method, v.ablation) == (method, ablation)]
        return others[0] if len(others) == 1 else None


def limit_variants(block: Block, max_variants: int = MAX_DRAWN) -> tuple[Block, str]:
    """Keep the best variants of a block, for a figure.

    Args:
        block: The block.
        max_variants: Largest number of variants beside the references.

    Returns:
        A block with the references and the variants of the best mean score on validation; and a
        sentence that says so, empty where all variants are kept.
    """
    others = [variant for variant in block.variants if variant.method not in REFERENCES]
    if len(others) <= max_variants:
        return block, ""
    scores = {variant: block.summary(variant, split="val") for variant in others}
    sign = block.metric.sign
    ordered = sorted(others, key=lambda v: -sign * scores[v].mean if scores[v].num else math.inf)
    best = ordered[:max_variants]
    limited = copy.copy(block)
    limited.seeds = block.seeds  # each variant is still expected to have as many seeds
    for name in ("runs", "variants", "modalities"):
        limited.__dict__.pop(name, None)
    limited.runs_by_variant = {
        v: runs for v, runs in block.runs_by_variant.items() if v in best or v.method in REFERENCES
    }
    note = (
        f"Only the {max_variants} columns with the best validation {block.metric.label} (multi) "
        f"are drawn, of {len(others)}."
    )
    return limited, note


def blocks(runs: Iterable[Run]) -> list[Block]:
    """Group runs into blocks.

    Args:
        runs: Any runs; those that do not state data set, method and seed are left out.

    Returns:
        One block per data set, task, split and protocol, sorted by name.

    Raises:
        RunError: If two runs of one variant and seed have different identities but the same code.
            The message names both folders.

    Example:
        >>> runs = [
        ...     Run(run=f"seed{seed}", where="", state=State.FINISHED, dataset="openmoji",
        ...         method="mla", seed=seed,
        ...         scores={"test": {"multi": {"accuracy_percent": 60.0 + seed}}})
        ...     for seed in (0, 1)
        ... ]
        >>> (block,) = blocks(runs)
        >>> [variant.label for variant in block.variants], block.seeds
        (['MLA'], (0, 1))
        >>> block.summary(block.variants[0]).mean
        60.5
    """
    grouped: dict[tuple[str, str, str, str], list[Run]] = {}
    for run in runs:
        if is_identified(run):
            key = (run.dataset, run.task, run.data_split, run.protocol)
            grouped.setdefault(key, []).append(run)
    # protocol paper last: its epochs are selected on the test split
    order = sorted(grouped, key=lambda key: (*key[:3], key[3] == "paper", key[3]))
    sorted_blocks = [Block(grouped[key]) for key in order]
    for block in sorted_blocks:
        same = [other for other in sorted_blocks if other.dataset == block.dataset]
        tasks = {other.task for other in same}
        splits = {other.data_split for other in same}
        protocols = {other.protocol for other in same}
        block.qualifiers = (
            *((block.task or CLASSIFICATION,) if len(tasks) > 1 else ()),
            *((f"split {block.data_split or 'unknown'}",) if len(splits) > 1 else ()),
            *((f"protocol {block.protocol}",) if len(protocols) > 1 else ()),
        )
    return sorted_blocks


def slug_of(*texts: str) -> str:
    """Join texts to a part of a file name.

    Args:
        texts: The texts; characters other than letters, digits, ``_`` and ``.`` become ``_``.

    Example:
        >>> slug_of("mvsa", "split random")
        'mvsa-split_random'
    """
    safe = ["".join(c if c.isalnum() or c in "_." else "_" for c in text) for text in texts]
    return "-".join(safe).lstrip(".") or "_"


def runs_without_result(table_blocks: Iterable[Block], runs: Iterable[Run]) -> list[Run]:
    """Return the runs that a table expects but has no result of.

    Args:
        table_blocks: The table's blocks.
        runs: All runs, to find those that do not state what they are runs of.

    Returns:
        The unfinished runs of the blocks, then the runs that belong to no block.
    """
    unfinished = [run for block in table_blocks for run in block.runs if not run.is_finished]
    return unfinished + [run for run in runs if not is_identified(run)]


def is_identified(run: Run) -> bool:
    """Return whether a run states its data set, method and seed.

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

"""Diagnostics of the finished runs of a block, by variant."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import fmean, stdev
from typing import TYPE_CHECKING, Any

from mla_lightning.report.read.block import Block, Summary
from mla_lightning.report.read.metrics import MetricDisplay, primary_metric
from mla_lightning.report.read.variant import Variant
from mla_lightning.run_folder.columns import EPOCH, STEP_FLOPS
from mla_lightning.run_folder.reader import RunFiles

if TYPE_CHECKING:
    import numpy as np

#: The rows of a run's ``metrics.csv``, one per epoch.
Rows = Sequence[Mapping[str, float]]


@dataclass(frozen=True)
class BlockDiagnostics:
    """Diagnostics of one block; variants are named by their labels.

    Attributes:
        title: The block's title.
        modalities: Its modalities.
        epochs: Variant -> rows of ``metrics.csv`` of each seed.
        finals: Variant -> content of ``diagnostics.json`` of each seed that has one.
        planes: Variant -> arrays of ``planes.npz`` of its first seed that has one.
        costs: Variant -> measure -> mean over seeds.
        protocol: ``validation``, or ``paper`` where the epochs' scores are those of the test split.
        task: The task of the data set, empty for classification.
        predictions: Variant -> arrays of ``predictions.npz`` of each seed that has them; only of
            tasks other than classification.
        scores: Variant -> score of the fused prediction, by the metric of the task.
        score_split: Split of the scores: ``test``, or ``validation`` where no run has a test score.
        times: Variant -> training time of a run in seconds.
        class_names: Names of the classes, as far as a run with planes recorded them.

    Example:
        >>> seeds = [[{"epoch": 1, "gap": 0.2}], [{"epoch": 1, "gap": 0.4}, {"epoch": 2, "gap": 1}]]
        >>> diagnosed = BlockDiagnostics("openmoji", (), {"MLA": seeds}, {}, {}, {})
        >>> diagnosed.curve("MLA", "gap")
        [{1: 0.2}, {1: 0.4, 2: 1}]
        >>> {epoch: round(mean, 1) for epoch, mean in diagnosed.mean_curve("MLA", "gap").items()}
        {1: 0.3}
    """

    title: str
    modalities: tuple[str, ...]
    epochs: Mapping[str, Sequence[Rows]]
    finals: Mapping[str, Sequence[Mapping[str, Any]]]
    planes: Mapping[str, Mapping[str, np.ndarray]]
    costs: Mapping[str, Mapping[str, float]]
    protocol: str = "validation"
    task: str = ""
    predictions: Mapping[str, Sequence[Mapping[str, np.ndarray]]] = field(default_factory=dict)
    scores: Mapping[str, Summary] = field(default_factory=dict)
    score_split: str = "test"
    times: Mapping[str, Summary] = field(default_factory=dict)
    class_names: tuple[str, ...] = ()

    @property
    def metric(self) -> MetricDisplay:
        """The metric by which the runs are compared."""
        return primary_metric(self.task)

    def curve(self, label: str, key: str) -> list[dict[int, float]]:
        """Return a measure over epochs, for each seed that has it.

        Args:
            label: The variant.
            key: Column of ``metrics.csv``.

        Returns:
            Epoch -> value, per seed.
        """
        seeds = [
            {int(row[EPOCH]): row[key] for row in rows if key in row}
            for rows in self.epochs.get(label, ())
        ]
        return [values for values in seeds if values]

    def mean_curve(self, label: str, key: str) -> dict[int, float]:
        """Return the mean of a measure over seeds, up to the last epoch of the shortest seed.

        Args:
            label: The variant.
            key: Column of ``metrics.csv``.

        Returns:
            Epoch -> mean over the seeds that have the measure.
        """
        seeds = self.curve(label, key)
        last = min((max(values) for values in seeds), default=0)
        epochs = sorted({epoch for values in seeds for epoch in values if epoch <= last})
        return {at: fmean(values[at] for values in seeds if at in values) for at in epochs}

    def band(self, label: str, key: str) -> dict[int, tuple[float, float]]:
        """Return the mean over seeds ± one sample standard deviation.

        Args:
            label: The variant.
            key: Column of ``metrics.csv``.

        Returns:
            Epoch -> lower and upper end, for epochs of at least two seeds.
        """
        seeds = self.curve(label, key)
        ends = {}
        for at, mean in self.mean_curve(label, key).items():
            values = [seed[at] for seed in seeds if at in seed]
            if len(values) > 1:
                ends[at] = (mean - stdev(values), mean + stdev(values))
        return ends

    def keys(self, prefix: str) -> list[str]:
        """Return the columns of ``metrics.csv`` with a prefix, in the order of their occurrence."""
        columns = dict.fromkeys(
            key
            for seeds in self.epochs.values()
            for rows in seeds
            for row in rows  # the first epoch may lack some
            for key in row
            if key.startswith(prefix)
        )
        return list(columns)

    @property
    def split(self) -> str:
        """The diagnosed split: ``test``, or ``validation`` for runs that do not use the test split.

        ``test or validation`` if runs differ.
        """
        words = {"test": "test", "val": "validation"}
        splits = {
            words[final.get("split", "test")] for seeds in self.finals.values() for final in seeds
        }
        return " or ".join(sorted(splits)) or "test"

    def mean(self, label: str, find: Callable[[Mapping[str, Any]], float | None]) -> float | None:
        """Return the mean of a number over the seeds that have it, None if no seed has.

        Args:
            label: The variant.
            find: Function from the content of ``diagnostics.json`` to the number or None.
        """
        numbers = [find(final) for final in self.finals.get(label, ())]
        values = [number for number in numbers if number is not None]
        return fmean(values) if values else None

    @property
    def labels(self) -> list[str]:
        """Labels of the variants with diagnostics."""
        return list(self.finals)


def read_diagnostics(block: Block) -> BlockDiagnostics:
    """Read the diagnostics of a block's finished runs.

    Args:
        block: The block.

    Returns:
        The diagnostics; empty for runs without diagnostics and for runs of a results table.
    """
    epochs: dict[str, list[Rows]] = {}
    finals: dict[str, list[Mapping[str, Any]]] = {}
    planes: dict[str, Mapping[str, np.ndarray]] = {}
    predictions: dict[str, list[Mapping[str, np.ndarray]]] = {}
    costs: dict[str, dict[str, float]] = {}
    class_names: tuple[str, ...] = ()
    for variant in block.variants:
        label = variant.label
        for _, run in sorted(block.runs_by_variant[variant].items()):
            if run.path is None or not run.is_finished:
                continue
            run_files = RunFiles(run.path)
            epochs.setdefault(label, []).append(run_files.metrics)
            if block.task and run_files.predictions is not None:
                predictions.setdefault(label, []).append(run_files.predictions)
            if run_files.diagnostics is None:
                continue
            finals.setdefault(label, []).append(run_files.diagnostics)
            if label not in planes and run_files.planes is not None:
                planes[label] = run_files.planes
                if not class_names and run_files.predictions is not None:
                    class_names = tuple(map(str, run_files.predictions.get("class_names", ())))
        if label in epochs:
            costs[label] = dict(_costs(block, variant, epochs[label]))
    drawn = {variant.label: variant for variant in block.variants if variant.label in epochs}
    has_test = any(block.values(variant) for variant in drawn.values())
    split = "test" if has_test else "val"
    return BlockDiagnostics(
        block.title,
        block.modalities,
        epochs,
        finals,
        planes,
        costs,
        block.protocol,
        block.task,
        predictions,
        {label: block.summary(variant, split=split) for label, variant in drawn.items()},
        "test" if has_test else "validation",
        {label: block.summary(v, measure="train_time_s") for label, v in drawn.items()},
        class_names,
    )


def _costs(block: Block, variant: Variant, seeds: Sequence[Rows]) -> Iterator[tuple[str, float]]:
    measures = {
        "milliseconds per step": ("step_time_s", 1e3),
        "seconds per epoch": ("epoch_time_s", 1.0),
        "peak memory, MB": ("peak_memory_mb", 1.0),
        "parameters, thousands": ("num_parameters", 1e-3),
    }
    for name, (measure, scale) in measures.items():
        summary = block.summary(variant, measure=measure)
        if summary.num:
            yield name, summary.mean * scale
    flops = [mean for rows in seeds if (mean := _mean_flops(rows)) is not None]
    if flops:
        yield "MFLOP per training step", fmean(flops) / 1e6


def _mean_flops(rows: Rows) -> float | None:
    """Return the mean over epochs of a step's FLOPs, which are recorded when a stage begins."""
    values: list[float] = []
    for row in rows:
        if STEP_FLOPS in row:
            values.append(row[STEP_FLOPS])
        elif values:
            values.append(values[-1])
    return fmean(values) if values else None

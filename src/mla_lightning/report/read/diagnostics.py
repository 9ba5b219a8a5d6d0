"""What finished runs measured of themselves, by column of a block."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, stdev
from typing import TYPE_CHECKING, Any

from mla_lightning.report.read.block import Block
from mla_lightning.run_folder.columns import EPOCH, STEP_FLOPS
from mla_lightning.run_folder.reader import RunFiles

if TYPE_CHECKING:
    import numpy as np

Rows = Sequence[Mapping[str, float]]


@dataclass(frozen=True)
class Diagnosed:
    """Diagnostics of one block.

    Attributes:
        title: The block's title.
        modalities: Its modalities.
        epochs: Column -> the epochs' rows of each seed.
        finals: Column -> what was computed after training, of each seed that has it.
        planes: Column -> arrays for pictures, of its first seed that has them.
        costs: Column -> measure -> mean over seeds.
        protocol: ``validation``, or ``paper`` where the epochs' accuracy is that of the test split.
    """

    title: str
    modalities: tuple[str, ...]
    epochs: Mapping[str, Sequence[Rows]]
    finals: Mapping[str, Sequence[Mapping[str, Any]]]
    planes: Mapping[str, Mapping[str, np.ndarray]]
    costs: Mapping[str, Mapping[str, float]]
    protocol: str = "validation"

    def curve(self, label: str, key: str) -> list[dict[int, float]]:
        """Return a measure of each seed: epoch -> value; seeds without it are left out.

        Args:
            label: The column.
            key: Column of the epochs' table.
        """
        seeds = [
            {int(row[EPOCH]): row[key] for row in rows if key in row}
            for rows in self.epochs.get(label, ())
        ]
        return [values for values in seeds if values]

    def mean_curve(self, label: str, key: str) -> dict[int, float]:
        """Average a measure over seeds: epoch -> mean, as far as all seeds that have it reach."""
        seeds = self.curve(label, key)
        last = min((max(values) for values in seeds), default=0)
        epochs = sorted({epoch for values in seeds for epoch in values if epoch <= last})
        return {at: fmean(values[at] for values in seeds if at in values) for at in epochs}

    def band(self, label: str, key: str) -> dict[int, tuple[float, float]]:
        """Tell where a measure is within one standard deviation of its mean over seeds.

        Args:
            label: The column.
            key: Column of the epochs' table.

        Returns:
            Epoch -> lower and upper end, for epochs that several seeds have.
        """
        seeds = self.curve(label, key)
        found = {}
        for at, mean in self.mean_curve(label, key).items():
            values = [seed[at] for seed in seeds if at in seed]
            if len(values) > 1:
                found[at] = (mean - stdev(values), mean + stdev(values))
        return found

    def keys(self, start: str) -> list[str]:
        """List the measures whose name starts so, in the order in which they occur."""
        found = dict.fromkeys(
            key
            for seeds in self.epochs.values()
            for rows in seeds
            for row in rows  # the first epoch may lack some
            for key in row
            if key.startswith(start)
        )
        return list(found)

    @property
    def split(self) -> str:
        """What was looked at after training: ``test``, ``validation`` where the test was not."""
        words = {"test": "test", "val": "validation"}
        found = {words[one.get("split", "test")] for seeds in self.finals.values() for one in seeds}
        return " or ".join(sorted(found)) or "test"

    def mean(self, label: str, find: Callable[[Mapping[str, Any]], float | None]) -> float | None:
        """Average a number over the seeds that have it.

        Args:
            label: The column.
            find: Gets the number out of what was computed after training, or None.
        """
        values = [value for one in self.finals.get(label, ()) if (value := find(one)) is not None]
        return fmean(values) if values else None

    @property
    def labels(self) -> list[str]:
        """The columns that have diagnostics."""
        return list(self.finals)


def read_diagnosed(block: Block) -> Diagnosed:
    """Read the diagnostics of a block's finished runs.

    Args:
        block: The block.

    Returns:
        The diagnostics; empty for runs without, and for runs read from a table.
    """
    epochs: dict[str, list[Rows]] = {}
    finals: dict[str, list[Mapping[str, Any]]] = {}
    planes: dict[str, Mapping[str, np.ndarray]] = {}
    costs: dict[str, dict[str, float]] = {}
    for variant in block.variants:
        label = variant.label
        for _, run in sorted(block.cells[variant].items()):
            if run.path is None or not run.is_finished:
                continue
            run_files = RunFiles(run.path)
            epochs.setdefault(label, []).append(run_files.metrics)
            if run_files.diagnostics is None:
                continue
            finals.setdefault(label, []).append(run_files.diagnostics)
            if label not in planes and run_files.planes is not None:
                planes[label] = run_files.planes
        if label in epochs:
            costs[label] = dict(_costs(block, variant, epochs[label]))
    return Diagnosed(block.title, block.modalities, epochs, finals, planes, costs, block.protocol)


def _costs(block: Block, variant: Any, seeds: Sequence[Rows]) -> Iterator[tuple[str, float]]:
    flops = [mean for rows in seeds if (mean := _mean_flops(rows)) is not None]
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
    if flops:
        yield "MFLOP per training step", fmean(flops) / 1e6


def _mean_flops(rows: Rows) -> float | None:
    """Average a step's FLOPs over the epochs: each stage's holds until the next one is counted."""
    values: list[float] = []
    for row in rows:
        if STEP_FLOPS in row:
            values.append(row[STEP_FLOPS])
        elif values:
            values.append(values[-1])
    return fmean(values) if values else None

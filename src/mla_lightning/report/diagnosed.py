"""What finished runs measured of themselves, by column of a block."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import TYPE_CHECKING, Any

from mla_lightning.report.cells import Block
from mla_lightning.run_folder import DIAGNOSTICS, PLANES, read_json, read_metrics

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
    """

    title: str
    modalities: tuple[str, ...]
    epochs: Mapping[str, Sequence[Rows]]
    finals: Mapping[str, Sequence[Mapping[str, Any]]]
    planes: Mapping[str, Mapping[str, np.ndarray]]
    costs: Mapping[str, Mapping[str, float]]

    def curve(self, label: str, key: str) -> list[list[float]]:
        """Return a measure of each seed over epochs; seeds without it are left out.

        Args:
            label: The column.
            key: Column of the epochs' table.
        """
        seeds = [[row[key] for row in rows if key in row] for rows in self.epochs.get(label, ())]
        return [values for values in seeds if values]

    def keys(self, start: str) -> list[str]:
        """List the measures whose name starts so, in the order in which they occur."""
        found = dict.fromkeys(
            key
            for seeds in self.epochs.values()
            for rows in seeds
            for key in (rows[0] if rows else ())
            if key.startswith(start)
        )
        return list(found)

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
    import numpy as np

    epochs: dict[str, list[Rows]] = {}
    finals: dict[str, list[Mapping[str, Any]]] = {}
    planes: dict[str, Mapping[str, np.ndarray]] = {}
    costs: dict[str, dict[str, float]] = {}
    for variant in block.variants:
        label = variant.label
        for _, run in sorted(block.cells[variant].items()):
            if run.path is None or not run.is_finished:
                continue
            rows = read_metrics(run.path)
            epochs.setdefault(label, []).append(rows)
            numbers = read_json(run.path / DIAGNOSTICS)
            if numbers is None:
                continue
            finals.setdefault(label, []).append(numbers)
            if label not in planes and (run.path / PLANES).is_file():
                with np.load(run.path / PLANES) as arrays:
                    planes[label] = {name: arrays[name] for name in arrays.files}
        if label in epochs:
            costs[label] = dict(_costs(block, variant, epochs[label]))
    return Diagnosed(block.title, block.modalities, epochs, finals, planes, costs)


def _costs(block: Block, variant: Any, seeds: Sequence[Rows]) -> Iterator[tuple[str, float]]:
    steps = [rows[0]["cost/step_flops"] for rows in seeds if rows and "cost/step_flops" in rows[0]]
    measures = {
        "seconds per epoch": block.summary(variant, measure="epoch_time_s"),
        "peak memory, MB": block.summary(variant, measure="peak_memory_mb"),
        "parameters, thousands": block.summary(variant, measure="num_parameters"),
    }
    for name, summary in measures.items():
        if summary.num:
            yield name, summary.mean / (1000 if "thousands" in name else 1)
    if steps:
        yield "MFLOP per training step", fmean(steps) / 1e6

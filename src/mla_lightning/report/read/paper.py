"""The paper's own numbers, to stand beside ours."""

from __future__ import annotations

import csv
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from mla_lightning.errors import RunError

#: The data sets of the paper, in its order.
DATASETS = ("cremad", "kinetics_sounds", "food101", "mvsa", "iemocap")
#: What the paper calls a modality that goes by another name here.
ALSO_CALLED = {"visual": "video"}


@dataclass(frozen=True)
class Published:
    """A table of the paper.

    Attributes:
        accuracy: (data set, modality, column) -> accuracy in percent.
        modalities: Data set -> modalities and ``multi``, in the paper's order.
    """

    accuracy: dict[tuple[str, str, str], float]
    modalities: dict[str, tuple[str, ...]]

    def get(self, dataset: str, modality: str, column: str) -> float | None:
        """Look a number up.

        Args:
            dataset: Our name of the data set.
            modality: Our name of the modality, or ``multi``.
            column: The method, or in Table 3 the ablation.

        Returns:
            Accuracy in percent, or None where the paper has none.
        """
        for name in (modality, ALSO_CALLED.get(modality)):
            if name is not None and (dataset, name, column) in self.accuracy:
                return self.accuracy[dataset, name, column]
        return None


def read_table1() -> Published:
    """Read the paper's Table 1.

    Returns:
        Columns are methods.
    """
    return _published((row, row["method"]) for row in _rows("table1"))


def read_table2() -> dict[str, dict[str, dict[float, float]]]:
    """Read the paper's Table 2.

    Returns:
        Data set -> method -> missing rate as a share -> accuracy in percent.
    """
    found: dict[str, dict[str, dict[float, float]]] = {}
    for row in _rows("table2"):
        of_method = found.setdefault(row["dataset"], {}).setdefault(row["method"], {})
        rate = float(row["missing_rate_percent"]) / 100
        of_method[rate] = float(row["accuracy_percent"])
    return found


def read_table3() -> Published:
    """Read the paper's Table 3.

    Returns:
        Columns are ablations: ``none``, ``no_hgm``, ``no_df``, ``no_hgm_no_df``.
    """

    def ablation(row: dict[str, str]) -> str:
        off = [
            name
            for name, key in (("no_hgm", "head_gradient_modification"), ("no_df", "dynamic_fusion"))
            if row[key] == "0"
        ]
        return "_".join(off) or "none"

    return _published((row, ablation(row)) for row in _rows("table3"))


def _published(rows: Iterable[tuple[dict[str, str], str]]) -> Published:
    accuracy: dict[tuple[str, str, str], float] = {}
    modalities: dict[str, dict[str, None]] = {}
    for row, column in rows:
        dataset, modality = row["dataset"], row["modality"]
        accuracy[dataset, modality, column] = float(row["accuracy_percent"])
        modalities.setdefault(dataset, {})[modality] = None
    return Published(accuracy, {name: tuple(found) for name, found in modalities.items()})


def _rows(table: str) -> list[dict[str, str]]:
    path = _path(table)
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def _path(table: str) -> Path:
    """Find a table: the checkout's, else the copy that the wheel was built with."""
    here = Path(__file__).parent
    places = [
        here.parents[3] / "experiments" / table / "paper.csv",
        here.parent / "paper" / f"{table}.csv",
    ]
    for place in places:
        if place.is_file():
            return place
    raise RunError(f"The paper's numbers are missing: looked for {places[0]} and {places[1]}")

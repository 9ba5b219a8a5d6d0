"""The paper's own numbers, which tables show beside ours."""

from __future__ import annotations

import csv
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from mla_lightning.config.search import options, search_path
from mla_lightning.errors import RunError

#: The data sets of the paper, in its order.
DATASETS = ("cremad", "kinetics_sounds", "food101", "mvsa", "iemocap")
#: Our name of a modality -> its name in the paper, where they differ.
PAPER_MODALITIES = {"visual": "video"}


def concerns_paper(datasets: Iterable[str]) -> bool:
    """Return whether a table is beside the paper's: a data set of it comes with the package.

    Tables of other data alone say nothing about data sets and methods that were not run.

    Example:
        >>> [concerns_paper(names) for names in (["openmoji"], ["cremad", "mine"], ["mine"])]
        [True, True, False]
    """
    return not options(search_path(None), "data").keys().isdisjoint(datasets)


@dataclass(frozen=True)
class PaperTable:
    """A table of the paper.

    Attributes:
        accuracy: (data set, modality, column) -> accuracy in percent.
        modalities: Data set -> modalities and ``multi``, in the paper's order.
    """

    accuracy: dict[tuple[str, str, str], float]
    modalities: dict[str, tuple[str, ...]]

    def get(self, dataset: str, modality: str, column: str) -> float | None:
        """Return a number of the table.

        Args:
            dataset: Our name of the data set.
            modality: Our name of the modality, or ``multi``.
            column: The method; in Table 3 the ablation.

        Returns:
            Accuracy in percent, None where the paper has none.
        """
        for name in (modality, PAPER_MODALITIES.get(modality)):
            if name is not None and (dataset, name, column) in self.accuracy:
                return self.accuracy[dataset, name, column]
        return None


def read_table1() -> PaperTable:
    """Read the paper's Table 1, whose columns are methods.

    Example:
        >>> read_table1().get("cremad", "visual", "mla")
        64.91
    """
    return _paper_table((row, row["method"]) for row in _rows("table1"))


def read_table2() -> dict[str, dict[str, dict[float, float]]]:
    """Read the paper's Table 2.

    Returns:
        Data set -> method -> missing rate as a fraction -> accuracy in percent.

    Example:
        >>> sorted(read_table2()["iemocap"]["mla"])
        [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7]
    """
    table: dict[str, dict[str, dict[float, float]]] = {}
    for row in _rows("table2"):
        by_rate = table.setdefault(row["dataset"], {}).setdefault(row["method"], {})
        rate = float(row["missing_rate_percent"]) / 100
        by_rate[rate] = float(row["accuracy_percent"])
    return table


def read_table3() -> PaperTable:
    """Read the paper's Table 3.

    Its columns are the ablations ``none``, ``no_hgm``, ``no_df`` and ``no_hgm_no_df``.

    Example:
        >>> read_table3().get("cremad", "multi", "no_df")
        74.51
    """

    def ablation(row: dict[str, str]) -> str:
        off = [
            name
            for name, key in (("no_hgm", "head_gradient_modification"), ("no_df", "dynamic_fusion"))
            if row[key] == "0"
        ]
        return "_".join(off) or "none"

    return _paper_table((row, ablation(row)) for row in _rows("table3"))


def _paper_table(rows: Iterable[tuple[dict[str, str], str]]) -> PaperTable:
    accuracy: dict[tuple[str, str, str], float] = {}
    modalities: dict[str, dict[str, None]] = {}
    for row, column in rows:
        dataset, modality = row["dataset"], row["modality"]
        accuracy[dataset, modality, column] = float(row["accuracy_percent"])
        modalities.setdefault(dataset, {})[modality] = None
    return PaperTable(accuracy, {dataset: tuple(names) for dataset, names in modalities.items()})


def _rows(table: str) -> list[dict[str, str]]:
    with _path(table).open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def _path(table: str) -> Path:
    """Return the path of a table: in the checkout, else in the installed package."""
    folder = Path(__file__).parent
    candidates = [
        folder.parents[3] / "experiments" / table / "paper.csv",
        folder.parent / "paper" / f"{table}.csv",
    ]
    for path in candidates:
        if path.is_file():
            return path
    raise RunError(
        f"The paper's numbers are missing: neither {candidates[0]} nor {candidates[1]} exists."
    )

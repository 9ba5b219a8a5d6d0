"""A metric: a function of logits and labels, and its format in tables."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from torch import Tensor

from mla_lightning.metrics.outcome import Outcome
from mla_lightning.run_folder.tasks import CLASSIFICATION


@dataclass(frozen=True, kw_only=True)
class Metric:
    """A metric and its format in tables, as a file of ``conf/metric/`` defines it.

    Attributes:
        function: Computes the value from an :class:`~mla_lightning.metrics.outcome.Outcome`.
        label: Name in tables.
        percent: Whether tables show it in percent.
        digits: Number of decimals in tables.
        lower_is_better: Whether the smallest value is the best.
        in_table1: Whether Table 1 has a row of it.
        epoch: Its column in ``metrics.csv``, ``val/<epoch>``, if it is computed after every epoch;
            None if it is computed after training only.
        tasks: The tasks whose runs it is computed for.
        defined_for: Labels of a split -> whether the metric is defined for them; None for any.

    Example:
        >>> from mla_lightning.metrics import accuracy
        >>> Metric(function=accuracy, label="accuracy", percent=True, epoch="acc").shown()
        {'label': 'accuracy', 'percent': True, 'digits': 1, 'lower_is_better': False,
         'in_table1': False}
    """

    function: Callable[[Outcome], float | Tensor]
    label: str
    percent: bool = False
    digits: int = 1
    lower_is_better: bool = False
    in_table1: bool = False
    epoch: str | None = None
    tasks: Sequence[str] = (CLASSIFICATION,)
    defined_for: Callable[[Tensor], bool] | None = None

    def shown(self) -> dict[str, Any]:
        """Return its format in tables, as plain data for a run's result."""
        return {key: value for key, value in asdict(self).items() if key not in _NOT_SHOWN}


_NOT_SHOWN = ("function", "epoch", "tasks", "defined_for")
